//! The OpenAPI document: the parts of all functions, and the host's routes that push.

use crate::events;
use crate::manifest::{LiveRoute, Manifest};
use anyhow::Context as _;
use fnhost_sdk::openapi::{Api, BEARER, Call, HttpMethod, SIGNATURE, failures, id, schema};
use fnhost_sdk::problem::Problem;
use serde_json::{Value, json};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Components, InfoBuilder, License, OpenApi, Paths, Server};

/// How the payment gateway signs.
const SIGNED: &str = "`t=SECONDS,v1=HEX`: HMAC-SHA256 of the time, a full stop and the body.";
const DESCRIPTION: &str = "Orders through stock, payment and notification.\n\nRegister, log in, and send the access token as \
    the bearer. Money is integer minor units with its ISO 4217 code, times are RFC 3339, ids are UUIDs. Refusals are \
    `application/problem+json` (RFC 9457) and name the input at fault in `field`. A page's `next_cursor` is opaque.\n\n\
    The events behind it: [asyncapi.json](/asyncapi.json). For Postman: [postman.json](/postman.json).";

/// The document.
///
/// # Errors
/// A schema that the functions share is described in two ways.
pub fn document(manifest: &Manifest) -> anyhow::Result<Value> {
    let functions = [
        auth::openapi::api(),
        inventory::openapi::api(),
        order::openapi::api(),
        payment::openapi::api(),
        notify::openapi::api(),
        forecast::openapi::api(),
    ];
    let push = manifest.application.tool.fnhost.live.iter().map(live);
    let (mut paths, mut tags, mut schemas) = (Paths::new(), Vec::new(), fnhost_sdk::openapi::Schemas::new());
    for api in functions.into_iter().chain(push) {
        tags.push(TagBuilder::new().name(api.tag.0).description(Some(api.tag.1)).build());
        paths.merge(api.paths);
        for (name, schema) in api.schemas {
            let other = schemas.insert(name.clone(), schema.clone());
            anyhow::ensure!(
                other.is_none_or(|other| other == schema),
                "two types describe themselves as {name}"
            );
        }
    }
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    let info = InfoBuilder::new()
        .title("Orders")
        .version(&manifest.application.version)
        .description(Some(DESCRIPTION))
        .license(Some(license));
    let mut document = OpenApi::new(info.build(), paths);
    document.servers = Some(vec![Server::new("/")]);
    document.tags = Some(tags);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    let bearer = bearer.description(Some("The `access_token` of a login, good for 15 minutes.")).build();
    let mut components = Components::new();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    let signature = ApiKeyValue::with_description(payment::webhook::SIGNATURE_HEADER, SIGNED);
    components.add_security_scheme(SIGNATURE, SecurityScheme::ApiKey(ApiKey::Header(signature)));
    components.responses.extend(failures().map(|(name, response)| (name.to_owned(), response)));
    document.components = Some(components);
    let mut document = serde_json::to_value(document)?;
    // Put in as they are: a schema has keywords that utoipa's own type does not know.
    document["components"]["schemas"] = serde_json::to_value(schemas)?;
    Ok(document)
}

const LIVE: &str = "First the event `snapshot` with the order's `Timeline`, then each of its events as it is committed, with a \
    `LiveEvent` as its data; as server-sent events, or over a WebSocket with each event as one text. A stream lasts 15 minutes \
    at most. Browsers, which can set no header of a WebSocket, send the token as the subprotocol `bearer.TOKEN`, beside \
    `fnhost.v1`. Served by fnhost, not by Spin.";

/// What is sent to one is kept by nobody on the way.
const NO_STORE: [(&str, &str); 1] = [("cache-control", "`no-store`")];

/// A route that pushes.
fn live(push: &LiveRoute) -> Api {
    let path: Vec<String> = push
        .route
        .split('/')
        .map(|segment| {
            segment.strip_prefix(':').map_or_else(|| segment.to_owned(), |name| format!("{{{name}}}"))
        })
        .collect();
    let name = push.route.split('/').find_map(|segment| segment.strip_prefix(':')).unwrap_or("id");
    let example = "retry: 1000\n\nevent: snapshot\nid: 4-0-1\ndata: {\"order_id\":\"01890a5d-ac96-774b-bcce-b302099a8057\",\
        \"entries\":[{\"event\":\"order.created\",\"status\":\"PENDING\",\"at\":\"2026-01-31T08:00:00.250Z\"}]}\n\n\
        event: payment.authorized\nid: 4-0-2\ndata: {\"topic\":\"payment-events\",\"type\":\"payment.authorized\",\
        \"time\":\"2026-01-31T08:00:00.290Z\",\"data\":{\"amount\":{\"amount\":4900,\"currency\":\"EUR\"}}}\n\n";
    let stream =
        ContentBuilder::new().schema(Some(schema(json!({ "type": "string" })))).example(Some(example.into()));
    let position = || json!({ "type": "string", "pattern": "^[0-9]+(-[0-9]+)*$" });
    let no_order = Problem::not_found("you have no such order");
    let call = Call::new("orderEvents", "Follow an order")
        .about(LIVE)
        .signed_in()
        .path(name, "The order", id())
        .header(
            "last-event-id",
            "The last `id` that was seen: what came after it is sent, without a snapshot",
            position(),
        )
        .query("last_event_id", "The same, for clients that can set no header", position())
        .answers_content(200, "Server-sent events", "text/event-stream", stream.build(), &NO_STORE)
        .answers_nothing(101, "The connection goes on as a WebSocket, with the subprotocol `fnhost.v1`")
        .refuses("There is no such order of the caller's", &no_order)
        .host_refuses(
            403,
            "A WebSocket from a page of another origin",
            "Forbidden",
            "pages of this origin may not connect; add it to `origins` of the live route",
        )
        .host_refuses(
            426,
            "A handshake of another version than 13",
            "Upgrade Required",
            "WebSocket version 13 is required",
        );
    let mut api =
        contract::openapi::api("live", "Orders as they happen").call(HttpMethod::Get, &path.join("/"), call);
    api.schemas.extend(events::live(push));
    api
}

/// Each operation: its method, its path and what the document says of it.
///
/// # Errors
/// The document has no paths.
pub fn operations(document: &Value) -> anyhow::Result<Vec<(&str, &str, &Value)>> {
    let paths = document["paths"].as_object().context("no paths")?;
    Ok(paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .into_iter()
                .flatten()
                .map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
        })
        .collect())
}

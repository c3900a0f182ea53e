//! Every route of the OpenAPI document, asked as nobody and as another customer: nobody gets at what is somebody's. The routes come
//! from the document, which the system serves, so a route that is added is asked too.

use crate::shared;
use crate::stories::CONFIRMED;
use anyhow::{Context as _, bail, ensure};
use http::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;
use tests::client::{Answer, Client, request};
use tests::customer::{Customer, NewOrder, PASSWORD, Status};
use tests::outcome::Outcome;
use uuid::Uuid;

/// Longest wait for an answer: a stream that should have been refused has no end.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// A product that everybody may look at.
const SKU: &str = "KETTLE";
/// Routes that anybody may call: a new one is added here by whoever decides that.
const PUBLIC: [&str; 13] = [
    "GET /.well-known/jwks.json",
    "POST /auth/login",
    "POST /auth/login/passkey",
    "POST /auth/login/passkey/options",
    "POST /auth/logout",
    "POST /auth/password/forgot",
    "POST /auth/password/reset",
    "POST /auth/refresh",
    "POST /auth/register",
    "POST /auth/verify",
    "GET /inventory/{sku}",
    "GET /products",
    "GET /products/{sku}",
];

/// Where only an admin may call anything, whatever the path names.
const OF_ADMINS: &str = "/forecast";
/// The call whose example nobody accepts: what an authenticator says answers one challenge.
const ADD_PASSKEY: &str = "POST /auth/passkeys";

/// Whose the thing is that a route's path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// None: the route answers with what is the caller's.
    Nothing,
    /// An order, a login or a passkey, and so a customer's.
    Owned,
    /// A product, which only an admin may change.
    Product,
}

/// What is Ada's.
struct Hers {
    order: Uuid,
    session: String,
}

/// A route of the document, with Ada's things in its path.
#[derive(Debug)]
struct Route {
    name: String,
    method: Method,
    path: String,
    names: Names,
    /// What it demands of a caller, `bearer` say.
    scheme: Option<String>,
    body: Option<Value>,
}

impl Route {
    /// All routes of a document, in Ada's place.
    fn all(document: &Value, hers: &Hers) -> anyhow::Result<Vec<Self>> {
        let mut routes = Vec::new();
        for (pattern, calls) in document["paths"].as_object().context("paths")? {
            for (method, call) in calls.as_object().context("calls of a path")? {
                let name = format!("{} {pattern}", method.to_uppercase());
                let route = Self::new(&name, method, pattern, call, hers);
                routes.push(route.with_context(|| name.clone())?);
            }
        }
        Ok(routes)
    }

    fn new(name: &str, method: &str, pattern: &str, call: &Value, hers: &Hers) -> anyhow::Result<Self> {
        let (mut path, mut names) = (pattern.to_owned(), Names::Nothing);
        let parameters = call["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        for parameter in parameters.iter().filter(|parameter| parameter["in"] == "path") {
            let parameter = parameter["name"].as_str().context("a parameter's name")?;
            let value = match parameter {
                "order_id" | "id" => {
                    names = Names::Owned;
                    hers.order.to_string()
                }
                "session_id" => {
                    names = Names::Owned;
                    hers.session.clone()
                }
                // Whether it exists makes no difference: the component's own tests have one of another's.
                "passkey_id" => {
                    names = Names::Owned;
                    Uuid::nil().to_string()
                }
                "sku" => {
                    names = Names::Product;
                    SKU.to_owned()
                }
                other => bail!("whose is {other:?}? Say it here"),
            };
            path = path.replace(&format!("{{{parameter}}}"), &value);
        }
        ensure!(!path.contains('{'), "a parameter is not described: {path}");
        let body = call.get("requestBody").map(|body| &body["content"]["application/json"]["example"]);
        ensure!(!body.is_some_and(Value::is_null), "its body has no example");
        let body = body.cloned().map(|mut body| {
            if let Some(password) = body.get_mut("current_password") {
                *password = PASSWORD.into();
            }
            body
        });
        let scheme = call["security"][0].as_object().and_then(|scheme| scheme.keys().next().cloned());
        let method = Method::from_bytes(method.to_uppercase().as_bytes())?;
        Ok(Self { name: name.to_owned(), method, path, names, scheme, body })
    }

    async fn ask(&self, client: &Client, token: Option<&str>) -> anyhow::Result<Answer> {
        let request = request(self.method.clone(), &self.path, token, self.body.as_ref())?;
        let answer = tokio::time::timeout(ANSWER_DEADLINE, client.send(request)).await;
        answer.with_context(|| format!("{} goes on and on", self.name))?
    }
}

#[tokio::test]
async fn no_route_shows_or_changes_what_is_anothers() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    let ada = Customer::register(&client).await?;
    let mallory = Customer::register(&client).await?;
    let order = ada.order_to_end(&NewOrder::of(&[(SKU, 1)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    // Nothing of its own is still to come.
    ada.wait_timeline(order.order_id, &CONFIRMED).await?;
    let before = (ada.get(order.order_id).await?.version, ada.timeline(order.order_id).await?.len());

    let document: Value = client.get("/openapi.json").await?.json(StatusCode::OK)?;
    let sessions = client.send(request(Method::GET, "/auth/sessions", Some(&ada.token), None)?).await?;
    let sessions: Value = sessions.json(StatusCode::OK)?;
    let session = sessions["sessions"][0]["session_id"].as_str().context("her login")?.to_owned();
    let routes = Route::all(&document, &Hers { order: order.order_id, session })?;
    let public: Vec<&str> =
        routes.iter().filter(|route| route.scheme.is_none()).map(|route| route.name.as_str()).collect();
    assert_eq!(public, PUBLIC, "what anybody may call is decided here");

    let hers = [order.order_id.to_string(), ada.user_id.to_string(), ada.email.clone()];
    for route in routes.iter().filter(|route| route.scheme.is_some()) {
        for token in [None, Some("nonsense")] {
            let answer = route.ask(&client, token).await?;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{} with {token:?}: {answer}", route.name);
        }
        if route.scheme.as_deref() != Some("bearer") {
            let answer = route.ask(&client, Some(&mallory.token)).await?;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}: {answer}", route.name);
            continue;
        }
        let answer = route.ask(&client, Some(&mallory.token)).await?;
        match route.names {
            _ if route.path.starts_with(OF_ADMINS) => {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}: {answer}", route.name);
                continue;
            }
            // As for an order that does not exist, which says no more than it must.
            Names::Owned => assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}: {answer}", route.name),
            Names::Product => assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}: {answer}", route.name),
            Names::Nothing if route.name == ADD_PASSKEY => {
                assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}: {answer}", route.name);
            }
            Names::Nothing => assert!(answer.status.is_success(), "{}: {answer}", route.name),
        }
        let said = String::from_utf8_lossy(&answer.body);
        let named = hers.iter().find(|hers| said.contains(*hers) && !route.path.contains(*hers));
        assert_eq!(named, None, "{} shows what is Ada's: {answer}", route.name);
        // The same path is good for her: it was not refused for being wrong. A stream would have no end.
        if route.method == Method::GET && !route.path.ends_with("/events") {
            let answer = route.ask(&client, Some(&ada.token)).await?;
            assert_eq!(answer.status, StatusCode::OK, "{} as Ada: {answer}", route.name);
        }
    }
    let after = (ada.get(order.order_id).await?.version, ada.timeline(order.order_id).await?.len());
    assert_eq!(before, after, "nothing of it changed her order");
    Ok(())
}

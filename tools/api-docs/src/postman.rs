//! The Postman collection (v2.1) of an OpenAPI document: its calls in an order in which they can be made, with the examples as
//! bodies. What an answer gives for later calls, a script keeps in the collection's variables.

use crate::openapi::operations;
use anyhow::Context as _;
use serde_json::{Map, Value, json};

const SCHEMA: &str = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json";

/// The operations, each after those that it needs.
const JOURNEY: [&str; 29] = [
    "register",
    "login",
    "me",
    "sendConfirmation",
    "forgotPassword",
    "sessions",
    "endOtherSessions",
    "activity",
    "passkeys",
    "passkeyLoginOptions",
    "keys",
    "refresh",
    "logout",
    "products",
    "product",
    "stock",
    "setStock",
    "createOrder",
    "order",
    "orderEvents",
    "timeline",
    "orders",
    "refundOrder",
    "cancelOrder",
    "payment",
    "notifications",
    "forecasts",
    "setReorder",
    "forecast",
];

/// Operations that nobody calls by hand: their requests are signed, need what only a mail or an authenticator has, or end what the
/// collection goes on with.
const LEFT_OUT: [&str; 9] = [
    "paymentWebhook",
    "verifyAddress",
    "resetPassword",
    "changePassword",
    "endSession",
    "passkeyOptions",
    "addPasskey",
    "removePasskey",
    "passkeyLogin",
];

/// What later calls need of an operation's answer: a variable and where it stands in the JSON.
const KEPT: [(&str, &[(&str, &str)]); 3] = [
    ("login", &[("access_token", "access_token"), ("refresh_token", "refresh_token")]),
    ("refresh", &[("access_token", "access_token"), ("refresh_token", "refresh_token")]),
    ("createOrder", &[("order_id", "order_id")]),
];

/// Variables, and what they are until a script sets them.
const VARIABLES: [(&str, &str); 5] = [
    ("base_url", "http://127.0.0.1:3000"),
    ("access_token", ""),
    ("refresh_token", ""),
    ("order_id", "01890a5d-ac96-774b-bcce-b302099a8057"),
    ("sku", "KETTLE"),
];

/// The collection.
///
/// # Errors
/// An operation has no place in the journey, or the journey has one that is not there.
pub fn collection(openapi: &Value) -> anyhow::Result<Value> {
    let operations = operations(openapi)?;
    anyhow::ensure!(
        operations.len() == JOURNEY.len() + LEFT_OUT.len(),
        "postman.rs: JOURNEY and LEFT_OUT have not as many operations as there are"
    );
    let mut folders: Vec<(String, Vec<Value>)> = Vec::new();
    for id in JOURNEY {
        let found = operations.iter().find(|(.., operation)| operation["operationId"] == id);
        let (method, path, operation) =
            found.with_context(|| format!("postman.rs: there is no operation {id}"))?;
        let tag = operation["tags"][0].as_str().context("an operation without a tag")?;
        let item = item(method, path, operation);
        match folders.iter_mut().find(|(name, _)| name == tag) {
            Some((_, items)) => items.push(item),
            None => folders.push((tag.to_owned(), vec![item])),
        }
    }
    let folders: Vec<_> =
        folders.into_iter().map(|(name, items)| json!({ "name": name, "item": items })).collect();
    let variables = VARIABLES.map(|(key, value)| json!({ "key": key, "value": value, "type": "string" }));
    Ok(json!({
        "info": { "name": openapi["info"]["title"], "description": openapi["info"]["description"], "schema": SCHEMA },
        "auth": { "type": "bearer", "bearer": [{ "key": "token", "value": "{{access_token}}", "type": "string" }] },
        "variable": variables,
        "item": folders,
    }))
}

fn item(method: &str, path: &str, operation: &Value) -> Value {
    let mut request =
        json!({ "method": method.to_uppercase(), "header": headers(operation), "url": url(path, operation) });
    if let Some(description) = operation.get("description") {
        request["description"] = description.clone();
    }
    if operation.get("security").is_none() {
        request["auth"] = json!({ "type": "noauth" });
    }
    if let Some(example) = operation["requestBody"]["content"]["application/json"].get("example") {
        let mut example = example.clone();
        if let Some(token) = example.get_mut("refresh_token") {
            *token = "{{refresh_token}}".into();
        }
        let raw = serde_json::to_string_pretty(&example).unwrap_or_default();
        request["body"] = json!({ "mode": "raw", "raw": raw, "options": { "raw": { "language": "json" } } });
    }
    json!({ "name": operation["summary"], "request": request, "event": [script(operation)], "response": [] })
}

/// A header of the body's type, and the optional ones, switched off.
fn headers(operation: &Value) -> Vec<Value> {
    let body =
        operation.get("requestBody").map(|_| json!({ "key": "content-type", "value": "application/json" }));
    let optional = parameters(operation, "header")
        .map(|parameter| json!({ "key": parameter["name"], "value": "", "description": parameter["description"], "disabled": true }));
    body.into_iter().chain(optional).collect()
}

fn parameters<'a>(operation: &'a Value, place: &'a str) -> impl Iterator<Item = &'a Value> {
    operation["parameters"].as_array().into_iter().flatten().filter(move |parameter| parameter["in"] == place)
}

fn url(path: &str, operation: &Value) -> Value {
    let path = path
        .replace("{id}", "{{order_id}}")
        .replace("{order_id}", "{{order_id}}")
        .replace("{{{order_id}}}", "{{order_id}}")
        .replace("{sku}", "{{sku}}");
    let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let mut url =
        json!({ "raw": format!("{{{{base_url}}}}{path}"), "host": ["{{base_url}}"], "path": segments });
    let query: Vec<_> = parameters(operation, "query")
        .map(|parameter| json!({ "key": parameter["name"], "value": "", "description": parameter["description"], "disabled": true }))
        .collect();
    if !query.is_empty() {
        url["query"] = query.into();
    }
    url
}

/// Checks the status against the documented ones, and keeps what later calls need.
fn script(operation: &Value) -> Value {
    let statuses: Vec<&str> =
        operation["responses"].as_object().map(Map::keys).into_iter().flatten().map(String::as_str).collect();
    let mut lines = vec![format!(
        "pm.test(\"a documented answer\", () => pm.expect(pm.response.code).to.be.oneOf([{}]));",
        statuses.join(", ")
    )];
    let kept = KEPT
        .iter()
        .find(|(id, _)| operation["operationId"] == *id)
        .map(|(_, kept)| *kept)
        .unwrap_or_default();
    if !kept.is_empty() {
        lines.push("if (pm.response.code < 300) {".to_owned());
        lines.extend(kept.iter().map(|(variable, field)| {
            format!("  pm.collectionVariables.set(\"{variable}\", pm.response.json().{field});")
        }));
        lines.push("}".to_owned());
    }
    json!({ "listen": "test", "script": { "type": "text/javascript", "exec": lines } })
}

//! Every change that is asked for at the admin address is noted before it is made, and its outcome after it: `/audit` shows them.

use super::login::Caller;
use super::{Admin, Failure, deployment};
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use fnhost_db::audit::{self, AuditFilter, Change, DONE, Entry};
use fnhost_types::causes::chain;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Entries that the list shows where the caller names no limit.
const LIST_DEFAULT: i64 = 100;
/// Entries that the list shows at most.
const LIST_MAX: i64 = 1_000;
/// Bytes of a request that brings no code.
const BODY_BYTES_MAX: usize = 2 << 20;
/// Bytes of an answer that says why a change was not made.
const REASON_BYTES_MAX: usize = 64 << 10;
/// Characters of a text that are kept of a request: none that people write is longer.
const TEXT_CHARS_MAX: usize = 300;
/// Members whose text is code: its size is kept.
const CODE: [&str; 2] = ["wasm", "signature"];

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Its other end.
    pub address: SocketAddr,
    /// Whether nobody between reads what it carries.
    pub is_secure: bool,
}

pub(super) fn router() -> Router<Admin> {
    Router::new().route("/audit", get(list))
}

#[derive(Deserialize)]
struct AuditQuery {
    limit: Option<i64>,
    who: Option<String>,
    action: Option<String>,
    since_ms: Option<i64>,
    before: Option<i64>,
}

async fn list(
    State(admin): State<Admin>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Vec<Entry>>, Failure> {
    let AuditQuery { limit, who, action, since_ms, before } = query;
    let filter = AuditFilter { who, action, since_ms, before };
    let limit = limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
    Ok(Json(audit::list(&admin.owner, admin.deployment.id(), &filter, limit).await?))
}

/// Notes a change, makes it, and notes what came of it.
pub(super) async fn record(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let brings_code = parts.uri.path().starts_with(deployment::PATH);
    let limit = if brings_code { deployment::BODY_BYTES_MAX } else { BODY_BYTES_MAX };
    let Ok(body) = to_bytes(body, limit).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the request broke off, or is too large\n").into_response();
    };
    let details = details(&parts, &body);
    if details["dry_run"] == true {
        return next.run(Request::from_parts(parts, Body::from(body))).await;
    }
    let change = Change {
        who: parts.extensions.get::<Caller>().map_or_else(String::new, |caller| caller.0.clone()),
        source: parts
            .extensions
            .get::<ConnectInfo<Peer>>()
            .map_or_else(String::new, |ConnectInfo(peer)| peer.address.ip().to_canonical().to_string()),
        action: format!("{} {}", parts.method, parts.uri.path()),
        details,
    };
    let id = match audit::begin(&admin.owner, admin.deployment.id(), &change).await {
        Ok(id) => id,
        Err(error) => return Failure::from(error).into_response(),
    };
    // A caller who hangs up does not end a change half-way.
    let made = tokio::spawn(async move {
        let (outcome, response) = outcome(next.run(Request::from_parts(parts, Body::from(body))).await).await;
        if let Err(error) = audit::end(&admin.owner, id, &outcome).await {
            tracing::warn!(id, error = chain(&error), "cannot note what came of a change");
        }
        response
    });
    made.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// What came of a change, in words; the answer goes on as it was.
async fn outcome(response: Response) -> (String, Response) {
    let status = response.status();
    if status.is_success() {
        return (DONE.to_owned(), response);
    }
    let (head, body) = response.into_parts();
    let body = to_bytes(body, REASON_BYTES_MAX).await.unwrap_or_default();
    let outcome = format!("failed: {}: {}", status.as_u16(), String::from_utf8_lossy(&body).trim());
    (outcome, Response::from_parts(head, Body::from(body)))
}

/// What is kept of a request.
fn details(parts: &Parts, body: &[u8]) -> Value {
    let mut details = match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => {
            members.into_iter().map(|(name, value)| (name.clone(), kept(&name, value))).collect()
        }
        _ if body.is_empty() => serde_json::Map::new(),
        _ => serde_json::Map::from_iter([("bytes".to_owned(), json!(body.len()))]),
    };
    if let Some(query) = parts.uri.query() {
        details.insert("query".to_owned(), json!(query));
    }
    details.into()
}

fn kept(name: &str, value: Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(text) if CODE.contains(&name) => json!({ "bytes": text.len() }),
        // Their values are often secrets.
        Value::Object(values) if name == "variables" => values.keys().cloned().collect(),
        Value::String(text) => text.chars().take(TEXT_CHARS_MAX).collect::<String>().into(),
        Value::Object(members) => {
            let kept = members.into_iter().map(|(name, value)| (name.clone(), kept(&name, value)));
            kept.collect::<serde_json::Map<_, _>>().into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_code_nor_a_variables_value_is_kept() {
        let (parts, ()) = Request::post("/components/order/versions?canary_percent=10")
            .body(())
            .expect("a request")
            .into_parts();
        let body = json!({
            "wasm": "AGFzbQ==", "origin": "o".repeat(TEXT_CHARS_MAX + 1), "variables": { "key": "hush" }, "sha256": null,
            "filter": { "trigger": "order", "ids": [1, 2] },
        });
        let kept = details(&parts, body.to_string().as_bytes());
        assert_eq!(
            kept,
            json!({
                "wasm": { "bytes": 8 }, "origin": "o".repeat(TEXT_CHARS_MAX), "variables": ["key"], "sha256": null,
                "filter": { "trigger": "order", "ids": [1, 2] }, "query": "canary_percent=10",
            })
        );
        assert_eq!(details(&parts, b"\0asm")["bytes"], 4);
    }
}

//! Takes webhooks: `POST /hooks/NAME` with JSON answers 202 once the hook is in the database, and the relay sends it to
//! the topic `hooks` with the name as its key. A repeated `webhook-id` is sent once.

use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::problem::Problem;
use fnhost_sdk::{Host, routes};
use serde_json::{Value, json};

/// Characters of a `webhook-id`.
const ID_CHARS_MAX: usize = 200;

/// One statement, and so one transaction: what is remembered is sent, and the other way round.
const TAKE: &str = "
    WITH taken AS (
        INSERT INTO hook (name, id) VALUES ($1::text, $2::text) ON CONFLICT DO NOTHING RETURNING name
    )
    INSERT INTO outgoing_event (topic, key, value, headers)
    SELECT 'hooks', convert_to(name, 'UTF8'), convert_to($3::text, 'UTF8'), $4::text::jsonb FROM taken";

/// Answers a request.
pub async fn handle<H: Host>(host: &H, request: Request) -> Response {
    route(host, &request).await.into()
}

async fn route(host: &impl Host, request: &Request) -> Result<Response, Problem> {
    routes! {
        request;
        ["hooks", name] if !name.is_empty() => POST: take(host, request, name);
        _ => Problem::not_found("hooks are sent to /hooks/NAME");
    }
}

async fn take(host: &impl Host, request: &Request, name: &str) -> Result<Response, Problem> {
    let hook: Value = request.json()?;
    let id = request.header("webhook-id")?.unwrap_or_default();
    if id.is_empty() || id.chars().count() > ID_CHARS_MAX {
        return Err(Problem::invalid("webhook-id", "1 to 200 characters, the same for each copy of a hook"));
    }
    let headers = json!({"content-type": "application/json", "webhook-id": id});
    let params = [name.to_owned(), id.to_owned(), hook.to_string(), headers.to_string()];
    let sent = host.execute(TAKE, params.map(Into::into).to_vec()).await?;
    Ok(Response::json(202, &json!({"accepted": true, "repeated": sent == 0})))
}

fnhost_sdk::export_http!(crate::handle);

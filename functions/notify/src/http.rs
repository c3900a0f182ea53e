//! The caller's own notifications.

use crate::sql;
use contract::problem::answer;
use contract::token::{self, Caller};
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::page::Paging;
use fnhost_sdk::problem::Problem;
use fnhost_sdk::{Host, Row, SqlError, routes};
use serde::Serialize;

/// Notifications in an answer where the caller does not say.
pub const NOTIFICATIONS_DEFAULT: i64 = 20;
/// Notifications in an answer at most.
pub const NOTIFICATIONS_MAX: i64 = 100;

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Notification {
    id: i64,
    order_id: String,
    status: String,
    created_at: String,
    messages: [Message; 2],
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Message {
    channel: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    text: String,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Notifications {
    notifications: Vec<Notification>,
    /// For the parameter `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// Answers a request.
pub async fn handle<H: Host>(host: &H, request: Request) -> Response {
    answer(route(host, &request).await)
}

async fn route(host: &impl Host, request: &Request) -> Result<Response, Problem> {
    routes! {
        request, caller: token::caller(host, request);
        ["notifications"] => GET as caller: list(host, request, caller);
        _ => Problem::not_found("no such address");
    }
}

async fn list(host: &impl Host, request: &Request, caller: Caller) -> Result<Response, Problem> {
    let paging = Paging::of(request, NOTIFICATIONS_DEFAULT, NOTIFICATIONS_MAX)?;
    let before = paging.after.unwrap_or(i64::MAX);
    let rows = sql::list(host, caller.user_id, before, paging.rows()).await?;
    let found = rows.iter().map(read).collect::<Result<_, _>>()?;
    let (notifications, next_cursor) = paging.page(found, |last: &Notification| last.id);
    Ok(Response::json(200, &Notifications { notifications, next_cursor }))
}

fn read(row: &Row) -> Result<Notification, SqlError> {
    let email =
        Message { channel: "email", subject: Some(row.text(3)?.to_owned()), text: row.text(4)?.to_owned() };
    let sms = Message { channel: "sms", subject: None, text: row.text(5)?.to_owned() };
    Ok(Notification {
        id: row.int64(0)?,
        order_id: row.text(1)?.to_owned(),
        status: row.text(2)?.to_owned(),
        created_at: row.text(6)?.to_owned(),
        messages: [email, sms],
    })
}

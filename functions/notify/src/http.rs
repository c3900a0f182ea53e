//! The caller's own notifications.

use crate::sql;
use contract::problem::answer;
use contract::token;
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::problem::Problem;
use fnhost_sdk::{Host, Row, SqlError};
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
    match (request.method.as_str(), request.segments().as_slice()) {
        ("GET", ["notifications"]) => list(host, request).await,
        (_, ["notifications"]) => Err(Problem::method_not_allowed("GET")),
        _ => Err(Problem::not_found("no such address")),
    }
}

async fn list(host: &impl Host, request: &Request) -> Result<Response, Problem> {
    let user_id = token::caller(host, request).await?.user_id;
    let limit = request.limit(NOTIFICATIONS_DEFAULT, NOTIFICATIONS_MAX)?;
    let before = match request.parameter("cursor")? {
        None => i64::MAX,
        Some(cursor) => {
            cursor.parse().map_err(|_| Problem::invalid("cursor", "the next_cursor of a page"))?
        }
    };
    // One more than is asked for tells whether there is more.
    let rows = sql::list(host, user_id, before, limit + 1).await?;
    let mut notifications = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let more = i64::try_from(notifications.len()).is_ok_and(|found| found > limit);
    if more {
        notifications.pop();
    }
    let next_cursor = notifications.last().filter(|_| more).map(|last| last.id.to_string());
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

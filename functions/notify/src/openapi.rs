//! The interface of `notify`, described.

use crate::http::{Message, NOTIFICATIONS_DEFAULT, NOTIFICATIONS_MAX, Notification, Notifications};
use contract::event::Notice;
use fnhost_sdk::openapi::{Api, Call, HttpMethod, id, page, text, time};
use fnhost_sdk::problem::Problem;
use serde_json::json;

/// The calls of `notify`.
#[must_use]
pub fn api() -> Api {
    contract::openapi::api("notify", "What customers were told")
        .call(HttpMethod::Get, "/notifications", notifications())
        .limit::<Notification>("order_id", id())
        .limit::<Notification>("status", json!({ "enum": Notice::ALL.map(Notice::as_str) }))
        .limit::<Notification>("created_at", time())
        .limit::<Message>("channel", json!({ "enum": ["email", "sms"] }))
        .never_null::<Message>(&["subject"])
}

fn notifications() -> Call {
    let order_id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let sms = format!("Your order is confirmed! Order {order_id}");
    let email = format!("Your order is confirmed!\n\nWe are packing it now.\n\nOrder {order_id}\n");
    let page_of_one = json!({
        "notifications": [{
            "id": 7,
            "order_id": order_id,
            "status": "CONFIRMED",
            "created_at": "2026-01-31T08:00:00.250Z",
            "messages": [
                { "channel": "email", "subject": "Your order is confirmed!", "text": email },
                { "channel": "sms", "text": sms },
            ],
        }],
        "next_cursor": null,
    });
    Call::new("notifications", "The caller's notifications, newest first")
        .signed_in()
        .query("limit", "Notifications in the answer at most", page(NOTIFICATIONS_DEFAULT, NOTIFICATIONS_MAX))
        .query("cursor", "The `next_cursor` of the page before", text())
        .answers::<Notifications>(200, "A page of notifications", &page_of_one)
        .refuses(
            "A parameter is out of range",
            &Problem::invalid("limit", format!("1 to {NOTIFICATIONS_MAX}")),
        )
}

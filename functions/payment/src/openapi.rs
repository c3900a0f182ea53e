//! The interface of `payment`, described.

use crate::domain::State;
use crate::http::{Payment, unknown};
use crate::webhook::{EVENTS_MAX, Event, ID_CHARS_MAX, Kept, Told};
use fnhost_sdk::openapi::{Api, Call, HttpMethod, id};
use fnhost_sdk::problem::Problem;
use serde_json::json;

/// The calls of `payment`.
#[must_use]
pub fn api() -> Api {
    contract::openapi::api("payment", "What became of an order's money")
        .call(HttpMethod::Get, "/payments/{order_id}", payment())
        .call(HttpMethod::Post, "/payments/webhook", webhook())
        .limit::<Told>("events", json!({ "maxItems": EVENTS_MAX }))
        .limit::<Event>("id", json!({ "maxLength": ID_CHARS_MAX }))
        .limit::<Payment>("status", json!({ "enum": State::ALL.map(State::as_str) }))
        .never_null::<Payment>(&["amount", "refunded", "reason"])
}

fn payment() -> Call {
    let captured = json!({
        "order_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "payment_id": "01890a5d-ad20-7c11-9c5e-0f3d2a4b6c8d",
        "status": "CAPTURED",
        "amount": { "amount": 4900, "currency": "EUR" },
    });
    Call::new("payment", "The payment of an order")
        .signed_in()
        .path("order_id", "The order", id())
        .answers::<Payment>(200, "The payment", &captured)
        .refuses("The caller has no payment for such an order, or not yet", &unknown())
}

fn webhook() -> Call {
    let told = json!({ "events": [{
        "id": "01890a5d-ac96-774b-bcce-b302099a8057/authorized",
        "created": 1_700_000_000,
        "payment": {
            "reference": "01890a5d-ac96-774b-bcce-b302099a8057",
            "status": "authorized",
            "amount": 4900,
            "refunded": 0,
        },
    }] });
    Call::new("paymentWebhook", "What the payment gateway did")
        .about("For the payment gateway alone: signed with the secret that both share.")
        .signed()
        .body::<Told>(told)
        .answers::<Kept>(
            200,
            "It is kept; what was told before is not kept twice",
            &Kept { new: 1, known: 0 },
        )
        .refuses("There is too much of it", &Problem::invalid("events", format!("at most {EVENTS_MAX}")))
}

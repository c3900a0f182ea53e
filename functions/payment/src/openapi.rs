//! The interface of `payment`, described.

use crate::domain::State;
use crate::http::{Payment, unknown};
use kit::openapi::{Api, Call, HttpMethod, id};
use serde_json::json;

/// The calls of `payment`.
#[must_use]
pub fn api() -> Api {
    Api::new("payment", "What became of an order's money")
        .call(HttpMethod::Get, "/payments/{order_id}", payment())
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

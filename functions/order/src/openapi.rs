//! The interface of `order`, described.

use crate::domain::{LINES_MAX, Line, PAYMENT_TOKEN_BYTES_MAX, QUANTITY_MAX};
use crate::http::refund::Input as NewRefund;
use crate::http::{
    IDEMPOTENCY_KEY_BYTES_MAX, Input as NewOrder, PAGE_DEFAULT, PAGE_MAX, Page, Refund, Timeline, View,
    no_order,
};
use crate::refund::{REASON_CHARS_MAX, Wanted};
use crate::sql::Happened;
use contract::event::{Event, OrderStatus};
use contract::openapi::sku;
use fnhost_sdk::openapi::{Api, Call, HttpMethod, id, page, text, time};
use fnhost_sdk::problem::Problem;
use serde_json::{Value, json};

const ORDER_ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// The calls of `order`.
#[must_use]
pub fn api() -> Api {
    let pieces = || json!({ "minimum": 1, "maximum": QUANTITY_MAX });
    let statuses = OrderStatus::ALL.map(OrderStatus::as_str);
    contract::openapi::api("order", "Orders, from taking them to their end")
        .call(HttpMethod::Post, "/orders", create())
        .call(HttpMethod::Get, "/orders", list())
        .call(HttpMethod::Get, "/orders/{order_id}", get())
        .call(HttpMethod::Get, "/orders/{order_id}/timeline", timeline())
        .call(HttpMethod::Post, "/orders/{order_id}/cancel", cancel())
        .call(HttpMethod::Post, "/orders/{order_id}/refund", refund())
        .limit::<NewOrder>("items", json!({ "minItems": 1, "maxItems": LINES_MAX }))
        .limit::<NewOrder>("payment_token", json!({ "minLength": 1, "maxLength": PAYMENT_TOKEN_BYTES_MAX }))
        .limit::<Line>("sku", sku())
        .limit::<Line>("quantity", pieces())
        .limit::<View>("version", json!({ "minimum": 1 }))
        .limit::<View>("items", json!({ "minItems": 1, "maxItems": LINES_MAX }))
        .limit::<View>("created_at", time())
        .limit::<View>("updated_at", time())
        .limit::<Refund>("amount", json!({ "minimum": 0 }))
        .limit::<Refund>("currency", json!({ "pattern": "^[A-Z]{3}$" }))
        .limit::<Page>("orders", json!({ "maxItems": PAGE_MAX }))
        .limit::<Happened>("event", json!({ "enum": timeline_events() }))
        .limit::<Happened>("status", json!({ "enum": statuses }))
        .limit::<Happened>("at", time())
        .limit::<Wanted>("sku", sku())
        .limit::<Wanted>("quantity", pieces())
        .limit::<NewRefund>("lines", json!({ "minItems": 1, "maxItems": LINES_MAX }))
        .limit::<NewRefund>("reason", json!({ "maxLength": REASON_CHARS_MAX }))
        .never_null::<View>(&["reason", "refunded"])
        .never_null::<Happened>(&["status", "detail"])
}

/// What a timeline can tell of: every event but that customers are told.
fn timeline_events() -> Vec<&'static str> {
    Event::TYPES.iter().copied().filter(|name| !name.starts_with("notification.")).collect()
}

fn order(status: &str, version: i64) -> Value {
    json!({
        "order_id": ORDER_ID,
        "status": status,
        "version": version,
        "items": [{ "sku": "KETTLE", "quantity": 1, "unit_price": 4900 }],
        "total": { "amount": 4900, "currency": "EUR" },
        "created_at": "2026-01-31T08:00:00.250Z",
        "updated_at": "2026-01-31T08:00:00.250Z",
    })
}

fn of_order(id_of_call: &str, summary: &str) -> Call {
    Call::new(id_of_call, summary)
        .signed_in()
        .path("order_id", "The order", id())
        .refuses("There is no such order of the caller's", &no_order())
}

/// A call that is carried out once for each key.
fn idempotent(call: Call) -> Call {
    let keywords = json!({ "type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_BYTES_MAX, "pattern": "^[ -~]+$" });
    call.header("idempotency-key", "The same request with the same key is carried out once", keywords)
}

fn create() -> Call {
    let input = json!({ "items": [{ "sku": "KETTLE", "quantity": 1 }], "payment_token": "tok_ok" });
    let taken = "this idempotency key was used for an order with another body";
    idempotent(Call::new("createOrder", "Order"))
        .about(
            "The answer comes before stock and payment are asked: look at the order, or follow its events.",
        )
        .signed_in()
        .body::<NewOrder>(input)
        .answers_with::<View>(
            202,
            "The order, not yet decided; or the one that this key stands for",
            &order("PENDING", 1),
            &[("location", "Its address")],
        )
        .refuses(
            "The idempotency key was used with another body",
            &Problem::conflict(taken).with_field("idempotency-key"),
        )
        .refuses(
            "An input is not acceptable",
            &Problem::invalid("items[0].sku", "there is no product of this SKU"),
        )
}

fn list() -> Call {
    let statuses = json!({ "type": "string", "enum": OrderStatus::ALL.map(OrderStatus::as_str) });
    Call::new("orders", "The caller's orders, newest first")
        .signed_in()
        .query("status", "Only these", statuses)
        .query("from", "Ordered at this time or later: a date, or a time in RFC 3339", moment("2026-01-01"))
        .query("to", "Ordered before this time", moment("2026-02-01T00:00:00Z"))
        .query("limit", "Orders in the answer at most", page(PAGE_DEFAULT, PAGE_MAX))
        .query("cursor", "The `next_cursor` of the page before", text())
        .answers::<Page>(
            200,
            "A page of orders",
            &json!({ "orders": [order("CONFIRMED", 2)], "next_cursor": null }),
        )
        .refuses("A parameter is out of range", &Problem::invalid("limit", format!("1 to {PAGE_MAX}")))
}

fn moment(example: &str) -> Value {
    let pattern = r"^\d{4}-\d{2}-\d{2}([Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2}))?$";
    json!({ "type": "string", "pattern": pattern, "examples": [example] })
}

fn get() -> Call {
    of_order("order", "An order").answers::<View>(200, "The order", &order("CONFIRMED", 2))
}

fn timeline() -> Call {
    let entry = |event: &str, status: &str| json!({ "event": event, "status": status, "at": "2026-01-31T08:00:00.250Z" });
    let entries = [entry("order.created", "PENDING"), entry("order.confirmed", "CONFIRMED")];
    of_order("timeline", "What happened to an order").answers::<Timeline>(
        200,
        "Its events, in the order of their happening",
        &json!({ "order_id": ORDER_ID, "entries": entries }),
    )
}

fn cancel() -> Call {
    let mut cancelled = order("CANCELLED", 3);
    cancelled["reason"] = "cancelled by the customer".into();
    of_order("cancelOrder", "Cancel an order")
        .about("Stock that is held is released, and money that was taken goes back.")
        .answers::<View>(200, "The order, cancelled", &cancelled)
        .refuses(
            "The order has ended otherwise",
            &Problem::conflict("the order is REJECTED and cannot be cancelled any more"),
        )
}

fn refund() -> Call {
    let mut refunded = order("CONFIRMED", 3);
    refunded["refunded"] =
        json!({ "amount": 4900, "currency": "EUR", "items": [{ "sku": "KETTLE", "quantity": 1 }] });
    let input = json!({ "lines": [{ "sku": "KETTLE", "quantity": 1 }], "reason": "arrived broken" });
    let not_confirmed = "the order is PENDING, and only a CONFIRMED one is refunded";
    idempotent(of_order("refundOrder", "Give the money of an order back"))
        .about(
            "The caller's own order, or any with the role admin; all that is left where no lines are named.",
        )
        .body::<NewRefund>(input)
        .answers::<View>(202, "The order; the money goes back once payment has heard of it", &refunded)
        .refuses("The order is not confirmed, or less is left of it", &Problem::conflict(not_confirmed))
        .refuses(
            "An input is not acceptable",
            &Problem::invalid("lines[0].sku", "the order has no such line"),
        )
}

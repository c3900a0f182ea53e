//! Events as they are read and written.

use super::*;
use fnhost_sdk::kafka::{Header, Message, Outcome};

#[test]
fn events_survive_the_wire_and_ignore_what_they_do_not_know() {
    let event = Event::OrderRejected(OrderChanged {
        order_id: Uuid::now_v7(),
        user_id: Uuid::now_v7(),
        version: 2,
        status: OrderStatus::PaymentFailed,
        reason: None,
    });
    let mut payload: serde_json::Value = serde_json::from_slice(&event.to_json()).unwrap();
    assert_eq!(payload["status"], "PAYMENT_FAILED");
    assert_eq!(payload.get("reason"), None);
    payload["added_later"] = true.into();
    let bytes = serde_json::to_vec(&payload).unwrap();
    assert_eq!(Event::from_json("order.rejected", &bytes).unwrap(), event);
}

#[test]
fn what_is_no_event_says_why() {
    for (event_type, payload, reason) in [
        ("order.lost", "{}", "unknown event type \"order.lost\""),
        ("order.created", "{", "the value is broken JSON"),
        ("inventory.committed", "{}", "the value does not fit the event type: missing field `order_id`"),
        ("inventory.committed", r#"{"order_id":"7"}"#, "the value does not fit the event type"),
    ] {
        let error = Event::from_json(event_type, payload.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{error}");
    }
}

#[test]
fn a_record_has_the_key_of_its_order() {
    let event = Event::PaymentDeclined(PaymentDeclined {
        order_id: Uuid::from_u128(7),
        reason: "no funds".to_owned(),
    });
    let message = |key: String| Message {
        key: Some(key.into_bytes()),
        value: Some(event.to_json()),
        headers: vec![Header { name: "ce_type".to_owned(), value: event.event_type().into() }],
        attempt: 1,
        last_attempt: false,
    };
    let batch = Batch::decode(vec![message(event.order_id().to_string()), message("7".to_owned())]);
    assert_eq!(batch.records.iter().map(|record| &record.event).collect::<Vec<_>>(), [&event]);
    let reason = "the key is not the order id 00000000-0000-0000-0000-000000000007".to_owned();
    assert_eq!(batch.reply.outcomes, [Outcome::Done, Outcome::Reject(reason)]);
}

#[test]
fn money_is_told_in_its_major_unit() {
    for (amount, currency, told) in [
        (1250, "EUR", "12.50 EUR"),
        (7, "EUR", "0.07 EUR"),
        (-1205, "USD", "-12.05 USD"),
        (1250, "JPY", "1250 JPY"),
        (1250, "KWD", "1.250 KWD"),
        (i64::MIN, "EUR", "-92233720368547758.08 EUR"),
    ] {
        assert_eq!(Money { amount, currency: currency.to_owned() }.to_string(), told);
    }
}

#[test]
fn status_names_are_those_of_json() {
    for status in OrderStatus::ALL {
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        assert_eq!(OrderStatus::from_name(status.as_str()), Some(status));
    }
    assert_eq!(OrderStatus::from_name("pending"), None);
}

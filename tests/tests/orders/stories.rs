//! What customers live through.

use crate::shared;
use anyhow::Result;
use futures::future::try_join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tests::consistency::{assert_consistent, wait_settled};
use tests::customer::{Customer, Entry, NewOrder, Order, Status, Stock, stock};
use tests::outcome::Outcome;
use tests::system::Fnhost;
use uuid::Uuid;

/// The events of an order that goes well.
pub const CONFIRMED: [&str; 6] = [
    "order.created",
    "inventory.reserved",
    "payment.authorized",
    "order.confirmed",
    "inventory.committed",
    "payment.captured",
];
/// Time that the payment gateway takes for `tok_slow`.
const SLOW: Duration = Duration::from_secs(2);
/// Customers that want the same ten pieces.
const RIVALS: usize = 100;

/// A product that no other test orders of.
fn sku() -> String {
    format!("TEST-{}", Uuid::new_v4().simple())
}

fn statuses(timeline: &[Entry]) -> Vec<Status> {
    timeline.iter().filter_map(|entry| entry.status).collect()
}

#[tokio::test]
async fn an_order_with_stock_and_money_is_confirmed() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;

    let order = ada.order(&NewOrder::of(&[("COFFEE-1KG", 2), ("MUG-BLUE", 1)])).await?;
    assert_eq!((order.status, order.version, order.total.amount), (Status::Pending, 1, 2 * 1890 + 990));
    let order = ada.wait_final(order.order_id).await?;
    assert_eq!((order.status, order.version, order.reason), (Status::Confirmed, 2, None));

    let timeline = ada.wait_timeline(order.order_id, &CONFIRMED).await?;
    assert_eq!(statuses(&timeline), [Status::Pending, Status::Confirmed]);
    assert_eq!(timeline[0].event, "order.created");
    let payment = ada.wait_payment(order.order_id, "CAPTURED").await?;
    assert_eq!(payment.amount, Some(order.total));

    let notifications = ada.wait_notifications(order.order_id, &["CONFIRMED"]).await?;
    let channels: Vec<&str> =
        notifications[0].messages.iter().map(|message| message.channel.as_str()).collect();
    assert_eq!(channels, ["email", "sms"]);
    assert!(notifications[0].messages[0].text.starts_with("Your order is confirmed!"));
    let line = format!("Notification sent to user {}: Your order is confirmed!", ada.user_id);
    assert_eq!(fnhost.log().matches(&line).count(), 1, "the log says it once: {line}");
    Ok(())
}

#[tokio::test]
async fn an_order_without_stock_is_rejected_and_costs_nothing() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let (db, other) = (fnhost.database().await?, sku());
    db.add_product(&other, 5).await?;

    let order = ada.order_to_end(&NewOrder::of(&[(&other, 1), ("OUT-OF-STOCK", 1)])).await?;
    assert_eq!(order.status, Status::Rejected);
    assert_eq!(order.reason.as_deref(), Some("OUT-OF-STOCK is out of stock"));
    ada.wait_payment(order.order_id, "VOIDED").await?;
    ada.wait_notifications(order.order_id, &["REJECTED"]).await?;
    // All or nothing: the line that had stock holds none of it.
    assert_eq!(stock(&ada.client, &other).await?, Stock { on_hand: 5, reserved: 0, available: 5 });
    let timeline = ada.timeline(order.order_id).await?;
    assert_eq!(statuses(&timeline), [Status::Pending, Status::Rejected]);
    Ok(())
}

#[tokio::test]
async fn a_declined_payment_ends_the_order_and_gives_the_stock_back() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let (db, sku) = (fnhost.database().await?, sku());
    db.add_product(&sku, 5).await?;

    let order = ada.order_to_end(&NewOrder::of(&[(&sku, 3)]).paid_with("tok_declined")).await?;
    assert_eq!(
        (order.status, order.reason.as_deref()),
        (Status::PaymentFailed, Some("the card was declined"))
    );
    let payment = ada.wait_payment(order.order_id, "DECLINED").await?;
    assert_eq!(payment.reason.as_deref(), Some("the card was declined"));
    ada.wait_notifications(order.order_id, &["PAYMENT_FAILED"]).await?;
    wait_settled(&fnhost, &db).await?;
    assert_eq!(stock(&ada.client, &sku).await?, Stock { on_hand: 5, reserved: 0, available: 5 });
    Ok(())
}

#[tokio::test]
async fn a_confirmed_order_that_is_cancelled_gives_stock_and_money_back() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let (db, sku) = (fnhost.database().await?, sku());
    db.add_product(&sku, 5).await?;

    let order = ada.order_to_end(&NewOrder::of(&[(&sku, 3)])).await?;
    ada.wait_timeline(order.order_id, &CONFIRMED).await?;
    assert_eq!(stock(&ada.client, &sku).await?, Stock { on_hand: 2, reserved: 0, available: 2 });
    let cancelled = ada.cancel(order.order_id).await?;
    assert_eq!((cancelled.status, cancelled.version), (Status::Cancelled, 3));

    ada.wait_payment(order.order_id, "REFUNDED").await?;
    ada.wait_notifications(order.order_id, &["CONFIRMED", "CANCELLED", "REFUNDED"]).await?;
    let mut events = CONFIRMED.to_vec();
    events.extend(["order.cancelled", "inventory.released", "payment.refunded"]);
    let timeline = ada.wait_timeline(order.order_id, &events).await?;
    assert_eq!(statuses(&timeline), [Status::Pending, Status::Confirmed, Status::Cancelled]);
    assert_eq!(stock(&ada.client, &sku).await?, Stock { on_hand: 5, reserved: 0, available: 5 });

    let again = ada.try_cancel(order.order_id).await?;
    assert_eq!(again.status, StatusCode::CONFLICT, "{again}");
    Ok(())
}

#[tokio::test]
async fn a_pending_order_that_is_cancelled_takes_nothing() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let (db, sku) = (fnhost.database().await?, sku());
    db.add_product(&sku, 5).await?;

    // The gateway takes its time, so the order is pending for sure.
    let order = ada.order(&NewOrder::of(&[(&sku, 3)]).paid_with("tok_slow")).await?;
    let cancelled = ada.cancel(order.order_id).await?;
    assert_eq!((cancelled.status, cancelled.version), (Status::Cancelled, 2));

    ada.wait_notifications(order.order_id, &["CANCELLED"]).await?;
    wait_settled(&fnhost, &db).await?;
    let payment = ada.wait_payment(order.order_id, "VOIDED").await?;
    assert_eq!(ada.get(order.order_id).await?.status, Status::Cancelled, "{payment:?}");
    assert_eq!(stock(&ada.client, &sku).await?, Stock { on_hand: 5, reserved: 0, available: 5 });
    Ok(())
}

#[tokio::test]
async fn an_idempotency_key_stands_for_one_order() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    let (ada, bob) = (Customer::register(&client).await?, Customer::register(&client).await?);
    let order = NewOrder::of(&[("TEA-250G", 1)]);

    let requests = (0..10).map(|_| ada.try_order(&order, Some("my key")));
    let answers = try_join_all(requests).await?;
    let first: Order = answers[0].json(StatusCode::ACCEPTED)?;
    assert_eq!(answers[0].header("location"), format!("/orders/{}", first.order_id));
    let ids: BTreeSet<Uuid> = answers
        .iter()
        .map(|answer| Ok(answer.json::<Order>(StatusCode::ACCEPTED)?.order_id))
        .collect::<Result<_>>()?;
    assert_eq!(ids.len(), 1, "ten requests at a time under one key are one order");

    let other = ada.try_order(&NewOrder::of(&[("TEA-250G", 2)]), Some("my key")).await?;
    let problem: Value = other.json(StatusCode::CONFLICT)?;
    assert_eq!(problem["field"], "idempotency-key");
    let of_bob: Order = bob.try_order(&order, Some("my key")).await?.json(StatusCode::ACCEPTED)?;
    assert!(
        !ids.contains(&of_bob.order_id),
        "keys of different customers have nothing to do with each other"
    );
    Ok(())
}

#[tokio::test]
async fn an_order_is_its_customers_alone() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    let (ada, bob) = (Customer::register(&client).await?, Customer::register(&client).await?);
    let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    let id = order.order_id;
    ada.wait_payment(id, "CAPTURED").await?;

    for (method, path) in [
        (Method::GET, format!("/orders/{id}")),
        (Method::GET, format!("/orders/{id}/timeline")),
        (Method::POST, format!("/orders/{id}/cancel")),
        (Method::GET, format!("/payments/{id}")),
    ] {
        let another = bob.ask(method.clone(), &path, None).await?;
        let nobodys = bob.ask(method, &path.replace(&id.to_string(), NOBODYS), None).await?;
        assert_eq!(another.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(another.body, nobodys.body, "{path} tells whether there is such an order");
    }
    let page: Value = bob.ask(Method::GET, "/orders", None).await?.json(StatusCode::OK)?;
    assert_eq!(page["orders"], json!([]));
    assert!(bob.notifications().await?.is_empty());
    assert_eq!(ada.get(id).await?.status, Status::Confirmed);
    Ok(())
}

/// An id that no order has.
const NOBODYS: &str = "01890000-0000-7000-8000-000000000000";

#[tokio::test]
async fn a_gateway_that_fails_twice_or_is_slow_authorizes_in_the_end() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let order = NewOrder::of(&[("TEA-250G", 1)]);
    // The good order of another key is not held up by those that wait.
    let flaky = ada.order(&order.clone().paid_with("tok_flaky")).await?.order_id;
    let asked = Instant::now();
    let slow = ada.order(&order.clone().paid_with("tok_slow")).await?.order_id;
    let good = ada.order_to_end(&order).await?;
    assert_eq!(good.status, Status::Confirmed);
    let status = ada.get(slow).await?.status;
    // On a machine that is slower itself there is nothing to see.
    assert!(status == Status::Pending || asked.elapsed() > SLOW, "{status:?} after {:?}", asked.elapsed());
    for id in [flaky, slow] {
        assert_eq!(ada.wait_final(id).await?.status, Status::Confirmed);
        ada.wait_payment(id, "CAPTURED").await?;
        ada.wait_timeline(id, &CONFIRMED).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_never_answers_ends_the_order() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let (db, sku) = (fnhost.database().await?, sku());
    db.add_product(&sku, 5).await?;
    let order = ada.order(&NewOrder::of(&[(&sku, 3)]).paid_with("tok_down")).await?;
    let order = ada.wait_final(order.order_id).await?;
    assert_eq!((order.status, order.reason.as_deref()), (Status::PaymentFailed, Some("gateway unavailable")));
    ada.wait_payment(order.order_id, "DECLINED").await?;
    let events = ["order.created", "inventory.reserved", "payment.declined", "order.rejected"];
    ada.wait_timeline(order.order_id, &[&events[..], &["inventory.released"]].concat()).await?;
    assert_eq!(stock(&ada.client, &sku).await?, Stock { on_hand: 5, reserved: 0, available: 5 });
    Ok(())
}

#[tokio::test]
async fn an_admin_sets_the_stock_and_a_customer_does_not() -> Outcome {
    let fnhost = shared().await?;
    let (ada, db, sku) = (Customer::register(&fnhost.client()?).await?, fnhost.database().await?, sku());
    db.add_product(&sku, 0).await?;
    let path = format!("/inventory/{sku}");
    let refused = ada.ask(Method::PUT, &path, Some(&json!({ "on_hand": 7 }))).await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused}");

    let admin = db.make_admin(&ada).await?;
    assert_eq!(admin.set_stock(&sku, 7).await?, Stock { on_hand: 7, reserved: 0, available: 7 });
    let order = ada.order_to_end(&NewOrder::of(&[(&sku, 7)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    ada.wait_timeline(order.order_id, &CONFIRMED).await?;

    // What an order holds cannot be taken away from it.
    admin.set_stock(&sku, 3).await?;
    let held = ada.order(&NewOrder::of(&[(&sku, 2)]).paid_with("tok_down")).await?;
    ada.wait_timeline(held.order_id, &["order.created", "inventory.reserved"]).await?;
    let refused = admin.ask(Method::PUT, &path, Some(&json!({ "on_hand": 1 }))).await?;
    assert_eq!(refused.json::<Value>(StatusCode::CONFLICT)?["field"], "on_hand");
    assert_eq!(ada.wait_final(held.order_id).await?.status, Status::PaymentFailed);
    Ok(())
}

/// Alone on its system, since it ends with the question whether all of that is consistent.
#[tokio::test]
async fn of_a_hundred_rivals_for_ten_pieces_ten_are_confirmed() -> Outcome {
    let fnhost = Fnhost::start(Default::default()).await?;
    let (client, db) = (fnhost.client()?, fnhost.database().await?);
    let ada = Customer::register(&client).await?;
    let order = NewOrder::of(&[("LAST-TEN", 1)]);

    let placed = try_join_all((0..RIVALS).map(|_| ada.order(&order))).await?;
    // One after the other: a hundred that ask all the time would only keep the machine from handling the orders.
    let mut orders = Vec::new();
    for order in placed {
        orders.push(ada.wait_final(order.order_id).await?);
    }
    let confirmed = orders.iter().filter(|order| order.status == Status::Confirmed).count();
    let rejected = orders.iter().filter(|order| order.status == Status::Rejected).count();
    assert_eq!((confirmed, rejected), (10, RIVALS - 10));
    wait_settled(&fnhost, &db).await?;
    assert_eq!(stock(&client, "LAST-TEN").await?, Stock { on_hand: 0, reserved: 0, available: 0 });
    assert_eq!(db.count("SELECT count(*) FROM payment.payment WHERE state = 'CAPTURED'").await?, 10);
    assert_consistent(&db).await;
    Ok(())
}

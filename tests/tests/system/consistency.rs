//! The check that the fault tests end with, itself checked: each way in which it says that an effect was lost or doubled is brought
//! about in a finished database, and it must say so by its name.
//!
//! Each corruption is a transaction that is rolled back, so that all begin with the same consistent database.

use std::collections::BTreeSet;
use tests::consistency::{assert_consistent, rules, violations, wait_settled};
use tests::customer::{Customer, NewOrder, Status};
use tests::outcome::Outcome;
use tests::system::{Fnhost, Setup};

/// What is done to the database, to which statement, and a part of the name of the rule that must notice.
const CORRUPTIONS: [(&str, &str, &str); 34] = [
    (
        "an order is left PENDING",
        "UPDATE orders.orders SET status = 'PENDING' WHERE id = (SELECT id FROM orders.orders WHERE status = 'CONFIRMED' LIMIT 1)",
        "every order is final",
    ),
    (
        "a reservation is lost",
        "DELETE FROM inventory.reservation WHERE order_id = (SELECT order_id FROM inventory.reservation LIMIT 1)",
        "every order has one reservation",
    ),
    (
        "a confirmed order's stock stays reserved",
        "UPDATE inventory.reservation SET state = 'RESERVED' WHERE state = 'COMMITTED'",
        "every order has one reservation",
    ),
    (
        "a cancelled order's stock is taken",
        "UPDATE inventory.reservation SET state = 'COMMITTED' WHERE state = 'RELEASED'",
        "every order has one reservation",
    ),
    (
        "inventory missed the order's end",
        "UPDATE inventory.reservation SET version = version - 1 WHERE state = 'COMMITTED'",
        "every order has one reservation",
    ),
    (
        "a payment is lost",
        "DELETE FROM payment.payment WHERE order_id = (SELECT order_id FROM payment.payment LIMIT 1)",
        "every order has one payment",
    ),
    (
        "a confirmed order is never charged",
        "UPDATE payment.payment SET state = 'AUTHORIZED' WHERE state = 'CAPTURED' AND refunded = 0",
        "every order has one payment",
    ),
    (
        "a rejected order is charged",
        "UPDATE payment.payment p SET state = 'CAPTURED' FROM orders.orders o WHERE o.id = p.order_id AND o.status = 'REJECTED'",
        "every order has one payment",
    ),
    (
        "a cancelled order is not refunded",
        "UPDATE payment.payment SET state = 'CAPTURED' WHERE state = 'REFUNDED'",
        "every order has one payment",
    ),
    (
        "payment missed the order's end",
        "UPDATE payment.payment SET version = version - 1 WHERE state = 'CAPTURED'",
        "every order has one payment",
    ),
    (
        "there is a reservation too many",
        "INSERT INTO inventory.reservation (order_id, state, version) VALUES (gen_random_uuid(), 'RESERVED', 1)",
        "reservations and payments belong to orders",
    ),
    (
        "there is a payment too many",
        "INSERT INTO payment.payment (order_id, state, payment_id, user_id, amount, currency, version)
         SELECT gen_random_uuid(), state, gen_random_uuid(), user_id, amount, currency, version FROM payment.payment WHERE state = 'CAPTURED' LIMIT 1",
        "reservations and payments belong to orders",
    ),
    (
        "an order is charged double",
        "UPDATE payment.payment SET amount = 2 * amount WHERE state = 'CAPTURED'",
        "the payment is of the order's total",
    ),
    (
        "another customer is charged",
        "UPDATE payment.payment SET user_id = gen_random_uuid() WHERE state = 'CAPTURED'",
        "the payment is of the order's total",
    ),
    (
        "a payment is captured for two orders",
        "UPDATE payment.payment SET payment_id = (SELECT payment_id FROM payment.payment WHERE state = 'CAPTURED' LIMIT 1) WHERE state = 'CAPTURED'",
        "the payment is of the order's total",
    ),
    (
        "a refund goes back twice",
        "UPDATE payment.payment SET refunded = 2 * refunded WHERE state = 'CAPTURED'",
        "what went back is what was asked for",
    ),
    (
        "a refund does not go back",
        "UPDATE payment.payment SET refunded = 0 WHERE state = 'CAPTURED' AND refunded > 0",
        "what went back is what was asked for",
    ),
    (
        "a refund is written nowhere",
        "DELETE FROM orders.refund",
        "what went back is what was asked for",
    ),
    (
        "more is held than was ordered",
        "UPDATE inventory.reservation_line SET quantity = quantity + 1",
        "a reservation that held stock",
    ),
    (
        "a line is not held",
        "DELETE FROM inventory.reservation_line l USING inventory.reservation r
          WHERE r.order_id = l.order_id AND r.state = 'COMMITTED' AND l.sku = 'MUG-BLUE'",
        "a reservation that held stock",
    ),
    (
        "stock is missing",
        "UPDATE inventory.product SET on_hand = on_hand - 1 WHERE sku = 'TEA-250G'",
        "the stock is what it was",
    ),
    (
        "stock was taken once too few",
        "UPDATE inventory.product SET on_hand = on_hand + 1 WHERE sku = 'COFFEE-1KG'",
        "the stock is what it was",
    ),
    (
        "a reservation is forgotten",
        "UPDATE inventory.product SET reserved = 1 WHERE sku = 'TEA-250G'",
        "nothing stays reserved",
    ),
    (
        "a change of status is not in the timeline",
        "DELETE FROM orders.timeline WHERE status = 'CONFIRMED'",
        "the order's version counts",
    ),
    (
        "a timeline ends with another status",
        "UPDATE orders.timeline SET status = 'REJECTED' WHERE status = 'CONFIRMED'",
        "a timeline begins with",
    ),
    (
        "a timeline has no beginning",
        "UPDATE orders.timeline SET event = 'order.began' WHERE event = 'order.created'",
        "a timeline begins with",
    ),
    (
        "order never heard of a capture",
        "DELETE FROM orders.timeline WHERE event = 'payment.captured'",
        "what stock and money became",
    ),
    (
        "order heard of a refund that never was",
        "INSERT INTO orders.timeline (order_id, event) SELECT id, 'payment.refunded' FROM orders.orders WHERE status = 'CONFIRMED' AND refunded = 0",
        "what stock and money became",
    ),
    (
        "a notification is doubled",
        "INSERT INTO notify.notification (event_id, order_id, user_id, status, subject, email_text, sms_text)
         SELECT event_id || '-again', order_id, user_id, status, subject, email_text, sms_text FROM notify.notification LIMIT 1",
        "each final status was notified once",
    ),
    (
        "a notification is lost",
        "DELETE FROM notify.notification WHERE status = 'REFUNDED'",
        "each final status was notified once",
    ),
    (
        "a key made two orders",
        "DROP INDEX orders.orders_idempotency;
         INSERT INTO orders.orders (id, user_id, status, version, items, total, currency, idempotency_key, body_hash)
         SELECT gen_random_uuid(), user_id, status, version, items, total, currency, idempotency_key, body_hash
           FROM orders.orders WHERE idempotency_key IS NOT NULL",
        "an idempotency key stands for one order",
    ),
    (
        "a record died",
        "INSERT INTO fnhost.dead (trigger, topic, partition, \"offset\", headers, timestamp_ms, attempts, reason)
         SELECT trigger, topic, partition, 0, '', 0, 1, 'test' FROM fnhost.partition LIMIT 1",
        "no record died",
    ),
    (
        "a record is still parked",
        "INSERT INTO fnhost.parked (trigger, topic, partition, \"offset\", headers, timestamp_ms, attempts, next_attempt_at, reason)
         SELECT trigger, topic, partition, 0, '', 0, 1, now(), 'test' FROM fnhost.partition LIMIT 1",
        "no record waits",
    ),
    (
        "a message is unsent",
        "INSERT INTO fnhost.outbox (trigger, topic, partition, first_seq, last_seq, messages)
         SELECT trigger, topic, partition, 1000000, 1000000, '' FROM fnhost.partition LIMIT 1",
        "no record waits",
    ),
];

/// Orders of every end: confirmed, rejected, not paid, refunded in part, cancelled after it was paid.
async fn finish_orders(fnhost: &Fnhost) -> anyhow::Result<()> {
    let ada = Customer::register(&fnhost.client()?).await?;
    let two_lines = NewOrder::of(&[("COFFEE-1KG", 2), ("MUG-BLUE", 1)]);
    let keyed: tests::customer::Order =
        ada.try_order(&two_lines, Some("once")).await?.json(http::StatusCode::ACCEPTED)?;
    assert_eq!(ada.wait_final(keyed.order_id).await?.status, Status::Confirmed);
    let tea = NewOrder::of(&[("TEA-250G", 3)]);
    for (order, end) in [
        (two_lines.clone(), Status::Confirmed),
        (NewOrder::of(&[("OUT-OF-STOCK", 1)]), Status::Rejected),
        (tea.clone().paid_with("tok_declined"), Status::PaymentFailed),
    ] {
        assert_eq!(ada.order_to_end(&order).await?.status, end);
    }
    let damaged = ada.order_to_end(&two_lines).await?;
    ada.wait_payment(damaged.order_id, "CAPTURED").await?;
    ada.refund(damaged.order_id, &serde_json::json!({ "lines": [{ "sku": "COFFEE-1KG", "quantity": 1 }] }))
        .await?;
    ada.wait_notifications(damaged.order_id, &["CONFIRMED", "REFUNDED"]).await?;
    let regretted = ada.order_to_end(&tea).await?;
    ada.wait_payment(regretted.order_id, "CAPTURED").await?;
    ada.cancel(regretted.order_id).await?;
    ada.wait_payment(regretted.order_id, "REFUNDED").await?;
    ada.wait_notifications(regretted.order_id, &["CONFIRMED", "CANCELLED", "REFUNDED"]).await?;
    Ok(())
}

#[tokio::test]
async fn every_corruption_is_noticed_by_its_name() -> Outcome {
    let fnhost = Fnhost::start(Setup::default()).await?;
    finish_orders(&fnhost).await?;
    let db = fnhost.database().await?;
    wait_settled(&fnhost, &db).await?;
    assert_consistent(&db).await;

    let mut shown = BTreeSet::new();
    for (what, sql, expected) in CORRUPTIONS {
        let mut transaction = db.pool.begin().await.map_err(anyhow::Error::from)?;
        let done = sqlx::raw_sql(sql).execute(&mut *transaction).await;
        let done = done.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(done.rows_affected() > 0, "{what}: nothing was corrupted");
        let violated = violations(&mut transaction).await?;
        let noticed = violated.keys().find(|rule| rule.starts_with(expected));
        assert!(noticed.is_some(), "{what}: {expected:?} was not noticed; {violated:#?}");
        shown.extend(noticed.copied());
        transaction.rollback().await.map_err(anyhow::Error::from)?;
    }
    let never: Vec<&str> = rules().filter(|rule| !shown.contains(rule)).collect();
    assert!(never.is_empty(), "rules that no corruption shows to work: {never:?}");
    // Nothing of it is left.
    assert_consistent(&db).await;
    Ok(())
}

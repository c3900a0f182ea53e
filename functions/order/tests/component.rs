//! The built component with a real Postgres: what its batches and requests leave behind.

use contract::event::{
    Event, InventoryRejected, InventoryReserved, InventorySettled, Money, PaymentAuthorized, PaymentDeclined,
    PaymentSettled,
};
use fnhost_test_function::{Answer, Function, Sent};
use serde_json::{Value, json};
use uuid::Uuid;

const USER: Uuid = Uuid::from_u128(7);

/// Order with the prices of two products.
async fn order() -> Function {
    let function = Function::start("order").await;
    function
        .prepare("INSERT INTO price (sku, amount, currency) VALUES ('MUG', 990, 'EUR'), ('TEA', 1250, 'EUR')")
        .await;
    function
}

fn basket() -> Value {
    json!({"items": [{"sku": "MUG", "quantity": 2}, {"sku": "TEA", "quantity": 1}], "payment_token": "tok_ok"})
}

async fn place(function: &Function) -> Uuid {
    let answer = function.post("/orders").by(USER).json(basket()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.body["order_id"].as_str().and_then(|id| id.parse().ok()).expect("an order id")
}

async fn status(function: &Function, order_id: Uuid) -> String {
    let answer = function.get(&format!("/orders/{order_id}")).by(USER).send().await;
    answer.body["status"].as_str().expect("a status").to_owned()
}

async fn cancel(function: &Function, order_id: Uuid) -> Answer {
    function.post(&format!("/orders/{order_id}/cancel")).by(USER).send().await
}

/// The types of the order's timeline, in order.
async fn timeline(function: &Function, order_id: Uuid) -> Vec<String> {
    let answer = function.get(&format!("/orders/{order_id}/timeline")).by(USER).send().await;
    let entries = answer.body["entries"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["event"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Events from HTTP that wait for the relay: `type of topic`, in order.
async fn outgoing(function: &Function, order_id: Uuid) -> Vec<String> {
    let rows = format!(
        "SELECT headers->>'ce_type' || ' ' || topic AS event FROM outgoing_event \
         WHERE key = convert_to('{order_id}', 'UTF8') ORDER BY id"
    );
    let rows = function.rows(&rows).await;
    rows.iter().map(|row| row["event"].as_str().unwrap_or_default().to_owned()).collect()
}

fn reserved(order_id: Uuid) -> Sent {
    Sent::new(&Event::InventoryReserved(InventoryReserved { order_id, version: 1, stock: vec![] }))
}

fn out_of_stock(order_id: Uuid) -> Sent {
    let reason = "MUG is out of stock".to_owned();
    Sent::new(&Event::InventoryRejected(InventoryRejected {
        order_id,
        version: 1,
        reason,
        shortages: vec![],
    }))
}

fn authorized(order_id: Uuid) -> Sent {
    let amount = Money { amount: 3230, currency: "EUR".to_owned() };
    Sent::new(&Event::PaymentAuthorized(PaymentAuthorized {
        order_id,
        payment_id: Uuid::from_u128(3),
        amount,
    }))
}

fn declined(order_id: Uuid) -> Sent {
    Sent::new(&Event::PaymentDeclined(PaymentDeclined {
        order_id,
        reason: "the card was declined".to_owned(),
    }))
}

fn settled(order_id: Uuid) -> PaymentSettled {
    let amount = Money { amount: 3230, currency: "EUR".to_owned() };
    PaymentSettled { order_id, payment_id: Uuid::from_u128(3), refunded: Some(amount.clone()), amount }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_has_changed_since_it_was_remembered_does_not_bind() {
    let function = Function::start_with("order", |spec| {
        spec.key_value_stores.insert("default".to_owned());
    });
    let function = function.await;
    function.prepare("INSERT INTO price (sku, amount, currency) VALUES ('MUG', 990, 'EUR')").await;
    let place = async || {
        let order = json!({"items": [{"sku": "MUG", "quantity": 1}], "payment_token": "tok_ok"});
        function.post("/orders").by(USER).json(order).await
    };
    assert_eq!(place().await.body["total"]["amount"], 990);
    function.prepare("UPDATE price SET amount = 1090").await;
    assert_eq!(place().await.body["total"]["amount"], 1090);
    function.prepare("DELETE FROM price").await;
    let refused = place().await;
    assert_eq!((refused.status, &refused.body["field"]), (422, &json!("items[0].sku")), "{}", refused.body);
    let made = function.rows("SELECT total FROM orders ORDER BY id").await;
    assert_eq!(made, [json!({"total": 990}), json!({"total": 1090})]);
}

#[tokio::test]
async fn an_order_is_taken_with_the_prices_of_today_and_its_event() {
    let function = order().await;
    let answer = function.post("/orders").by(USER).json(basket()).await;
    assert_eq!((answer.status, &answer.body["status"]), (202, &json!("PENDING")));
    assert_eq!(answer.body["total"], json!({"amount": 3230, "currency": "EUR"}));
    let order_id: Uuid = answer.body["order_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    assert_eq!(answer.location, Some(format!("/orders/{order_id}")));
    assert_eq!(outgoing(&function, order_id).await, ["order.created order-events"]);
    assert_eq!(timeline(&function, order_id).await, ["order.created"]);
    // The price that binds is the one of the order.
    function.prepare("UPDATE price SET amount = 1").await;
    let shown = function.get(&format!("/orders/{order_id}")).by(USER).send().await;
    assert_eq!(shown.body["total"]["amount"], 3230);
}

/// Steps as rows, then as columns; what the order is after both.
#[tokio::test]
async fn every_pair_of_answers_in_both_orders() {
    const STEPS: [&str; 5] = ["reserved", "out of stock", "authorized", "declined", "cancel"];
    const AFTER_TWO: [[&str; 5]; 5] = [
        ["PENDING", "REJECTED", "CONFIRMED", "PAYMENT_FAILED", "CANCELLED"],
        ["REJECTED"; 5],
        ["CONFIRMED", "REJECTED", "PENDING", "PAYMENT_FAILED", "CANCELLED"],
        ["PAYMENT_FAILED"; 5],
        ["CANCELLED"; 5],
    ];
    let function = order().await;
    for (first, row) in STEPS.iter().zip(AFTER_TWO) {
        for (second, expected) in STEPS.iter().zip(row) {
            let order_id = place(&function).await;
            let mut changes = 0;
            for step in [first, second] {
                let event = match *step {
                    "reserved" => reserved(order_id),
                    "out of stock" => out_of_stock(order_id),
                    "authorized" => authorized(order_id),
                    "declined" => declined(order_id),
                    _ => {
                        changes += usize::from(cancel(&function, order_id).await.status == 200);
                        continue;
                    }
                };
                let delivery = function.deliver(&[event]).await;
                assert_eq!(delivery.told(), "done", "{first}, {second}");
                // A change is told to the others and to the customer.
                assert!(matches!(delivery.emitted.len(), 0 | 2), "{first}, {second}: {}", delivery.types());
                changes += delivery.emitted.len() / 2;
            }
            assert_eq!(status(&function, order_id).await, expected, "{first}, {second}");
            assert_eq!(changes, usize::from(expected != "PENDING"), "{first}, {second}: decided once");
        }
    }
}

#[tokio::test]
async fn stock_and_money_in_one_batch_confirm_and_a_second_copy_changes_nothing() {
    let function = order().await;
    let order_id = place(&function).await;
    let batch = [reserved(order_id), authorized(order_id)];
    let delivery = function.deliver(&batch).await;
    assert_eq!(
        (delivery.told().as_str(), delivery.types().as_str()),
        ("done done", "order.confirmed notification.requested")
    );
    let Event::OrderConfirmed(confirmed) = &delivery.emitted[0] else { panic!("{delivery:?}") };
    assert_eq!((confirmed.order_id, confirmed.user_id, confirmed.version), (order_id, USER, 2));
    let before = timeline(&function, order_id).await;
    assert_eq!(before, ["order.created", "inventory.reserved", "payment.authorized", "order.confirmed"]);
    let delivery = function.deliver(&batch).await;
    assert_eq!((delivery.told().as_str(), delivery.types().as_str()), ("done done", ""));
    assert_eq!(timeline(&function, order_id).await, before);
}

/// Inventory's answer and payment's come from two topics, so two batches can meet.
#[tokio::test]
async fn two_batches_that_meet_on_an_order_confirm_it_once() {
    let function = order().await;
    let order_id = place(&function).await;
    let held = function.hold("SELECT FROM orders FOR UPDATE").await;
    let (stock, money) = ([reserved(order_id)], [authorized(order_id)]);
    let both = async { tokio::join!(function.deliver(&stock), function.deliver(&money)) };
    let release = async {
        function.until_waiting(2).await;
        held.rollback().await.expect("released");
    };
    let ((one, other), ()) = tokio::join!(both, release);
    let mut told = [one.types(), other.types()];
    told.sort();
    assert_eq!(told, ["", "order.confirmed notification.requested"]);
    assert_eq!(status(&function, order_id).await, "CONFIRMED");
}

#[tokio::test]
async fn what_was_rolled_back_is_decided_anew() {
    let function = order().await;
    let order_id = place(&function).await;
    let batch = [out_of_stock(order_id)];
    assert_eq!(function.deliver_in_vain(&batch).await.types(), "order.rejected notification.requested");
    assert_eq!(status(&function, order_id).await, "PENDING");
    assert_eq!(function.deliver(&batch).await.types(), "order.rejected notification.requested");
    let shown = function.get(&format!("/orders/{order_id}")).by(USER).send().await;
    assert_eq!(shown.body["reason"], "MUG is out of stock");
}

#[tokio::test]
async fn what_follows_an_order_belongs_to_its_history_and_a_refund_is_told() {
    let function = order().await;
    let order_id = place(&function).await;
    function.deliver(&[reserved(order_id), authorized(order_id)]).await;
    assert_eq!(cancel(&function, order_id).await.body["status"], "CANCELLED");
    let events = [
        "order.created order-events",
        "order.cancelled order-events",
        "notification.requested notification-events",
    ];
    assert_eq!(outgoing(&function, order_id).await, events);
    let delivery = function
        .deliver(&[
            Sent::new(&Event::InventoryReleased(InventorySettled { order_id, stock: vec![] })),
            Sent::new(&Event::PaymentRefunded(settled(order_id))),
        ])
        .await;
    assert_eq!(
        (delivery.told().as_str(), delivery.types().as_str()),
        ("done done", "notification.requested")
    );
    let history = timeline(&function, order_id).await;
    assert_eq!(history[history.len() - 3..], ["order.cancelled", "inventory.released", "payment.refunded"]);
}

#[tokio::test]
async fn an_order_that_has_ended_cannot_be_cancelled() {
    let function = order().await;
    let order_id = place(&function).await;
    function.deliver(&[declined(order_id)]).await;
    let answer = cancel(&function, order_id).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert_eq!(status(&function, order_id).await, "PAYMENT_FAILED");
    assert_eq!(outgoing(&function, order_id).await, ["order.created order-events"]);
}

#[tokio::test]
async fn an_event_of_an_order_that_is_not_there_is_rejected_and_the_rest_is_done() {
    let function = order().await;
    let (order_id, nobody) = (place(&function).await, Uuid::now_v7());
    let delivery = function.deliver(&[reserved(nobody), reserved(order_id)]).await;
    assert_eq!(delivery.told(), format!("reject(there is no order {nobody}) done"));
}

#[tokio::test]
async fn an_idempotency_key_makes_one_order_however_often_and_fast_it_is_sent() {
    let function = order().await;
    let send = |key: &'static str, body: Value| {
        function.post("/orders").by(USER).header("idempotency-key", key).json(body)
    };
    let answers = tokio::join!(send("k1", basket()), send("k1", basket()), send("k1", basket()));
    let ids = [answers.0, answers.1, answers.2].map(|answer| {
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["order_id"].clone()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(function.value("SELECT count(*) FROM orders").await, 1);
    assert_eq!(function.value("SELECT count(*) FROM outgoing_event").await, 1);
    let mut other = basket();
    other["items"][0]["quantity"] = json!(3);
    let conflict = send("k1", other.clone()).await;
    assert_eq!((conflict.status, &conflict.body["field"]), (409, &json!("idempotency-key")));
    assert_eq!(send("k2", other).await.status, 202);
    let another = function.post("/orders").by(Uuid::now_v7()).header("idempotency-key", "k1");
    assert_ne!(another.json(basket()).await.body["order_id"], ids[0], "a key is its user's");
}

#[tokio::test]
async fn an_order_is_its_customers_alone() {
    let function = order().await;
    let order_id = place(&function).await;
    let stranger = Uuid::now_v7();
    for path in [format!("/orders/{order_id}"), format!("/orders/{order_id}/timeline")] {
        assert_eq!(function.get(&path).by(stranger).send().await.status, 404, "{path}");
        assert_eq!(function.get(&path).send().await.status, 401, "{path}");
    }
    assert_eq!(function.post(&format!("/orders/{order_id}/cancel")).by(stranger).send().await.status, 404);
    assert_eq!(function.get("/orders").by(stranger).send().await.body["orders"], json!([]));
    assert_eq!(status(&function, order_id).await, "PENDING");
}

#[tokio::test]
async fn orders_are_listed_newest_first_by_status_and_page() {
    let function = order().await;
    let orders = [place(&function).await, place(&function).await, place(&function).await];
    function.deliver(&[out_of_stock(orders[1])]).await;
    let ids = |answer: &Answer| -> Vec<Value> {
        let found = answer.body["orders"].as_array().cloned().unwrap_or_default();
        found.iter().map(|order| order["order_id"].clone()).collect()
    };
    let page = function.get("/orders?limit=2").by(USER).send().await;
    assert_eq!(ids(&page), [json!(orders[2]), json!(orders[1])]);
    let cursor = page.body["next_cursor"].as_str().expect("a further page");
    let rest = function.get(&format!("/orders?limit=2&cursor={cursor}")).by(USER).send().await;
    assert_eq!((ids(&rest), &rest.body["next_cursor"]), (vec![json!(orders[0])], &Value::Null));
    let rejected = function.get("/orders?status=REJECTED").by(USER).send().await;
    assert_eq!(ids(&rejected), [json!(orders[1])]);
}

#[tokio::test]
async fn what_cannot_be_ordered_names_the_field_and_leaves_nothing() {
    let function = order().await;
    function.prepare("INSERT INTO price (sku, amount, currency) VALUES ('MOON', 900000000000000000, 'EUR'), ('SUN', 1, 'USD')").await;
    let line = |sku: &str, quantity: i64| json!({"sku": sku, "quantity": quantity});
    for (items, field) in [
        (json!([line("NONE", 1)]), "items[0].sku"),
        (json!([line("MUG", 1), line("MUG", 1)]), "items[1].sku"),
        (json!([line("MUG", 1), line("SUN", 1)]), "items[1].sku"),
        (json!([line("MOON", 11)]), "items"),
        (json!([line("MUG", 0)]), "items[0].quantity"),
        (json!([]), "items"),
    ] {
        let answer =
            function.post("/orders").by(USER).json(json!({"items": items, "payment_token": "tok_ok"})).await;
        assert_eq!((answer.status, &answer.body["field"]), (422, &json!(field)), "{items}");
    }
    assert_eq!(function.value("SELECT count(*) FROM orders").await, 0);
    assert_eq!(function.value("SELECT count(*) FROM outgoing_event").await, 0);
}

//! The built component with a real Postgres: refunds, orders that wait for too long, and the list's filters.

use contract::event::{Event, InventoryReserved, Money, PaymentAuthorized, PaymentSettled};
use fnhost_test_function::{Answer, Function, Sent};
use serde_json::{Value, json};
use uuid::Uuid;

const USER: Uuid = Uuid::from_u128(7);

async fn order() -> Function {
    let function = Function::start("order").await;
    function
        .prepare("INSERT INTO price (sku, amount, currency) VALUES ('MUG', 990, 'EUR'), ('TEA', 1250, 'EUR')")
        .await;
    function
}

/// An order of two mugs and a tea, 32.30 EUR.
async fn place(function: &Function) -> Uuid {
    let items = json!([{"sku": "MUG", "quantity": 2}, {"sku": "TEA", "quantity": 1}]);
    let body = json!({"items": items, "payment_token": "tok_ok"});
    let answer = function.post("/orders").by(USER).json(body).await;
    answer.body["order_id"].as_str().and_then(|id| id.parse().ok()).expect("an order id")
}

fn money(amount: i64) -> Money {
    Money { amount, currency: "EUR".to_owned() }
}

async fn confirmed(function: &Function) -> Uuid {
    let order_id = place(function).await;
    let authorized = PaymentAuthorized { order_id, payment_id: Uuid::from_u128(3), amount: money(3230) };
    let reserved = InventoryReserved { order_id, version: 1, stock: vec![] };
    let events = [Event::InventoryReserved(reserved), Event::PaymentAuthorized(authorized)];
    let delivery = function.deliver(&events.map(|event| Sent::new(&event))).await;
    assert_eq!(delivery.types(), "order.confirmed notification.requested");
    order_id
}

async fn refund(function: &Function, order_id: Uuid, body: Value) -> Answer {
    function.post(&format!("/orders/{order_id}/refund")).by(USER).json(body).await
}

async fn refund_as_admin(function: &Function, order_id: Uuid, body: Value) -> Answer {
    function.post(&format!("/orders/{order_id}/refund")).by_admin().json(body).await
}

async fn timeline(function: &Function, order_id: Uuid) -> Vec<(String, Value)> {
    let answer = function.get(&format!("/orders/{order_id}/timeline")).by(USER).send().await;
    let entries = answer.body["entries"].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .map(|entry| (entry["event"].as_str().unwrap_or_default().to_owned(), entry["detail"].clone()))
        .collect()
}

/// What `order.refunded` said so far: version and amount in all.
async fn told(function: &Function) -> Vec<Value> {
    let rows = "SELECT convert_from(value, 'UTF8')::jsonb AS event FROM outgoing_event \
                WHERE headers->>'ce_type' = 'order.refunded' ORDER BY id";
    let rows = function.rows(rows).await;
    rows.iter().map(|row| json!([row["event"]["version"], row["event"]["refunded"]["amount"]])).collect()
}

#[tokio::test]
async fn an_order_is_refunded_by_line_and_then_the_rest() {
    let function = order().await;
    let order_id = confirmed(&function).await;
    let first =
        refund(&function, order_id, json!({"lines": [{"sku": "MUG", "quantity": 1}], "reason": "chipped"}))
            .await;
    assert_eq!(
        (first.status, &first.body["version"], &first.body["status"]),
        (202, &json!(3), &json!("CONFIRMED"))
    );
    let refunded = json!({"amount": 990, "currency": "EUR", "items": [{"sku": "MUG", "quantity": 1}]});
    assert_eq!(first.body["refunded"], refunded);
    let rest = refund(&function, order_id, json!({})).await;
    assert_eq!(
        (rest.status, &rest.body["version"], &rest.body["refunded"]["amount"]),
        (202, &json!(4), &json!(3230))
    );
    let again = refund(&function, order_id, json!({})).await;
    assert_eq!((again.status, &again.body["detail"]), (409, &json!("all of the order has been refunded")));
    assert_eq!(told(&function).await, [json!([3, 990]), json!([4, 3230])]);
    let shown = function.get(&format!("/orders/{order_id}")).by(USER).send().await;
    assert_eq!(shown.body["refunded"], rest.body["refunded"]);
    let history = timeline(&function, order_id).await;
    let refunds: Vec<_> =
        history.iter().filter(|(event, _)| event == "order.refunded").map(|(_, detail)| detail).collect();
    assert_eq!(refunds, [&json!("9.90 EUR: chipped"), &json!("22.40 EUR")]);
}

#[tokio::test]
async fn money_that_went_back_is_told_for_each_part() {
    let function = order().await;
    let order_id = confirmed(&function).await;
    let parts = [(990, 990), (2240, 3230)].map(|(amount, in_all)| {
        let (amount, refunded) = (money(amount), Some(money(in_all)));
        Sent::new(&Event::PaymentRefunded(PaymentSettled {
            order_id,
            payment_id: Uuid::from_u128(3),
            amount,
            refunded,
        }))
    });
    let delivery = function.deliver(&parts).await;
    assert_eq!(delivery.types(), "notification.requested notification.requested");
    let reasons: Vec<_> = delivery
        .emitted
        .iter()
        .map(|event| match event {
            Event::NotificationRequested(requested) => requested.reason.clone().unwrap_or_default(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reasons, ["9.90 EUR", "22.40 EUR"]);
    let history = timeline(&function, order_id).await;
    assert_eq!(history.iter().filter(|(event, _)| event == "payment.refunded").count(), 2);
    // A second copy of an event is no second entry.
    function.deliver(&parts[..1]).await;
    assert_eq!(timeline(&function, order_id).await, history);
}

#[tokio::test]
async fn what_cannot_be_refunded_changes_nothing() {
    let function = order().await;
    let (order_id, pending) = (confirmed(&function).await, place(&function).await);
    let line = |sku: &str, quantity: i64| json!({"lines": [{"sku": sku, "quantity": quantity}]});
    for (order_id, body, status, field) in [
        (pending, json!({}), 409, Value::Null),
        (order_id, line("MUG", 3), 409, Value::Null),
        (order_id, line("CAP", 1), 422, json!("lines[0].sku")),
        (order_id, line("MUG", 0), 422, json!("lines[0].quantity")),
        (order_id, json!({"lines": []}), 422, json!("lines")),
    ] {
        let answer = refund(&function, order_id, body.clone()).await;
        assert_eq!((answer.status, &answer.body["field"]), (status, &field), "{body}");
    }
    assert!(told(&function).await.is_empty());
    assert_eq!(function.value("SELECT count(*) FROM refund").await, 0);
}

#[tokio::test]
async fn customers_refund_their_own_orders_for_two_weeks_and_an_admin_any_order() {
    let function = order().await;
    let order_id = confirmed(&function).await;
    let stranger = function.post(&format!("/orders/{order_id}/refund")).by(Uuid::now_v7());
    assert_eq!(stranger.json(json!({})).await.status, 404);
    function.prepare("UPDATE orders SET created_at = now() - interval '15 days'").await;
    let late = refund(&function, order_id, json!({})).await;
    assert_eq!(late.status, 409, "{}", late.body);
    let by_admin = refund_as_admin(&function, order_id, json!({"lines": [{"sku": "TEA"}]})).await;
    assert_eq!((by_admin.status, &by_admin.body["refunded"]["amount"]), (202, &json!(1250)));
    assert_eq!(told(&function).await, [json!([3, 1250])]);
    let nobodys = refund_as_admin(&function, Uuid::now_v7(), json!({})).await;
    assert_eq!(nobodys.status, 404);
}

#[tokio::test]
async fn a_refund_that_is_asked_for_again_under_its_key_happens_once() {
    let function = order().await;
    let order_id = confirmed(&function).await;
    let send = |key: &'static str, quantity: i64| {
        let call =
            function.post(&format!("/orders/{order_id}/refund")).by(USER).header("idempotency-key", key);
        call.json(json!({"lines": [{"sku": "MUG", "quantity": quantity}]}))
    };
    let (one, two, three) = tokio::join!(send("k", 1), send("k", 1), send("k", 1));
    for answer in [one, two, three] {
        assert_eq!(
            (answer.status, &answer.body["refunded"]["amount"]),
            (202, &json!(990)),
            "{}",
            answer.body
        );
    }
    assert_eq!(function.value("SELECT count(*) FROM refund").await, 1);
    let other = send("k", 2).await;
    assert_eq!((other.status, &other.body["field"]), (409, &json!("idempotency-key")));
    assert_eq!(send("k2", 1).await.body["refunded"]["amount"], 1980);
}

/// Refunds without keys that meet: each is decided on what the one before left.
#[tokio::test]
async fn refunds_at_a_time_never_give_back_more_than_was_paid() {
    let function = order().await;
    let order_id = confirmed(&function).await;
    let one = || refund(&function, order_id, json!({"lines": [{"sku": "MUG", "quantity": 1}]}));
    let answers = tokio::join!(one(), one(), one());
    let mut statuses = [answers.0.status, answers.1.status, answers.2.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 202, 409]);
    assert_eq!(told(&function).await, [json!([3, 990]), json!([4, 1980])]);
}

/// Lets orders be as old as this, and the search for them begin anew.
async fn after(function: &Function, minutes: i64) {
    let sql = format!("UPDATE orders SET created_at = created_at - interval '{minutes} minutes'");
    function.prepare(&sql).await;
    function.prepare("UPDATE expiry SET done_until = '-infinity'").await;
}

#[tokio::test]
async fn what_waits_for_too_long_ends_and_nothing_else() {
    let function = order().await;
    let (decided, overdue) = (confirmed(&function).await, [place(&function).await, place(&function).await]);
    after(&function, 16).await;
    let young = place(&function).await;
    let delivery = function.tick("expire").await;
    assert_eq!(delivery.told(), "done");
    let expected = ["order.expired notification.requested"; 2].join(" ");
    assert_eq!(delivery.types(), expected);
    for event in &delivery.emitted {
        assert!(overdue.contains(&event.order_id()), "{event:?}");
    }
    let Event::OrderExpired(expired) = &delivery.emitted[0] else { panic!("{delivery:?}") };
    assert_eq!((expired.user_id, expired.version), (USER, 2));
    for (order_id, status) in
        [(decided, "CONFIRMED"), (overdue[0], "EXPIRED"), (overdue[1], "EXPIRED"), (young, "PENDING")]
    {
        let shown = function.get(&format!("/orders/{order_id}")).by(USER).send().await;
        assert_eq!(shown.body["status"], status);
    }
    assert_eq!(function.tick("expire").await.types(), "", "once");
    // Stock that answers too late changes nothing.
    let late =
        Event::InventoryReserved(InventoryReserved { order_id: overdue[0], version: 1, stock: vec![] });
    assert_eq!(function.deliver(&[Sent::new(&late)]).await.types(), "");
    assert_eq!(function.tick("other").await.told(), "reject(order has no schedule \"other\")");
}

/// The tick waits for a batch that is deciding the order, and leaves it alone then.
#[tokio::test]
async fn an_order_that_is_decided_at_the_last_moment_stays_decided() {
    let function = order().await;
    let order_id = place(&function).await;
    after(&function, 16).await;
    let deciding = format!("UPDATE orders SET status = 'CONFIRMED', version = 2 WHERE id = '{order_id}'");
    let held = function.hold(&deciding).await;
    let decide = async {
        function.until_waiting(1).await;
        held.commit().await.expect("committed");
    };
    let (delivery, ()) = tokio::join!(function.tick("expire"), decide);
    assert_eq!(delivery.types(), "");
}

#[tokio::test]
async fn the_list_is_filtered_by_time_and_a_cursor_goes_on_where_it_ended() {
    let function = order().await;
    let mut orders = Vec::new();
    for day in [1, 2, 3, 4] {
        let order_id = place(&function).await;
        let at = format!("UPDATE orders SET created_at = '2026-01-0{day}T12:00:00Z' WHERE id = '{order_id}'");
        function.prepare(&at).await;
        orders.push(json!(order_id));
    }
    let list = async |query: &str| -> (Vec<Value>, Value) {
        let answer = function.get(&format!("/orders?{query}")).by(USER).send().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let found = answer.body["orders"].as_array().cloned().unwrap_or_default();
        (found.iter().map(|order| order["order_id"].clone()).collect(), answer.body["next_cursor"].clone())
    };
    let newest_first =
        |range: std::ops::Range<usize>| orders[range].iter().rev().cloned().collect::<Vec<_>>();
    for (query, expected) in [
        ("from=2026-01-02T12:00:00Z", newest_first(1..4)),
        ("to=2026-01-02T12:00:00Z", newest_first(0..1)),
        ("from=2026-01-02&to=2026-01-04", newest_first(1..3)),
        ("from=2026-01-02T13:00:00%2B01:00&status=PENDING", newest_first(1..4)),
        ("from=2026-01-02&status=CONFIRMED", vec![]),
        ("from=2026-01-05", vec![]),
    ] {
        assert_eq!(list(query).await.0, expected, "{query}");
    }
    let (first, cursor) = list("from=2026-01-02&limit=2").await;
    assert_eq!(first, newest_first(2..4));
    // What is ordered meanwhile does not shift the next page.
    place(&function).await;
    let cursor = cursor.as_str().expect("a further page");
    assert!(cursor.parse::<Uuid>().is_err(), "{cursor}");
    let (second, end) = list(&format!("from=2026-01-02&limit=2&cursor={cursor}")).await;
    assert_eq!((second, end), (newest_first(1..2), Value::Null));
}

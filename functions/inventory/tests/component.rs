//! The built component with a real Postgres: what its batches and requests leave behind.

use contract::event::{Event, Item, Money, OrderChanged, OrderCreated, OrderStatus};
use fnhost_sdk::event::CloudEvent as _;
use fnhost_test_function::{Function, Sent};
use serde_json::{Value, json};
use uuid::Uuid;

/// Inventory with so many units of each product.
async fn inventory(stock: &[(&str, i64)]) -> Function {
    let function = Function::start("inventory").await;
    for (sku, on_hand) in stock {
        let product = format!("('{sku}', 'A thing', 100, 'EUR', {on_hand})");
        function
            .prepare(&format!("INSERT INTO product (sku, name, price, currency, on_hand) VALUES {product}"))
            .await;
    }
    function
}

fn created(order_id: Uuid, lines: &[(&str, i32)]) -> Sent {
    let item =
        |(sku, quantity): &(&str, i32)| Item { sku: (*sku).to_owned(), quantity: *quantity, unit_price: 100 };
    Sent::new(&Event::OrderCreated(OrderCreated {
        order_id,
        user_id: Uuid::from_u128(1),
        version: 1,
        items: lines.iter().map(item).collect(),
        total: Money { amount: 100, currency: "EUR".to_owned() },
        payment_token: "tok_ok".to_owned(),
    }))
}

fn changed(order_id: Uuid, version: i64, status: OrderStatus) -> OrderChanged {
    OrderChanged { order_id, user_id: Uuid::from_u128(1), version, status, reason: None }
}

fn confirmed(order_id: Uuid) -> Sent {
    Sent::new(&Event::OrderConfirmed(changed(order_id, 2, OrderStatus::Confirmed)))
}

fn cancelled(order_id: Uuid, version: i64) -> Sent {
    Sent::new(&Event::OrderCancelled(changed(order_id, version, OrderStatus::Cancelled)))
}

/// `SKU on_hand/reserved` of every product, by SKU.
async fn stock(function: &Function) -> String {
    let text = "SELECT string_agg(sku || ' ' || on_hand || '/' || reserved, ', ' ORDER BY sku) FROM product";
    function.value(text).await.as_str().unwrap_or_default().to_owned()
}

/// Everything that the function has written, but the times.
async fn everything(function: &Function) -> Vec<Value> {
    let rows = "SELECT order_id, state, reason, version, \
                (SELECT jsonb_agg(l.sku || l.quantity ORDER BY l.sku) FROM reservation_line l USING (order_id)) \
                FROM reservation ORDER BY order_id";
    let rows = rows.replace(
        "FROM reservation_line l USING (order_id)",
        "FROM reservation_line l WHERE l.order_id = reservation.order_id",
    );
    let mut all = function.rows(&rows).await;
    all.push(json!(stock(function).await));
    all
}

#[tokio::test]
async fn an_order_is_reserved_and_then_taken_from_the_stock() {
    let function = inventory(&[("MUG", 5), ("TEA", 5)]).await;
    let order = Uuid::now_v7();
    let delivery = function.deliver(&[created(order, &[("MUG", 2), ("TEA", 1), ("MUG", 1)])]).await;
    assert_eq!((delivery.told().as_str(), delivery.types().as_str()), ("done", "inventory.reserved"));
    assert_eq!(stock(&function).await, "MUG 5/3, TEA 5/1");
    let delivery = function.deliver(&[confirmed(order)]).await;
    assert_eq!((delivery.told().as_str(), delivery.types().as_str()), ("done", "inventory.committed"));
    assert_eq!(stock(&function).await, "MUG 2/0, TEA 4/0");
}

#[tokio::test]
async fn every_line_is_reserved_or_none() {
    let function = inventory(&[("MUG", 5), ("TEA", 1)]).await;
    for lines in [&[("MUG", 1), ("TEA", 2)][..], &[("MUG", 1), ("MOON", 1)], &[("MUG", 6)]] {
        let delivery = function.deliver(&[created(Uuid::now_v7(), lines)]).await;
        assert_eq!(
            (delivery.told().as_str(), delivery.types().as_str()),
            ("done", "inventory.rejected"),
            "{lines:?}"
        );
        let Event::InventoryRejected(rejected) = &delivery.emitted[0] else { panic!("{delivery:?}") };
        assert_eq!(rejected.shortages.len(), 1, "the line that lacked stock is named: {rejected:?}");
        assert_eq!(stock(&function).await, "MUG 5/0, TEA 1/0");
    }
    let lines = "SELECT count(*) FROM reservation_line";
    assert_eq!(function.value(lines).await, 0, "nothing of any order is held");
}

#[tokio::test]
async fn orders_of_one_batch_compete_as_if_each_came_alone() {
    let function = inventory(&[("CUP", 10)]).await;
    let orders: Vec<Sent> = (0..100).map(|_| created(Uuid::now_v7(), &[("CUP", 1)])).collect();
    let delivery = function.deliver(&orders).await;
    let reserved = delivery.emitted.iter().filter(|event| event.event_type() == "inventory.reserved").count();
    assert_eq!((delivery.emitted.len(), reserved), (100, 10));
    assert_eq!(stock(&function).await, "CUP 10/10");
}

#[tokio::test]
async fn a_batch_that_comes_again_changes_nothing() {
    let function = inventory(&[("MUG", 5)]).await;
    let [kept, ended, refused] = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    let batch = [
        created(kept, &[("MUG", 2)]),
        created(ended, &[("MUG", 1)]),
        created(refused, &[("MUG", 9)]),
        confirmed(kept),
        cancelled(ended, 2),
    ];
    let first = function.deliver(&batch).await;
    assert_eq!(
        first.types(),
        "inventory.reserved inventory.reserved inventory.rejected inventory.committed inventory.released"
    );
    let before = everything(&function).await;
    assert_eq!(before.last(), Some(&json!("MUG 3/0")));
    for again in [&batch[..], &batch[..1], &batch[3..]] {
        let delivery = function.deliver(again).await;
        assert!(
            delivery.outcomes.iter().all(|outcome| matches!(outcome, fnhost_test_function::Outcome::Done))
        );
        assert_eq!(delivery.types(), "", "and nobody is told twice");
        assert_eq!(everything(&function).await, before);
    }
}

#[tokio::test]
async fn a_batch_that_is_rolled_back_has_not_happened() {
    let function = inventory(&[("MUG", 5)]).await;
    let batch = [created(Uuid::now_v7(), &[("MUG", 2)])];
    let before = everything(&function).await;
    assert_eq!(function.deliver_in_vain(&batch).await.types(), "inventory.reserved");
    assert_eq!(everything(&function).await, before);
    assert_eq!(function.deliver(&batch).await.types(), "inventory.reserved");
}

#[tokio::test]
async fn an_order_that_ended_before_it_was_heard_of_holds_nothing() {
    let function = inventory(&[("MUG", 5)]).await;
    let order = Uuid::now_v7();
    for (batches, told) in [(&[cancelled(order, 2)][..], ""), (&[created(order, &[("MUG", 2)])], "")] {
        let delivery = function.deliver(batches).await;
        assert_eq!((delivery.told().as_str(), delivery.types().as_str()), ("done", told));
    }
    assert_eq!(stock(&function).await, "MUG 5/0");
}

#[tokio::test]
async fn a_cancelled_order_gives_back_what_it_held_or_had_taken() {
    let function = inventory(&[("MUG", 5)]).await;
    let [held, taken] = [Uuid::now_v7(), Uuid::now_v7()];
    function.deliver(&[created(held, &[("MUG", 2)]), created(taken, &[("MUG", 1)]), confirmed(taken)]).await;
    assert_eq!(stock(&function).await, "MUG 4/2");
    let delivery = function.deliver(&[cancelled(held, 2), cancelled(taken, 3)]).await;
    assert_eq!(delivery.types(), "inventory.released inventory.released");
    assert_eq!(stock(&function).await, "MUG 5/0");
}

/// Two partitions want the last units of the same products, in opposite order.
#[tokio::test]
async fn batches_that_race_for_a_product_take_turns() {
    let function = inventory(&[("CUP", 10), ("MUG", 10)]).await;
    let batch =
        |lines: &[(&str, i32)]| -> Vec<Sent> { (0..10).map(|_| created(Uuid::now_v7(), lines)).collect() };
    let (one, other) = (batch(&[("CUP", 1), ("MUG", 1)]), batch(&[("MUG", 1), ("CUP", 1)]));
    // Both are in the middle of their transaction when the first may go on.
    let held = function.hold("SELECT FROM product WHERE sku = 'CUP' FOR UPDATE").await;
    let both = async { tokio::join!(function.deliver(&one), function.deliver(&other)) };
    let release = async {
        function.until_waiting(2).await;
        held.rollback().await.expect("released");
    };
    let ((one, other), ()) = tokio::join!(both, release);
    let reserved = |types: String| types.split(' ').filter(|event| *event == "inventory.reserved").count();
    let shares = [reserved(one.types()), reserved(other.types())];
    assert!(shares == [10, 0] || shares == [0, 10], "each batch as a whole came first or second: {shares:?}");
    assert_eq!(stock(&function).await, "CUP 10/10, MUG 10/10");
}

#[tokio::test]
async fn what_is_no_order_event_is_rejected_and_the_rest_is_done() {
    let function = inventory(&[("MUG", 5)]).await;
    let good = || created(Uuid::now_v7(), &[("MUG", 1)]);
    let broken = [
        Sent { value: Some(b"{".to_vec()), ..good() },
        Sent { value: None, ..good() },
        Sent { key: None, ..good() },
        Sent { headers: vec![], ..good() },
        created(Uuid::now_v7(), &[("MUG", 0)]),
        created(Uuid::now_v7(), &[]),
    ];
    for bad in broken {
        let delivery = function.deliver(&[bad, good()]).await;
        let told = delivery.told();
        assert!(told.starts_with("reject(") && told.ends_with(") done"), "{told}");
    }
}

#[tokio::test]
async fn the_catalogue_and_the_stock_over_http() {
    let function = inventory(&[("MUG", 5), ("TEA", 7)]).await;
    function.deliver(&[created(Uuid::now_v7(), &[("MUG", 2)])]).await;
    let answer = function.get("/products").send().await;
    let available = |index: usize| answer.body["products"][index]["available"].clone();
    assert_eq!((answer.status, available(0), available(1)), (200, json!(3), json!(7)));
    assert_eq!(function.get("/products?limit=1").send().await.body["next_cursor"], "MUG");
    assert_eq!(function.get("/products?limit=1&cursor=MUG").send().await.body["products"][0]["sku"], "TEA");
    assert_eq!(function.get("/products/MOON").send().await.status, 404);
    let answer = function.get("/inventory/MUG").send().await;
    assert_eq!(answer.body, json!({"sku": "MUG", "on_hand": 5, "reserved": 2, "available": 3}));
}

#[tokio::test]
async fn only_an_administrator_sets_the_stock_and_never_below_what_is_promised() {
    let function = inventory(&[("MUG", 5)]).await;
    function.deliver(&[created(Uuid::now_v7(), &[("MUG", 2)])]).await;
    let set = |on_hand: Value| json!({"on_hand": on_hand});
    let anybody = function.put("/inventory/MUG");
    assert_eq!(anybody.json(set(json!(9))).await.status, 401);
    assert_eq!(function.put("/inventory/MUG").by(Uuid::now_v7()).json(set(json!(9))).await.status, 403);
    for (sku, on_hand, status) in [
        ("MUG", json!(9), 200),
        ("MUG", json!(2), 200),
        ("MUG", json!(1), 409),
        ("MUG", json!(-1), 422),
        ("MUG", json!("many"), 422),
        ("MOON", json!(1), 404),
    ] {
        let answer = function.put(&format!("/inventory/{sku}")).by_admin().json(set(on_hand.clone())).await;
        assert_eq!(answer.status, status, "{sku} {on_hand}: {}", answer.body);
    }
    assert_eq!(stock(&function).await, "MUG 2/2");
}

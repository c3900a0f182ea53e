//! The built component with a real Postgres: what its batches, ticks and requests leave behind.

use contract::event::{
    Event, InventoryRejected, InventorySettled, Item, Money, OrderChanged, OrderCreated, OrderRefunded,
    OrderStatus, Shortage, StockLevel,
};
use fnhost_test_function::{Function, Sent};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

const TOTAL: i64 = 900;
/// A series of 400 days until yesterday: 20 units a day, 40 on Saturdays, and noise that repeats after 11 days.
const HISTORY: &str = "
    INSERT INTO demand (sku, day, units)
    SELECT sku, day, 20 + CASE WHEN extract(isodow FROM day) = 6 THEN 20 ELSE 0 END
                     + (ARRAY[0, 3, -4, 1, 5, -2, -5, 2, 4, -1, -3])[1 + (day - date '2020-01-01') % 11]
    FROM unnest($SKUS) AS sku, LATERAL (
        SELECT (now() AT TIME ZONE 'UTC')::date - back AS day FROM generate_series(1, 400) AS back
    ) AS days;
    INSERT INTO series (sku) SELECT unnest($SKUS)";

async fn prepare_history(function: &Function, skus: &str) {
    function.prepare(&HISTORY.replace("$SKUS", skus)).await;
}

fn created(order_id: Uuid, lines: &[(&str, i32)]) -> Sent {
    let item =
        |(sku, quantity): &(&str, i32)| Item { sku: (*sku).to_owned(), quantity: *quantity, unit_price: 100 };
    Sent::new(&Event::OrderCreated(OrderCreated {
        order_id,
        user_id: Uuid::from_u128(1),
        version: 1,
        items: lines.iter().map(item).collect(),
        total: money(TOTAL),
        payment_token: "tok_ok".to_owned(),
    }))
}

fn money(amount: i64) -> Money {
    Money { amount, currency: "EUR".to_owned() }
}

fn changed(order_id: Uuid, version: i64, status: OrderStatus) -> OrderChanged {
    OrderChanged { order_id, user_id: Uuid::from_u128(1), version, status, reason: None }
}

fn confirmed(order_id: Uuid) -> Sent {
    Sent::new(&Event::OrderConfirmed(changed(order_id, 2, OrderStatus::Confirmed)))
}

fn cancelled(order_id: Uuid) -> Sent {
    Sent::new(&Event::OrderCancelled(changed(order_id, 3, OrderStatus::Cancelled)))
}

fn refunded(order_id: Uuid, amount: i64) -> Sent {
    let (user_id, version) = (Uuid::from_u128(1), 3);
    let refunded = OrderRefunded { order_id, user_id, version, refunded: money(amount), reason: None };
    Sent::new(&Event::OrderRefunded(refunded))
}

fn short(order_id: Uuid, sku: &str) -> Sent {
    let shortages = vec![Shortage { sku: sku.to_owned(), requested: 2, available: 0 }];
    let reason = format!("{sku} is out of stock");
    Sent::new(&Event::InventoryRejected(InventoryRejected { order_id, version: 1, reason, shortages }))
}

fn committed(sku: &str, on_hand: i64, reserved: i64) -> Sent {
    let stock = vec![StockLevel { sku: sku.to_owned(), on_hand, reserved }];
    Sent::new(&Event::InventoryCommitted(InventorySettled { order_id: Uuid::now_v7(), stock }))
}

/// `SKU units` of every product, with `!` where a day was short.
async fn demand(function: &Function) -> Value {
    let text = "SELECT string_agg(sku || ' ' || units || CASE WHEN short THEN '!' ELSE '' END, ', ' ORDER BY sku, day) FROM demand";
    function.value(text).await
}

#[tokio::test]
async fn what_is_confirmed_is_demand_and_what_is_given_back_is_none() {
    let function = Function::start("forecast").await;
    let [kept, part, all, gone] = [(); 4].map(|()| Uuid::now_v7());
    let batch = [
        created(kept, &[("MUG", 2), ("TEA", 1), ("MUG", 1)]),
        created(part, &[("MUG", 5)]),
        created(all, &[("MUG", 7)]),
        created(gone, &[("TEA", 9)]),
    ];
    function.deliver(&batch).await;
    assert_eq!(demand(&function).await, Value::Null, "an order is no demand before it is confirmed");
    function.deliver(&[kept, part, all, gone].map(confirmed)).await;
    assert_eq!(demand(&function).await, "MUG 15, TEA 10");
    let back = [refunded(part, TOTAL - 1), refunded(all, TOTAL), cancelled(gone)];
    assert_eq!(function.deliver(&back).await.told(), "done done done");
    assert_eq!(demand(&function).await, "MUG 8, TEA 1");
    // Whatever comes again, and in whatever batches.
    for again in [&batch[..], &back, &[confirmed(all), confirmed(gone)]] {
        function.deliver(again).await;
        assert_eq!(demand(&function).await, "MUG 8, TEA 1");
    }
}

#[tokio::test]
async fn a_batch_that_is_rolled_back_has_not_happened() {
    let function = Function::start("forecast").await;
    let order = Uuid::now_v7();
    let batch = [created(order, &[("MUG", 2)]), confirmed(order), short(Uuid::now_v7(), "TEA")];
    function.deliver_in_vain(&batch).await;
    assert_eq!(demand(&function).await, Value::Null);
    function.deliver(&batch).await;
    assert_eq!(demand(&function).await, "MUG 2, TEA 0!");
}

#[tokio::test]
async fn a_day_without_stock_is_marked_and_an_older_stock_undoes_no_newer() {
    let function = Function::start("forecast").await;
    let order = Uuid::now_v7();
    // Event ids have the time, to the millisecond.
    let older = committed("MUG", 50, 1);
    let mut newer = committed("MUG", 40, 3);
    let (id, later) = ("ce_id", Uuid::from_u128(Uuid::now_v7().as_u128() + (1000 << 80)).to_string());
    newer
        .headers
        .iter_mut()
        .filter(|(name, _)| name == id)
        .for_each(|(_, value)| *value = later.clone().into_bytes());
    function.deliver(&[newer]).await;
    function.deliver(&[older, created(order, &[("MUG", 4)]), confirmed(order), short(order, "MUG")]).await;
    assert_eq!(demand(&function).await, "MUG 4!");
    assert_eq!(function.value("SELECT on_hand || '/' || reserved FROM stock").await, "40/3");
}

#[tokio::test]
async fn a_tick_forecasts_each_product_once_a_day() {
    let function = Function::start("forecast").await;
    prepare_history(&function, "ARRAY['MUG', 'TEA']").await;
    let fresh = Uuid::now_v7();
    function.deliver(&[created(fresh, &[("NEW", 1)]), confirmed(fresh), committed("MUG", 100, 20)]).await;
    assert_eq!(function.tick("forecast").await.told(), "done");
    let answer = function.get("/forecast/MUG").by_admin().send().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let (body, made) = (&answer.body, &answer.body["forecast"]);
    assert_eq!(
        (body["days"].as_array().unwrap().len(), body["history"].as_array().unwrap().len()),
        (28, 181)
    );
    let (error, naive) = (made["error"].as_f64().unwrap(), made["naive_error"].as_f64().unwrap());
    assert!(error < naive, "{made}");
    // Four weeks of 160 units, and eight days of 183 at most with a safety stock.
    assert!((600.0..680.0).contains(&made["units_in_all"].as_f64().unwrap()), "{made}");
    assert!((160..230).contains(&made["reorder_point"].as_i64().unwrap()), "{made}");
    assert!(made["reorder_quantity"].as_i64().unwrap() > 500, "80 are available: {made}");
    let saturdays = body["days"].as_array().unwrap().iter().filter(|day| day["units"].as_f64() > Some(30.0));
    assert_eq!(saturdays.count(), 4);
    // What was first wanted today has no day to forecast from yet.
    let new = function.get("/forecast/NEW").by_admin().send().await;
    assert_eq!((&new.body["forecast"], &new.body["days"]), (&Value::Null, &json!([])));

    let made_at = "SELECT string_agg(sku || made_at, ',' ORDER BY sku) FROM forecast";
    let before = function.value(made_at).await;
    function.tick("forecast").await;
    assert_eq!(function.value(made_at).await, before, "nothing is due");
    assert!(function.tick("other").await.told().starts_with("reject("));
}

#[tokio::test]
async fn the_reorder_list_has_what_is_low_and_the_settings_move_it() {
    let function = Function::start("forecast").await;
    prepare_history(&function, "ARRAY['MUG', 'PEN', 'TEA']").await;
    function.deliver(&[committed("MUG", 30, 0), committed("TEA", 400, 10)]).await;
    function.tick("forecast").await;
    let skus = async |query: &str| {
        let answer = function.get(&format!("/forecast{query}")).by_admin().send().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let all = answer.body["forecasts"].as_array().unwrap().clone();
        all.iter().map(|one| one["sku"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(skus("").await, "MUG PEN TEA");
    assert_eq!(skus("?limit=1&cursor=MUG").await, "PEN");
    assert_eq!(skus("?low=true").await, "MUG", "of PEN no stock is known");
    // With goods that take 27 days to arrive, 390 of them are too few.
    let set = function.put("/forecast/TEA").by_admin();
    let slow = json!({"lead_time_days": 27, "service_level_percent": 99});
    assert_eq!(set.json(slow).await.status, 204);
    function.tick("forecast").await;
    assert_eq!(skus("?low=true").await, "MUG TEA");
}

#[tokio::test]
async fn only_an_administrator_sees_forecasts_and_what_makes_no_sense_is_refused() {
    let function = Function::start("forecast").await;
    prepare_history(&function, "ARRAY['MUG']").await;
    let settings =
        |days: i64, percent: i64| json!({"lead_time_days": days, "service_level_percent": percent});
    for path in ["/forecast", "/forecast/MUG"] {
        assert_eq!(function.get(path).send().await.status, 401);
        assert_eq!(function.get(path).by(Uuid::now_v7()).send().await.status, 403);
    }
    assert_eq!(function.put("/forecast/MUG").by(Uuid::now_v7()).json(settings(7, 95)).await.status, 403);
    for (path, status) in [("/forecast/MOON", 404), ("/forecast?low=maybe", 422), ("/forecast?limit=0", 422)]
    {
        assert_eq!(function.get(path).by_admin().send().await.status, status, "{path}");
    }
    for (sku, days, percent, status) in [
        ("MUG", 28, 95, 422),
        ("MUG", -1, 95, 422),
        ("MUG", 7, 100, 422),
        ("MOON", 7, 95, 404),
        ("MUG", 0, 50, 204),
    ] {
        let answer = function.put(&format!("/forecast/{sku}")).by_admin().json(settings(days, percent)).await;
        assert_eq!(answer.status, status, "{sku} {days} {percent}: {}", answer.body);
    }
}

/// Ticks until nothing is due, within the memory and the deadline of a component, of products with two years each. With
/// FORECAST_PRODUCTS=10000 it is the measurement of docs/forecast.md.
#[tokio::test]
async fn thousands_of_products_are_forecast_in_ticks_that_keep_their_deadline() {
    let function = Function::start("forecast").await;
    let products =
        std::env::var("FORECAST_PRODUCTS").map_or(600, |number| number.parse::<i64>().expect("a number"));
    let skus = format!("ARRAY(SELECT 'P-' || n FROM generate_series(1, {products}) AS n)");
    function.prepare(&HISTORY.replace("$SKUS", &skus).replace("400", "730")).await;
    function.prepare("VACUUM ANALYZE demand").await;
    let due = "SELECT count(*) FROM series WHERE forecast_on < (now() AT TIME ZONE 'UTC')::date";
    let (begun, mut longest, mut ticks) = (Instant::now(), Duration::ZERO, 0);
    while function.value(due).await != 0 {
        let before = Instant::now();
        assert_eq!(function.tick("forecast").await.told(), "done");
        longest = longest.max(before.elapsed());
        ticks += 1;
        assert!(ticks <= products, "each tick makes one at least");
    }
    println!("{products} products: {:?} in {ticks} ticks, the longest {longest:?}", begun.elapsed());
    assert!(longest < Duration::from_secs(25), "the deadline is 30 s");
    assert_eq!(function.value("SELECT count(*) FROM forecast").await, products);
}

//! The built component with a real Postgres: what its batches and requests leave behind.

use fnhost_test_function::{Function, Sent};
use kit::event::{Event, Item, Money, OrderChanged, OrderCreated, OrderStatus};
use serde_json::{Value, json};
use uuid::{NoContext, Timestamp, Uuid};

const USER: Uuid = Uuid::from_u128(7);

fn created(order_id: Uuid, payment_token: &str) -> Sent {
    Sent::new(&Event::OrderCreated(OrderCreated {
        order_id,
        user_id: USER,
        version: 1,
        items: vec![Item { sku: "MUG".to_owned(), quantity: 1, unit_price: 990 }],
        total: Money { amount: 990, currency: "EUR".to_owned() },
        payment_token: payment_token.to_owned(),
    }))
}

fn changed(order_id: Uuid, version: i64, status: OrderStatus) -> OrderChanged {
    OrderChanged { order_id, user_id: USER, version, status, reason: None }
}

fn confirmed(order_id: Uuid) -> Sent {
    Sent::new(&Event::OrderConfirmed(changed(order_id, 2, OrderStatus::Confirmed)))
}

fn rejected(order_id: Uuid) -> Sent {
    Sent::new(&Event::OrderRejected(changed(order_id, 2, OrderStatus::Rejected)))
}

fn cancelled(order_id: Uuid, version: i64) -> Sent {
    Sent::new(&Event::OrderCancelled(changed(order_id, version, OrderStatus::Cancelled)))
}

/// The order's payment: `STATE` or `STATE: reason`; empty where there is none.
async fn payment(function: &Function, order_id: Uuid) -> String {
    let rows =
        function.rows(&format!("SELECT state, reason FROM payment WHERE order_id = '{order_id}'")).await;
    rows.first().map_or_else(String::new, |row| match &row["reason"] {
        Value::Null => row["state"].as_str().unwrap_or_default().to_owned(),
        reason => {
            format!("{}: {}", row["state"].as_str().unwrap_or_default(), reason.as_str().unwrap_or_default())
        }
    })
}

#[tokio::test]
async fn each_payment_token_has_its_story() {
    const AGAIN: &str = "retry(the gateway failed: try again)";
    let function = Function::start("payment").await;
    for (token, attempt, told, emitted, state) in [
        ("tok_ok", 1, "done", "payment.authorized", "AUTHORIZED"),
        ("tok_declined", 1, "done", "payment.declined", "DECLINED: the card was declined"),
        ("tok_invented", 1, "done", "payment.declined", "DECLINED: the payment token is unknown"),
        ("tok_slow", 1, "retry(the gateway did not answer in time)", "", ""),
        ("tok_slow", 2, "retry(the gateway has not finished)", "", ""),
        ("tok_flaky", 1, AGAIN, "", ""),
        ("tok_flaky", 2, AGAIN, "", ""),
        ("tok_flaky", 3, "done", "payment.authorized", "AUTHORIZED"),
        ("tok_down", 1, "retry(the gateway cannot be reached)", "", ""),
        ("tok_down", 7, "retry(the gateway cannot be reached)", "", ""),
    ] {
        let order = Uuid::now_v7();
        let delivery = function.deliver(&[created(order, token).again(attempt)]).await;
        assert_eq!(
            (delivery.told().as_str(), delivery.types().as_str()),
            (told, emitted),
            "{token} {attempt}"
        );
        assert_eq!(payment(&function, order).await, state, "{token} {attempt}");
    }
}

#[tokio::test]
async fn a_slow_gateway_has_answered_two_seconds_after_the_order() {
    let function = Function::start("payment").await;
    let then = kit::time::unix_seconds() - 3;
    let order = Uuid::new_v7(Timestamp::from_unix(NoContext, then, 0));
    assert_eq!(function.deliver(&[created(order, "tok_slow").again(2)]).await.types(), "payment.authorized");
}

#[tokio::test]
async fn the_last_attempt_gives_up_properly() {
    let function = Function::start("payment").await;
    for token in ["tok_down", "tok_slow", "tok_flaky"] {
        let order = Uuid::now_v7();
        let delivery = function.deliver(&[created(order, token).for_the_last_time()]).await;
        assert_eq!(
            (delivery.told().as_str(), delivery.types().as_str()),
            ("done", "payment.declined"),
            "{token}"
        );
        assert_eq!(payment(&function, order).await, "DECLINED: gateway unavailable");
        // The order ends of it, and nothing stays authorized.
        let delivery = function.deliver(&[rejected(order)]).await;
        assert_eq!((delivery.told().as_str(), delivery.types().as_str()), ("done", ""));
        assert_eq!(payment(&function, order).await, "DECLINED: gateway unavailable");
    }
}

#[tokio::test]
async fn later_events_of_an_order_that_waits_wait_too_and_others_flow() {
    let function = Function::start("payment").await;
    let [waits, flows] = [Uuid::now_v7(), Uuid::now_v7()];
    let delivery = function
        .deliver(&[
            created(waits, "tok_down"),
            cancelled(waits, 2),
            created(flows, "tok_ok"),
            confirmed(flows),
        ])
        .await;
    assert_eq!(
        delivery.told(),
        "retry(the gateway cannot be reached) retry(an earlier event of this order waits for the gateway) done done"
    );
    assert_eq!(delivery.types(), "payment.authorized payment.captured");
    assert_eq!(payment(&function, waits).await, "", "what is not done has written nothing");
    // Handed out again in their order: the first gives up, the second finds nothing to void.
    let delivery =
        function.deliver(&[created(waits, "tok_down").for_the_last_time(), cancelled(waits, 2)]).await;
    assert_eq!((delivery.told().as_str(), delivery.types().as_str()), ("done done", "payment.declined"));
}

#[tokio::test]
async fn money_follows_the_order() {
    let function = Function::start("payment").await;
    for (after, told, state) in [
        (vec![confirmed as fn(Uuid) -> Sent], "payment.captured", "CAPTURED"),
        (vec![rejected], "payment.voided", "VOIDED"),
        (vec![|id| cancelled(id, 2)], "payment.voided", "VOIDED"),
        (vec![confirmed, |id| cancelled(id, 3)], "payment.captured payment.refunded", "REFUNDED"),
        // The same two, overtaken: the newer one decides and the older one is old news.
        (vec![|id| cancelled(id, 3), confirmed], "payment.voided", "VOIDED"),
    ] {
        let order = Uuid::now_v7();
        let mut batch = vec![created(order, "tok_ok")];
        batch.extend(after.iter().map(|event| event(order)));
        let expected = format!("payment.authorized {told}");
        // As one batch, and again as one that comes a second time.
        assert_eq!(function.deliver(&batch).await.types(), expected);
        assert_eq!(function.deliver(&batch).await.types(), "", "nobody is charged or told twice");
        assert_eq!(payment(&function, order).await, state);
    }
}

#[tokio::test]
async fn an_order_cancelled_before_it_was_heard_of_is_never_charged() {
    let function = Function::start("payment").await;
    let order = Uuid::now_v7();
    for batch in [&[cancelled(order, 2)], &[created(order, "tok_ok")]] {
        let delivery = function.deliver(batch).await;
        assert_eq!((delivery.told().as_str(), delivery.types().as_str()), ("done", ""));
        assert_eq!(payment(&function, order).await, "VOIDED");
    }
    let answer = function.get(&format!("/payments/{order}")).by(USER).send().await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("VOIDED")));
    assert_eq!(answer.body.get("amount"), None);
}

#[tokio::test]
async fn a_confirmation_without_money_is_a_dead_letter() {
    let function = Function::start("payment").await;
    let [unpaid, declined] = [Uuid::now_v7(), Uuid::now_v7()];
    let batch = [confirmed(unpaid), created(declined, "tok_declined"), confirmed(declined)];
    assert_eq!(
        function.deliver(&batch).await.told(),
        "reject(the order is confirmed, but was never paid for) done \
         reject(the order is confirmed, but its payment is DECLINED)"
    );
}

#[tokio::test]
async fn a_payment_is_shown_to_its_customer_alone() {
    let function = Function::start("payment").await;
    let order = Uuid::now_v7();
    function.deliver(&[created(order, "tok_ok")]).await;
    let path = format!("/payments/{order}");
    let answer = function.get(&path).by(USER).send().await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("AUTHORIZED")));
    assert_eq!(answer.body["amount"], json!({"amount": 990, "currency": "EUR"}));
    let foreign = function.get(&path).by(Uuid::now_v7()).send().await;
    let missing = function.get(&format!("/payments/{}", Uuid::now_v7())).by(USER).send().await;
    assert_eq!((foreign.status, &foreign), (404, &missing), "nobody learns which orders there are");
    assert_eq!(function.get(&path).send().await.status, 401);
    assert_eq!(function.get("/payments/7").by(USER).send().await.status, 404);
}

//! The built component with a real Postgres: what its batches and requests leave behind.

use contract::event::{Event, Item, Money, OrderChanged, OrderCreated, OrderStatus};
use fnhost_manifest::Secret;
use fnhost_manifest::hosts::AllowedHosts;
use fnhost_test_function::{Function, Sent};
use payment::domain::FAILING_ATTEMPTS_MAX;
use payment::webhook::{AGE_MAX_SECONDS, SIGNATURE_HEADER};
use payment_gateway::behaviour::{Behaviour, Outage};
use payment_gateway::ledger::Payment;
use payment_gateway::{Gateway, Options};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use uuid::Uuid;

const USER: Uuid = Uuid::from_u128(7);
const WEBHOOK_SECRET: &str = "the webhooks' secret";
/// What is awaited comes within this time.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// The function with a payment gateway of its own, which keeps everything in memory.
struct Paying {
    function: Function,
    gateway: Arc<Gateway>,
    _serving: JoinSet<()>,
}

impl std::ops::Deref for Paying {
    type Target = Function;

    fn deref(&self) -> &Function {
        &self.function
    }
}

impl Paying {
    async fn start() -> Self {
        let (gateway, address, serving) = payment_gateway::start(Options::default()).await.unwrap();
        let url = format!("http://{address}");
        let function = Function::start_with("payment", |spec| {
            spec.variables.insert("gateway_url".to_owned(), Secret::new(url.clone()));
            spec.variables.insert("gateway_wait_ms".to_owned(), Secret::new("1000"));
            spec.variables.insert("webhook_secret".to_owned(), Secret::new(WEBHOOK_SECRET));
            spec.allowed_hosts = AllowedHosts::parse("payment", [url.as_str(), "postgres://*:*"]).unwrap();
            // Only how the function itself takes failures is tried here.
            spec.outbound.max_retries = 0;
        });
        Self { function: function.await, gateway, _serving: serving }
    }

    fn outage(&self, outage: Outage) {
        self.gateway.set_behaviour(Behaviour { outage, ..Behaviour::default() });
    }

    /// What the gateway has of an order: `status authorizations captures refunded`.
    fn at_gateway(&self, order_id: Uuid) -> String {
        let told = self.gateway.payment(&order_id.to_string());
        told.map_or_else(String::new, |payment| {
            let Payment { status, authorizations, captures, refunded, .. } = payment;
            format!("{status:?} {authorizations} {captures} {refunded}")
        })
    }
}

#[tokio::test]
async fn each_payment_token_has_its_story() {
    const AGAIN: &str = "retry(the payment gateway failed: 503 the gateway failed: try again)";
    const BANK: &str = "retry(the bank behind the card does not answer)";
    let function = Paying::start().await;
    for (token, attempts, held) in [
        ("tok_ok", &[("done", "payment.authorized", "AUTHORIZED")][..], "Authorized 1 0 0"),
        (
            "tok_declined",
            &[("done", "payment.declined", "DECLINED: the card was declined")],
            "Declined 0 0 0",
        ),
        (
            "tok_invented",
            &[("done", "payment.declined", "DECLINED: the payment token is unknown")],
            "Declined 0 0 0",
        ),
        (
            "tok_flaky",
            &[(AGAIN, "", ""), (AGAIN, "", ""), ("done", "payment.authorized", "AUTHORIZED")],
            "Authorized 1 0 0",
        ),
        ("tok_down", &[(BANK, "", ""), (BANK, "", "")], ""),
    ] {
        let order = Uuid::now_v7();
        for ((told, emitted, state), attempt) in attempts.iter().zip(1..) {
            let delivery = function.deliver(&[created(order, token).again(attempt)]).await;
            let found = (delivery.told(), delivery.types(), payment(&function, order).await);
            assert_eq!(
                (found.0.as_str(), found.1.as_str(), found.2.as_str()),
                (*told, *emitted, *state),
                "{token} {attempt}"
            );
        }
        assert_eq!(function.at_gateway(order), held, "{token}");
    }
}

#[tokio::test]
async fn a_slow_gateway_goes_on_and_has_answered_when_it_is_asked_again() {
    let function = Paying::start().await;
    let order = Uuid::now_v7();
    let first = function.deliver(&[created(order, "tok_slow")]).await;
    assert!(first.told().starts_with("retry(the payment gateway did not answer"), "{}", first.told());
    let second = function.deliver(&[created(order, "tok_slow").again(2)]).await;
    assert_eq!(second.told(), "retry(the payment gateway has not finished)");
    let answered = async {
        while function.deliver(&[created(order, "tok_slow").again(3)]).await.types() != "payment.authorized" {
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("an answer");
    assert_eq!(function.at_gateway(order), "Authorized 1 0 0");
}

#[tokio::test]
async fn a_call_that_is_repeated_moves_no_money_twice() {
    let function = Paying::start().await;
    let order = Uuid::now_v7();
    let steps = [vec![created(order, "tok_ok")], vec![confirmed(order)], vec![cancelled(order, 3)]];
    for (step, held) in steps.iter().zip(["Authorized 1 0 0", "Captured 1 1 0", "Refunded 1 1 990"]) {
        // The host dies between the gateway's answer and COMMIT, twice.
        for _ in 0..2 {
            function.deliver_in_vain(step).await;
            assert_eq!(function.at_gateway(order), held);
        }
        assert_eq!(function.deliver(step).await.told(), "done");
        assert_eq!(function.at_gateway(order), held);
    }
    assert_eq!(payment(&function, order).await, "REFUNDED");
}

#[tokio::test]
async fn nothing_is_given_up_in_an_outage_and_a_bank_that_does_not_answer_is() {
    let function = Paying::start().await;
    let [silent, down] = [Uuid::now_v7(), Uuid::now_v7()];
    for outage in [Outage::Errors, Outage::Closed, Outage::Silence] {
        function.outage(outage);
        let delivery = function.deliver(&[created(silent, "tok_ok").again(200)]).await;
        assert!(delivery.told().starts_with("retry("), "{outage:?}: {}", delivery.told());
    }
    function.outage(Outage::None);
    assert_eq!(function.deliver(&[created(silent, "tok_ok").again(201)]).await.types(), "payment.authorized");
    let delivery = function.deliver(&[created(down, "tok_down").again(FAILING_ATTEMPTS_MAX)]).await;
    assert_eq!((delivery.told().as_str(), delivery.types().as_str()), ("done", "payment.declined"));
    assert_eq!(payment(&function, down).await, "DECLINED: gateway unavailable");
}

#[tokio::test]
async fn the_last_attempt_gives_up_and_nothing_stays_held() {
    let function = Paying::start().await;
    let order = Uuid::now_v7();
    let last = created(order, "tok_slow").for_the_last_time();
    let delivery = function.deliver(std::slice::from_ref(&last)).await;
    assert_eq!((delivery.told().as_str(), delivery.types().as_str()), ("done", "payment.declined"));
    assert_eq!(payment(&function, order).await, "DECLINED: gateway unavailable");
    // It was cancelled while the gateway was still at it, which then holds nothing.
    assert_eq!(function.at_gateway(order), "Voided 0 0 0");
    let slow = async {
        let authorize = || created(order, "tok_slow");
        // The key's answer is there once the gateway has finished.
        while function.deliver(&[authorize()]).await.told() != "done" {}
    };
    tokio::time::timeout(PATIENCE, slow).await.expect("an end");
    assert_eq!(function.at_gateway(order), "Voided 0 0 0");

    // In an outage nothing can be cancelled: the order's end asks until it is.
    let order = Uuid::now_v7();
    assert_eq!(function.deliver_in_vain(&[created(order, "tok_ok")]).await.types(), "payment.authorized");
    function.outage(Outage::Errors);
    let delivery = function.deliver(&[created(order, "tok_ok").for_the_last_time()]).await;
    assert_eq!(delivery.types(), "payment.declined");
    assert_eq!(function.at_gateway(order), "Authorized 1 0 0");
    assert!(function.deliver(&[rejected(order)]).await.told().starts_with("retry("));
    function.outage(Outage::None);
    assert_eq!(function.deliver(&[rejected(order)]).await.told(), "done");
    assert_eq!(function.at_gateway(order), "Voided 1 0 0");
    assert_eq!(payment(&function, order).await, "DECLINED: gateway unavailable");
}

#[tokio::test]
async fn later_events_of_an_order_that_waits_wait_too_and_others_flow() {
    let function = Paying::start().await;
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
        "retry(the bank behind the card does not answer) \
         retry(an earlier event of this order waits for the payment gateway) done done"
    );
    assert_eq!(delivery.types(), "payment.authorized payment.captured");
    assert_eq!(payment(&function, waits).await, "", "what is not done has written nothing");
    // Handed out again in their order: the first gives up, the second finds nothing to void.
    let batch = [created(waits, "tok_down").for_the_last_time(), cancelled(waits, 2)];
    assert_eq!(function.deliver(&batch[..1]).await.types(), "payment.declined");
    assert_eq!(function.deliver(&batch[1..]).await.told(), "done");
}

#[tokio::test]
async fn a_slow_payment_does_not_hold_up_the_many_beside_it() {
    let function = Paying::start().await;
    let slow = Uuid::now_v7();
    let mut batch = vec![created(slow, "tok_slow")];
    batch.extend((0..200).map(|_| created(Uuid::now_v7(), "tok_ok")));
    let delivery = function.deliver(&batch).await;
    assert_eq!(delivery.emitted.len(), 200);
    assert_eq!(function.value("SELECT count(*) FROM payment WHERE state = 'AUTHORIZED'").await, json!(200));
}

#[tokio::test]
async fn a_webhook_is_kept_once_and_only_where_it_is_signed() {
    let function = Paying::start().await;
    let order = Uuid::now_v7();
    let body = json!({ "events": [{ "id": format!("{order}:capture"), "created": 1_700_000_000,
        "payment": { "reference": order, "status": "captured", "amount": 990, "refunded": 0 } }] });
    let now = fnhost_sdk::time::unix_seconds();
    let send = async |secret: &str, at: u64| {
        let signature = payment_gateway::signature::sign(secret, at, body.to_string().as_bytes());
        let call = function.post("/payments/webhook").header(SIGNATURE_HEADER, &signature);
        call.json(body.clone()).await
    };
    let kept = async || function.value("SELECT count(*) FROM gateway_event").await;
    assert_eq!(send("another secret", now).await.status, 401);
    assert_eq!(
        send(WEBHOOK_SECRET, now - AGE_MAX_SECONDS - 60).await.status,
        401,
        "an old one is sent again by somebody"
    );
    assert_eq!(function.post("/payments/webhook").json(body.clone()).await.status, 401);
    assert_eq!(kept().await, json!(0));
    for new in [1, 0] {
        let answer = send(WEBHOOK_SECRET, now).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({ "new": new, "known": 1 - new })));
    }
    assert_eq!(kept().await, json!(1));
    assert_eq!(function.get("/payments/webhook").send().await.status, 405);
}

#[tokio::test]
async fn money_follows_the_order() {
    let function = Paying::start().await;
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
    let function = Paying::start().await;
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
    let function = Paying::start().await;
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
    let function = Paying::start().await;
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

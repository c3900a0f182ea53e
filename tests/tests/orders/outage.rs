//! The payment gateway goes away: what else there is goes on, orders wait, and all of them end when it is back.

use futures::future::try_join_all;
use http::Method;
use std::time::{Duration, Instant};
use tests::consistency::{assert_consistent, wait_settled};
use tests::customer::{Customer, NewOrder, Status};
use tests::outcome::Outcome;
use tests::payment_gateway::PaymentGateway;
use tests::scrape::Scrape;
use tests::system::Fnhost;
use tests::wait::{Look, until};

/// Orders that come while the gateway is out.
const ORDERS: usize = 60;
/// How long it is out: longer than the first eight attempts of a record would take.
const OUTAGE: Duration = Duration::from_secs(15);
/// Time until the circuit is seen open.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn orders_wait_for_a_payment_gateway_that_is_out_and_end_when_it_is_back() -> Outcome {
    let fnhost = Fnhost::start(Default::default()).await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let db = fnhost.database().await?;
    db.add_product("OUTAGE", 10_000).await?;
    let order = NewOrder::of(&[("OUTAGE", 1)]);
    let before = ada.order_to_end(&order).await?;
    ada.wait_payment(before.order_id, "CAPTURED").await?;

    let gateway = PaymentGateway::of(&fnhost)?;
    gateway.outage("errors").await?;
    let began = Instant::now();
    let waiting = try_join_all((0..ORDERS).map(|_| ada.order(&order))).await?;
    // Of what was paid before a part goes back, which needs the gateway as well.
    let cancelled = ada.cancel(before.order_id).await?;
    let admin = fnhost.admin()?;
    until("the circuit to open", OPEN_DEADLINE, async || {
        let open =
            Scrape::of(&admin).await?.sum("fnhost_outbound_circuits_open", &[("component", "payment")]);
        Ok(Look::from_bool(open == 1.0, format!("{open} are open")))
    })
    .await?;
    // Another kind of outage: it does not answer at all.
    gateway.outage("silence").await?;
    let (mut reads, mut slowest) = (0, Duration::ZERO);
    while began.elapsed() < OUTAGE {
        let asked = Instant::now();
        for order in &waiting[..3] {
            let read = ada.get(order.order_id).await?;
            assert_eq!(read.status, Status::Pending);
        }
        let stock = ada.ask(Method::GET, "/products/OUTAGE", None).await?;
        assert!(stock.status.is_success(), "{stock}");
        (reads, slowest) = (reads + 4, slowest.max(asked.elapsed() / 4));
    }
    let pending = db.count("SELECT count(*) FROM orders.orders WHERE status = 'PENDING'").await?;
    assert_eq!(pending, i64::try_from(ORDERS)?, "every order waits");

    // It is killed, and comes back by itself, with all that it has promised.
    fnhost.kill_payment_gateway()?;
    let back = Instant::now();
    for order in &waiting {
        assert_eq!(ada.wait_final(order.order_id).await?.status, Status::Confirmed);
    }
    println!(
        "{ORDERS} orders ended {:.1} s after the payment gateway was back; {reads} reads meanwhile, slowest {slowest:?}",
        back.elapsed().as_secs_f64()
    );
    ada.wait_payment(cancelled.order_id, "REFUNDED").await?;
    wait_settled(&fnhost, &db).await?;
    assert_consistent(&db).await;
    Ok(gateway.check_agrees(&db).await?)
}

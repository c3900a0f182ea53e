//! A host that is killed when the payment gateway has answered and what follows from it is not committed: money has moved that
//! nobody here knows of. The next owner asks again under the same key, and it moves no second time.
//!
//! The place is held from outside, as in [`super::points`]: a constraint trigger that is deferred to the end of the transaction
//! makes COMMIT itself wait, when every statement of the dispatch has been executed.

use super::alone;
use super::points::{copies, frozen_and_working, run, wait_for};
use sqlx::PgConnection;
use tests::consistency::{assert_consistent, wait_settled};
use tests::customer::{Customer, NewOrder, Status};
use tests::database::Database;
use tests::outcome::Outcome;
use tests::payment_gateway::PaymentGateway;
use tests::scrape::Scrape;
use tests::system::Fnhost;
use uuid::Uuid;

/// Makes COMMIT of a payment in some state wait while a test has the advisory lock of that state.
const HOLD: &str = "
    CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        $$ BEGIN PERFORM pg_advisory_xact_lock_shared(hashtext(NEW.state)); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT OR UPDATE ON payment.payment DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.hold()";
const IN_COMMIT: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'fn_payment'
                                        AND wait_event = 'advisory' AND query LIKE '%COMMIT;%')";

async fn hold(session: &mut PgConnection, state: &str) -> anyhow::Result<()> {
    sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(state).execute(session).await?;
    Ok(())
}

async fn let_go(session: &mut PgConnection, state: &str) -> anyhow::Result<()> {
    sqlx::query("SELECT pg_advisory_unlock(hashtext($1))").bind(state).execute(session).await?;
    Ok(())
}

/// What is committed of an order's payment.
async fn committed(db: &Database, order: Uuid) -> anyhow::Result<Option<String>> {
    let sql = "SELECT state FROM payment.payment WHERE order_id = $1";
    Ok(sqlx::query_scalar(sql).bind(order).fetch_optional(&db.pool).await?)
}

/// What the gateway has of an order: its state, and how often money was held and taken, and how much went back.
async fn booked(gateway: &PaymentGateway, order: Uuid) -> anyhow::Result<(String, u32, u32, i64)> {
    let payments = gateway.payments().await?;
    let payment = &payments[&order.to_string()];
    Ok((payment.status.clone(), payment.authorizations, payment.captures, payment.refunded))
}

/// Requests to the payment gateway that this process has sent.
async fn asked(fnhost: &Fnhost) -> anyhow::Result<f64> {
    let scrape = Scrape::of(&fnhost.admin()?).await?;
    Ok(scrape.sum("fnhost_outbound_requests_total", &[("component", "payment"), ("outcome", "success")]))
}

/// Kills the host in the COMMIT that is held, which ends without effect.
async fn kill_in_commit(
    working: &mut Fnhost,
    db: &Database,
    held: &mut PgConnection,
    state: &str,
) -> anyhow::Result<()> {
    working.kill()?;
    // What it had begun ends before the test lets go, so that it is not committed after all.
    run(db, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE wait_event = 'advisory'")
        .await?;
    let_go(held, state).await
}

/// Held, taken and given back, with a kill after each answer; and held for an order that ends without stock meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_the_answer_of_the_payment_gateway_and_commit() -> Outcome {
    let _alone = alone().await;
    let (frozen, mut working) = frozen_and_working().await?;
    let db = frozen.database().await?;
    let gateway = PaymentGateway::of(&frozen)?;
    let ada = Customer::register(&working.client()?).await?;
    db.add_product("GONE", 0).await?;
    run(&db, HOLD).await?;
    let mut held = db.pool.acquire().await.map_err(anyhow::Error::from)?;
    let steps = [
        ("AUTHORIZED", None, ("authorized", 1, 0, 0), 1.0),
        // Its own process has asked for the authorization a second time before.
        ("CAPTURED", Some("AUTHORIZED"), ("captured", 1, 1, 0), 2.0),
        ("REFUNDED", Some("CAPTURED"), ("refunded", 1, 1, 2_500), 2.0),
    ];
    for (state, ..) in steps {
        hold(&mut held, state).await?;
    }
    let order = ada.order(&NewOrder::of(&[("TEA-250G", 2)])).await?.order_id;
    for (state, before, (status, authorizations, captures, refunded), requests) in steps {
        if state == "REFUNDED" {
            ada.cancel(order).await?;
        }
        wait_for(&db, "payment in its COMMIT", IN_COMMIT).await?;
        assert_eq!(
            booked(&gateway, order).await?,
            (status.to_owned(), authorizations, captures, refunded),
            "the gateway has answered before {state} is committed"
        );
        let asked = asked(&working).await?;
        assert!(asked >= requests, "{asked} requests before {state} is committed");
        kill_in_commit(&mut working, &db, &mut held, state).await?;
        assert_eq!(committed(&db, order).await?.as_deref(), before, "{state} was rolled back");
        working.restart().await?;
    }
    ada.wait_payment(order, "REFUNDED").await?;

    // The order ends while the host is where it is killed, and its money is released by the next.
    hold(&mut held, "AUTHORIZED").await?;
    let rejected = ada.order(&NewOrder::of(&[("GONE", 1)])).await?.order_id;
    wait_for(&db, "payment in its COMMIT", IN_COMMIT).await?;
    assert_eq!(ada.wait_final(rejected).await?.status, Status::Rejected);
    assert_eq!(booked(&gateway, rejected).await?, ("authorized".to_owned(), 1, 0, 0));
    kill_in_commit(&mut working, &db, &mut held, "AUTHORIZED").await?;
    assert_eq!(committed(&db, rejected).await?, None, "the authorization was rolled back");
    working.restart().await?;
    ada.wait_payment(rejected, "VOIDED").await?;

    wait_settled(&frozen, &db).await?;
    assert_consistent(&db).await;
    gateway.check_agrees(&db).await?;
    assert_eq!(booked(&gateway, order).await?, ("refunded".to_owned(), 1, 1, 2_500));
    assert_eq!(booked(&gateway, rejected).await?, ("voided".to_owned(), 1, 0, 0));
    // What was rolled back was never told either; a message that is there twice has the same number.
    let cluster = frozen.kafka()?;
    for (order, expected) in [
        (order, vec!["payment.authorized", "payment.captured", "payment.refunded"]),
        (rejected, vec!["payment.authorized", "payment.voided"]),
    ] {
        let told = copies(&cluster, "payment-events", order).await?;
        assert_eq!(told.keys().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), expected);
    }
    Ok(())
}

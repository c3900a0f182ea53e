//! Money that goes back in parts, and orders that wait for too long.

use crate::shared;
use crate::stories::CONFIRMED;
use http::StatusCode;
use serde_json::{Value, json};
use tests::consistency::{assert_consistent, wait_settled};
use tests::customer::{Customer, NewOrder, Status, Stock, stock};
use tests::database::Database;
use tests::outcome::Outcome;
use tests::system::{Fnhost, Setup};
use tests::wait::{Look, until};
use uuid::Uuid;

/// Orders that wait for too long.
const OVERDUE: usize = 40;

fn sku() -> String {
    format!("TEST-{}", Uuid::new_v4().simple())
}

#[tokio::test]
async fn an_order_is_refunded_by_line_and_cancelled_for_the_rest() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let (db, sku) = (fnhost.database().await?, sku());
    db.add_product(&sku, 5).await?;
    let order = ada.order_to_end(&NewOrder::of(&[(&sku, 3), ("TEA-250G", 1)])).await?;
    let (id, total) = (order.order_id, order.total.amount);
    ada.wait_timeline(id, &CONFIRMED).await?;

    let refunded =
        ada.refund(id, &json!({ "lines": [{ "sku": sku, "quantity": 2 }], "reason": "broken" })).await?;
    assert_eq!((refunded.status, refunded.version), (Status::Confirmed, 3));
    let notifications = ada.wait_notifications(id, &["CONFIRMED", "REFUNDED"]).await?;
    let told =
        notifications.iter().find(|one| one.status == "REFUNDED").map(|one| one.messages[0].text.clone());
    assert!(told.as_ref().is_some_and(|text| text.contains("2.00 EUR")), "{told:?}");
    let payment = ada.wait_payment(id, "CAPTURED").await?;
    assert_eq!(payment.refunded.map(|money| money.amount), Some(200));
    // Money went back, goods did not.
    assert_eq!(stock(&ada.client, &sku).await?, Stock { on_hand: 2, reserved: 0, available: 2 });
    let too_much = ada.try_refund(id, &json!({ "lines": [{ "sku": sku, "quantity": 2 }] })).await?;
    assert_eq!(too_much.status, StatusCode::CONFLICT, "{too_much}");

    ada.cancel(id).await?;
    let payment = ada.wait_payment(id, "REFUNDED").await?;
    assert_eq!(payment.refunded.map(|money| money.amount), Some(total));
    ada.wait_notifications(id, &["CONFIRMED", "REFUNDED", "CANCELLED", "REFUNDED"]).await?;
    wait_settled(&fnhost, &db).await?;
    let timeline = ada.timeline(id).await?;
    let details = |event: &str| -> Vec<String> {
        timeline
            .iter()
            .filter(|entry| entry.event == event)
            .filter_map(|entry| entry.detail.clone())
            .collect()
    };
    assert_eq!(details("order.refunded"), ["2.00 EUR: broken"]);
    assert_eq!(details("payment.refunded").len(), 2, "{timeline:?}");
    assert_eq!(stock(&ada.client, &sku).await?, Stock { on_hand: 5, reserved: 0, available: 5 });
    Ok(())
}

#[tokio::test]
async fn an_admin_refunds_what_a_customer_may_not() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    let (ada, eve) = (Customer::register(&client).await?, Customer::register(&client).await?);
    let db = fnhost.database().await?;
    let admin = db.make_admin(&eve).await?;
    let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    ada.wait_payment(order.order_id, "CAPTURED").await?;
    let old = "UPDATE orders.orders SET created_at = now() - interval '15 days' WHERE id = $1";
    sqlx::query(old).bind(order.order_id).execute(&db.pool).await?;
    let late = ada.try_refund(order.order_id, &json!({})).await?;
    assert_eq!(late.status, StatusCode::CONFLICT, "{late}");
    admin.refund(order.order_id, &json!({ "reason": "goodwill" })).await?;
    ada.wait_payment(order.order_id, "REFUNDED").await?;
    assert_eq!(ada.get(order.order_id).await?.status, Status::Confirmed, "the goods stay sold");
    let again: Value = admin.try_refund(order.order_id, &json!({})).await?.json(StatusCode::CONFLICT)?;
    assert_eq!(again["detail"], "all of the order has been refunded");
    Ok(())
}

/// Orders whose payment has no answer while `lock` is held.
async fn waiting_orders(ada: &Customer, sku: &str) -> anyhow::Result<Vec<Uuid>> {
    let mut orders = Vec::with_capacity(OVERDUE);
    for _ in 0..OVERDUE {
        orders.push(ada.order(&NewOrder::of(&[(sku, 1)])).await?.order_id);
    }
    Ok(orders)
}

/// Lets every order be older than any may wait, and the search for them begin anew.
async fn let_time_pass(db: &Database) -> anyhow::Result<()> {
    let sql = "UPDATE orders.orders SET created_at = created_at - interval '20 minutes';
               UPDATE orders.expiry SET done_until = '-infinity'";
    sqlx::raw_sql(sql).execute(&db.pool).await?;
    Ok(())
}

async fn wait_expired(db: &Database, count: i64) -> anyhow::Result<()> {
    until("orders to expire", tests::customer::FINAL_DEADLINE, async || {
        let found = db.count("SELECT count(*) FROM orders.orders WHERE status = 'EXPIRED'").await?;
        Ok(Look::from_bool(found == count, format!("{found} of {count} have expired")))
    })
    .await
}

/// The epoch and the holder of the schedule's lease.
async fn leader(db: &Database) -> anyhow::Result<(i64, Option<Uuid>)> {
    let sql = "SELECT p.epoch, p.owner FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger) WHERE t.kind = 'schedule'";
    Ok(sqlx::query_as(sql).fetch_one(&db.pool).await?)
}

/// Two hosts, one leader. The first is frozen until the second leads and comes back as a zombie; then the second is
/// killed in the middle of its work. Whatever either had begun, each order ends once, and gives back what it held once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_wait_for_too_long_end_once_through_the_leaders_freeze_and_death() -> Outcome {
    let every_second = |text: String| text.replace("every_s = 60", "every_s = 1");
    let fnhost = Fnhost::start(Setup { manifest: Some(every_second), ..Setup::default() }).await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let (db, sku) = (fnhost.database().await?, sku());
    db.add_product(&sku, 1_000).await?;
    let (first_epoch, first) = until("the first leader", tests::system::READY_DEADLINE, async || {
        let found = leader(&db).await.ok().filter(|(_, holder)| holder.is_some());
        Ok(Look::from_option(found, "nobody leads"))
    })
    .await?;
    let mut other = fnhost.join().await?;

    fnhost.freeze()?;
    until("the other host to lead", tests::system::READY_DEADLINE, async || {
        let (epoch, holder) = leader(&db).await?;
        Ok(Look::from_bool(epoch > first_epoch && holder != first, format!("epoch {epoch}, {holder:?}")))
    })
    .await?;
    fnhost.thaw()?;

    // Payment has no answer to anything meanwhile.
    let mut silent = db.pool.begin().await?;
    sqlx::raw_sql("LOCK TABLE payment.payment IN ACCESS EXCLUSIVE MODE").execute(&mut *silent).await?;
    let orders = waiting_orders(&ada, &sku).await?;
    let_time_pass(&db).await?;
    other.kill()?;
    let count = i64::try_from(orders.len())?;
    wait_expired(&db, count).await?;
    silent.rollback().await?;

    wait_settled(&fnhost, &db).await?;
    for id in orders {
        assert_eq!(ada.get(id).await?.reason.as_deref(), Some("stock or payment did not answer in time"));
        ada.wait_payment(id, "VOIDED").await?;
    }
    assert_eq!(stock(&ada.client, &sku).await?, Stock { on_hand: 1_000, reserved: 0, available: 1_000 });
    assert_eq!(db.count("SELECT count(*) FROM notify.notification WHERE status = 'EXPIRED'").await?, count);
    assert_consistent(&db).await;
    Ok(())
}

//! The leader of a relay is stopped in the middle of its transaction, where its session holds the events and the relay's row.

use super::alone;
use super::points::{run, wait_for};
use tests::consistency::{assert_consistent, wait_settled};
use tests::customer::{Customer, NewOrder, Status};
use tests::outcome::Outcome;
use tests::system::{Fnhost, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_whose_leader_is_stopped_in_its_transaction_goes_on_elsewhere() -> Outcome {
    let _alone = alone().await;
    let leading = Fnhost::start(Setup::default()).await?;
    let other = leading.join().await?;
    let db = leading.database().await?;
    let ada = Customer::register(&other.client()?).await?;
    // Nothing else stores an outbox row of the relay than its leader, which the first host is.
    run(
        &db,
        "CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
         CREATE TRIGGER hold BEFORE INSERT ON fnhost.outbox FOR EACH ROW WHEN (NEW.topic = '') EXECUTE FUNCTION public.hold()",
    )
    .await?;
    let mut held = db.pool.begin().await.map_err(anyhow::Error::from)?;
    let lock = sqlx::raw_sql("SELECT pg_advisory_xact_lock(1)").execute(&mut *held).await;
    lock.map_err(anyhow::Error::from)?;
    let before = ada.order(&NewOrder::of(&[("TEA-250G", 1)])).await?.order_id;
    let in_store = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'";
    wait_for(&db, "the leader in its store", in_store).await?;
    leading.freeze()?;
    held.rollback().await.map_err(anyhow::Error::from)?;
    // Its statement ends, and its transaction stays open with all that it holds.
    let open = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%fnhost.store%')
                    OR EXISTS (SELECT FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger)
                                WHERE t.id = 'order:events' AND p.epoch > 1)";
    wait_for(&db, "the stopped leader's transaction", open).await?;
    // Requests go on, and so do their events and those that the leader had in hand.
    let after = ada.order(&NewOrder::of(&[("MUG-RED", 1)])).await?.order_id;
    for order in [before, after] {
        assert_eq!(ada.wait_final(order).await?.status, Status::Confirmed);
    }
    leading.thaw()?;
    wait_settled(&leading, &db).await?;
    assert_consistent(&db).await;
    Ok(())
}

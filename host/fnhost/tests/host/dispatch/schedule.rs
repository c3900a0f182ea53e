//! A schedule whose leader dies at any moment: no tick has its effect twice, none is sent twice or left out, and those that
//! were missed collapse into one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use fnhost_db::session::SharedTransaction;
use fnhost_dispatch::{CallFailure, Called, FailureClass, Handler};
use fnhost_types::wit::{Batch, Emit, Outcome, Reply};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::world::{PATIENCE, World};
use crate::support::holds;

const EVERY: Duration = Duration::from_millis(20);

/// Writes down each tick and emits it.
struct Ticks {
    output: String,
    /// Calls that fail after they have written.
    fail: AtomicU32,
    /// Whether it is a version on trial, which rejects every tick.
    trial: AtomicBool,
}

impl Ticks {
    async fn write(&self, batch: &Batch, transaction: &SharedTransaction) -> Result<(), sqlx::Error> {
        let mut lent = transaction.lock().await;
        let transaction = lent.as_mut().expect("lent for the call");
        let connection = transaction.connection().await.expect("a connection");
        sqlx::query("INSERT INTO own.effect (topic, record) VALUES ($1, $2)")
            .bind(&batch.topic)
            .bind(batch.messages[0].offset)
            .execute(connection)
            .await?;
        Ok(())
    }
}

impl Handler for Ticks {
    fn call(
        &self,
        batch: Batch,
        transaction: SharedTransaction,
    ) -> BoxFuture<'_, Result<Called, CallFailure>> {
        async move {
            let failure =
                |reason: String| CallFailure { class: FailureClass::Function, reason, message: None };
            self.write(&batch, &transaction).await.map_err(|error| failure(error.to_string()))?;
            let fails =
                self.fail.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
            if fails.is_ok() {
                return Err(failure("as the test wants it".to_owned()));
            }
            if self.trial.load(Ordering::Acquire) {
                let outcomes = vec![Outcome::Reject("a version on trial".to_owned())];
                return Ok(Called::from(Reply { outcomes, emits: vec![] }));
            }
            let [tick] = &batch.messages[..] else { panic!("one tick at a time: {batch:?}") };
            let (key, value) = (tick.key.clone(), tick.value.clone());
            let emit = Emit { cause: 0, topic: self.output.clone(), key, value, headers: vec![] };
            Ok(Called::from(Reply { outcomes: vec![Outcome::Done], emits: vec![emit] }))
        }
        .boxed()
    }

    fn on_trial(&self) -> bool {
        self.trial.load(Ordering::Acquire)
    }
}

const TICKS: &str = "SELECT count(*) FROM own.effect";
const DISTINCT: &str = "SELECT count(DISTINCT record) FROM own.effect";

async fn world() -> World {
    let world = World::new(&["ticks"]).await;
    world
        .run(&format!("GRANT USAGE ON SCHEMA own TO {0}; GRANT INSERT ON own.effect TO {0}", world.role))
        .await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_die_at_any_moment_double_nothing_and_leave_nothing_out() {
    let world = world().await;
    let ticks = || {
        Arc::new(Ticks { output: world.output(0), fail: AtomicU32::new(0), trial: AtomicBool::new(false) })
    };
    // Each dies without a word a little later than the one before, whatever it is doing; its lease is taken away, since
    // nobody wants to wait for it here.
    for death in 0_u64..12 {
        let before: i64 = world.value(TICKS).await;
        let schedule = world.schedule(EVERY, ticks()).await;
        let leader = tokio::spawn(schedule.run(CancellationToken::new()));
        world.until(&format!("SELECT count(*) > {before} + 2 FROM own.effect")).await;
        tokio::time::sleep(Duration::from_micros(death * 1_700)).await;
        leader.abort();
        let _ = leader.await;
        world.run("UPDATE fnhost.partition SET lease_until = now() WHERE topic = ''").await;
    }
    // One more, which is stopped as it should be, sends what the last one left.
    let stop = CancellationToken::new();
    let last = tokio::spawn(world.schedule(EVERY, ticks()).await.run(stop.clone()));
    let before: i64 = world.value(TICKS).await;
    world.until(&format!("SELECT count(*) > {before} FROM own.effect")).await;
    stop.cancel();
    last.await.expect("no panic");
    let (all, distinct): (i64, i64) = (world.value(TICKS).await, world.value(DISTINCT).await);
    assert_eq!(all, distinct, "a tick had its effect twice");
    let emitted = world.emitted(0, usize::try_from(all).expect("a count")).await;
    assert_eq!(emitted, (1..=all).collect::<Vec<_>>(), "each tick is sent once and in order");
    assert_eq!(world.value::<i64>("SELECT count(*) FROM fnhost.outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_have_one_leader_and_a_tick_that_fails_is_tried_again() {
    let world = world().await;
    let failing =
        Arc::new(Ticks { output: world.output(0), fail: AtomicU32::new(2), trial: AtomicBool::new(false) });
    let stop = CancellationToken::new();
    let one = tokio::spawn(world.schedule(EVERY, failing.clone()).await.run(stop.clone()));
    let two = tokio::spawn(world.schedule(EVERY, failing.clone()).await.run(stop.clone()));
    world.until("SELECT count(*) > 20 FROM own.effect").await;
    assert_eq!(failing.fail.load(Ordering::Acquire), 0, "it did fail twice");
    assert_eq!(
        world.value::<i64>("SELECT epoch FROM fnhost.partition WHERE topic = ''").await,
        1,
        "one leader"
    );
    stop.cancel();
    for host in [one, two] {
        host.await.expect("no panic");
    }
    let (all, distinct): (i64, i64) = (world.value(TICKS).await, world.value(DISTINCT).await);
    assert_eq!(all, distinct, "what failed was rolled back");
    assert_eq!(world.emitted(0, usize::try_from(all).expect("a count")).await, (1..=all).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_that_were_missed_collapse_into_one() {
    let world = world().await;
    let every = Duration::from_secs(3600);
    let schedule = async || {
        let ticks = Arc::new(Ticks {
            output: world.output(0),
            fail: AtomicU32::new(0),
            trial: AtomicBool::new(false),
        });
        world.schedule(every, ticks).await
    };
    let stop = CancellationToken::new();
    let host = tokio::spawn(schedule().await.run(stop.clone()));
    world.until("SELECT count(*) = 1 FROM own.effect").await;
    stop.cancel();
    host.await.expect("no panic");
    // A day without any host.
    world.run("UPDATE fnhost.partition SET position = position - 86400000, version = version + 1 WHERE topic = ''").await;
    world.run("DELETE FROM own.effect").await;
    let stop = CancellationToken::new();
    let host = tokio::spawn(schedule().await.run(stop.clone()));
    world.until("SELECT count(*) = 1 FROM own.effect").await;
    let now_ms =
        "SELECT (extract(epoch FROM now()) * 1000)::int8 - record BETWEEN 0 AND 3600000 FROM own.effect";
    assert!(world.value::<bool>(now_ms).await, "the latest");
    stop.cancel();
    host.await.expect("no panic");
    assert_eq!(world.value::<i64>(TICKS).await, 1);
}

/// It may be the version's fault and not the tick's.
#[tokio::test(flavor = "multi_thread")]
async fn a_tick_that_a_version_on_trial_rejects_is_tried_again() {
    let world = world().await;
    let ticks =
        Arc::new(Ticks { output: world.output(0), fail: AtomicU32::new(0), trial: AtomicBool::new(true) });
    let schedule = world.schedule(EVERY, ticks.clone()).await;
    let status = schedule.status.clone();
    let stop = CancellationToken::new();
    let running = tokio::spawn(schedule.run(stop.clone()));
    let failed = holds(async || status.failures.load(Ordering::Relaxed) > 0);
    tokio::time::timeout(PATIENCE, failed).await.expect("it counts as a failure");
    ticks.trial.store(false, Ordering::Release);
    world.until("SELECT count(*) > 0 FROM own.effect").await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM fnhost.dead").await, 0);
    stop.cancel();
    running.await.expect("no panic");
}

//! Orders through faults: whatever is killed, frozen or cut off in the middle, every order becomes final, and no effect
//! is lost or doubled.
//!
//! Each test has a system of its own, and prints the seed that its orders and the moment of its fault follow from.
//! They run one at a time: each wants the whole machine.

mod anew;
mod leader;
mod payment;
mod points;
mod rolling;
mod suite;
mod swaps;

use std::time::Instant;
use tests::consistency::{assert_consistent, wait_settled};
use tests::load::{Load, random, seed};
use tests::outcome::Outcome;
use tests::payment_gateway::PaymentGateway;
use tests::system::{Fnhost, Setup};
use tests::wait::{Look, until};
use tokio::sync::{Mutex, MutexGuard};

/// Orders of the test that kills the only host.
const ORDERS: usize = 2_000;
/// Orders of the others.
const ORDERS_OF_TWO_HOSTS: usize = 1_200;

/// Held by the test that runs.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// A test's seed, and what it has seen so far, in seconds since its load began.
struct Story {
    name: &'static str,
    seed: u64,
    began: Instant,
}

impl Story {
    fn begin(name: &'static str) -> Self {
        Self { name, seed: seed(name), began: Instant::now() }
    }

    fn say(&self, what: &str) {
        println!("{}: {:.2} s: {what}", self.name, self.began.elapsed().as_secs_f64());
    }

    /// How many accepted orders to wait for before the fault: between a fifth and three fifths of them.
    fn moment(&self, total: usize) -> usize {
        let fifth = u64::try_from(total / 5).unwrap_or(1);
        usize::try_from(fifth + random(self.seed, "moment") % (2 * fifth)).unwrap_or(total / 2)
    }

    /// Waits for the end of the load, and for everything to be settled; then there are `total` orders, and nothing is
    /// lost or doubled.
    async fn end(&self, fnhost: &Fnhost, load: Load, total: usize) -> anyhow::Result<()> {
        load.finish().await?;
        self.say("all orders are accepted");
        let db = fnhost.database().await?;
        wait_settled(fnhost, &db).await?;
        self.say("everything is settled");
        assert_eq!(db.count("SELECT count(*) FROM orders.orders").await?, i64::try_from(total)?);
        assert_consistent(&db).await;
        // Another process with books of its own: nobody was charged twice, whatever was killed.
        PaymentGateway::of(fnhost)?.check_agrees(&db).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_only_host() -> Outcome {
    let _alone = alone().await;
    let mut fnhost = Fnhost::start(Setup::default()).await?;
    let story = Story::begin("kill -9 of the only host");
    let mut load = Load::start(&fnhost.client()?, ORDERS, story.seed).await?;
    load.wait_accepted(story.moment(ORDERS)).await?;
    fnhost.kill()?;
    story.say("killed");
    fnhost.restart().await?;
    story.say("ready again");
    Ok(story.end(&fnhost, load, ORDERS).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_one_of_two_hosts() -> Outcome {
    let _alone = alone().await;
    let fnhost = Fnhost::start(Setup::default()).await?;
    let mut other = fnhost.join().await?;
    wait_shared(&fnhost, &other).await?;
    let story = Story::begin("kill -9 of one of two hosts");
    let mut load = Load::start(&fnhost.client()?, ORDERS_OF_TWO_HOSTS, story.seed).await?;
    load.wait_accepted(story.moment(ORDERS_OF_TWO_HOSTS)).await?;
    other.kill()?;
    story.say("killed one");
    Ok(story.end(&fnhost, load, ORDERS_OF_TWO_HOSTS).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_frozen_comes_back_as_a_zombie() -> Outcome {
    let _alone = alone().await;
    let fnhost = Fnhost::start(Setup::default()).await?;
    let other = fnhost.join().await?;
    wait_shared(&fnhost, &other).await?;
    let story = Story::begin("a zombie");
    let mut load = Load::start(&fnhost.client()?, ORDERS_OF_TWO_HOSTS, story.seed).await?;
    load.wait_accepted(story.moment(ORDERS_OF_TWO_HOSTS)).await?;
    other.freeze()?;
    story.say("froze one");
    // Past its session's time-out: the first has all partitions, and goes on with them.
    wait_owned(&fnhost, PARTITIONS, PARTITIONS).await?;
    story.say("the first owns everything");
    other.thaw()?;
    story.say("thawed it");
    story.end(&fnhost, load, ORDERS_OF_TWO_HOSTS).await?;
    // It is a member again, and what it does then is as good as before.
    wait_shared(&fnhost, &other).await?;
    story.say("both own partitions");
    let load = Load::start(&other.client()?, 100, story.seed + 1).await?;
    Ok(story.end(&fnhost, load, ORDERS_OF_TWO_HOSTS + 100).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database_sessions_that_are_cut_in_the_middle() -> Outcome {
    let _alone = alone().await;
    let fnhost = Fnhost::start(Setup::default()).await?;
    let db = fnhost.database().await?;
    let story = Story::begin("cut database sessions");
    let mut load = Load::start(&fnhost.client()?, ORDERS_OF_TWO_HOSTS, story.seed).await?;
    let first = story.moment(ORDERS_OF_TWO_HOSTS);
    for moment in [first, first + ORDERS_OF_TWO_HOSTS / 5] {
        load.wait_accepted(moment).await?;
        let cut = db.terminate_sessions().await?;
        story.say(&format!("cut {cut} sessions"));
        assert!(cut > 0, "there was nothing to cut");
    }
    Ok(story.end(&fnhost, load, ORDERS_OF_TWO_HOSTS).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_in_the_middle_loses_nothing() -> Outcome {
    let _alone = alone().await;
    let mut fnhost = Fnhost::start(Setup::default()).await?;
    let story = Story::begin("a drain");
    let mut load = Load::start(&fnhost.client()?, ORDERS_OF_TWO_HOSTS, story.seed).await?;
    load.wait_accepted(story.moment(ORDERS_OF_TWO_HOSTS)).await?;
    let status = fnhost.interrupt().await?;
    story.say("drained");
    assert!(status.success(), "{status}");
    fnhost.wait_nothing_left()?;
    fnhost.restart().await?;
    story.say("ready again");
    Ok(story.end(&fnhost, load, ORDERS_OF_TWO_HOSTS).await?)
}

/// Partitions that the triggers consume: order and forecast consume two topics of three partitions, the others one each.
const PARTITIONS: usize = 21;

/// Waits until both hosts own partitions, and all partitions are owned by one of them.
async fn wait_shared(one: &Fnhost, other: &Fnhost) -> anyhow::Result<()> {
    until("partitions to be shared", tests::system::READY_DEADLINE, async || {
        let (first, second) = (owned(one).await?, owned(other).await?);
        let shared = first > 0 && second > 0 && first + second == PARTITIONS;
        Ok(Look::from_bool(shared, format!("{first} and {second} partitions are owned")))
    })
    .await
}

async fn wait_owned(fnhost: &Fnhost, min: usize, max: usize) -> anyhow::Result<()> {
    until("partitions to be owned", tests::system::READY_DEADLINE, async || {
        let owned = owned(fnhost).await?;
        Ok(Look::from_bool((min..=max).contains(&owned), format!("{owned} partitions are owned")))
    })
    .await
}

/// Partitions that a host owns, as it says itself.
async fn owned(fnhost: &Fnhost) -> anyhow::Result<usize> {
    #[derive(serde::Deserialize)]
    struct Partition {
        state: String,
    }
    let partitions: Vec<Partition> = fnhost.admin()?.get("/partitions").await?.json(http::StatusCode::OK)?;
    Ok(partitions.iter().filter(|partition| partition.state == "owned").count())
}

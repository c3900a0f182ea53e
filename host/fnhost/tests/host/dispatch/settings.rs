//! Settings of a trigger that other tests leave alone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fnhost_db::session::SharedTransaction;
use fnhost_dispatch::{CallFailure, Called, Fixed, Handler};
use fnhost_types::record::{TopicPartition, dead_letter_topic};
use fnhost_types::wit::{Batch, Outcome, Reply};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::world::{PATIENCE, World};

/// How long a call waits for one beside it that must not come.
const ALONE: Duration = Duration::from_millis(250);

/// Lets calls wait so long for another one beside them, until there was one, and notes how many there were at a time.
struct Company {
    wait: Duration,
    calls: watch::Sender<Calls>,
}

/// How many calls there are, and were at most.
#[derive(Clone, Copy, Default)]
struct Calls {
    now: usize,
    most: usize,
}

impl Company {
    fn new(wait: Duration) -> Arc<Self> {
        Arc::new(Self { wait, calls: watch::Sender::default() })
    }

    fn most(&self) -> usize {
        self.calls.borrow().most
    }
}

impl Handler for Company {
    fn call(&self, batch: Batch, _: SharedTransaction) -> BoxFuture<'_, Result<Called, CallFailure>> {
        async move {
            self.calls.send_modify(|calls| {
                calls.now += 1;
                calls.most = calls.most.max(calls.now);
            });
            // Alone, if nobody comes. Who came may have gone again.
            let mut seen = self.calls.subscribe();
            let _ = tokio::time::timeout(self.wait, seen.wait_for(|calls| calls.most > 1)).await;
            self.calls.send_modify(|calls| calls.now -= 1);
            let outcomes = batch.messages.iter().map(|_| Outcome::Done).collect();
            Ok(Called::from(Reply { outcomes, emits: vec![] }))
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_batches_run_at_a_time_than_may_be_in_flight() {
    for (limit, wait) in [(2, PATIENCE), (1, ALONE)] {
        let mut world = World::new(&["one", "other"]).await;
        world.config.max_in_flight = limit;
        world.config.max_batch = 1;
        for topic in 0..2 {
            world.send(topic, &[("a", "x"), ("b", "x"), ("c", "x"), ("d", "x")]).await;
        }
        let company = Company::new(wait);
        let handlers = Arc::new(Fixed::from(company.clone() as Arc<dyn Handler>));
        let host = world.host_with(|_| handlers, "one", 2).await;
        world.until_position(0, 4).await;
        world.until_position(1, 4).await;
        assert_eq!(company.most(), limit, "of two partitions, with max_in_flight = {limit}");
        host.stop().await;
    }
}

/// Notes how many records each call gets.
#[derive(Default)]
struct Sizes(Mutex<Vec<usize>>);

impl Handler for Sizes {
    fn call(&self, batch: Batch, _: SharedTransaction) -> BoxFuture<'_, Result<Called, CallFailure>> {
        self.0.lock().expect("no call panics").push(batch.messages.len());
        let outcomes = batch.messages.iter().map(|_| Outcome::Done).collect();
        std::future::ready(Ok(Called::from(Reply { outcomes, emits: vec![] }))).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_within_the_window_is_one_batch() {
    let mut world = World::new(&["window"]).await;
    world.config.batch_window_ms = 3_000;
    let sizes = Arc::new(Sizes::default());
    let handlers = Arc::new(Fixed::from(sizes.clone() as Arc<dyn Handler>));
    let host = world.host_with(|_| handlers, "one", 1).await;
    world.send(0, &[("a", "x")]).await;
    world.until_position(0, 1).await;
    for key in ["b", "c", "d"] {
        world.send(0, &[(key, "x")]).await;
    }
    world.until_position(0, 4).await;
    assert_eq!(*sizes.0.lock().expect("no call panics"), [1, 3]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_dead_letters_go_to_the_topic_that_is_named() {
    let mut world = World::new(&["named", "beside"]).await;
    world.dead_letter_topic = Some(dead_letter_topic(&world.topics[1]));
    world.send(0, &[("a", "reject"), ("b", "write")]).await;
    world.send(1, &[("c", "reject")]).await;
    let host = world.host("one", 2).await;
    let letters = world.dead_letters(1, 2).await;
    let mut from: Vec<&str> = letters.iter().map(|headers| headers["fnhost-dead-topic"].as_str()).collect();
    from.sort_unstable();
    let mut topics: Vec<&str> = world.topics.iter().map(String::as_str).collect();
    topics.sort_unstable();
    assert_eq!(from, topics);
    let usual = TopicPartition::new(dead_letter_topic(&world.topics[0]), 0);
    assert_eq!(world.cluster().log_bounds(&usual).await.expect("the broker").end, 0);
    assert_eq!((world.dead(0).await.len(), world.dead(1).await.len()), (1, 1));
    host.stop().await;
}

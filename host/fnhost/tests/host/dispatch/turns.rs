//! Whose turn it is: a key that has gathered much behind a failed record, and what a version on trial is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use fnhost_db::session::SharedTransaction;
use fnhost_dispatch::{CallFailure, Called, Fixed, Handler};
use fnhost_types::wit::{Batch, Message, Outcome, Reply};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::{Notify, watch};

use super::world::{PATIENCE, World};

/// Calls what the test wants, and keeps the messages of all calls.
struct Seen<F> {
    reply: F,
    trial: AtomicBool,
    /// Whether calls wait.
    held: watch::Sender<bool>,
    /// A call does.
    waiting: Notify,
    messages: Mutex<Vec<Message>>,
}

impl<F> Seen<F> {
    fn new(reply: F) -> Arc<Self> {
        Arc::new(Self {
            reply,
            trial: AtomicBool::new(false),
            held: watch::Sender::new(false),
            waiting: Notify::new(),
            messages: Mutex::default(),
        })
    }

    fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }
}

impl<F: Fn(&Message) -> Outcome + Send + Sync + 'static> Handler for Seen<F> {
    fn call(&self, batch: Batch, _: SharedTransaction) -> BoxFuture<'_, Result<Called, CallFailure>> {
        async move {
            let mut held = self.held.subscribe();
            if *held.borrow() {
                self.waiting.notify_one();
            }
            held.wait_for(|held| !held).await.expect("a sender");
            let outcomes = batch.messages.iter().map(&self.reply).collect();
            self.messages.lock().unwrap().extend(batch.messages);
            Ok(Called::from(Reply { outcomes, emits: vec![] }))
        }
        .boxed()
    }

    fn on_trial(&self) -> bool {
        self.trial.load(Ordering::Acquire)
    }
}

/// Sends so many records of a key in one request, so that they arrive together.
async fn send_at_once(world: &World, key: &str, count: usize) {
    let producer: FutureProducer = world
        .client()
        .set("linger.ms", "200")
        .set("batch.num.messages", "10000")
        .create()
        .expect("a producer");
    let record = || FutureRecord::to(&world.topics[0]).key(key).payload("x");
    let sent = (0..count).map(|_| producer.send(record(), PATIENCE));
    for sent in futures::future::join_all(sent).await {
        sent.expect("sent");
    }
}

/// Two batches of what waited, then one of what is new, and so on: measured in records, since time tells of the machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_hot_key_and_the_others_take_turns() {
    const BEHIND: usize = 4_000;
    const OTHERS: usize = 500;
    let world = World::new(&["turns"]).await;
    let fails = Arc::new(AtomicBool::new(true));
    let failing = fails.clone();
    let reply = move |message: &Message| match message.offset {
        0 if failing.load(Ordering::Acquire) => Outcome::Retry("later".to_owned()),
        _ => Outcome::Done,
    };
    let seen = Seen::new(reply);
    let handlers = Arc::new(Fixed::from(seen.clone() as Arc<dyn Handler>));
    world.send(0, &[("hot", "x")]).await;
    let host = world.host_with(|_| handlers, "one", 100).await;
    world.until("SELECT count(*) = 1 FROM fnhost.parked").await;
    send_at_once(&world, "hot", BEHIND).await;
    world.until(&format!("SELECT position = {} FROM fnhost.partition", BEHIND + 1)).await;
    // Its next attempt waits until the others have arrived, and then it is well.
    seen.held.send_replace(true);
    tokio::time::timeout(PATIENCE, seen.waiting.notified()).await.expect("the next attempt");
    send_at_once(&world, "other", OTHERS).await;
    fails.store(false, Ordering::Release);
    seen.held.send_replace(false);
    world.until_position(0, (1 + BEHIND + OTHERS) as i64).await;
    let keys: Vec<bool> = seen.messages().iter().map(|m| m.key.as_deref() == Some(b"hot")).collect();
    let last_other = keys.iter().rposition(|hot| !hot).expect("others");
    let hot_before = keys[..last_other].iter().filter(|hot| **hot).count();
    println!("{hot_before} of {BEHIND} of the hot key came before the last of the {OTHERS} others");
    assert!(hot_before < BEHIND * 3 / 4, "the others waited for {hot_before} of {BEHIND}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_on_trial_is_told_of_no_last_attempt() {
    let world = World::new(&["last"]).await;
    let seen = Seen::new(|_: &Message| Outcome::Retry("later".to_owned()));
    seen.trial.store(true, Ordering::Release);
    let handlers = Arc::new(Fixed::from(seen.clone() as Arc<dyn Handler>));
    world.send(0, &[("a", "x")]).await;
    let host = world.host_with(|_| handlers, "one", 2).await;
    world.until("SELECT coalesce(max(attempts), 0) > 3 FROM fnhost.parked").await;
    assert!(seen.messages().iter().all(|message| !message.last_attempt), "it would give up for good");
    assert_eq!(world.dead(0).await, []);
    seen.trial.store(false, Ordering::Release);
    world.until_position(0, 1).await;
    let told = seen.messages();
    assert!(told.last().expect("a call").last_attempt, "{told:?}");
    assert_eq!(world.dead(0).await.len(), 1);
    host.stop().await;
}

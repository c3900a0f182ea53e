//! Records pushed to clients as they come: one shared tail of the topics, fanned out by key.
//!
//! The tail reads without a group and moves no offset: pushing has no part in the dispatch protocol. A client that connects is
//! first shown how things stand (the function's own answer), then the recent records of its key, then new ones. Each
//! carries a [`Cursor`]; with it, a client that was cut off goes on where it stood for as long as those records are
//! among the recent ones, and is shown how things stand anew where they are not. Either way nothing is missed, and a record may be
//! shown that the snapshot has in it already.
//!
//! The tail reads while somebody watches, and for a while after: each record that is read is one more answer of a broker, and most
//! records are watched by nobody.

mod cursor;
mod recent;

pub use cursor::Cursor;

use fnhost_kafka::tail::Tailed;
use fnhost_types::record::{Record, TopicPartition};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use recent::Recent;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};

/// Viewers of one host at a time; another is told to come back later. Fewer than connections, so that requests have room.
pub const VIEWERS_MAX: usize = 3_000;
/// Records that may wait for one viewer; one that falls further behind is cut off and comes back with its cursor.
pub const WAITING_MAX: usize = 256;
/// How long a viewer waits for the tail to begin, which takes a few round trips to Kafka.
pub const BEGIN_TIMEOUT: Duration = Duration::from_secs(3);

/// A record on its way to the viewers of its key.
#[derive(Debug)]
pub struct Pushed {
    /// Which of the hub's topics it is on.
    pub topic: usize,
    /// Partition and offset.
    pub partition: i32,
    /// Offset in its partition.
    pub offset: i64,
    /// The record as it was read from Kafka.
    pub record: Record,
}

/// Where the tail's records meet the viewers.
pub struct Hub {
    topics: Vec<String>,
    state: Mutex<State>,
    /// The tail reads.
    live: watch::Sender<bool>,
    /// Somebody wants to watch while the tail does not read.
    asked: Notify,
}

struct State {
    recent: Recent,
    /// Highest number seen of each stream in each partition: what is sent a second time is not shown again.
    seen: HashMap<(usize, i32, String), i64>,
    viewers: HashMap<Vec<u8>, Vec<Viewer>>,
    count: usize,
    last_viewer: u64,
    /// When somebody watched or wanted to for the last time; meaningless while somebody does.
    watched: Instant,
}

struct Viewer {
    id: u64,
    records: mpsc::Sender<Arc<Pushed>>,
}

/// Why a viewer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The tail has not begun within [`BEGIN_TIMEOUT`]: Kafka is away.
    #[error("live updates are not available at the moment")]
    NotLive,
    /// [`VIEWERS_MAX`] are there.
    #[error("too many clients are connected for live updates")]
    Full,
}

/// A viewer's place; given up when dropped.
pub struct Subscription {
    hub: Arc<Hub>,
    key: Vec<u8>,
    id: u64,
    records: mpsc::Receiver<Arc<Pushed>>,
    /// Recent records of the key that the viewer has not been sent, oldest first.
    pub backlog: Vec<Arc<Pushed>>,
    /// Where the viewer stands before the backlog.
    pub cursor: Cursor,
    /// True where the cursor that the client brought holds, so that it needs no snapshot.
    pub resumed: bool,
}

impl Tailed for Hub {
    fn topics(&self) -> &[String] {
        Hub::topics(self)
    }

    /// What an earlier tail left is dropped, its viewers too.
    fn begin(&self, from: &[(TopicPartition, i64)]) {
        let mut state = self.state();
        state.clear();
        for (tp, offset) in from {
            if let Some(topic) = self.topic(&tp.topic) {
                state.recent.reads_from(topic, tp.partition, *offset);
            }
        }
        self.live.send_replace(true);
        // Whoever asked has it now.
        let _ = self.asked.notified().now_or_never();
    }

    /// Viewers are cut off and come back with their cursors.
    fn end(&self) {
        let mut state = self.state();
        state.clear();
        self.live.send_replace(false);
    }

    fn wanted(&self) -> BoxFuture<'_, ()> {
        self.asked.notified().boxed()
    }

    fn unwatched(&self) -> Duration {
        let state = self.state();
        if state.count > 0 { Duration::ZERO } else { state.watched.elapsed() }
    }

    /// Hands a record to the viewers of its key.
    fn push(&self, tp: &TopicPartition, record: Record) {
        let Some(topic) = self.topic(&tp.topic) else { return };
        let mut state = self.state();
        let state = &mut *state;
        state.recent.read_up_to(topic, tp.partition, record.offset + 1);
        if let Some((stream, seq)) = record.stream() {
            let seen = state.seen.entry((topic, tp.partition, stream.to_owned())).or_insert(i64::MIN);
            if seq <= *seen {
                return;
            }
            *seen = seq;
        }
        let Some(key) = record.key.clone() else { return };
        let pushed = Arc::new(Pushed { topic, partition: tp.partition, offset: record.offset, record });
        state.recent.keep(pushed.clone());
        if let Some(viewers) = state.viewers.get_mut(&key) {
            // One that is full is dropped: its stream ends, and it comes back with its cursor.
            let before = viewers.len();
            viewers.retain(|viewer| viewer.records.try_send(pushed.clone()).is_ok());
            state.count -= before - viewers.len();
            if viewers.is_empty() {
                state.viewers.remove(&key);
            }
        }
    }
}

impl Hub {
    /// A hub of these topics, until [`Tailed::begin`] without a tail.
    pub fn new(topics: Vec<String>) -> Arc<Self> {
        let state = State {
            recent: Recent::default(),
            seen: HashMap::new(),
            viewers: HashMap::new(),
            count: 0,
            last_viewer: 0,
            watched: Instant::now(),
        };
        let (live, _) = watch::channel(false);
        Arc::new(Self { topics, state: Mutex::new(state), live, asked: Notify::new() })
    }

    /// Waits until the tail reads, and goes on reading for long enough to [`Hub::subscribe`].
    ///
    /// # Errors
    /// It has not begun in time.
    pub async fn read(&self) -> Result<(), Refused> {
        self.state().watched = Instant::now();
        let mut live = self.live.subscribe();
        if !*live.borrow() {
            self.asked.notify_one();
        }
        let begun = tokio::time::timeout(BEGIN_TIMEOUT, live.wait_for(|live| *live)).await;
        begun.ok().and_then(Result::ok).map(drop).ok_or(Refused::NotLive)
    }

    /// The topics whose records it takes, without repetition.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Takes a viewer of `key` on `topics` (places in [`Hub::topics`]), from `cursor` on where that still holds.
    ///
    /// `partition` tells the key's partition of each topic.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn subscribe(
        self: &Arc<Self>,
        key: &[u8],
        topics: &[usize],
        partition: &dyn Fn(&str) -> i32,
        cursor: Option<&str>,
    ) -> Result<Subscription, Refused> {
        let mut state = self.state();
        let state = &mut *state;
        if !*self.live.borrow() {
            return Err(Refused::NotLive);
        }
        if state.count >= VIEWERS_MAX {
            return Err(Refused::Full);
        }
        let oldest: Vec<(i64, i64)> =
            topics.iter().map(|topic| state.recent.bounds(*topic, partition(&self.topics[*topic]))).collect();
        let given =
            cursor.and_then(|text| Cursor::parse(text, topics)).filter(|cursor| cursor.holds(&oldest));
        let resumed = given.is_some();
        let cursor = given.unwrap_or_else(|| Cursor::new(topics, oldest.iter().map(|(oldest, _)| *oldest)));
        let backlog = state.recent.of(key).filter(|pushed| cursor.is_before(pushed)).cloned().collect();
        state.last_viewer += 1;
        let id = state.last_viewer;
        let (sender, records) = mpsc::channel(WAITING_MAX);
        state.viewers.entry(key.to_vec()).or_default().push(Viewer { id, records: sender });
        state.count += 1;
        Ok(Subscription { hub: self.clone(), key: key.to_vec(), id, records, backlog, cursor, resumed })
    }

    /// Viewers at the moment.
    pub fn viewers(&self) -> usize {
        self.state().count
    }

    /// The place of a topic in [`Hub::topics`].
    pub fn topic(&self, name: &str) -> Option<usize> {
        self.topics.iter().position(|topic| topic == name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn clear(&mut self) {
        self.recent = Recent::default();
        self.seen.clear();
        self.viewers.clear();
        self.count = 0;
        self.watched = Instant::now();
    }
}

impl Subscription {
    /// The next record of the key; none once the viewer was cut off.
    pub async fn next(&mut self) -> Option<Arc<Pushed>> {
        loop {
            let pushed = self.records.recv().await?;
            if self.cursor.is_before(&pushed) {
                return Some(pushed);
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        let state = &mut *state;
        let Some(viewers) = state.viewers.get_mut(&self.key) else { return };
        let before = viewers.len();
        viewers.retain(|viewer| viewer.id != self.id);
        state.count -= before - viewers.len();
        if viewers.is_empty() {
            state.viewers.remove(&self.key);
        }
        state.watched = Instant::now();
    }
}

#[cfg(test)]
mod tests;

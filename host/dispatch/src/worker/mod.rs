//! The owner of one partition: takes it over, settles its batches, and gives it up.
//!
//! A batch is settled in one transaction: the function's statements, then the store, then COMMIT. Only after COMMIT does
//! memory change and are messages sent, so a failure anywhere leaves memory equal to the database or ends the ownership.

mod blame;
mod changes;
mod dead_letter;
mod exit;
mod intake;
mod logging;
mod neighbours;
mod settle;
mod take_over;
mod work;

use super::pace::Pace;
use super::parking::Parking;
use super::status::{PartitionStatus, State};
use super::stream::REFUSED_CURE;
use super::subscription::Subscription;
use super::{BACK_OFF_FIRST, BACK_OFF_MAX, Handler};
use exit::Exit;
use fnhost_db::ownership::{self, Ownership};
use fnhost_db::store::Changes;
use fnhost_kafka::assigned::Assigned;
use fnhost_kafka::producer::StreamSender;
use fnhost_types::causes::chain;
use neighbours::Neighbours;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use take_over::take_over;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Batches of records that waited between two of new ones, while there are both: more than one, so that the work on a key whose
/// records arrive without end does not only grow, and not all, so that no other key waits for it.
const PARKED_TURNS: u32 = 2;
/// How long an idle partition waits before it clears outbox rows that Kafka has acknowledged.
const IDLE_CLEAR_DELAY: Duration = Duration::from_secs(2);
/// How long a clean release waits for Kafka's acknowledgements.
const RELEASE_ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a stopped partition looks whether somebody resolved it.
const STOPPED_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How carefully records are handed out after an owner or a session of ours ended badly: a record may have ended it, and must be
/// found without making every crash slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    /// Batches run without announcement.
    None,
    /// The next batch is announced as a whole. If that ends badly too, its records are next.
    Batch,
    /// So many records are handed out one by one, each announced.
    Records(usize),
}

/// What a partition's owner remembers from one take-over to the next.
struct Memory {
    care: Care,
    /// The record that was announced last, where what ended badly then was nobody's fault.
    excused: Option<i64>,
    neighbours: Neighbours,
    /// The partition has been taken over before, so that fetching has begun elsewhere.
    fetching: bool,
}

/// Runs the partition until `stop`, through failures and take-overs. Run again after a panic, which a record may have caused.
pub async fn run(
    subscription: Arc<Subscription>,
    assigned: Arc<Assigned>,
    status: Arc<PartitionStatus>,
    stop: CancellationToken,
    again: bool,
) {
    status.backlog.follow(assigned.fetches());
    let mut pause = BACK_OFF_FIRST;
    let care = if again { Care::Batch } else { Care::None };
    let mut memory = Memory { care, excused: None, neighbours: Neighbours::default(), fetching: again };
    while !stop.is_cancelled() {
        // What stopped or delayed it stays visible, and is said once, until it is owned.
        if matches!(status.state(), State::Owned | State::Paused { .. }) {
            status.set(State::TakingOver);
        }
        let began = Instant::now();
        let known = status.version();
        let exit = match take_over(&subscription, &assigned, &status, &stop, &mut memory).await {
            Ok(mut worker) => {
                let exit = worker.serve(&stop).await.err().unwrap_or(Exit::Stop);
                match &exit {
                    Exit::Stop => worker.release().await,
                    Exit::Refused(refusal) => subscription.note_refused(&worker.ownership, refusal).await,
                    _ => {}
                }
                exit
            }
            Err(exit) => exit,
        };
        if began.elapsed() > BACK_OFF_MAX {
            pause = BACK_OFF_FIRST;
        }
        let wait = match exit {
            Exit::Stop => return,
            Exit::TakeOver(reason) => {
                tracing::warn!(
                    trigger = subscription.id,
                    topic = assigned.tp.topic,
                    partition = assigned.tp.partition,
                    reason,
                    "taking the partition over again"
                );
                pause
            }
            Exit::BackOff(reason) => {
                status.set(State::BackingOff { reason });
                pause
            }
            Exit::Refused(refusal) => {
                status.set(State::Blocked { reason: format!("{refusal}; {REFUSED_CURE}") });
                pause
            }
            Exit::Stopped(reason) => {
                status.set(State::Stopped { reason });
                STOPPED_CHECK_INTERVAL
            }
        };
        pause = (pause * 2).min(BACK_OFF_MAX);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = status.version_above(known) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn rest(duration: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = stop.cancelled() => {}
    }
}

struct Worker<'a> {
    subscription: &'a Subscription,
    assigned: &'a Assigned,
    status: &'a PartitionStatus,
    sender: StreamSender,
    ownership: Ownership,
    watermarks: HashMap<String, i64>,
    parking: Parking,
    /// Batches of parked records since the last one of new records.
    parked_turns: u32,
    /// Kafka acknowledged messages up to this number, which a store has still to clear.
    acknowledged: Option<i64>,
    memory: &'a mut Memory,
    /// Everything below this offset has been handled, or was never for consumers.
    reached: i64,
    /// Topics with their ids: one that was made anew has nothing to do with the position.
    topic_ids: watch::Receiver<Arc<HashMap<String, Uuid>>>,
    /// Batches taken so far.
    batches: u64,
    /// When the last transaction that was committed had begun.
    transaction_began: Option<Instant>,
    withdrawals: watch::Receiver<i64>,
    /// Nothing is handled until somebody resumes, who raises the row's version.
    paused: bool,
}

impl<'a> Worker<'a> {
    async fn serve(&mut self, stop: &CancellationToken) -> Result<(), Exit> {
        loop {
            if stop.is_cancelled() {
                return Err(Exit::Stop);
            }
            self.note_acknowledged();
            if self.topic_ids.has_changed().unwrap_or(false) {
                self.check_topic().await?;
            }
            if self.version_was_withdrawn() {
                self.give_back().await?;
            }
            if let Some(work) = self.next_work()? {
                let (subscription, taken) = (self.subscription, Instant::now());
                let permit = tokio::select! {
                    permit = subscription.in_flight.acquire() => permit,
                    () = stop.cancelled() => return Err(Exit::Stop),
                };
                let pace = Pace::begin();
                let records = work.items.len();
                let full = records >= subscription.config.max_batch;
                // Of this batch alone: it may commit nothing, and what was committed before it is no reason to rest.
                self.transaction_began = None;
                self.process(work).await?;
                drop(permit);
                self.status.backlog.ended(taken.elapsed());
                if !full {
                    let window = Duration::from_millis(subscription.config.batch_window_ms.into());
                    rest(pace.rest(records, self.transaction_began.take()).max(window), stop).await;
                }
                continue;
            }
            self.wait(stop).await?;
        }
    }

    /// True until [`Worker::give_back`] where a version of the function was rolled back.
    fn version_was_withdrawn(&self) -> bool {
        self.withdrawals.has_changed().unwrap_or(false)
    }

    /// The version of the function for the next batch. Kept by the batch alone: an idle partition holds no code in memory.
    fn pick(&mut self) -> Arc<dyn Handler> {
        self.batches += 1;
        self.subscription.handlers.pick(self.batches - 1)
    }

    async fn wait(&mut self, stop: &CancellationToken) -> Result<(), Exit> {
        let due = self
            .parking
            .next_due()
            .map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
        let (full, paused) = (self.parking.is_full(), self.paused);
        let unacknowledged = self.sender.unacknowledged() > 0;
        // Only now: what is acknowledged by then is noted, and for what is not progress is waited for.
        self.note_acknowledged();
        let to_clear = self.acknowledged.is_some() || self.reached > self.ownership.position;
        tokio::select! {
            () = stop.cancelled() => Err(Exit::Stop),
            () = self.status.version_above(self.ownership.version) => {
                Err(Exit::TakeOver("an operator changed the partition".into()))
            }
            () = self.assigned.arrived(), if !full && !paused => Ok(()),
            // Their marks are taken off here; the worker has to see them.
            Ok(()) = self.topic_ids.changed() => {
                self.topic_ids.mark_changed();
                Ok(())
            }
            Ok(()) = self.withdrawals.changed() => {
                self.withdrawals.mark_changed();
                Ok(())
            }
            () = tokio::time::sleep(due), if !paused => Ok(()),
            progress = self.sender.progress(), if unacknowledged => Ok(progress?),
            failed = self.sender.failed(), if !unacknowledged => Err(failed.into()),
            () = tokio::time::sleep(IDLE_CLEAR_DELAY), if to_clear && !unacknowledged => self.clear().await,
        }
    }

    /// Handles nothing more until somebody resumes.
    fn pause(&mut self, reason: String) {
        self.paused = true;
        self.status.set(State::Paused { reason });
    }

    fn note_acknowledged(&mut self) {
        if let Some(seq) = self.sender.take_acknowledged() {
            self.acknowledged = Some(seq);
        }
    }

    /// Stops where the topic is not the one any more that the position belongs to.
    async fn check_topic(&mut self) -> Result<(), Exit> {
        let tp = &self.assigned.tp;
        let now = self.topic_ids.borrow_and_update().get(&tp.topic).copied();
        let Some((known, now)) = self.ownership.topic_id.zip(now).filter(|(known, now)| known != now) else {
            return Ok(());
        };
        let reason = take_over::made_anew(self.subscription, tp, known, now);
        Err(take_over::stop(self.subscription, tp, (self.ownership.position, self.ownership.version), reason)
            .await)
    }

    /// Refuses records of a topic that is not the one that the position belongs to; the take-over finds out which of the two is there.
    fn check_fetched(&self, topic_id: Option<Uuid>) -> Result<(), Exit> {
        match self.ownership.topic_id.zip(topic_id).filter(|(known, fetched)| known != fetched) {
            None => Ok(()),
            Some((known, fetched)) => Err(Exit::BackOff(format!(
                "records were fetched of another topic of this name: its id is {fetched}, that of the stored position {known}"
            ))),
        }
    }

    /// Clears acknowledged outbox rows, and moves the position over what is not for consumers, while nothing else is to be stored.
    async fn clear(&mut self) -> Result<(), Exit> {
        let changes = Changes {
            position: self.ownership.position.max(self.reached),
            acknowledged: self.acknowledged,
            ..Changes::default()
        };
        let transaction = self.subscription.transaction();
        match self.commit(transaction, &changes).await? {
            Ok(after) => self.stored(after),
            // Left for the next store.
            Err(failure) => tracing::debug!(reason = failure.reason, "cannot clear outbox rows"),
        }
        Ok(())
    }

    async fn release(&mut self) {
        // Give Kafka a moment to acknowledge, so that the next owner has nothing to send again.
        let _ = tokio::time::timeout(RELEASE_ACK_TIMEOUT, self.sender.drained()).await;
        self.note_acknowledged();
        if self.acknowledged.is_some() && self.clear().await.is_err() {
            return;
        }
        if let Err(error) = ownership::release(&self.subscription.owner, &self.ownership).await {
            tracing::warn!(
                trigger = self.subscription.id,
                topic = self.assigned.tp.topic,
                partition = self.assigned.tp.partition,
                error = chain(&error),
                "cannot release the partition cleanly"
            );
        }
    }
}

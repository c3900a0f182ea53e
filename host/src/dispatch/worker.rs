//! The owner of one partition: takes it over, settles its batches, and gives it up.
//!
//! A batch is settled in one transaction: the function's statements, then the store, then COMMIT. Only after COMMIT does
//! memory change and are messages sent, so a failure anywhere leaves memory equal to the database or ends the ownership.

use super::flow;
use super::outbox::{self, HeaderRef, Numbered, Outgoing};
use super::parking::Parking;
use super::plan::{self, Breach, Item, Verdict};
use super::status::{PartitionStatus, State};
use super::subscription::Subscription;
use super::{
    BACK_OFF_FIRST, BACK_OFF_MAX, BATCH_BYTES_MAX, CONFLICT_RERUNS_MAX, CallFailure, FailureClass, KILLS_MAX,
};
use crate::capabilities::postgres::SqlFailure;
use crate::db;
use crate::db::ownership::{self, Judgement, Loaded, Ownership, PARKED_MAX};
use crate::db::session::{CommitError, SharedTransaction, Transaction};
use crate::db::store::{self, Bury, Changes, Park};
use crate::engine::kafka::{Batch, Emit, Message, Reply};
use crate::kafka::consumer::Assigned;
use crate::kafka::producer::StreamSender;
use crate::kafka::{self, HOST_HEADER_PREFIX, Record, STREAM_HEADER, murmur2};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long an idle partition waits before it clears outbox rows that Kafka has acknowledged.
const IDLE_CLEAR_DELAY: Duration = Duration::from_millis(250);
/// How often a stopped partition looks whether somebody resolved it.
const STOPPED_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Why a worker left its loop.
enum Exit {
    /// It was told to stop.
    Stop,
    /// The partition has to be taken over again: fenced, or the producer failed.
    TakeOver(String),
    /// Nobody's fault: pause, then take over again.
    BackOff(String),
    /// Going on would lose or double something.
    Stopped(String),
}

impl From<db::Error> for Exit {
    fn from(error: db::Error) -> Self {
        match error {
            db::Error::Fenced { .. } => Exit::TakeOver(error.to_string()),
            other => Exit::BackOff(chain(&other)),
        }
    }
}

impl From<kafka::Error> for Exit {
    fn from(error: kafka::Error) -> Self {
        Exit::BackOff(chain(&error))
    }
}

impl From<kafka::producer::Failed> for Exit {
    fn from(error: kafka::producer::Failed) -> Self {
        Exit::TakeOver(error.to_string())
    }
}

/// Items to settle in one transaction, and the position after them.
struct Work {
    items: Vec<Item>,
    end: i64,
    source: Source,
    /// Watermarks that these items raise.
    watermarks: HashMap<String, i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Fetched,
    Parked,
}

enum Settled {
    Yes,
    /// The call failed and the items have to be tried in these parts.
    Split(CallFailure),
}

/// Runs the partition until `stop`, through failures and take-overs.
pub async fn run(
    subscription: Arc<Subscription>,
    assigned: Assigned,
    status: Arc<PartitionStatus>,
    stop: CancellationToken,
) {
    let mut pause = BACK_OFF_FIRST;
    let mut first = true;
    let mut careful = 0;
    while !stop.is_cancelled() {
        status.set(State::TakingOver);
        let began = Instant::now();
        let exit = match take_over(&subscription, &assigned, &status, first, &mut careful).await {
            Ok(mut worker) => {
                first = false;
                let exit = worker.serve(&stop).await.err().unwrap_or(Exit::Stop);
                if matches!(exit, Exit::Stop) {
                    worker.release().await;
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
                tracing::warn!(partition = %assigned.tp, reason, "taking the partition over again");
                pause
            }
            Exit::BackOff(reason) => {
                status.set(State::BackingOff { reason });
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
            () = stop.cancelled() => return,
        }
    }
}

async fn take_over<'a>(
    subscription: &'a Subscription,
    assigned: &'a Assigned,
    status: &'a PartitionStatus,
    first: bool,
    careful: &'a mut usize,
) -> Result<Worker<'a>, Exit> {
    // The group's offset is read before the row: it is committed after it, so a lower row means a database that lost commits.
    let group_position = assigned.group_position().await?;
    let stored =
        db::schema::store_start(&subscription.owner, subscription.trigger, &assigned.tp, assigned.position)
            .await?;
    check_position(subscription, assigned, stored, group_position).await?;
    assigned.prove_membership(stored).await?;
    let taken =
        ownership::raise_epoch(&subscription.owner, subscription.trigger, &assigned.tp, subscription.host)
            .await?;
    let loaded = ownership::load(&subscription.owner, subscription.trigger, &assigned.tp, &taken).await?;
    if !first || loaded.ownership.position < assigned.position {
        assigned.refetch(loaded.ownership.position).await?;
    }
    let sender = subscription.producer.open(&subscription.stream(&assigned.tp))?;
    let mut worker = Worker::new(subscription, assigned, status, sender, &loaded, careful);
    worker.send_unsent(&loaded).await?;
    status.set(State::Owned);
    Ok(worker)
}

/// Refuses positions that would skip or repeat records.
async fn check_position(
    subscription: &Subscription,
    assigned: &Assigned,
    stored: i64,
    group_position: Option<i64>,
) -> Result<(), Exit> {
    let tp = &assigned.tp;
    let cure = format!(
        "decide where to go on: fnhost position --trigger {} --partition {tp} --to earliest|latest|OFFSET",
        subscription.id
    );
    let bounds = subscription.cluster.log_bounds(tp).await?;
    if stored > bounds.end {
        return Err(Exit::Stopped(format!(
            "the stored position {stored} is beyond the log's end {}: the topic was made anew or lost records; {cure}",
            bounds.end
        )));
    }
    if stored < bounds.start {
        return Err(Exit::Stopped(format!(
            "the stored position {stored} is before the log's start {}: retention deleted records that were not handled; {cure}",
            bounds.start
        )));
    }
    if let Some(group) = group_position.filter(|g| *g > stored) {
        return Err(Exit::Stopped(format!(
            "the stored position {stored} is below the group's offset {group}: the database lost what it had committed; {cure}"
        )));
    }
    Ok(())
}

struct Worker<'a> {
    subscription: &'a Subscription,
    assigned: &'a Assigned,
    status: &'a PartitionStatus,
    sender: StreamSender,
    ownership: Ownership,
    watermarks: HashMap<String, i64>,
    parking: Parking,
    /// Kafka acknowledged messages up to this number, which a store has still to clear.
    acknowledged: Option<i64>,
    /// Items to hand out one by one, each announced, because the last owner, or a session of ours, ended badly.
    careful: &'a mut usize,
}

impl<'a> Worker<'a> {
    fn new(
        subscription: &'a Subscription,
        assigned: &'a Assigned,
        status: &'a PartitionStatus,
        sender: StreamSender,
        loaded: &Loaded,
        careful: &'a mut usize,
    ) -> Self {
        let now = Instant::now();
        let mut parking = Parking::default();
        for parked in &loaded.parked {
            let age = Duration::from_millis(parked.age_ms.unwrap_or(0).max(0) as u64);
            let item = Item { record: parked.record.clone(), attempts: parked.attempts, age };
            parking.park(item, Duration::from_millis(parked.due_in_ms.max(0) as u64), now);
        }
        if loaded.unclean || loaded.announced.is_some() {
            *careful = subscription.limits.max_batch;
        }
        status.position.store(loaded.ownership.position, Ordering::Relaxed);
        status.parked.store(parking.len() as u64, Ordering::Relaxed);
        Self {
            subscription,
            assigned,
            status,
            sender,
            ownership: loaded.ownership.clone(),
            watermarks: loaded.watermarks.clone(),
            parking,
            acknowledged: None,
            careful,
        }
    }

    /// Sends what an earlier owner committed and perhaps did not send.
    async fn send_unsent(&mut self, loaded: &Loaded) -> Result<(), Exit> {
        for (first_seq, bytes) in &loaded.unsent {
            let messages = outbox::decode(bytes).map_err(|e| Exit::Stopped(e.to_string()))?;
            self.sender.send(&Numbered { first_seq: *first_seq, messages }).await?;
        }
        Ok(())
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<(), Exit> {
        loop {
            if stop.is_cancelled() {
                return Err(Exit::Stop);
            }
            self.note_acknowledged();
            if let Some(work) = self.next_work()? {
                self.process(work).await?;
                continue;
            }
            self.wait(stop).await?;
        }
    }

    /// Parked records that are due, else what has arrived.
    fn next_work(&mut self) -> Result<Option<Work>, Exit> {
        let max = self.subscription.limits.max_batch;
        let due = self.parking.due(max, Instant::now());
        if !due.is_empty() {
            return Ok(Some(Work {
                items: due,
                end: self.ownership.position,
                source: Source::Parked,
                watermarks: HashMap::new(),
            }));
        }
        if self.parking.len() >= PARKED_MAX {
            return Ok(None);
        }
        loop {
            let records = self.assigned.take(max, BATCH_BYTES_MAX).map_err(|e| Exit::BackOff(chain(&e)))?;
            if records.is_empty() {
                return Ok(None);
            }
            // Until the queue is empty: only what arrives at an empty queue wakes the worker.
            if let Some(work) = self.filter(records) {
                return Ok(Some(work));
            }
        }
    }

    /// Drops records that were accepted before: below the position, or with a number of their stream that is not new.
    fn filter(&mut self, records: Vec<Record>) -> Option<Work> {
        let end = records.last()?.offset + 1;
        if end <= self.ownership.position {
            return None;
        }
        let mut work = Work {
            items: Vec::with_capacity(records.len()),
            end,
            source: Source::Fetched,
            watermarks: HashMap::new(),
        };
        let mut duplicates = 0;
        for record in records {
            if record.offset < self.ownership.position {
                continue;
            }
            if let Some((stream, seq)) = record.stream() {
                let seen = work.watermarks.get(stream).or_else(|| self.watermarks.get(stream));
                if seen.is_some_and(|seen| seq <= *seen) {
                    duplicates += 1;
                    continue;
                }
                match work.watermarks.get_mut(stream) {
                    Some(mark) => *mark = seq,
                    None => drop(work.watermarks.insert(stream.to_string(), seq)),
                }
            }
            work.items.push(Item { record, attempts: 0, age: Duration::ZERO });
        }
        if duplicates > 0 {
            PartitionStatus::add(&self.status.duplicates, duplicates);
            tracing::info!(partition = %self.assigned.tp, duplicates, "refused records that were accepted before");
        }
        Some(work)
    }

    async fn wait(&mut self, stop: &CancellationToken) -> Result<(), Exit> {
        let due = self
            .parking
            .next_due()
            .map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
        let full = self.parking.len() >= PARKED_MAX;
        let to_clear = self.acknowledged.is_some();
        let unacknowledged = self.sender.unacknowledged() > 0;
        tokio::select! {
            () = stop.cancelled() => Err(Exit::Stop),
            () = self.assigned.arrived(), if !full => Ok(()),
            () = tokio::time::sleep(due) => Ok(()),
            progress = self.sender.progress(), if unacknowledged => Ok(progress?),
            failed = self.sender.failed(), if !unacknowledged => Err(failed.into()),
            () = tokio::time::sleep(IDLE_CLEAR_DELAY), if to_clear && !unacknowledged => self.clear().await,
        }
    }

    fn note_acknowledged(&mut self) {
        if let Some(seq) = self.sender.take_acknowledged() {
            self.acknowledged = Some(seq);
        }
    }

    /// Clears acknowledged outbox rows while nothing else is to be stored.
    async fn clear(&mut self) -> Result<(), Exit> {
        let changes = Changes {
            position: self.ownership.position,
            acknowledged: self.acknowledged,
            ..Changes::default()
        };
        let transaction = self.subscription.transaction();
        match self.commit(transaction, &changes).await? {
            Ok(after) => self.stored(after),
            // Left for the next store.
            Err(failure) => tracing::debug!(reason = failure.reason, "outbox rows were not cleared"),
        }
        Ok(())
    }

    /// Settles all items, in parts where the function fails on the whole.
    async fn process(&mut self, work: Work) -> Result<(), Exit> {
        let mut parts = vec![work];
        while let Some(work) = parts.pop() {
            if *self.careful > 0 && work.items.len() > 1 {
                parts.extend(divide(work, &|len| (0..len).map(|i| i..i + 1).collect()));
                continue;
            }
            if *self.careful > 0 && !work.items.is_empty() && self.announce(&work).await? {
                continue;
            }
            if let Settled::Split(failure) = self.settle(&work).await? {
                parts.extend(divide(work, &|len| plan::split(len, &failure)));
            }
        }
        Ok(())
    }

    /// Announces a single item; true where it was in hand too often when a host ended, and is buried now.
    async fn announce(&mut self, work: &Work) -> Result<bool, Exit> {
        let offset = work.items[0].record.offset;
        let times = ownership::announce(&self.subscription.owner, &self.ownership, offset).await?;
        *self.careful = self.careful.saturating_sub(1);
        if times <= KILLS_MAX {
            return Ok(false);
        }
        let reason =
            format!("the host or its database session ended {KILLS_MAX} times while this record was handled");
        let verdict = Verdict::Dead { attempts: work.items[0].attempts + 1, reason };
        match self.store_verdicts(work, &[(0, verdict)], &[], self.subscription.transaction()).await? {
            Ok(()) => Ok(true),
            Err(failure) => Err(Exit::BackOff(failure.reason)),
        }
    }

    async fn settle(&mut self, work: &Work) -> Result<Settled, Exit> {
        let mut behind: HashSet<usize> = HashSet::new();
        if work.source == Source::Fetched {
            behind.extend(
                (0..work.items.len()).filter(|i| self.parking.blocks(work.items[*i].record.key.as_deref())),
            );
        }
        let mut reruns = 0;
        loop {
            let calls: Vec<usize> = (0..work.items.len()).filter(|i| !behind.contains(i)).collect();
            let lent = SharedTransaction::new(self.subscription.transaction());
            let ended = self.call(work, &calls, &lent).await;
            let failure = match (ended, lent.take()) {
                (Ok((mut verdicts, emits)), Some(transaction)) => {
                    verdicts.extend(behind.iter().map(|i| (*i, Verdict::Behind)));
                    match self.store_verdicts(work, &verdicts, &emits, transaction).await? {
                        Ok(()) => return Ok(Settled::Yes),
                        Err(failure) => failure,
                    }
                }
                // Its last holder closes the connection, which rolls back.
                (Ok(_), None) => CallFailure {
                    class: FailureClass::Function,
                    reason: "a statement still ran when the function had replied".into(),
                    message: None,
                },
                (Err(CallEnd::OutOfOrder(early)), transaction) => {
                    roll_back(transaction).await;
                    tracing::warn!(partition = %self.assigned.tp, records = early.len(), "the function finished records behind one of their key that it did not finish; they are parked and the rest is rerun");
                    behind.extend(early.into_iter().map(|i| calls[i]));
                    continue;
                }
                (Err(CallEnd::Failed(failure)), transaction) => {
                    roll_back(transaction).await;
                    failure
                }
            };
            match failure.class {
                FailureClass::Conflict if reruns < CONFLICT_RERUNS_MAX => reruns += 1,
                FailureClass::Conflict => return Err(Exit::BackOff(failure.reason)),
                FailureClass::Infrastructure => {
                    // The record in hand may be what ended the session.
                    *self.careful = (*self.careful).max(work.items.len());
                    return Err(Exit::BackOff(failure.reason));
                }
                FailureClass::Function if work.items.len() > 1 => return Ok(Settled::Split(failure)),
                FailureClass::Function => return self.charge(work, &failure).await,
            }
        }
    }

    /// Charges a failed attempt to the one item of `work`.
    async fn charge(&mut self, work: &Work, failure: &CallFailure) -> Result<Settled, Exit> {
        let verdict = plan::failed(&work.items[0], &failure.reason, &self.subscription.limits);
        match self.store_verdicts(work, &[(0, verdict)], &[], self.subscription.transaction()).await? {
            Ok(()) => Ok(Settled::Yes),
            Err(failure) => Err(Exit::BackOff(failure.reason)),
        }
    }

    /// Calls the function with the items of `calls`; answers a verdict for each and the emits.
    async fn call(
        &self,
        work: &Work,
        calls: &[usize],
        transaction: &SharedTransaction,
    ) -> Result<(Vec<(usize, Verdict)>, Vec<Emit>), CallEnd> {
        if calls.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let limits = &self.subscription.limits;
        let items: Vec<Item> = calls.iter().map(|i| work.items[*i].clone()).collect();
        let messages = items.iter().map(|item| message(item, limits)).collect();
        let batch =
            Batch { topic: self.assigned.tp.topic.clone(), partition: self.assigned.tp.partition, messages };
        let reply: Reply =
            self.subscription.handler.call(batch, transaction.clone()).await.map_err(CallEnd::Failed)?;
        let verdicts = plan::judge(&items, &reply, limits, &|topic| self.subscription.emit_limit(topic))
            .map_err(|breach| match breach {
                Breach::OutOfOrder(early) => CallEnd::OutOfOrder(early),
                Breach::Malformed(reason) => {
                    CallEnd::Failed(CallFailure { class: FailureClass::Function, reason, message: None })
                }
            })?;
        Ok((calls.iter().copied().zip(verdicts).collect(), reply.emits))
    }

    /// Stores and commits what became of the items, then makes memory follow and sends the messages. The inner error is a failure
    /// of the store or of COMMIT that rolled everything back.
    async fn store_verdicts(
        &mut self,
        work: &Work,
        verdicts: &[(usize, Verdict)],
        emits: &[Emit],
        transaction: Transaction,
    ) -> Result<Result<(), CallFailure>, Exit> {
        let letters = self.dead_letters(work, verdicts);
        let first_seq = self.ownership.emitted + 1;
        let mut messages: Vec<Outgoing<'_>> = Vec::with_capacity(emits.len() + letters.len());
        for emit in emits {
            messages.push(self.outgoing(emit, first_seq + messages.len() as i64));
        }
        messages.extend(letters.iter().map(|l| l.outgoing()));
        let mut changes = Changes {
            position: work.end.max(self.ownership.position),
            emitted: messages.len(),
            messages: (!messages.is_empty()).then(|| outbox::encode(&messages)),
            watermarks: work.watermarks.clone(),
            acknowledged: self.acknowledged,
            ..Changes::default()
        };
        let mut delays = HashMap::new();
        for (i, verdict) in verdicts {
            let record = &work.items[*i].record;
            match verdict {
                Verdict::Done => {}
                Verdict::Retry { attempts, reason } => {
                    let delay = jittered(plan::retry_delay(*attempts));
                    delays.insert(*i, delay);
                    changes.park.push(Park {
                        record,
                        attempts: *attempts,
                        delay_ms: delay.as_millis() as i64,
                        reason: reason.clone(),
                    });
                }
                Verdict::Behind => changes.park.push(Park {
                    record,
                    attempts: work.items[*i].attempts,
                    delay_ms: 0,
                    reason: "waits behind an earlier record of its key".into(),
                }),
                Verdict::Dead { attempts, reason } => {
                    changes.bury.push(Bury { record, attempts: *attempts, reason: reason.clone() });
                }
            }
            if work.source == Source::Parked && matches!(verdict, Verdict::Done | Verdict::Dead { .. }) {
                changes.unpark.push(record.offset);
            }
        }
        let after = match self.commit(transaction, &changes).await? {
            Ok(after) => after,
            Err(failure) => return Ok(Err(failure)),
        };
        self.stored(after);
        self.remember(work, verdicts, &delays);
        flow::committed(&self.subscription.id, &messages);
        self.sender.send(&Numbered { first_seq, messages }).await?;
        Ok(Ok(()))
    }

    /// Runs the store at the end of `transaction` and commits; decides what happened where the answer was lost.
    async fn commit(
        &self,
        mut transaction: Transaction,
        changes: &Changes<'_>,
    ) -> Result<Result<Ownership, CallFailure>, Exit> {
        let connection = match transaction.connection().await {
            Ok(connection) => connection,
            Err(error) => {
                return Ok(Err(CallFailure {
                    class: FailureClass::Infrastructure,
                    reason: chain(&error),
                    message: None,
                }));
            }
        };
        let after = match store::store(connection, &self.ownership, changes).await {
            Ok(after) => after,
            Err(error) => {
                transaction.rollback().await;
                if ownership::sqlstate(&error).as_deref() == Some(store::FENCED) {
                    return Err(Exit::TakeOver("another owner or an operator changed the partition".into()));
                }
                return Ok(Err(failure_of(&error)));
            }
        };
        match transaction.commit().await {
            Ok(()) => Ok(Ok(after)),
            Err(CommitError::Refused(error)) => Ok(Err(failure_of(&error))),
            Err(CommitError::Unknown(error)) => {
                let judgement = ownership::judge_commit(&self.subscription.owner, &self.ownership).await?;
                tracing::warn!(partition = %self.assigned.tp, ?judgement, %error, "a COMMIT got no answer");
                match judgement {
                    Judgement::Committed => Ok(Ok(after)),
                    Judgement::NotCommitted => Ok(Err(failure_of(&error))),
                    Judgement::Fenced => {
                        Err(Exit::TakeOver("another owner took over during a COMMIT".into()))
                    }
                }
            }
        }
    }

    fn stored(&mut self, after: Ownership) {
        self.ownership = after;
        self.acknowledged = None;
        self.status.position.store(self.ownership.position, Ordering::Relaxed);
    }

    fn remember(&mut self, work: &Work, verdicts: &[(usize, Verdict)], delays: &HashMap<usize, Duration>) {
        let now = Instant::now();
        for (stream, seq) in &work.watermarks {
            self.watermarks.insert(stream.clone(), *seq);
        }
        let mut dead = 0;
        let mut failed = 0;
        // In the items' order: what waits behind a record is parked after it.
        let mut verdicts: Vec<_> = verdicts.iter().collect();
        verdicts.sort_by_key(|(i, _)| *i);
        for (i, verdict) in verdicts {
            let item = &work.items[*i];
            match verdict {
                Verdict::Retry { attempts, reason } => {
                    failed += 1;
                    tracing::info!(partition = %self.assigned.tp, offset = item.record.offset, attempts, reason, "record parked for another attempt");
                    let delay = delays.get(i).copied().unwrap_or_default();
                    self.parking.park(Item { attempts: *attempts, ..item.clone() }, delay, now);
                }
                Verdict::Behind => self.parking.park(item.clone(), Duration::ZERO, now),
                Verdict::Dead { attempts, reason } => {
                    dead += 1;
                    failed += 1;
                    tracing::error!(partition = %self.assigned.tp, offset = item.record.offset, attempts, reason, "record is a dead letter");
                    self.parking.finish(item);
                }
                Verdict::Done if work.source == Source::Parked => self.parking.finish(item),
                Verdict::Done => {}
            }
        }
        PartitionStatus::add(&self.status.records, work.items.len());
        PartitionStatus::add(&self.status.batches, 1);
        PartitionStatus::add(&self.status.dead, dead);
        PartitionStatus::add(&self.status.failed_attempts, failed);
        self.status.parked.store(self.parking.len() as u64, Ordering::Relaxed);
    }

    fn outgoing<'e>(&self, emit: &'e Emit, seq: i64) -> Outgoing<'e> {
        let partitions = self.subscription.cluster.topic(&emit.topic).map_or(1, |t| t.partitions);
        let partition = match &emit.key {
            Some(key) => murmur2::partition(key, partitions),
            None => (seq % i64::from(partitions)) as i32,
        };
        Outgoing {
            topic: &emit.topic,
            partition,
            key: emit.key.as_deref(),
            value: emit.value.as_deref(),
            headers: emit.headers.iter().map(HeaderRef::from).collect(),
        }
    }

    fn dead_letters<'w>(&self, work: &'w Work, verdicts: &[(usize, Verdict)]) -> Vec<DeadLetter<'w>> {
        let topic = self.subscription.dead_letter_topic(&self.assigned.tp.topic);
        let limits = self.subscription.cluster.topic(&topic);
        verdicts
            .iter()
            .filter_map(|(i, verdict)| match verdict {
                Verdict::Dead { attempts, reason } => {
                    let record = &work.items[*i].record;
                    let limits = limits?;
                    let letter = DeadLetter::new(
                        &topic,
                        limits.partitions,
                        self.subscription,
                        &self.assigned.tp,
                        record,
                        *attempts,
                        reason,
                    );
                    // The table keeps it in any case; a letter that Kafka would refuse must not stop the stream.
                    (letter.size() < limits.max_message_bytes).then_some(letter)
                }
                _ => None,
            })
            .collect()
    }

    async fn release(&mut self) {
        // Give Kafka a moment to acknowledge, so that the next owner has nothing to send again.
        let acknowledged =
            async { while self.sender.unacknowledged() > 0 && self.sender.progress().await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), acknowledged).await;
        self.note_acknowledged();
        if self.acknowledged.is_some() && self.clear().await.is_err() {
            return;
        }
        if let Err(error) = ownership::release(&self.subscription.owner, &self.ownership).await {
            tracing::warn!(partition = %self.assigned.tp, error = chain(&error), "the partition was not released cleanly");
        }
    }
}

async fn roll_back(transaction: Option<Transaction>) {
    if let Some(transaction) = transaction {
        transaction.rollback().await;
    }
}

fn failure_of(error: &sqlx::Error) -> CallFailure {
    let failure = SqlFailure::from_sqlx(error);
    CallFailure { class: failure.class(), reason: failure.message, message: None }
}

enum CallEnd {
    OutOfOrder(Vec<usize>),
    Failed(CallFailure),
}

/// A copy of a dead record for the dead-letter topic.
struct DeadLetter<'r> {
    topic: String,
    partition: i32,
    record: &'r Record,
    added: Vec<(&'static str, String)>,
}

impl<'r> DeadLetter<'r> {
    fn new(
        topic: &str,
        partitions: i32,
        subscription: &Subscription,
        from: &kafka::TopicPartition,
        record: &'r Record,
        attempts: u32,
        reason: &str,
    ) -> Self {
        let partition =
            record.key.as_deref().map_or(from.partition % partitions, |k| murmur2::partition(k, partitions));
        let added = vec![
            ("fnhost-dead-trigger", subscription.id.clone()),
            ("fnhost-dead-topic", from.topic.clone()),
            ("fnhost-dead-partition", from.partition.to_string()),
            ("fnhost-dead-offset", record.offset.to_string()),
            ("fnhost-dead-attempts", attempts.to_string()),
            ("fnhost-dead-reason", reason.chars().take(1_000).collect()),
        ];
        Self { topic: topic.to_string(), partition, record, added }
    }

    fn size(&self) -> usize {
        self.record.size() + self.added.iter().map(|(n, v)| n.len() + v.len() + 10).sum::<usize>() + 512
    }

    fn outgoing(&self) -> Outgoing<'_> {
        let kept = self
            .record
            .headers
            .iter()
            .filter(|h| h.name != STREAM_HEADER && !h.name.starts_with(HOST_HEADER_PREFIX));
        let added = self.added.iter().map(|(name, value)| HeaderRef { name, value: value.as_bytes() });
        Outgoing {
            topic: &self.topic,
            partition: self.partition,
            key: self.record.key.as_deref(),
            value: self.record.value.as_deref(),
            headers: kept.map(HeaderRef::from).chain(added).collect(),
        }
    }
}

fn message(item: &Item, limits: &super::Limits) -> Message {
    let record = &item.record;
    Message {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
        attempt: item.attempts + 1,
        last_attempt: item.is_last_attempt(limits),
    }
}

/// Parts of `work`, last first, each with the position after it and the watermarks it raises.
fn divide(work: Work, ranges: &dyn Fn(usize) -> Vec<std::ops::Range<usize>>) -> Vec<Work> {
    let ranges = ranges(work.items.len());
    let (end, source) = (work.end, work.source);
    let last = ranges.len().saturating_sub(1);
    let mut items = work.items.into_iter();
    let mut parts: Vec<Work> = ranges
        .into_iter()
        .enumerate()
        .map(|(i, range)| {
            let items: Vec<Item> = items.by_ref().take(range.len()).collect();
            let mut watermarks = HashMap::new();
            if source == Source::Fetched {
                for (stream, seq) in items.iter().filter_map(|item| item.record.stream()) {
                    watermarks.insert(stream.to_string(), seq);
                }
            }
            let own_end = items.last().map_or(end, |item| item.record.offset + 1);
            Work {
                end: if i == last || source == Source::Parked { end } else { own_end },
                items,
                source,
                watermarks,
            }
        })
        .collect();
    parts.reverse();
    parts
}

/// Between half and all of `delay`, so that records parked together do not come back together.
fn jittered(delay: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    delay / 2 + (delay / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// An error with its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

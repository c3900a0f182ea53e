//! Settling a batch: the call, the judgement of its reply, the store, COMMIT, and what follows from a failure of any of them.

use super::work::{Source, Work, message};
use super::{Care, Exit, Worker, changes};
use crate::commit::{Ended, commit};
use crate::plan::{self, Breach, Item, Verdict};
use crate::status::Counts;
use crate::{CONFLICT_RERUNS_MAX, CallFailure, Called, FailureClass, KILLS_MAX, Tried, commit_log};
use fnhost_db::ownership::{self, Ownership};
use fnhost_db::session::{SharedTransaction, Transaction};
use fnhost_db::store::Changes;
use fnhost_engine::guest_log::Printed;
use fnhost_engine::short_digest;
use fnhost_metrics::{DispatchPhase, Timer};
use fnhost_trace::batch::{About, Batch as Hops, Sends};
use fnhost_types::causes::chain;
use fnhost_types::guard;
use fnhost_types::outbox::{self, HeaderRef, Numbered, Outgoing};
use fnhost_types::wit::{Batch, Emit, Message};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

pub(super) enum Settled {
    Yes,
    /// The call failed and the items have to be tried in these parts.
    Split(CallFailure),
}

/// What follows from a call beside the verdicts on its records.
#[derive(Default)]
pub(super) struct Effects {
    emits: Vec<Emit>,
    /// The hops of the emits, where they are recorded.
    sends: Sends,
    printed: Printed,
}

enum CallEnd {
    OutOfOrder(Vec<usize>),
    Failed(CallFailure),
}

impl Worker<'_> {
    /// Settles all items, in parts where the function fails on the whole.
    pub(super) async fn process(&mut self, work: Work) -> Result<(), Exit> {
        let mut parts = vec![work];
        while let Some(mut work) = parts.pop() {
            if work.source == Source::Parked && self.version_was_withdrawn() {
                // They are still parked; with their attempts given back they are taken up again.
                return Ok(());
            }
            if !work.handler.runs() {
                // The rest of a batch that was split is for what runs now.
                work.handler = self.subscription.handlers.pick(self.batches);
            }
            let care = self.memory.care;
            if matches!(care, Care::Records(_)) && work.items.len() > 1 {
                parts.extend(work.divide(&|len| (0..len).map(|i| i..i + 1).collect()));
                continue;
            }
            let mut transaction = self.subscription.transaction();
            if care != Care::None && !work.items.is_empty() && guard::on("announcements") {
                // An announcement counts as a try at the record, so the function must be able to begin.
                transaction.connection().await.map_err(|error| Exit::BackOff(chain(&error)))?;
                if self.announce(&work).await? {
                    transaction.rollback().await;
                    continue;
                }
            }
            let began = Timer::start();
            match self.settle(&work, transaction).await? {
                Settled::Yes => self.subscription.status.metrics.settled(began, work.items.len()),
                Settled::Split(failure) => parts.extend(work.divide(&|len| plan::split(len, &failure))),
            }
        }
        Ok(())
    }

    /// Announces the first item; true where it is the only one, was in hand too often when a host ended, and is buried now.
    async fn announce(&mut self, work: &Work) -> Result<bool, Exit> {
        let offset = work.items[0].record.offset;
        let again = self.memory.excused.take() == Some(offset);
        let times = ownership::announce(&self.subscription.owner, &self.ownership, offset, again).await?;
        self.memory.care = match self.memory.care {
            Care::Records(left) if left > 1 => Care::Records(left - 1),
            // A batch that ends badly after this is told from one that settled by its announcement, which the store clears.
            _ => Care::None,
        };
        if times <= KILLS_MAX || work.items.len() > 1 {
            return Ok(false);
        }
        let reason =
            format!("the host or its database session died {KILLS_MAX} times while handling this record");
        let verdict = plan::exhausted(work.items[0].attempts + 1, reason, &self.subscription.config);
        match self
            .store_verdicts(work, &[(0, verdict)], Effects::default(), self.subscription.transaction())
            .await?
        {
            Ok(()) => Ok(true),
            Err(failure) => Err(Exit::BackOff(failure.reason)),
        }
    }

    /// Settles the items in one transaction; the function gets `transaction` at its first run.
    async fn settle(&mut self, work: &Work, transaction: Transaction) -> Result<Settled, Exit> {
        let mut transaction = Some(transaction);
        let blocked = |i: &usize| self.parking.blocks(work.items[*i].record.key.as_deref());
        let mut behind: HashSet<usize> = match work.source {
            Source::Fetched => (0..work.items.len()).filter(blocked).collect(),
            Source::Parked => self.parking.behind(&work.items),
        };
        if work.source == Source::Parked && behind.len() == work.items.len() {
            // They are parked already.
            return Ok(Settled::Yes);
        }
        let config = work.config(&self.subscription.config);
        let mut reruns = 0;
        loop {
            let calls: Vec<usize> = (0..work.items.len()).filter(|i| !behind.contains(i)).collect();
            let lent = transaction.take().unwrap_or_else(|| self.subscription.transaction());
            let lent = SharedTransaction::new(lent);
            let mut messages: Vec<Message> =
                calls.iter().map(|i| message(&work.items[*i], &config)).collect();
            let hops = Hops::begin(&mut messages);
            let ended = self.call(work, &calls, messages, &hops, &lent).await;
            let failure = match (ended, lent.take()) {
                (Ok((mut verdicts, effects)), Some(transaction)) => {
                    verdicts.extend(behind.iter().map(|i| (*i, Verdict::Behind)));
                    match self.store_verdicts(work, &verdicts, effects, transaction).await? {
                        Ok(()) => {
                            // Those of the call come first, in its order.
                            hops.settled(self.about(work), |i| verdicts[i].1.told());
                            return Ok(Settled::Yes);
                        }
                        Err(failure) => failure,
                    }
                }
                // Its last holder closes the connection, which rolls back.
                (Ok(_), None) => CallFailure {
                    class: FailureClass::Function,
                    reason: "a statement was still running when the function replied".into(),
                    message: None,
                },
                (Err(CallEnd::OutOfOrder(early)), transaction) => {
                    roll_back(transaction).await;
                    self.say_out_of_order(early.len());
                    hops.settled(self.about(work), |_| {
                        ("rolled-back", Some("a record was done out of order"))
                    });
                    behind.extend(early.into_iter().map(|i| calls[i]));
                    continue;
                }
                (Err(CallEnd::Failed(failure)), transaction) => {
                    roll_back(transaction).await;
                    failure
                }
            };
            hops.settled(self.about(work), |_| ("rolled-back", Some(&failure.reason)));
            match failure.class {
                FailureClass::Conflict if reruns < CONFLICT_RERUNS_MAX => reruns += 1,
                FailureClass::Conflict => return Err(Exit::BackOff(failure.reason)),
                FailureClass::Infrastructure => {
                    self.suspect(work).await;
                    return Err(Exit::BackOff(failure.reason));
                }
                FailureClass::Function | FailureClass::Unclear if work.items.len() > 1 => {
                    return Ok(Settled::Split(failure));
                }
                FailureClass::Unclear => return self.ask_neighbours(work, &failure).await,
                FailureClass::Function => return self.charge(work, &failure).await,
            }
        }
    }

    /// Calls the function with the items of `calls`, as messages; answers a verdict for each, and the effects.
    async fn call(
        &self,
        work: &Work,
        calls: &[usize],
        messages: Vec<Message>,
        hops: &Hops,
        transaction: &SharedTransaction,
    ) -> Result<(Vec<(usize, Verdict)>, Effects), CallEnd> {
        if calls.is_empty() {
            return Ok((Vec::new(), Effects::default()));
        }
        let items: Vec<&Item> = calls.iter().map(|i| &work.items[*i]).collect();
        let batch =
            Batch { topic: self.assigned.tp.topic.clone(), partition: self.assigned.tp.partition, messages };
        let called = work.handler.call(batch, transaction.clone()).await;
        let told = called.as_ref().map(|called| called.phases).map_err(|failure| failure.reason.as_str());
        hops.called(self.about(work), told);
        let Called { mut reply, printed, .. } = called.map_err(CallEnd::Failed)?;
        // One whose cause is not in the batch is judged like any other.
        reply.emits.retain(|emit| items.get(emit.cause as usize).is_none_or(|item| !item.silent));
        let sends = hops.emits(&mut reply.emits);
        if work.handler.on_trial() {
            plan::spare(&mut reply);
        }
        let verdicts = plan::judge(&items, &reply, &work.config(&self.subscription.config), &|topic| {
            self.subscription.emit_limit(topic)
        })
        .map_err(|breach| match breach {
            Breach::OutOfOrder(early) => CallEnd::OutOfOrder(early),
            Breach::Malformed(reason) => {
                CallEnd::Failed(CallFailure { class: FailureClass::Function, reason, message: None })
            }
        })?;
        let effects = Effects { emits: reply.emits, sends, printed };
        Ok((calls.iter().copied().zip(verdicts).collect(), effects))
    }

    /// Stores and commits what became of the items, then makes memory follow and sends the messages. The inner error is a failure
    /// of the store or of COMMIT that rolled everything back. What the function printed is written after COMMIT, or not as such.
    pub(super) async fn store_verdicts(
        &mut self,
        work: &Work,
        verdicts: &[(usize, Verdict)],
        Effects { emits, sends, printed }: Effects,
        transaction: Transaction,
    ) -> Result<Result<(), CallFailure>, Exit> {
        let letters = self.dead_letters(work, verdicts);
        let first_seq = self.ownership.emitted + 1;
        let mut messages: Vec<Outgoing<'_>> = Vec::with_capacity(emits.len() + letters.len());
        for emit in &emits {
            messages.push(self.outgoing(emit, first_seq + messages.len() as i64));
        }
        messages.extend(letters.iter().map(|l| l.outgoing()));
        let mut changes = Changes {
            position: work.end.max(self.ownership.position),
            emitted: messages.len(),
            messages: (!messages.is_empty())
                .then(|| outbox::encode(work.handler.version().digest, &messages)),
            watermarks: work.watermarks.clone(),
            acknowledged: self.acknowledged,
            version: work.handler.version().number,
            digest: short_digest(work.handler.version().digest),
            ..Changes::default()
        };
        let delays = changes::add(&mut changes, work, verdicts, &self.subscription.config);
        let began = Timer::start();
        let after = match self.commit(transaction, &changes).await? {
            Ok(after) => after,
            Err(failure) => return Ok(Err(failure)),
        };
        self.subscription.status.metrics.phase(DispatchPhase::Commit, began);
        printed.committed();
        self.stored(after);
        self.remember(work, verdicts, &delays);
        if let Some(reason) = changes.pause.take() {
            self.pause(reason);
        }
        let version = work.handler.version().digest;
        commit_log::committed(&self.subscription.id, version, &messages);
        let metrics = &self.subscription.status.metrics;
        metrics.emitted(messages.len());
        let (began, committed) = (Timer::start(), SystemTime::now());
        let numbered = Numbered { first_seq, version, messages };
        self.sender.send(&numbered).await?;
        metrics.phase(DispatchPhase::Produce, began);
        sends.sent(committed, first_seq, &numbered.messages);
        Ok(Ok(()))
    }

    /// Runs the store at the end of `transaction` and commits; decides what happened where the answer was lost.
    pub(super) async fn commit(
        &mut self,
        transaction: Transaction,
        changes: &Changes<'_>,
    ) -> Result<Result<Ownership, CallFailure>, Exit> {
        self.transaction_began = Some(transaction.began().unwrap_or_else(Instant::now));
        match commit(&self.subscription.owner, transaction, &self.ownership, changes).await? {
            Ended::Committed(after) => Ok(Ok(after)),
            Ended::Failed(failure) => Ok(Err(failure)),
            Ended::Fenced(reason) => Err(Exit::TakeOver(reason.to_owned())),
        }
    }

    pub(super) fn stored(&mut self, after: Ownership) {
        self.ownership = after;
        self.acknowledged = None;
        self.status.position.store(self.ownership.position, Ordering::Relaxed);
    }

    fn remember(&mut self, work: &Work, verdicts: &[(usize, Verdict)], delays: &HashMap<usize, Duration>) {
        let now = Instant::now();
        for (stream, seq) in &work.watermarks {
            self.watermarks.insert(stream.clone(), *seq);
        }
        let version = work.handler.version().digest;
        let mut dead = 0;
        let mut failed = 0;
        let mut postponed = 0;
        let mut behind = 0;
        let done = verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Done);
        self.memory.neighbours.succeeded(done.map(|(i, _)| work.items[*i].record.offset));
        // In the items' order: what waits behind a record is parked after it.
        let mut verdicts: Vec<_> = verdicts.iter().collect();
        verdicts.sort_by_key(|(i, _)| *i);
        for (i, verdict) in verdicts {
            let item = &work.items[*i];
            match verdict {
                Verdict::Retry { attempts, reason, asked } => {
                    failed += 1;
                    postponed += usize::from(*asked && *attempts == 1);
                    self.say_parked(&item.record, version, *attempts, reason);
                    let delay = delays.get(i).copied().unwrap_or_default();
                    self.parking.park(Item { attempts: *attempts, ..item.clone() }, delay, now);
                }
                Verdict::Exhausted { attempts, reason } => {
                    failed += 1;
                    self.say_parked(&item.record, version, *attempts, reason);
                    self.memory.neighbours.forget(item.record.offset);
                    self.parking.park(Item { attempts: *attempts, ..item.clone() }, Duration::ZERO, now);
                }
                Verdict::SetAside { reason, .. } => {
                    // Neither done nor failed: nothing is known of it.
                    behind += 1;
                    self.say_parked(&item.record, version, item.attempts, reason);
                    let delay = delays.get(i).copied().unwrap_or_default();
                    self.parking.park(item.clone(), delay, now);
                }
                Verdict::Behind => {
                    behind += 1;
                    self.parking.park(item.clone(), Duration::ZERO, now);
                }
                Verdict::Dead { attempts, reason } => {
                    dead += 1;
                    failed += 1;
                    self.say_dead(&item.record, version, *attempts, reason);
                    self.memory.neighbours.forget(item.record.offset);
                    self.parking.finish(item);
                }
                Verdict::Done if work.source == Source::Parked => self.parking.finish(item),
                Verdict::Done => {}
            }
        }
        work.handler.settled(Tried { records: work.items.len() - behind, failed, postponed });
        Counts::add(&self.status.counts.records, work.items.len());
        Counts::add(&self.status.counts.batches, 1);
        Counts::add(&self.status.counts.dead, dead);
        Counts::add(&self.status.counts.failed_attempts, failed);
        self.status.set_parked(&self.parking);
    }

    /// What spans say of this partition's batches.
    fn about<'w>(&'w self, work: &'w Work) -> About<'w> {
        About {
            trigger: &self.subscription.id,
            from: Some((&self.assigned.tp.topic, self.assigned.tp.partition)),
            group: &self.subscription.group,
            version: work.handler.version().digest,
        }
    }

    fn outgoing<'e>(&self, emit: &'e Emit, seq: i64) -> Outgoing<'e> {
        Outgoing {
            topic: &emit.topic,
            partition: self.subscription.cluster.partition_for(&emit.topic, emit.key.as_deref(), seq),
            key: emit.key.as_deref(),
            value: emit.value.as_deref(),
            headers: emit.headers.iter().map(HeaderRef::from).collect(),
        }
    }
}

async fn roll_back(transaction: Option<Transaction>) {
    if let Some(transaction) = transaction {
        transaction.rollback().await;
    }
}

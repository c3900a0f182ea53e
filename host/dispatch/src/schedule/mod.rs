//! Calls a component when the time of a schedule has come: a dispatch whose record no topic has.
//!
//! A tick is handed to the component's Kafka handler like a batch of one record, and what follows from it is stored and
//! sent like what follows from any: the function's statements, its emits and the position, which is the tick, are one
//! transaction. The host that has the lease does that; the epoch refuses what a former leader still tries. Ticks that
//! were missed collapse into the latest, and one that fails is tried again until a later one takes its place.

pub mod status;
mod time;

use crate::commit::{Ended, commit};
use crate::leader::{self, LEASE, Leadership};
use crate::plan::{self, Breach, Item, Verdict};
use crate::{CallFailure, Called, FailureClass, Handler, Handlers, Tried, commit_log};
use fnhost_db::ownership::{self, Ownership};
use fnhost_db::session::{RolePool, SharedTransaction, Transaction};
use fnhost_db::store::{Bury, Changes};
use fnhost_db::{OwnerPool, relay};
use fnhost_engine::guest_log::Printed;
use fnhost_kafka::cluster::Cluster;
use fnhost_kafka::producer::{Producer, StreamSender};
use fnhost_manifest::SCHEDULE_TOPIC;
use fnhost_manifest::TriggerConfig;
use fnhost_trace::batch::{About, Batch as Hops};
use fnhost_types::causes::chain;
use fnhost_types::outbox::{self, HeaderRef, Numbered, Outgoing};
use fnhost_types::record::{Record, StreamSource};
use fnhost_types::wit::{Batch, Emit, Message};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use status::ScheduleStatus;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use time::Due;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What it is, for metrics and `/readyz`.
const KIND: &str = "schedule";
/// Longest sleep between two looks at the database's clock, so that a local clock which runs apart does no harm.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How long a leader that resigns waits for Kafka's acknowledgements.
const RESIGN_ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// A tick is never given up for its age or its attempts: the next one takes its place.
fn config() -> TriggerConfig {
    TriggerConfig { max_batch: 1, max_attempts: u32::MAX, max_age: Duration::MAX, ..TriggerConfig::new() }
}

/// One schedule of a component.
pub struct Schedule {
    /// Its id within the component: the key of its ticks.
    pub id: String,
    /// Row of `fnhost.trigger`.
    pub trigger: i64,
    /// What numbers its messages.
    pub source: StreamSource,
    /// Time between two ticks; ticks are multiples of it since 1970.
    pub every: Duration,
    /// Topics that it may emit to.
    pub emits: HashSet<String>,
    /// Id of this process, which becomes the owner.
    pub host: Uuid,
    /// Connections as the owner role.
    pub owner: OwnerPool,
    /// Connections as the component's role.
    pub role: RolePool,
    /// Topics.
    pub cluster: Arc<Cluster>,
    /// The host's producer.
    pub producer: Arc<Producer>,
    /// Gives the component's current version for each tick.
    pub handlers: Arc<dyn Handlers>,
    /// Where it says how it does.
    pub status: Arc<ScheduleStatus>,
}

/// A tick as the function gets it: the schedule as key, the time in RFC 3339 as value and in milliseconds as offset.
#[must_use]
pub fn message(schedule: &str, tick_ms: i64) -> Message {
    Message {
        offset: tick_ms,
        timestamp_ms: tick_ms,
        key: Some(schedule.as_bytes().to_vec()),
        value: Some(fnhost_types::clock::rfc3339(tick_ms).into_bytes()),
        headers: Vec::new(),
        attempt: 1,
        last_attempt: false,
    }
}

/// Registers a schedule's trigger; answers its row and the name of its stream.
///
/// # Errors
/// The database did not answer.
pub async fn register(
    owner: &OwnerPool,
    deployment: &str,
    component: &str,
    id: &str,
    role: &str,
) -> Result<(i64, StreamSource), fnhost_db::Error> {
    let id = format!("{component}:schedule:{id}");
    let trigger = fnhost_db::schema::register_trigger(owner, deployment, &id, "schedule", &id, role).await?;
    Ok((trigger, StreamSource::new(deployment, &id, None)))
}

impl Schedule {
    /// Runs until `stop`: leads while it can get the lease.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        // Boxed, so that it is compiled here and not in the crate that awaits it.
        Box::pin(async move {
            let name = self.source.to_string();
            let leadership = self.leadership(&name);
            let lead = || leadership.lead(|ownership, sender| self.tick_on(ownership, sender, &stop)).boxed();
            leader::elect(KIND, &name, &stop, lead).await;
        })
    }

    fn leadership<'a>(&'a self, name: &'a str) -> Leadership<'a> {
        let Self { trigger, source, host, owner, producer, .. } = self;
        Leadership { kind: KIND, name, trigger: *trigger, source, host: *host, owner, producer }
    }

    /// Runs the ticks until `stop`.
    async fn tick_on(
        &self,
        ownership: Ownership,
        sender: StreamSender,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let _leads = self.status.leads(ownership.position);
        let lease = ownership.clone();
        let mut leader = Leader { schedule: self, sender, ownership, acknowledged: None, failures: 0 };
        // Beside the work, since a call may take longer than the lease.
        let ended = tokio::select! {
            ended = leader.serve(stop) => ended,
            lost = self.keep_lease(&lease) => lost,
        };
        ended?;
        leader.resign().await;
        Ok(())
    }

    /// Renews the lease; ends only where that fails.
    async fn keep_lease(&self, ownership: &Ownership) -> anyhow::Result<()> {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            let mut transaction = self.owner.begin().await?;
            relay::renew_lease(&mut transaction, ownership, LEASE).await?;
            transaction.commit().await?;
        }
    }

    /// Calls the function with a tick; answers what became of it, what it emits and what it printed. A tick that is to be
    /// tried again has failed.
    async fn call(
        &self,
        handler: &dyn Handler,
        tick: Vec<Message>,
        hops: &Hops,
        item: &Item,
        transaction: &SharedTransaction,
    ) -> Result<(Verdict, Vec<Emit>, Printed), CallFailure> {
        let batch = Batch { topic: SCHEDULE_TOPIC.to_owned(), partition: 0, messages: tick };
        let called = handler.call(batch, transaction.clone()).await;
        let told = called.as_ref().map(|called| called.phases).map_err(|failure| failure.reason.as_str());
        hops.called(self.about(handler), told);
        let Called { mut reply, printed, .. } = called?;
        if handler.on_trial() {
            plan::spare(&mut reply);
        }
        let judged = plan::judge(&[item], &reply, &config(), &|topic| self.emit_limit(topic));
        match judged.map(|mut verdicts| verdicts.pop()) {
            Ok(Some(Verdict::Retry { reason, .. })) => Err(function_failed(reason)),
            Ok(Some(verdict)) => Ok((verdict, reply.emits, printed)),
            Err(Breach::Malformed(reason)) => Err(function_failed(reason)),
            // One record has one verdict, and nothing before it.
            Ok(None) | Err(Breach::OutOfOrder(_)) => {
                Err(function_failed("the reply is not of one tick".to_owned()))
            }
        }
    }

    /// What spans say of its ticks.
    fn about<'a>(&'a self, handler: &'a dyn Handler) -> About<'a> {
        About { trigger: &self.id, from: None, group: "", version: handler.version().digest }
    }

    fn emit_limit(&self, topic: &str) -> Option<usize> {
        if !self.emits.contains(topic) {
            return None;
        }
        self.cluster.topic(topic).map(|topic| topic.max_message_bytes)
    }

    fn outgoing<'e>(&self, emit: &'e Emit, seq: i64) -> Outgoing<'e> {
        Outgoing {
            topic: &emit.topic,
            partition: self.cluster.partition_for(&emit.topic, emit.key.as_deref(), seq),
            key: emit.key.as_deref(),
            value: emit.value.as_deref(),
            headers: emit.headers.iter().map(HeaderRef::from).collect(),
        }
    }
}

struct Leader<'a> {
    schedule: &'a Schedule,
    sender: StreamSender,
    ownership: Ownership,
    /// Kafka acknowledged messages up to this number, which a store has still to clear.
    acknowledged: Option<i64>,
    /// Attempts in a row that failed.
    failures: u32,
}

impl Leader<'_> {
    async fn serve(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            self.note_acknowledged();
            let now_ms = fnhost_db::schedule::now_ms(&self.schedule.owner).await?;
            let wait = match time::due(self.ownership.position, now_ms, self.schedule.every) {
                Due::Now(tick_ms) => {
                    let ended = self.tick(tick_ms).await?;
                    let told = ended.as_ref().map(|()| tick_ms).map_err(|failure| failure.reason.as_str());
                    self.schedule.status.ran(told);
                    match ended {
                        Ok(()) => {
                            self.failures = 0;
                            continue;
                        }
                        Err(failure) => self.failed(tick_ms, &failure)?,
                    }
                }
                Due::In(wait) => wait.min(SLEEP_MAX),
            };
            self.sleep(wait, stop).await?;
        }
        Ok(())
    }

    /// Runs one tick and commits what follows from it. The inner error is a failure that rolled all of it back.
    async fn tick(&mut self, tick_ms: i64) -> anyhow::Result<Result<(), CallFailure>> {
        let schedule = self.schedule;
        let mut tick = vec![Message { attempt: self.failures + 1, ..message(&schedule.id, tick_ms) }];
        let hops = Hops::begin(&mut tick);
        let Message { offset, timestamp_ms, key, value, headers, .. } = tick[0].clone();
        let record = Record { offset, timestamp_ms, key, value, headers };
        let item = Item { attempts: self.failures, ..Item::new(record) };
        let lent = SharedTransaction::new(Transaction::new(schedule.role.clone()));
        let nth = tick_ms.unsigned_abs() / u64::try_from(schedule.every.as_millis()).unwrap_or(1).max(1);
        let handler = schedule.handlers.pick(nth);
        let judged = schedule.call(&*handler, tick, &hops, &item, &lent).await;
        let blamed = |failure: &CallFailure| failure.class != FailureClass::Infrastructure;
        let failed = judged.as_ref().is_err_and(blamed).into();
        handler.settled(Tried { records: 1, failed, postponed: 0 });
        let Some(transaction) = lent.take() else {
            return Ok(Err(function_failed(
                "a statement was still running when the function replied".to_owned(),
            )));
        };
        let (verdict, mut emits, printed) = match judged {
            Ok(judged) => judged,
            Err(failure) => {
                transaction.rollback().await;
                hops.settled(schedule.about(&*handler), |_| ("rolled-back", Some(&failure.reason)));
                return Ok(Err(failure));
            }
        };
        let sends = hops.emits(&mut emits);
        let bury = match verdict {
            Verdict::Dead { attempts, reason } => {
                vec![Bury { record: &item.record, attempts, reason, silent: false }]
            }
            _ => Vec::new(),
        };
        let version = handler.version().digest;
        let first_seq = self.ownership.emitted + 1;
        let messages: Vec<Outgoing<'_>> =
            (first_seq..).zip(&emits).map(|(seq, emit)| schedule.outgoing(emit, seq)).collect();
        let changes = Changes {
            position: tick_ms + 1,
            emitted: messages.len(),
            messages: (!messages.is_empty()).then(|| outbox::encode(version, &messages)),
            acknowledged: self.acknowledged,
            bury,
            ..Changes::default()
        };
        if let Err(failure) = self.store(transaction, &changes).await? {
            hops.settled(schedule.about(&*handler), |_| ("rolled-back", Some(&failure.reason)));
            return Ok(Err(failure));
        }
        let committed = SystemTime::now();
        hops.settled(schedule.about(&*handler), |_| {
            if changes.bury.is_empty() { ("done", None) } else { ("dead", None) }
        });
        printed.committed();
        for Bury { reason, .. } in &changes.bury {
            tracing::error!(schedule = %schedule.source, tick_ms, reason, "the function rejected a tick");
        }
        commit_log::committed(&schedule.source.to_string(), version, &messages);
        let numbered = Numbered { first_seq, version, messages };
        self.sender.send(&numbered).await?;
        sends.sent(committed, first_seq, &numbered.messages);
        Ok(Ok(()))
    }

    /// Stores and commits, then makes memory follow.
    async fn store(
        &mut self,
        transaction: Transaction,
        changes: &Changes<'_>,
    ) -> anyhow::Result<Result<(), CallFailure>> {
        match commit(&self.schedule.owner, transaction, &self.ownership, changes).await? {
            Ended::Committed(after) => {
                self.ownership = after;
                self.acknowledged = None;
                Ok(Ok(()))
            }
            Ended::Failed(failure) => Ok(Err(failure)),
            Ended::Fenced(reason) => anyhow::bail!(reason),
        }
    }

    /// The pause after a failed tick. Where nobody is to blame the leader failed and starts again.
    fn failed(&mut self, tick_ms: i64, failure: &CallFailure) -> anyhow::Result<Duration> {
        anyhow::ensure!(failure.class != FailureClass::Infrastructure, "{}", failure.reason);
        self.failures += 1;
        let pause = config().back_off.pause(self.failures);
        let (schedule, reason) = (&self.schedule.source, &failure.reason);
        tracing::error!(%schedule, tick_ms, reason, attempts = self.failures, ?pause, "a tick failed");
        Ok(pause)
    }

    /// Sleeps, and meanwhile clears what Kafka acknowledges.
    async fn sleep(&mut self, wait: Duration, stop: &CancellationToken) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let unacknowledged = self.sender.unacknowledged() > 0;
            // Only now: what is acknowledged by then is noted, and for what is not progress is waited for.
            self.note_acknowledged();
            if self.acknowledged.is_some() && !unacknowledged {
                self.clear().await?;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = stop.cancelled() => return Ok(()),
                progress = self.sender.progress(), if unacknowledged => progress?,
                failed = self.sender.failed(), if !unacknowledged => return Err(failed.into()),
            }
        }
    }

    async fn clear(&mut self) -> anyhow::Result<()> {
        let position = self.ownership.position;
        let changes = Changes { position, acknowledged: self.acknowledged, ..Changes::default() };
        let transaction = Transaction::new(self.schedule.role.clone());
        if let Err(failure) = self.store(transaction, &changes).await? {
            // Left for the next store.
            tracing::debug!(reason = failure.reason, "cannot clear outbox rows");
            self.acknowledged = None;
        }
        Ok(())
    }

    fn note_acknowledged(&mut self) {
        if let Some(seq) = self.sender.take_acknowledged() {
            self.acknowledged = Some(seq);
        }
    }

    async fn resign(&mut self) {
        let _ = tokio::time::timeout(RESIGN_ACK_TIMEOUT, self.sender.drained()).await;
        self.note_acknowledged();
        if self.acknowledged.is_some() {
            let cleared = self.clear().await;
            if let Err(error) = cleared {
                tracing::debug!(error = format!("{error:#}"), "cannot clear the schedule's outbox");
                return;
            }
        }
        if let Err(error) = ownership::release(&self.schedule.owner, &self.ownership).await {
            tracing::debug!(error = chain(&error), "cannot release the schedule's lease");
        }
    }
}

fn function_failed(reason: String) -> CallFailure {
    CallFailure { class: FailureClass::Function, reason, message: None }
}

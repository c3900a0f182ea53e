//! Moves events that functions inserted while serving HTTP into Kafka: a dispatch without a guest.
//!
//! HTTP calls commit concurrently, so their events have no order to number. The relay gives them one: elected by a lease with
//! an epoch, it deletes what is visible and stores it as one numbered outbox row in the same transaction, and sends it as
//! every stream is sent. It works on the table alone, so the HTTP side may as well run under Spin.

pub mod orphans;

use crate::commit_log;
use crate::leader::{self, LEASE, Leadership};
use crate::pace::Pace;
use crate::plan::FRAMING_MAX_BYTES;
use fnhost_db::OwnerPool;
use fnhost_db::ownership::{self, Judgement, Ownership};
use fnhost_db::relay::{self, Event};
use fnhost_db::store::{self, Bury, Changes};
use fnhost_kafka::cluster::Cluster;
use fnhost_kafka::producer::{Producer, StreamSender};
use fnhost_metrics::{RelayMetrics, Timer};
use fnhost_trace::TRACEPARENT;
use fnhost_trace::batch::Sends;
use fnhost_types::causes::chain;
use fnhost_types::outbox::{self, HeaderRef, Numbered, Outgoing};
use fnhost_types::record::{HOST_HEADER_PREFIX, Record, StreamSource, VERSION_HEADER};
use fnhost_types::wit::Header;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::postgres::PgListener;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What it is, for metrics and `/readyz`.
const KIND: &str = "relay";
/// Events of one outbox row at most.
pub const EVENTS_MAX: i64 = 500;
/// Bytes of keys, values and headers after which an outbox row takes no further event.
pub const EVENTS_BYTES_MAX: i64 = 4 * 1024 * 1024;
/// Longest sleep of a leader that hears of no insert: the backstop of a lost notification.
const SLEEP_MAX: Duration = Duration::from_secs(2);
/// Bytes that Kafka adds to a header at most.
const HEADER_FRAMING_BYTES: usize = 10;
/// How long a leader that resigns waits for Kafka's acknowledgements.
const RESIGN_ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// Rounds with events in a row, each right after the rest of the one before, after which inserts need not notify: the relay looks by
/// itself, every [`ROUND_INTERVAL`] or after its rest.
const BUSY_ROUNDS: u32 = 3;
/// Time from one round to the next at least. Events that come meanwhile share a transaction and an outbox row.
const ROUND_INTERVAL: Duration = Duration::from_millis(5);
/// How long no event has to come until inserts notify again. Each change of that costs a commit.
const QUIET: Duration = Duration::from_millis(200);

/// One component's relay.
pub struct Relay {
    /// Row of `fnhost.trigger`.
    pub trigger: i64,
    /// Schema that holds the events.
    pub schema: String,
    /// Table of events in it.
    pub table: String,
    /// What numbers its messages.
    pub source: StreamSource,
    /// Topics that events may name.
    pub topics: HashSet<String>,
    /// Id of this process, which becomes the owner.
    pub host: Uuid,
    /// Connections as the owner role.
    pub owner: OwnerPool,
    /// Topics.
    pub cluster: Arc<Cluster>,
    /// The host's producer.
    pub producer: Arc<Producer>,
}

impl Relay {
    /// Runs until `stop`: leads while it can get the lease.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        // Boxed, so that it is compiled here and not in the crate that awaits it.
        Box::pin(async move {
            let name = self.source.to_string();
            // Made here, so that hosts which do not lead show it too.
            let (leadership, metrics) = (self.leadership(&name), RelayMetrics::new(&name));
            let lead = || {
                leadership.lead(|ownership, sender| self.relay(&metrics, ownership, sender, &stop)).boxed()
            };
            leader::elect(KIND, &name, &stop, lead).await;
        })
    }

    fn leadership<'a>(&'a self, name: &'a str) -> Leadership<'a> {
        let Self { trigger, source, host, owner, producer, .. } = self;
        Leadership { kind: KIND, name, trigger: *trigger, source, host: *host, owner, producer }
    }

    /// Relays until `stop`.
    async fn relay(
        &self,
        metrics: &RelayMetrics,
        ownership: Ownership,
        sender: StreamSender,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let _leads = metrics.leads();
        let mut listener = self.owner.listen(relay::WAKE_CHANNEL).await?;
        let mut leader = Leader {
            relay: self,
            sender,
            ownership,
            acknowledged: None,
            renewed: Instant::now(),
            more: false,
            notified: false,
            metrics: metrics.clone(),
        };
        let mut busy_rounds = 0;
        // When the rest after the last round with events was over.
        let mut rested = Instant::now();
        while !stop.is_cancelled() {
            let (began, pace) = (Instant::now(), Pace::begin());
            let taken = leader.relay_once().await?;
            let rest = pace.rest(taken, None).max(ROUND_INTERVAL);
            if taken > 0 {
                busy_rounds = if began.duration_since(rested) < ROUND_INTERVAL { busy_rounds + 1 } else { 1 };
                if busy_rounds == BUSY_ROUNDS {
                    leader.ask_for_notifications(false).await?;
                }
            }
            let quiet = taken == 0 && (leader.notified || rested.elapsed() > QUIET);
            if !leader.more && !quiet {
                tokio::select! {
                    () = tokio::time::sleep_until((began + rest).into()) => {}
                    () = stop.cancelled() => {}
                }
            }
            if taken > 0 {
                rested = Instant::now();
            }
            // Of what came meanwhile a notification waits, where inserts notify.
            if !leader.more && (leader.notified || quiet) {
                leader.sleep(&mut listener, stop).await?;
            }
        }
        leader.resign().await;
        Ok(())
    }

    /// Why an event can never be sent; none where it can.
    fn unfit(&self, event: &Event) -> Option<String> {
        let size = event.size() + event.headers.len() * HEADER_FRAMING_BYTES + FRAMING_MAX_BYTES;
        let listed = self.topics.contains(&event.topic);
        let limit = listed.then(|| self.cluster.topic(&event.topic)).flatten();
        match limit {
            None => Some(format!("topic {} is not listed in the component's event_topics", event.topic)),
            Some(topic) if size > topic.max_message_bytes => Some(format!(
                "the event has {size} bytes, but {} allows at most {}",
                event.topic, topic.max_message_bytes
            )),
            Some(_) => None,
        }
    }

    fn outgoing<'e>(&self, event: &'e Event, seq: i64) -> Outgoing<'e> {
        let partition = self.cluster.partition_for(&event.topic, event.key.as_deref(), seq);
        let version = event.version.as_deref();
        let version = version.map(|version| HeaderRef { name: VERSION_HEADER, value: version.as_bytes() });
        let headers = event
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with(HOST_HEADER_PREFIX))
            .map(|(name, value)| HeaderRef { name, value })
            .chain(version)
            .collect();
        Outgoing {
            topic: &event.topic,
            partition,
            key: event.key.as_deref(),
            value: event.value.as_deref(),
            headers,
        }
    }
}

struct Leader<'a> {
    relay: &'a Relay,
    sender: StreamSender,
    ownership: Ownership,
    acknowledged: Option<i64>,
    renewed: Instant,
    /// The last round left events in the table.
    more: bool,
    /// Whether inserts notify. A pending NOTIFY serialises commits, so not under load.
    notified: bool,
    metrics: RelayMetrics,
}

/// The dead letter of an event that cannot be sent.
fn buried((record, reason): &(Record, String)) -> Bury<'_> {
    Bury { record, attempts: 1, reason: reason.clone(), silent: false }
}

impl Leader<'_> {
    /// Relays one row's worth of events; answers how many.
    async fn relay_once(&mut self) -> anyhow::Result<usize> {
        if let Some(seq) = self.sender.take_acknowledged() {
            self.acknowledged = Some(seq);
        }
        let relay = self.relay;
        let began = Timer::start();
        let mut transaction = relay.owner.begin().await?;
        let (schema, table) = (&relay.schema, &relay.table);
        let mut events = relay::take_events(
            &mut transaction,
            &self.ownership,
            schema,
            table,
            EVENTS_MAX,
            EVENTS_BYTES_MAX,
        )
        .await?;
        if events.is_empty() && self.acknowledged.is_none() && self.renewed.elapsed() < LEASE / 3 {
            transaction.rollback().await?;
            return Ok(0);
        }
        let taken = events.len();
        let bytes: usize = events.iter().map(Event::size).sum();
        self.more = taken >= EVENTS_MAX as usize || bytes as i64 >= EVENTS_BYTES_MAX;
        // What can never be sent must not fill the table up, nor be lost: it becomes a dead letter of the relay.
        let mut unfit: Vec<(Record, String)> = Vec::new();
        let mut messages: Vec<Outgoing<'_>> = Vec::with_capacity(events.len());
        let first_seq = self.ownership.emitted + 1;
        let mut sends = Sends::default();
        for event in &mut events {
            match relay.unfit(event) {
                Some(reason) => unfit.push((record(event), reason)),
                None => {
                    for (_, value) in event.headers.iter_mut().filter(|(name, _)| name == TRACEPARENT) {
                        sends.follow(messages.len(), value);
                    }
                    messages.push(relay.outgoing(event, first_seq + messages.len() as i64));
                }
            }
        }
        let changes = Changes {
            position: self.ownership.position,
            emitted: messages.len(),
            messages: (!messages.is_empty()).then(|| outbox::encode("", &messages)),
            acknowledged: self.acknowledged,
            bury: unfit.iter().map(buried).collect(),
            ..Changes::default()
        };
        let after = store::store(&mut transaction, &self.ownership, &changes).await?;
        if self.renewed.elapsed() >= LEASE / 3 {
            relay::renew_lease(&mut transaction, &self.ownership, LEASE).await?;
            self.renewed = Instant::now();
        }
        if let Err(error) = transaction.commit().await {
            // Only an owner that knows it committed may send; anything else starts over from the outbox.
            let judgement = ownership::judge_commit(&relay.owner, &self.ownership).await?;
            tracing::warn!(relay = %relay.source, ?judgement, error = chain(&error), "a COMMIT got no answer");
            anyhow::ensure!(judgement == Judgement::Committed, "the relay's COMMIT failed");
        }
        self.ownership = after;
        self.acknowledged = None;
        commit_log::committed(&relay.source.to_string(), "", &messages);
        let (emitted, committed) = (messages.len(), SystemTime::now());
        let numbered = Numbered { first_seq, version: "", messages };
        self.sender.send(&numbered).await?;
        sends.sent(committed, first_seq, &numbered.messages);
        if taken > 0 {
            self.metrics.relayed(began, taken, emitted);
        }
        Ok(taken)
    }

    /// Sleeps until an insert notifies; where inserts do not yet, they are asked to, and what came before that is looked for. What
    /// Kafka acknowledges meanwhile is cleared by the next round.
    async fn sleep(&mut self, listener: &mut PgListener, stop: &CancellationToken) -> anyhow::Result<()> {
        let relay = self.relay;
        if !self.notified {
            self.ask_for_notifications(true).await?;
            if self.relay_once().await? > 0 {
                return Ok(());
            }
        }
        let until = tokio::time::Instant::now() + SLEEP_MAX;
        loop {
            tokio::select! {
                notified = listener.recv() => {
                    if notified?.payload() == relay.schema {
                        return Ok(());
                    }
                }
                progress = self.sender.progress(), if self.sender.unacknowledged() > 0 => progress?,
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn ask_for_notifications(&mut self, wanted: bool) -> anyhow::Result<()> {
        if self.notified != wanted {
            relay::set_sleeping(&self.relay.owner, &self.relay.schema, wanted).await?;
            self.notified = wanted;
        }
        Ok(())
    }

    async fn resign(&mut self) {
        let _ = tokio::time::timeout(RESIGN_ACK_TIMEOUT, self.sender.drained()).await;
        let cleared = self.relay_once().await;
        if let Err(error) = cleared.map(drop) {
            tracing::debug!(error = format!("{error:#}"), "cannot clear the relay's outbox");
        }
        if let Err(error) = ownership::release(&self.relay.owner, &self.ownership).await {
            tracing::debug!(error = chain(&error), "cannot release the relay's lease");
        }
    }
}

/// The record that an event would have been; its number stands for the offset.
fn record(event: &Event) -> Record {
    let headers = event
        .headers
        .iter()
        .map(|(name, value)| Header { name: name.clone(), value: value.clone() })
        .collect();
    Record { offset: event.id, timestamp_ms: -1, key: event.key.clone(), value: event.value.clone(), headers }
}

/// Registers a relay's trigger.
///
/// # Errors
/// The database did not answer.
pub async fn register(
    owner: &OwnerPool,
    deployment: &str,
    component: &str,
) -> Result<(i64, StreamSource), fnhost_db::Error> {
    let id = format!("{component}:events");
    let role = fnhost_db::schema::owner_role(owner).await?;
    let trigger = fnhost_db::schema::register_trigger(owner, deployment, &id, "relay", &id, &role).await?;
    Ok((trigger, StreamSource::new(deployment, &id, None)))
}

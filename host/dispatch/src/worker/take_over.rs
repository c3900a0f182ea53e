//! Becoming the owner of a partition.

use super::{Care, Exit, Memory, Worker};
use crate::parking::Parking;
use crate::plan::Item;
use crate::status::{PartitionStatus, State};
use crate::stream;
use crate::subscription::Subscription;
use fnhost_db::ownership::{self, Loaded};
use fnhost_db::parked::{self, Parked};
use fnhost_db::schema::StoredPosition;
use fnhost_db::stopped;
use fnhost_db::unsent;
use fnhost_kafka::assigned::Assigned;
use fnhost_kafka::producer::StreamSender;
use fnhost_types::guard;
use fnhost_types::record::TopicPartition;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Takes a partition over: proves the membership, raises the epoch, and only then reads what to go on from.
pub(super) async fn take_over<'a>(
    subscription: &'a Subscription,
    assigned: &'a Assigned,
    status: &'a PartitionStatus,
    stop: &CancellationToken,
    memory: &'a mut Memory,
) -> Result<Worker<'a>, Exit> {
    let (owner, trigger, tp) = (&subscription.owner, subscription.trigger, &assigned.tp);
    // Listened to from before the id is read: a topic that is made anew during the take-over must not be overlooked.
    let topic_ids = subscription.cluster.topic_ids();
    // The group's offset is read before the row: it is committed after it, so a lower row means a database that lost commits.
    let group_position = assigned.group_position().await?;
    let stored = fnhost_db::schema::store_start(owner, trigger, tp, assigned.position).await?;
    let topic_id = check_position(subscription, assigned, &stored, group_position).await?;
    // From here on the group hears of no other position, which could be a higher one.
    status.position.store(stored.position, Ordering::Relaxed);
    assigned.prove_membership(stored.position).await?;
    let early = match guard::on("fresh-read") {
        true => None,
        false => Some(unsent::read_early(owner, trigger, tp).await?),
    };
    let taken = ownership::raise_epoch(owner, trigger, tp, subscription.host, topic_id).await?;
    let withdrawals = subscription.handlers.withdrawals();
    let mut loaded = ownership::load(owner, trigger, tp, &taken).await?;
    if loaded.ownership.version != stored.version {
        // Perhaps the former owner stopped it since it was checked.
        return Err(Exit::TakeOver("the partition was changed during the take-over".into()));
    }
    let mut read = loaded.ownership.clone();
    if let Some((watermarks, emitted)) = early {
        (loaded.watermarks, read.emitted) = (watermarks, emitted);
    }
    if !loaded.parked.is_empty()
        && let Some(rows) = parked::give_back(owner, &loaded.ownership).await?
    {
        loaded.parked = rows;
    }
    if memory.fetching || loaded.ownership.position < assigned.position {
        assigned.refetch(loaded.ownership.position).await?;
    }
    memory.fetching = true;
    let source = subscription.source(tp);
    let ownership = &loaded.ownership;
    let opened = tokio::select! {
        opened = stream::open(owner, &subscription.producer, &source, &read) => opened.map_err(Exit::from),
        () = stop.cancelled() => Err(Exit::Stop),
    };
    if let Err(Exit::Refused(refusal)) = &opened {
        subscription.note_refused(ownership, refusal).await;
    }
    let sender = opened?;
    let worker = Worker::new(subscription, assigned, status, sender, withdrawals, &loaded, memory);
    let mut worker = Worker { topic_ids, ..worker };
    match loaded.paused.take() {
        Some(reason) => worker.pause(reason),
        None => status.set(State::Owned),
    }
    Ok(worker)
}

/// Refuses positions that would skip or repeat records, until somebody decides; answers the topic's id.
async fn check_position(
    subscription: &Subscription,
    assigned: &Assigned,
    stored: &StoredPosition,
    group_position: Option<i64>,
) -> Result<Option<Uuid>, Exit> {
    let tp = &assigned.tp;
    if let Some(reason) = &stored.stopped {
        return Err(Exit::Stopped(reason.clone()));
    }
    let StoredPosition { position, version, chosen, topic_id, .. } = *stored;
    let row = (position, version);
    let cure = cure(subscription, tp);
    let now = subscription.cluster.topic_id(&tp.topic).await?;
    if let Some((known, now)) = topic_id.zip(now).filter(|(known, now)| known != now) {
        return Err(stop(subscription, tp, row, made_anew(subscription, tp, known, now)).await);
    }
    let bounds = subscription.cluster.log_bounds(tp).await?;
    if position > bounds.end {
        let reason = format!(
            "the stored position {position} is beyond the log's end {}: the topic was recreated or lost records; {cure}",
            bounds.end
        );
        return Err(stop(subscription, tp, row, reason).await);
    }
    if position < bounds.start {
        let reason = format!(
            "the stored position {position} is before the log's start {}: retention deleted records that were not handled; {cure}",
            bounds.start
        );
        return Err(stop(subscription, tp, row, reason).await);
    }
    if let Some(group) = group_position.filter(|group| *group > position && !chosen) {
        let reason = format!(
            "the stored position {position} is below the group's offset {group}: the database lost commits; {cure}"
        );
        // What it numbers from now on is not what Kafka already has under the same numbers.
        stopped::begin_incarnation(&subscription.owner).await?;
        return Err(stop(subscription, tp, row, reason).await);
    }
    Ok(now)
}

/// Stops a partition whose row has this position and version; nobody serves it until somebody decides.
pub(super) async fn stop(
    subscription: &Subscription,
    tp: &TopicPartition,
    row: (i64, i64),
    reason: String,
) -> Exit {
    match stopped::stop(&subscription.owner, subscription.trigger, tp, row, &reason).await {
        Ok(()) => Exit::Stopped(reason),
        Err(error) => error.into(),
    }
}

/// Why a partition stops whose topic is another one by now.
pub(super) fn made_anew(subscription: &Subscription, tp: &TopicPartition, known: Uuid, now: Uuid) -> String {
    format!(
        "topic {} was deleted and made anew (its id was {known} and is {now}): the stored position belongs to the former one; {}",
        tp.topic,
        cure(subscription, tp)
    )
}

fn cure(subscription: &Subscription, tp: &TopicPartition) -> String {
    format!(
        "choose where to continue: fnhost position --trigger {} --partition {tp} --to earliest|latest|OFFSET",
        subscription.id
    )
}

/// The memory of parked records.
fn parking(rows: &[Parked]) -> Parking {
    let now = Instant::now();
    let mut parking = Parking::default();
    for parked in rows {
        let age = Duration::from_millis(parked.age_ms.unwrap_or(0).max(0) as u64);
        let item = Item {
            attempts: parked.attempts,
            age,
            silent: parked.silent,
            ..Item::new(parked.record.clone())
        };
        parking.park(item, Duration::from_millis(parked.due_in_ms.max(0) as u64), now);
    }
    parking
}

impl<'a> Worker<'a> {
    fn new(
        subscription: &'a Subscription,
        assigned: &'a Assigned,
        status: &'a PartitionStatus,
        sender: StreamSender,
        withdrawals: watch::Receiver<i64>,
        loaded: &Loaded,
        memory: &'a mut Memory,
    ) -> Self {
        let parking = parking(&loaded.parked);
        let announced = loaded.announced.map(|(offset, _)| offset);
        if announced.is_some() && announced != memory.excused {
            memory.care = Care::Records(subscription.config.max_batch);
        } else if (announced.is_some() || loaded.unclean) && memory.care == Care::None {
            memory.care = Care::Batch;
        }
        status.position.store(loaded.ownership.position, Ordering::Relaxed);
        status.set_parked(&parking);
        Self {
            subscription,
            assigned,
            status,
            sender,
            ownership: loaded.ownership.clone(),
            watermarks: loaded.watermarks.clone(),
            parking,
            parked_turns: 0,
            acknowledged: None,
            memory,
            reached: 0,
            topic_ids: subscription.cluster.topic_ids(),
            batches: 0,
            transaction_began: None,
            withdrawals,
            paused: false,
        }
    }

    /// Gives attempts under a version that was rolled back since to the records that wait, which are due now.
    pub(super) async fn give_back(&mut self) -> Result<(), Exit> {
        self.withdrawals.mark_unchanged();
        if self.parking.is_empty() {
            return Ok(());
        }
        if let Some(rows) = parked::give_back(&self.subscription.owner, &self.ownership).await? {
            tracing::info!(
                trigger = self.subscription.id,
                topic = self.assigned.tp.topic,
                partition = self.assigned.tp.partition,
                "a version was rolled back; its failed attempts are given back"
            );
            self.parking = parking(&rows);
            self.status.parked.store(self.parking.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

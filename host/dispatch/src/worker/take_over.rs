//! Becoming the owner of a partition.

use super::{Care, Exit, Worker};
use crate::parking::Parking;
use crate::plan::Item;
use crate::status::{PartitionStatus, State};
use crate::subscription::Subscription;
use fnhost_db::ownership::{self, Loaded};
use fnhost_db::parked::{self, Parked};
use fnhost_db::schema::StoredPosition;
use fnhost_kafka::assigned::Assigned;
use fnhost_kafka::producer::StreamSender;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Takes a partition over: proves the membership, raises the epoch, and only then reads what to go on from.
pub(super) async fn take_over<'a>(
    subscription: &'a Subscription,
    assigned: &'a Assigned,
    status: &'a PartitionStatus,
    first: bool,
    care: &'a mut Care,
) -> Result<Worker<'a>, Exit> {
    // The group's offset is read before the row: it is committed after it, so a lower row means a database that lost commits.
    let group_position = assigned.group_position().await?;
    let stored = fnhost_db::schema::store_start(
        &subscription.owner,
        subscription.trigger,
        &assigned.tp,
        assigned.position,
    )
    .await?;
    check_position(subscription, assigned, stored, group_position).await?;
    assigned.prove_membership(stored.position).await?;
    let taken =
        ownership::raise_epoch(&subscription.owner, subscription.trigger, &assigned.tp, subscription.host)
            .await?;
    let withdrawals = subscription.handlers.withdrawals();
    let mut loaded = ownership::load(&subscription.owner, subscription.trigger, &assigned.tp, &taken).await?;
    if !loaded.parked.is_empty()
        && let Some(rows) = parked::give_back(&subscription.owner, &loaded.ownership).await?
    {
        loaded.parked = rows;
    }
    if !first || loaded.ownership.position < assigned.position {
        assigned.refetch(loaded.ownership.position).await?;
    }
    let sender = subscription.producer.open(&subscription.stream(&assigned.tp))?;
    sender.resend(&loaded.unsent).await?;
    let worker = Worker::new(subscription, assigned, status, sender, withdrawals, &loaded, care);
    status.set(State::Owned);
    Ok(worker)
}

/// Refuses positions that would skip or repeat records.
async fn check_position(
    subscription: &Subscription,
    assigned: &Assigned,
    stored: StoredPosition,
    group_position: Option<i64>,
) -> Result<(), Exit> {
    let tp = &assigned.tp;
    let StoredPosition { position: stored, chosen } = stored;
    let cure = format!(
        "choose where to continue: fnhost position --trigger {} --partition {tp} --to earliest|latest|OFFSET",
        subscription.id
    );
    let bounds = subscription.cluster.log_bounds(tp).await?;
    if stored > bounds.end {
        return Err(Exit::Stopped(format!(
            "the stored position {stored} is beyond the log's end {}: the topic was recreated or lost records; {cure}",
            bounds.end
        )));
    }
    if stored < bounds.start {
        return Err(Exit::Stopped(format!(
            "the stored position {stored} is before the log's start {}: retention deleted records that were not handled; {cure}",
            bounds.start
        )));
    }
    if let Some(group) = group_position.filter(|g| *g > stored && !chosen) {
        return Err(Exit::Stopped(format!(
            "the stored position {stored} is below the group's offset {group}: the database lost commits; {cure}"
        )));
    }
    Ok(())
}

/// The memory of parked records.
fn parking(rows: &[Parked]) -> Parking {
    let now = Instant::now();
    let mut parking = Parking::default();
    for parked in rows {
        let age = Duration::from_millis(parked.age_ms.unwrap_or(0).max(0) as u64);
        let item = Item { record: parked.record.clone(), attempts: parked.attempts, age };
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
        care: &'a mut Care,
    ) -> Self {
        let parking = parking(&loaded.parked);
        if loaded.announced.is_some() {
            *care = Care::Records(subscription.config.max_batch);
        } else if loaded.unclean && *care == Care::None {
            *care = Care::Batch;
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
            care,
            batches: 0,
            withdrawals,
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

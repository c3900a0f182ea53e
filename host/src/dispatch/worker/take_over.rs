//! Becoming the owner of a partition.

use super::{Care, Exit, Worker};
use crate::db;
use crate::db::ownership::{self, Loaded};
use crate::db::schema::StoredPosition;
use crate::dispatch::parking::Parking;
use crate::dispatch::plan::Item;
use crate::dispatch::status::{PartitionStatus, State};
use crate::dispatch::subscription::Subscription;
use crate::kafka::consumer::Assigned;
use crate::kafka::producer::StreamSender;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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
    let stored =
        db::schema::store_start(&subscription.owner, subscription.trigger, &assigned.tp, assigned.position)
            .await?;
    check_position(subscription, assigned, stored, group_position).await?;
    assigned.prove_membership(stored.position).await?;
    let taken =
        ownership::raise_epoch(&subscription.owner, subscription.trigger, &assigned.tp, subscription.host)
            .await?;
    let loaded = ownership::load(&subscription.owner, subscription.trigger, &assigned.tp, &taken).await?;
    if !first || loaded.ownership.position < assigned.position {
        assigned.refetch(loaded.ownership.position).await?;
    }
    let sender = subscription.producer.open(&subscription.stream(&assigned.tp))?;
    sender.resend(&loaded.unsent).await?;
    let worker = Worker::new(subscription, assigned, status, sender, &loaded, care);
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
    if let Some(group) = group_position.filter(|g| *g > stored && !chosen) {
        return Err(Exit::Stopped(format!(
            "the stored position {stored} is below the group's offset {group}: the database lost what it had committed; {cure}"
        )));
    }
    Ok(())
}

impl<'a> Worker<'a> {
    fn new(
        subscription: &'a Subscription,
        assigned: &'a Assigned,
        status: &'a PartitionStatus,
        sender: StreamSender,
        loaded: &Loaded,
        care: &'a mut Care,
    ) -> Self {
        let now = Instant::now();
        let mut parking = Parking::default();
        for parked in &loaded.parked {
            let age = Duration::from_millis(parked.age_ms.unwrap_or(0).max(0) as u64);
            let item = Item { record: parked.record.clone(), attempts: parked.attempts, age };
            parking.park(item, Duration::from_millis(parked.due_in_ms.max(0) as u64), now);
        }
        if loaded.announced.is_some() {
            *care = Care::Records(subscription.limits.max_batch);
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
            acknowledged: None,
            care,
        }
    }
}

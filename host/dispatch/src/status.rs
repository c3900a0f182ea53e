//! What is known of every trigger's partitions, for the admin address, readiness and group commits.

use super::backlog::Backlog;
use super::parking::Parking;
use crate::schedule::status::ScheduleStatus;
use fnhost_metrics::DispatchMetrics;
use fnhost_types::clock::now_ms;
use fnhost_types::record::TopicPartition;
use fnhost_types::waits::{ON_ITS_WAY, Waits};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How a partition is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Assigned; the take-over is under way.
    TakingOver,
    /// Owned; batches are handled.
    Owned,
    /// Owned, and nothing is handled until somebody resumes.
    Paused {
        /// Who or what paused it.
        reason: String,
    },
    /// Waits after a failure that is not the function's.
    BackingOff {
        /// Description of the failure.
        reason: String,
    },
    /// Waits, and tries again, because Kafka refuses its oldest message; every other partition goes on.
    Blocked {
        /// What Kafka said, and the command that resolves it.
        reason: String,
    },
    /// Stopped until somebody decides, because to go on would lose or double records.
    Stopped {
        /// Why, and the command that resolves it.
        reason: String,
    },
}

impl State {
    /// Name of the state, as `/partitions` and metrics show it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TakingOver => "taking-over",
            Self::Owned => "owned",
            Self::Paused { .. } => "paused",
            Self::BackingOff { .. } => "backing-off",
            Self::Blocked { .. } => "blocked",
            Self::Stopped { .. } => "stopped",
        }
    }
}

/// What was done on a partition since the host started, also while others had it in between.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records handled.
    pub records: AtomicU64,
    /// Batches committed.
    pub batches: AtomicU64,
    /// Records refused because their number was accepted before.
    pub duplicates: AtomicU64,
    /// Records that the trigger's filter passed over.
    pub unwanted: AtomicU64,
    /// Attempts that failed.
    pub failed_attempts: AtomicU64,
    /// Records that became dead letters.
    pub dead: AtomicU64,
}

impl Counts {
    /// Adds to one of them.
    pub fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// One partition that this host has.
#[derive(Debug)]
pub struct PartitionStatus {
    /// Topic and partition.
    pub tp: TopicPartition,
    /// Partitions of the topic, on all hosts.
    of: usize,
    state: Mutex<State>,
    /// Next offset to process; -1 until it is known.
    pub position: AtomicI64,
    /// Records parked now.
    pub parked: AtomicU64,
    /// Records and batches since the host started.
    pub counts: Arc<Counts>,
    /// What is still to be done.
    pub backlog: Backlog,
    /// The row's version as this host last heard of it.
    version: watch::Sender<i64>,
    changed: watch::Sender<()>,
}

impl PartitionStatus {
    /// Sets the state; says so where it matters.
    pub fn set(&self, state: State) {
        let mut current = lock(&self.state);
        if *current == state {
            return;
        }
        match &state {
            State::Stopped { reason } => tracing::error!(
                topic = self.tp.topic,
                partition = self.tp.partition,
                reason,
                "partition stopped"
            ),
            State::Blocked { reason } => tracing::error!(
                topic = self.tp.topic,
                partition = self.tp.partition,
                reason,
                "partition blocked"
            ),
            State::BackingOff { reason } => {
                tracing::warn!(
                    topic = self.tp.topic,
                    partition = self.tp.partition,
                    reason,
                    "partition backs off"
                )
            }
            State::Paused { reason } => tracing::info!(
                topic = self.tp.topic,
                partition = self.tp.partition,
                reason,
                "partition paused"
            ),
            State::TakingOver | State::Owned => {
                tracing::debug!(topic = self.tp.topic, partition = self.tp.partition, ?state, "partition")
            }
        }
        *current = state;
        drop(current);
        self.changed.send_replace(());
    }

    /// Current state of the partition.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// Follows what is parked.
    pub fn set_parked(&self, parking: &Parking) {
        self.parked.store(parking.len() as u64, Ordering::Relaxed);
        self.backlog.parked(parking.oldest_ms());
    }

    /// The row's version as this host last heard of it.
    pub fn version(&self) -> i64 {
        *self.version.borrow()
    }

    /// Waits until the row's version is above `known`: somebody changed the partition from outside.
    pub async fn version_above(&self, known: i64) {
        let mut version = self.version.subscribe();
        // The sender lives as long as `self`.
        let _ = version.wait_for(|version| *version > known).await;
    }
}

/// One trigger's partitions on this host.
#[derive(Debug)]
pub struct TriggerStatus {
    /// Trigger id.
    pub id: String,
    /// Component.
    pub component: String,
    /// Consumer group.
    pub group: String,
    /// Where its dispatches are measured.
    pub metrics: DispatchMetrics,
    joined: AtomicBool,
    /// Whether other members have all partitions; asked where this host has none.
    others_have_all: AtomicBool,
    partitions: Mutex<BTreeMap<TopicPartition, Arc<PartitionStatus>>>,
    counts: Mutex<BTreeMap<TopicPartition, Arc<Counts>>>,
    changed: watch::Sender<()>,
}

impl TriggerStatus {
    /// A partition was assigned, of a topic that has so many.
    pub fn add(&self, tp: &TopicPartition, of: usize) -> Arc<PartitionStatus> {
        let status = Arc::new(PartitionStatus {
            tp: tp.clone(),
            of,
            state: Mutex::new(State::TakingOver),
            position: AtomicI64::new(-1),
            parked: AtomicU64::new(0),
            counts: lock(&self.counts).entry(tp.clone()).or_default().clone(),
            backlog: Backlog::default(),
            version: watch::Sender::new(0),
            changed: self.changed.clone(),
        });
        lock(&self.partitions).insert(tp.clone(), status.clone());
        self.others_have_all.store(false, Ordering::Release);
        self.changed.send_replace(());
        status
    }

    /// A partition went.
    pub fn remove(&self, tp: &TopicPartition) {
        lock(&self.partitions).remove(tp);
        self.others_have_all.store(false, Ordering::Release);
        self.changed.send_replace(());
    }

    /// The group has given this host what it gets for now.
    pub fn set_joined(&self) {
        self.joined.store(true, Ordering::Release);
        self.changed.send_replace(());
    }

    /// Says whether the group's other members have all partitions, of a trigger that has none here.
    pub fn set_others_have_all(&self, all: bool) {
        if self.others_have_all.swap(all, Ordering::AcqRel) != all {
            self.changed.send_replace(());
        }
    }

    /// True where the group has assigned, this host got nothing, and others are not known to have it all.
    pub fn is_left_out(&self) -> bool {
        self.joined.load(Ordering::Acquire)
            && lock(&self.partitions).is_empty()
            && !self.others_have_all.load(Ordering::Acquire)
    }

    /// Tells of every change of any trigger.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What was done on each partition that this host has or had.
    pub fn counts(&self) -> Vec<(TopicPartition, Arc<Counts>)> {
        lock(&self.counts).iter().map(|(tp, counts)| (tp.clone(), counts.clone())).collect()
    }

    /// The partitions, sorted.
    pub fn partitions(&self) -> Vec<Arc<PartitionStatus>> {
        lock(&self.partitions).values().cloned().collect()
    }

    /// What it waits for, for people; empty where every partition that it is given is owned.
    fn waits_for(&self) -> Vec<String> {
        let Self { id, group, .. } = self;
        if !self.joined.load(Ordering::Acquire) {
            return vec![format!("trigger {id}: group {group} has not assigned partitions yet")];
        }
        let partitions = self.partitions();
        if self.is_left_out() {
            return vec![format!(
                "trigger {id}: group {group} assigned no partition to this host, and not all to others"
            )];
        }
        let waiting = partitions.iter().filter_map(|partition| match partition.state() {
            // Paused is what somebody wants it to be.
            State::Owned | State::Paused { .. } => None,
            State::TakingOver => Some(format!("trigger {id}: taking over {}", partition.tp)),
            State::BackingOff { reason } | State::Blocked { reason } | State::Stopped { reason } => {
                Some(format!("trigger {id}: {}: {reason}", partition.tp))
            }
        });
        waiting.collect()
    }
}

/// All triggers and schedules of this host.
#[derive(Clone, Debug)]
pub struct Registry {
    triggers: Arc<Mutex<Vec<Arc<TriggerStatus>>>>,
    schedules: Arc<Mutex<Vec<Arc<ScheduleStatus>>>>,
    changed: watch::Sender<()>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { triggers: Arc::default(), schedules: Arc::default(), changed: watch::Sender::new(()) }
    }
}

impl Registry {
    /// Adds a trigger.
    pub fn trigger(&self, id: &str, component: &str, group: &str) -> Arc<TriggerStatus> {
        let trigger = Arc::new(TriggerStatus {
            id: id.to_string(),
            component: component.to_string(),
            group: group.to_string(),
            metrics: DispatchMetrics::new(id),
            joined: AtomicBool::new(false),
            others_have_all: AtomicBool::new(false),
            partitions: Mutex::default(),
            counts: Mutex::default(),
            changed: self.changed.clone(),
        });
        lock(&self.triggers).push(trigger.clone());
        trigger
    }

    /// Adds a schedule.
    pub fn schedule(&self, schedule: ScheduleStatus) -> Arc<ScheduleStatus> {
        let schedule = Arc::new(schedule);
        lock(&self.schedules).push(schedule.clone());
        schedule
    }

    /// All schedules, those included that another host leads.
    pub fn schedules(&self) -> Vec<Arc<ScheduleStatus>> {
        lock(&self.schedules).clone()
    }

    /// The row of a trigger's partition has this version now.
    pub fn set_version(&self, trigger: &str, tp: &TopicPartition, version: i64) {
        for trigger in self.triggers().iter().filter(|t| t.id == trigger) {
            if let Some(partition) = lock(&trigger.partitions).get(tp) {
                partition.version.send_replace(version);
            }
        }
    }

    /// How long records of these triggers wait on this host, with so many that were made and are still on their way. What is paused,
    /// stopped or waits after a failure does not count: that is not for too much work.
    pub fn waits(&self, triggers: &[String], on_their_way: usize) -> Waits {
        let now_ms = now_ms();
        let mut waits = Waits::default();
        for trigger in self.triggers().into_iter().filter(|trigger| triggers.contains(&trigger.id)) {
            let partitions = trigger.partitions();
            let owned = partitions.iter().filter(|partition| matches!(*lock(&partition.state), State::Owned));
            let mut ahead = Duration::ZERO;
            for partition in owned {
                let position = partition.position.load(Ordering::Relaxed);
                let backlog = &partition.backlog;
                let oldest_ms = backlog.waiting_ms(position, now_ms).max(backlog.taken_at_age_ms());
                waits.oldest = waits.oldest.max(Duration::from_millis(oldest_ms.max(0).unsigned_abs()));
                let coming = still_to_wait(on_their_way, partition.of, backlog.carried_per_s());
                ahead = ahead.max(backlog.ahead() + coming);
            }
            waits.ahead += ahead;
        }
        waits
    }

    /// Status of every trigger of this host.
    pub fn triggers(&self) -> Vec<Arc<TriggerStatus>> {
        lock(&self.triggers).clone()
    }

    /// What is not ready yet, for people; empty where every assigned partition is owned.
    pub fn not_ready(&self) -> Vec<String> {
        self.triggers().iter().flat_map(|trigger| trigger.waits_for()).collect()
    }

    /// Waits until every trigger's assigned partitions are owned.
    pub async fn ready(&self) {
        let mut changed = self.changed.subscribe();
        while !self.not_ready().is_empty() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// How long the last of so many records, of which each of `partitions` gets as many, will wait on one of these for the others once they have
/// come: what is carried meanwhile is over by then.
fn still_to_wait(on_their_way: usize, partitions: usize, carried_per_s: f64) -> Duration {
    let own = on_their_way as f64 / partitions.max(1) as f64;
    Duration::from_secs_f64(own / carried_per_s).saturating_sub(ON_ITS_WAY)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_waits_for_what_cannot_be_carried_until_it_has_come() {
        let ms = |records, partitions| still_to_wait(records, partitions, 1_000.0).as_millis();
        assert_eq!(ms(500, 1), 0, "as many as are carried meanwhile");
        assert_eq!(ms(2_000, 1), 1_500);
        assert_eq!(ms(2_000, 2), 500, "the other one carries as much");
        assert_eq!(ms(2_000, 4), 0);
    }
}

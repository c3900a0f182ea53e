//! What is known of every trigger's partitions, for the admin address, readiness and group commits.

use crate::kafka::TopicPartition;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How a partition is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Assigned; the take-over is under way.
    TakingOver,
    /// Owned; batches are handled.
    Owned,
    /// Waits after a failure that is not the function's.
    BackingOff {
        /// What failed.
        reason: String,
    },
    /// Stopped until somebody decides, because to go on would lose or double records.
    Stopped {
        /// Why, and the command that resolves it.
        reason: String,
    },
}

/// One partition. Counters are since this host got it.
#[derive(Debug)]
pub struct PartitionStatus {
    /// Which.
    pub tp: TopicPartition,
    state: Mutex<State>,
    /// Next offset to process; -1 until it is known.
    pub position: AtomicI64,
    /// Records handled.
    pub records: AtomicU64,
    /// Batches committed.
    pub batches: AtomicU64,
    /// Records refused because their number was accepted before.
    pub duplicates: AtomicU64,
    /// Attempts that failed.
    pub failed_attempts: AtomicU64,
    /// Records parked now.
    pub parked: AtomicU64,
    /// Records that became dead letters.
    pub dead: AtomicU64,
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
            State::Stopped { reason } => tracing::error!(partition = %self.tp, reason, "partition stopped"),
            State::BackingOff { reason } => {
                tracing::warn!(partition = %self.tp, reason, "partition backs off")
            }
            State::TakingOver | State::Owned => tracing::debug!(partition = %self.tp, ?state, "partition"),
        }
        *current = state;
        drop(current);
        self.changed.send_replace(());
    }

    /// The state.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// Waits until the row's version is above `known`: somebody changed the partition from outside.
    pub async fn version_above(&self, known: i64) {
        let mut version = self.version.subscribe();
        // The sender lives as long as `self`.
        let _ = version.wait_for(|version| *version > known).await;
    }

    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
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
    joined: AtomicBool,
    partitions: Mutex<BTreeMap<TopicPartition, Arc<PartitionStatus>>>,
    changed: watch::Sender<()>,
}

impl TriggerStatus {
    /// A partition was assigned.
    pub fn add(&self, tp: &TopicPartition) -> Arc<PartitionStatus> {
        let status = Arc::new(PartitionStatus {
            tp: tp.clone(),
            state: Mutex::new(State::TakingOver),
            position: AtomicI64::new(-1),
            records: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            failed_attempts: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            version: watch::Sender::new(0),
            changed: self.changed.clone(),
        });
        lock(&self.partitions).insert(tp.clone(), status.clone());
        self.changed.send_replace(());
        status
    }

    /// A partition went.
    pub fn remove(&self, tp: &TopicPartition) {
        lock(&self.partitions).remove(tp);
        self.changed.send_replace(());
    }

    /// The group has given this host what it gets for now.
    pub fn set_joined(&self) {
        self.joined.store(true, Ordering::Release);
        self.changed.send_replace(());
    }

    /// The partitions, sorted.
    pub fn partitions(&self) -> Vec<Arc<PartitionStatus>> {
        lock(&self.partitions).values().cloned().collect()
    }

    fn is_ready(&self) -> bool {
        self.joined.load(Ordering::Acquire) && self.partitions().iter().all(|p| p.state() == State::Owned)
    }
}

/// All triggers of this host.
#[derive(Clone, Debug)]
pub struct Registry {
    triggers: Arc<Mutex<Vec<Arc<TriggerStatus>>>>,
    changed: watch::Sender<()>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { triggers: Arc::default(), changed: watch::Sender::new(()) }
    }
}

impl Registry {
    /// Adds a trigger.
    pub fn trigger(&self, id: &str, component: &str, group: &str) -> Arc<TriggerStatus> {
        let trigger = Arc::new(TriggerStatus {
            id: id.to_string(),
            component: component.to_string(),
            group: group.to_string(),
            joined: AtomicBool::new(false),
            partitions: Mutex::default(),
            changed: self.changed.clone(),
        });
        lock(&self.triggers).push(trigger.clone());
        trigger
    }

    /// The row of a trigger's partition has this version now.
    pub fn set_version(&self, trigger: &str, tp: &TopicPartition, version: i64) {
        for trigger in self.triggers().iter().filter(|t| t.id == trigger) {
            if let Some(partition) = lock(&trigger.partitions).get(tp) {
                partition.version.send_replace(version);
            }
        }
    }

    /// All triggers.
    pub fn triggers(&self) -> Vec<Arc<TriggerStatus>> {
        lock(&self.triggers).clone()
    }

    /// What is not ready yet, for people; empty where every assigned partition is owned.
    pub fn not_ready(&self) -> Vec<String> {
        let mut waiting = Vec::new();
        for trigger in self.triggers() {
            if !trigger.joined.load(Ordering::Acquire) {
                waiting.push(format!(
                    "trigger {}: group {} has not assigned partitions yet",
                    trigger.id, trigger.group
                ));
            }
            for partition in trigger.partitions() {
                match partition.state() {
                    State::Owned => {}
                    State::TakingOver => {
                        waiting.push(format!("trigger {}: taking over {}", trigger.id, partition.tp))
                    }
                    State::BackingOff { reason } | State::Stopped { reason } => {
                        waiting.push(format!("trigger {}: {}: {reason}", trigger.id, partition.tp));
                    }
                }
            }
        }
        waiting
    }

    /// Waits until every trigger's assigned partitions are owned.
    pub async fn ready(&self) {
        let mut changed = self.changed.subscribe();
        while !self.triggers().iter().all(|t| t.is_ready()) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

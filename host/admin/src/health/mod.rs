//! Whether this host is ready: what was found when it last looked, and where it stands in its life.
//!
//! Nothing is asked when somebody asks: [`probe`] asks the broker and the database all the time, and an answer here is what they
//! last said.

mod probe;

use fnhost_db::views::OutboxView;
use fnhost_dispatch::status::Registry;
use fnhost_types::clock::now_ms;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the host stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not everything was ready yet.
    Starting,
    /// Everything was ready once.
    Serving,
    /// It was told to stop.
    Draining,
}

/// A check, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Name of the check, as `/readyz` and `fnhost_health_check` show it.
    pub check: &'static str,
    /// Whether the check passes.
    pub state: CheckState,
    /// Why, or what is waited for, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<String>,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// It is as it has to be.
    Ok,
    /// The check fails, so the host is not ready.
    Failing,
}

/// What `/readyz` says.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// Whether every check passes.
    pub ready: bool,
    /// Every check with its state and detail.
    pub checks: Vec<Check>,
}

/// The health of this host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    components: usize,
    /// Records that a partition may lag, where readiness is bound to that.
    max_lag: Option<u64>,
    /// None where this host has nothing to do with Kafka.
    broker: Option<Mutex<Answer>>,
    database: Mutex<Answer>,
    stage: Mutex<Stage>,
    outbox: Mutex<Vec<OutboxView>>,
    scrape_nanos: AtomicU64,
}

/// What something said when it was last asked; the error is for people.
type Answer = Result<(), String>;

impl Health {
    /// The health of a host that has loaded so many components; with `kafka`, one that has to reach a broker.
    pub fn new(registry: Registry, components: usize, kafka: bool, max_lag: Option<u64>) -> Self {
        let not_asked = || Mutex::new(Err("not probed yet".to_owned()));
        Self {
            inner: Arc::new(Inner {
                registry,
                components,
                max_lag,
                broker: kafka.then(not_asked),
                database: not_asked(),
                stage: Mutex::new(Stage::Starting),
                outbox: Mutex::default(),
                scrape_nanos: AtomicU64::new(0),
            }),
        }
    }

    /// Says where the host stands.
    pub fn set_stage(&self, stage: Stage) {
        *lock(&self.inner.stage) = stage;
    }

    /// The triggers whose partitions are looked at.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// The deployment's outbox as last read.
    pub fn outbox(&self) -> Vec<OutboxView> {
        lock(&self.inner.outbox).clone()
    }

    /// How long the last scrape of the metrics took, seconds; sets the one after it.
    pub(crate) fn scrape_took(&self, now: Option<std::time::Duration>) -> f64 {
        let nanos = &self.inner.scrape_nanos;
        if let Some(took) = now {
            nanos.store(took.as_nanos() as u64, Ordering::Relaxed);
        }
        nanos.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Evaluates every check of `/readyz`, from memory.
    pub fn readiness(&self) -> Readiness {
        let inner = &self.inner;
        let stage = match *lock(&inner.stage) {
            Stage::Serving => vec![],
            Stage::Starting => vec!["starting".to_owned()],
            Stage::Draining => vec!["draining".to_owned()],
        };
        let said = |answer: &Mutex<Answer>| lock(answer).clone().err().into_iter().collect();
        let mut checks = vec![
            check("stage", stage),
            check(
                "components",
                if inner.components == 0 { vec!["no component is loaded".to_owned()] } else { vec![] },
            ),
            check("database", said(&inner.database)),
        ];
        if let Some(broker) = &inner.broker {
            checks.push(check("broker", said(broker)));
            checks.push(check("partitions", inner.registry.not_ready()));
        }
        checks.push(check("tasks", fnhost_metrics::ailing_tasks()));
        let schedules = inner.registry.schedules();
        if !schedules.is_empty() {
            let detail = schedules.iter().filter_map(|schedule| schedule.line(now_ms())).collect();
            // It tells and never fails: a function that fails on a tick is no reason to send its host no requests.
            checks.push(Check { check: "schedules", state: CheckState::Ok, detail });
        }
        if let Some(max_lag) = inner.max_lag {
            checks.push(check("lag", inner.lagging(max_lag)));
        }
        Readiness { ready: checks.iter().all(|c| c.state == CheckState::Ok), checks }
    }
}

impl Inner {
    /// Partitions that lag more than so many records, or whose lag is not known.
    fn lagging(&self, max_lag: u64) -> Vec<String> {
        let triggers = self.registry.triggers();
        let partitions = triggers.iter().flat_map(|t| t.partitions().into_iter().map(move |p| (&t.id, p)));
        let lagging = partitions.filter_map(|(trigger, partition)| {
            let tp = &partition.tp;
            match partition.backlog.lag(partition.position.load(Ordering::Relaxed)) {
                None => Some(format!("trigger {trigger}: the lag of {tp} is not known yet")),
                Some(lag) if lag.unsigned_abs() > max_lag => {
                    Some(format!("trigger {trigger}: {tp} lags {lag} records, more than {max_lag}"))
                }
                Some(_) => None,
            }
        });
        lagging.collect()
    }
}

fn check(check: &'static str, detail: Vec<String>) -> Check {
    let state = if detail.is_empty() { CheckState::Ok } else { CheckState::Failing };
    Check { check, state, detail }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_dispatch::status::State;
    use fnhost_types::record::TopicPartition;

    fn failing(health: &Health) -> Vec<&'static str> {
        let readiness = health.readiness();
        let failing: Vec<_> =
            readiness.checks.iter().filter(|c| c.state == CheckState::Failing).map(|c| c.check).collect();
        assert_eq!(readiness.ready, failing.is_empty());
        failing
    }

    #[test]
    fn a_host_is_ready_when_everything_is() {
        let registry = Registry::default();
        let trigger = registry.trigger("t", "c", "g");
        let health = Health::new(registry, 1, true, Some(10));
        assert_eq!(failing(&health), ["stage", "database", "broker", "partitions"]);
        *lock(&health.inner.database) = Ok(());
        *lock(health.inner.broker.as_ref().unwrap()) = Ok(());
        health.set_stage(Stage::Serving);
        assert_eq!(failing(&health), ["partitions"], "the group has not assigned");
        trigger.set_joined();
        assert_eq!(failing(&health), ["partitions"], "it gave nothing, and nobody is known to have it");
        trigger.set_others_have_all(true);
        assert!(failing(&health).is_empty(), "a group with fewer partitions than members");

        let tp = TopicPartition::new("topic", 0);
        let partition = trigger.add(&tp, 1);
        assert_eq!(failing(&health), ["partitions", "lag"]);
        partition.set(State::Owned);
        partition.position.store(5, Ordering::Relaxed);
        assert_eq!(failing(&health), ["lag"], "not known yet");
        partition.backlog.log_end(16, 5, 0);
        assert_eq!(failing(&health), ["lag"]);
        partition.position.store(6, Ordering::Relaxed);
        assert!(failing(&health).is_empty());

        trigger.remove(&tp);
        assert_eq!(failing(&health), ["partitions"], "what the others had before it had one says nothing");
        health.set_stage(Stage::Draining);
        assert_eq!(failing(&health), ["stage", "partitions"]);
    }

    #[test]
    fn a_host_without_kafka_needs_none() {
        let health = Health::new(Registry::default(), 1, false, None);
        *lock(&health.inner.database) = Ok(());
        health.set_stage(Stage::Serving);
        assert!(failing(&health).is_empty());
    }
}

//! Key-value stores: what components ask of them, and whether they can be reached.

use super::time::Timer;
use super::{family, names};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::LazyLock;

static READS: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::KEY_VALUE_READS));
static WRITES: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::KEY_VALUE_WRITES));
static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| family::histogram(&names::KEY_VALUE_DURATION));
static UP: LazyLock<IntGaugeVec> = LazyLock::new(|| family::int_gauge(&names::KEY_VALUE_UP));

/// Handles of one component's use of one store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    hits: IntCounter,
    misses: IntCounter,
    read_errors: IntCounter,
    writes: IntCounter,
    write_errors: IntCounter,
    duration: Histogram,
}

impl StoreMetrics {
    /// Handles for a component and the label of a store.
    pub fn new(component: &str, label: &str) -> Self {
        let read = |outcome| READS.with_label_values(&[component, label, outcome]);
        let written = |outcome| WRITES.with_label_values(&[component, label, outcome]);
        Self {
            hits: read("hit"),
            misses: read("miss"),
            read_errors: read("error"),
            writes: written("ok"),
            write_errors: written("error"),
            duration: DURATION.with_label_values(&[component, label]),
        }
    }

    /// A key was asked for: whether it had a value; nothing where the store failed.
    pub fn read(&self, since: Timer, found: Option<bool>) {
        match found {
            Some(true) => self.hits.inc(),
            Some(false) => self.misses.inc(),
            None => self.read_errors.inc(),
        }
        since.observe(&self.duration);
    }

    /// A key was given a value, or was deleted.
    pub fn written(&self, since: Timer, done: bool) {
        if done {
            self.writes.inc()
        } else {
            self.write_errors.inc()
        }
        since.observe(&self.duration);
    }
}

/// Whether a store on a server can be reached.
#[derive(Debug)]
pub struct StoreUp(IntGauge);

impl StoreUp {
    /// The store of this label, which is not reached yet.
    pub fn new(label: &str) -> Self {
        let up = UP.with_label_values(&[label]);
        up.set(0);
        Self(up)
    }

    /// Whether it can be reached from now on.
    pub fn set(&self, up: bool) {
        self.0.set(up.into());
    }
}

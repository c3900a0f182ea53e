//! The dispatches of one trigger, and the batches of one relay.

use super::time::Timer;
use super::{family, names};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::LazyLock;
use std::time::Duration;

static DISPATCH: LazyLock<HistogramVec> = LazyLock::new(|| family::histogram(&names::DISPATCH));
static PHASE: LazyLock<HistogramVec> = LazyLock::new(|| family::histogram(&names::DISPATCH_PHASE));
static BATCH_RECORDS: LazyLock<HistogramVec> = LazyLock::new(|| family::histogram(&names::BATCH_RECORDS));
static EMITTED: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::EMITTED));
static RELAY_BATCHES: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::RELAY_BATCHES));
static RELAY_EVENTS: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::RELAY_EVENTS));
static RELAY_BATCH: LazyLock<HistogramVec> = LazyLock::new(|| family::histogram(&names::RELAY_BATCH));
static RELAY_LEADER: LazyLock<IntGaugeVec> = LazyLock::new(|| family::int_gauge(&names::RELAY_LEADER));
static ACKNOWLEDGEMENT: LazyLock<Histogram> =
    LazyLock::new(|| family::histogram(&names::ACKNOWLEDGEMENT).with_label_values(&[] as &[&str]));

/// A part of a dispatch that follows its call: its place in [`PHASES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchPhase {
    /// The store and COMMIT.
    Commit = 4,
    /// Until the producer has the messages.
    Produce = 5,
}

/// Labels of the phases, in their order. The first four are those of the call.
const PHASES: [&str; 6] = ["wait", "instantiate", "guest", "sql", "commit", "produce"];

/// Handles of one trigger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DispatchMetrics {
    whole: Histogram,
    phases: [Histogram; PHASES.len()],
    records: Histogram,
    emitted: IntCounter,
}

impl DispatchMetrics {
    /// Handles for a trigger.
    pub fn new(trigger: &str) -> Self {
        LazyLock::force(&ACKNOWLEDGEMENT);
        Self {
            whole: DISPATCH.with_label_values(&[trigger]),
            phases: PHASES.map(|phase| PHASE.with_label_values(&[trigger, phase])),
            records: BATCH_RECORDS.with_label_values(&[trigger]),
            emitted: EMITTED.with_label_values(&[trigger]),
        }
    }

    /// A batch of so many records is settled.
    pub fn settled(&self, since: Timer, records: usize) {
        since.observe(&self.whole);
        self.records.observe(records as f64);
    }

    /// A part of a dispatch is over.
    pub fn phase(&self, phase: DispatchPhase, since: Timer) {
        since.observe(&self.phases[phase as usize]);
    }

    /// The call of a dispatch is over; its parts took so long: wait, instantiate, guest, sql.
    pub fn called(&self, took: [Duration; 4]) {
        if super::measures() {
            self.phases.iter().zip(took).for_each(|(phase, took)| phase.observe(took.as_secs_f64()));
        }
    }

    /// So many messages are committed.
    pub fn emitted(&self, messages: usize) {
        self.emitted.inc_by(messages as u64);
    }
}

/// Kafka has acknowledged all messages of a batch.
pub fn acknowledged(since: Timer) {
    since.observe(&ACKNOWLEDGEMENT);
}

/// Handles of one component's relay.
#[derive(Clone, Debug)]
pub struct RelayMetrics {
    batches: IntCounter,
    events: IntCounter,
    duration: Histogram,
    leader: IntGauge,
    emitted: IntCounter,
}

impl RelayMetrics {
    /// Handles for the relay of a stream, `<deployment>/<trigger>`.
    pub fn new(stream: &str) -> Self {
        let trigger = &[stream.rsplit('/').next().unwrap_or(stream)];
        Self {
            batches: RELAY_BATCHES.with_label_values(trigger),
            events: RELAY_EVENTS.with_label_values(trigger),
            duration: RELAY_BATCH.with_label_values(trigger),
            leader: RELAY_LEADER.with_label_values(trigger),
            emitted: EMITTED.with_label_values(trigger),
        }
    }

    /// This host leads, until the answer is dropped.
    #[must_use]
    pub fn leads(&self) -> super::calls::Raised {
        super::calls::Raised::new(&self.leader)
    }

    /// A batch of so many events is committed and with the producer; some of them may be dead letters.
    pub fn relayed(&self, since: Timer, events: usize, messages: usize) {
        self.batches.inc();
        self.events.inc_by(events as u64);
        self.emitted.inc_by(messages as u64);
        since.observe(&self.duration);
    }
}

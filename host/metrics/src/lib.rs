//! What is counted and measured, and how `/metrics` shows it.
//!
//! [`names`] is the table of all metrics. Whoever runs often holds a handle made beforehand ([`CallMetrics`],
//! [`DispatchMetrics`], [`RelayMetrics`], [`HttpMetrics`], [`LiveMetrics`]): an update is an addition to an atomic number, once for each batch
//! or request and never for each record. What stands in memory anyway (positions, pools, the process) is read at the scrape by
//! the scrape of `fnhost-admin`; what only the database knows is read beforehand, by the prober of `fnhost-admin`.

mod calls;
mod dispatch;
mod edge;
pub mod family;
mod http;
mod key_value;
mod live;
pub mod names;
mod outbound;
pub mod process;
mod tasks;
mod time;

pub use calls::{CallMetrics, ComponentMetrics, Ending, Raised};
pub use dispatch::{DispatchMetrics, DispatchPhase, RelayMetrics, acknowledged};
pub use edge::{Refusal, RefusalMetrics, sheds};
pub use http::{HttpMetrics, RouteMetrics};
pub use key_value::{StoreMetrics, StoreUp};
pub use live::{LiveMetrics, StreamEnd, Transport};
pub use outbound::{OutboundMetrics, OutboundOutcome};
pub use tasks::{ailing_tasks, ails, recovers, supervise, survives};
pub use time::{Timer, with_cpu};

use prometheus::{IntCounter, IntCounterVec};
use std::sync::LazyLock;

/// Variable that switches the measuring of times off, to see what it costs: `FNHOST_METRICS=off`. Counts stay.
pub const SWITCH: &str = "FNHOST_METRICS";

/// Whether times are measured.
fn measures() -> bool {
    static OFF: LazyLock<bool> = LazyLock::new(|| std::env::var(SWITCH).is_ok_and(|v| v == "off"));
    !*OFF
}

/// Defines a family of counters for events that are rare enough to be looked up by their labels.
macro_rules! rare {
    ($family:ident = $name:ident) => {
        static $family: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::$name));
    };
}

rare!(SWAPS = SWAPS);
rare!(DATABASE_ERRORS = DATABASE_ERRORS);
rare!(KAFKA_ERRORS = KAFKA_ERRORS);
rare!(EMBEDDED_RESTARTS = EMBEDDED_RESTARTS);
rare!(FORGED_NUMBERS = FORGED_NUMBERS);
rare!(SPANS_EXPORTED = SPANS_EXPORTED);
rare!(SPANS_DROPPED = SPANS_DROPPED);

/// What became of a new version of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The new version runs.
    Switched,
    /// It ran, and the version before it runs again.
    RolledBack,
    /// It was not taken.
    Refused,
}

impl Swap {
    const ALL: [Self; 3] = [Self::Switched, Self::RolledBack, Self::Refused];

    fn label(self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::RolledBack => "rolled-back",
            Self::Refused => "refused",
        }
    }
}

/// Counts what became of a new version.
pub fn swap(component: &str, outcome: Swap) {
    SWAPS.with_label_values(&[component, outcome.label()]).inc();
}

/// Shows a component's swaps before there are any.
fn show_swaps(component: &str) {
    for outcome in Swap::ALL {
        SWAPS.with_label_values(&[component, outcome.label()]);
    }
}

/// A client of Kafka.
#[derive(Clone, Copy, Debug)]
pub enum KafkaClient {
    /// A group's consumer.
    Consumer,
    /// The host's producer.
    Producer,
}

/// Counts an error that librdkafka reported.
pub fn kafka_error(client: KafkaClient) {
    let label = match client {
        KafkaClient::Consumer => "consumer",
        KafkaClient::Producer => "producer",
    };
    KAFKA_ERRORS.with_label_values(&[label]).inc();
}

/// Shows the count of these topics' forged numbers before there is one.
pub fn expect_forged_numbers<'t>(topics: impl IntoIterator<Item = &'t String>) {
    topics.into_iter().for_each(|topic| drop(FORGED_NUMBERS.with_label_values(&[topic.as_str()])));
}

/// Counts a record that claims a number which this deployment has not given.
pub fn forged_number(topic: &str) {
    FORGED_NUMBERS.with_label_values(&[topic]).inc();
}

/// Counts a failed statement or connection.
pub fn database_error(class: fnhost_types::failure::FailureClass) {
    use fnhost_types::failure::FailureClass::{Conflict, Function, Infrastructure, Unclear};
    let label = match class {
        Function => "function",
        Conflict => "conflict",
        Infrastructure => "infrastructure",
        Unclear => "unclear",
    };
    DATABASE_ERRORS.with_label_values(&[label]).inc();
}

/// Counts a private server (`postgres`, `kafka`) that ended by itself.
pub fn embedded_restart(server: &str) {
    EMBEDDED_RESTARTS.with_label_values(&[&server.to_ascii_lowercase()]).inc();
}

/// Why spans were dropped.
#[derive(Clone, Copy, Debug)]
pub enum Dropped {
    /// The exporter's queue was full.
    Queue,
    /// The collector did not take them.
    Collector,
}

impl Dropped {
    fn label(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Collector => "collector",
        }
    }
}

/// Counts spans that were dropped.
pub fn spans_dropped(why: Dropped, spans: usize) {
    SPANS_DROPPED.with_label_values(&[why.label()]).inc_by(spans as u64);
}

/// Spans dropped so far.
pub fn dropped_spans(why: Dropped) -> u64 {
    SPANS_DROPPED.with_label_values(&[why.label()]).get()
}

/// Counts spans that the collector took.
pub fn spans_exported(spans: usize) {
    SPANS_EXPORTED.with_label_values(&[] as &[&str]).inc_by(spans as u64);
}

/// Shows what has fixed labels before anything happened: a rate needs the 0 it rises from. Called at each scrape.
pub fn show_rare() {
    let zero = |family: &IntCounterVec, label: &str| -> IntCounter { family.with_label_values(&[label]) };
    ["consumer", "producer"].iter().for_each(|l| drop(zero(&KAFKA_ERRORS, l)));
    ["function", "conflict", "infrastructure"].iter().for_each(|l| drop(zero(&DATABASE_ERRORS, l)));
    ["postgres", "kafka"].iter().for_each(|l| drop(zero(&EMBEDDED_RESTARTS, l)));
    ["queue", "collector"].iter().for_each(|l| drop(zero(&SPANS_DROPPED, l)));
    spans_exported(0);
}

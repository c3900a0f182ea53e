//! The calls of one component.

use super::{family, names};
use prometheus::{
    Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

static CALLS: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::CALLS));
static RUNNING: LazyLock<IntGaugeVec> = LazyLock::new(|| family::int_gauge(&names::CALLS_RUNNING));
static WAITING: LazyLock<IntGaugeVec> = LazyLock::new(|| family::int_gauge(&names::CALLS_WAITING));
static CPU: LazyLock<CounterVec> = LazyLock::new(|| family::counter(&names::CALL_CPU));
static MEMORY: LazyLock<HistogramVec> = LazyLock::new(|| family::histogram(&names::CALL_MEMORY));
static HTTP_PHASE: LazyLock<HistogramVec> = LazyLock::new(|| family::histogram(&names::HTTP_PHASE));

/// Which of a component's handlers is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handler {
    /// A request.
    Http,
    /// A batch of records.
    Kafka,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The function returned.
    Ok,
    /// With an error that the function said itself.
    Error,
    /// The guest trapped.
    Trap,
    /// It took too long.
    Deadline,
    /// It asked for too much memory.
    Memory,
    /// The instance could not be made.
    Instantiate,
    /// The client broke its request off.
    Request,
}

impl Ending {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Ok, "ok"),
        (Self::Error, "error"),
        (Self::Trap, "trap"),
        (Self::Deadline, "deadline"),
        (Self::Memory, "memory"),
        (Self::Instantiate, "instantiate"),
        (Self::Request, "request"),
    ];
}

/// Handles of one component's handler.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    outcomes: [IntCounter; Ending::ALL.len()],
    running: IntGauge,
    waiting: IntGauge,
    cpu: Counter,
    memory: Histogram,
    /// Of the HTTP handler alone: wait, instantiate, guest, sql. A Kafka handler's are its trigger's.
    phases: Option<[Histogram; 4]>,
}

impl CallMetrics {
    /// Handles for a component.
    fn new(component: &str, handler: Handler) -> Self {
        let name = match handler {
            Handler::Http => "http",
            Handler::Kafka => "kafka",
        };
        let labels = [component, name];
        let phase = |phase| HTTP_PHASE.with_label_values(&[component, phase]);
        Self {
            outcomes: Ending::ALL.map(|(_, outcome)| CALLS.with_label_values(&[component, name, outcome])),
            running: RUNNING.with_label_values(&labels),
            waiting: WAITING.with_label_values(&labels),
            cpu: CPU.with_label_values(&labels),
            memory: MEMORY.with_label_values(&labels),
            phases: (handler == Handler::Http).then(|| ["wait", "instantiate", "guest", "sql"].map(phase)),
        }
    }

    /// A call waits for its place, until the answer is dropped.
    #[must_use]
    pub fn waits(&self) -> Raised {
        Raised::new(&self.waiting)
    }

    /// A call has its place, until the answer is dropped.
    #[must_use]
    pub fn runs(&self) -> Raised {
        Raised::new(&self.running)
    }

    /// A call is over.
    pub fn ended(&self, outcome: Ending, cpu: Duration, memory_peak_bytes: usize) {
        self.outcomes[outcome as usize].inc();
        self.cpu.inc_by(cpu.as_secs_f64());
        self.memory.observe(memory_peak_bytes as f64);
    }

    /// The parts of an HTTP call: wait, instantiate, guest, sql.
    pub fn phases(&self, took: [Duration; 4]) {
        if let Some(phases) = self.phases.as_ref().filter(|_| super::measures()) {
            phases.iter().zip(took).for_each(|(phase, took)| phase.observe(took.as_secs_f64()));
        }
    }
}

/// Handles of one component, each made when it is first needed. The versions of a component count together.
#[derive(Debug)]
pub struct ComponentMetrics {
    component: String,
    http: OnceLock<CallMetrics>,
    kafka: OnceLock<CallMetrics>,
}

impl ComponentMetrics {
    /// Handles for a component with these triggers.
    pub fn new(component: &str, http: bool, kafka: bool) -> Self {
        super::show_swaps(component);
        let metrics = Self { component: component.to_owned(), http: OnceLock::new(), kafka: OnceLock::new() };
        // Shown before the first call.
        let _ = http.then(|| metrics.http());
        let _ = kafka.then(|| metrics.kafka());
        metrics
    }

    /// Those of its HTTP handler.
    pub fn http(&self) -> &CallMetrics {
        self.http.get_or_init(|| CallMetrics::new(&self.component, Handler::Http))
    }

    /// Those of its Kafka handler.
    pub fn kafka(&self) -> &CallMetrics {
        self.kafka.get_or_init(|| CallMetrics::new(&self.component, Handler::Kafka))
    }
}

/// A gauge that is one higher for as long as this lives.
#[derive(Debug)]
pub struct Raised(IntGauge);

impl Raised {
    /// Raises it.
    #[must_use]
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

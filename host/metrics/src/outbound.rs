//! Requests that components send, by component and by the entry of `allowed_outbound_hosts` that lets them through.

use super::calls::Raised;
use super::time::Timer;
use super::{family, names};
use http::StatusCode;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::{Arc, LazyLock};

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::OUTBOUND_REQUESTS));
static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| family::histogram(&names::OUTBOUND_DURATION));
static IN_FLIGHT: LazyLock<IntGaugeVec> = LazyLock::new(|| family::int_gauge(&names::OUTBOUND_IN_FLIGHT));
static CONNECTIONS: LazyLock<IntCounterVec> =
    LazyLock::new(|| family::int_counter(&names::OUTBOUND_CONNECTIONS));
static RETRIES: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::OUTBOUND_RETRIES));
static DENIED: LazyLock<IntCounterVec> =
    LazyLock::new(|| family::int_counter(&names::OUTBOUND_RETRIES_DENIED));
static OPEN: LazyLock<IntGaugeVec> = LazyLock::new(|| family::int_gauge(&names::OUTBOUND_CIRCUITS_OPEN));
static OPENED: LazyLock<IntCounterVec> =
    LazyLock::new(|| family::int_counter(&names::OUTBOUND_CIRCUITS_OPENED));

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundOutcome {
    /// An answer 100 to 399.
    Success,
    /// An answer 400 to 499.
    ClientError,
    /// An answer 500 or above.
    ServerError,
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke before there was an answer.
    Broken,
    /// The function's own request was none, or broke off.
    Request,
    /// The circuit was open.
    Refused,
    /// Too many requests were under way.
    Full,
}

use OutboundOutcome::{Broken, ClientError, Connect, Full, Refused, Request, ServerError, Success, Timeout};

impl OutboundOutcome {
    const ALL: [(Self, &'static str); 9] = [
        (Success, "success"),
        (ClientError, "client-error"),
        (ServerError, "server-error"),
        (Connect, "connect"),
        (Timeout, "timeout"),
        (Broken, "broken"),
        (Request, "request"),
        (Refused, "circuit-open"),
        (Full, "full"),
    ];

    /// How a request with this answer ended.
    pub fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            ..=399 => Success,
            400..=499 => ClientError,
            _ => ServerError,
        }
    }
}

/// Handles of one component and one entry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OutboundMetrics(Arc<Handles>);

#[derive(Debug)]
struct Handles {
    host: String,
    requests: [IntCounter; OutboundOutcome::ALL.len()],
    duration: Histogram,
    in_flight: IntGauge,
    connections: IntCounter,
    retries: IntCounter,
    denied: IntCounter,
    open: IntGauge,
    opened: IntCounter,
}

/// A request under way; dropped where it has ended.
#[derive(Debug)]
pub struct UnderWay<'a> {
    handles: &'a Handles,
    since: Timer,
    _raised: Raised,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.since.observe(&self.handles.duration);
    }
}

impl OutboundMetrics {
    /// Handles for requests of `component` that `host`, an entry as it is written, lets through.
    pub fn new(component: &str, host: &str) -> Self {
        let labels = [component, host];
        Self(Arc::new(Handles {
            host: host.to_owned(),
            requests: OutboundOutcome::ALL
                .map(|(_, outcome)| REQUESTS.with_label_values(&[component, host, outcome])),
            duration: DURATION.with_label_values(&labels),
            in_flight: IN_FLIGHT.with_label_values(&labels),
            connections: CONNECTIONS.with_label_values(&labels),
            retries: RETRIES.with_label_values(&labels),
            denied: DENIED.with_label_values(&labels),
            open: OPEN.with_label_values(&labels),
            opened: OPENED.with_label_values(&labels),
        }))
    }

    /// Entry of `allowed_outbound_hosts` that these metrics count for.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// A request waits for the head of its answer, until this is dropped.
    #[must_use]
    pub fn under_way(&self) -> UnderWay<'_> {
        UnderWay { handles: &self.0, since: Timer::start(), _raised: Raised::new(&self.0.in_flight) }
    }

    /// A request ended.
    pub fn ended(&self, outcome: OutboundOutcome) {
        let index = OutboundOutcome::ALL.iter().position(|(known, _)| *known == outcome);
        self.0.requests[index.unwrap_or_default()].inc();
    }

    /// A connection was opened.
    pub fn connected(&self) {
        self.0.connections.inc();
    }

    /// A request is sent again.
    pub fn retried(&self) {
        self.0.retries.inc();
    }

    /// A request would have been sent again, but the budget was used up.
    pub fn retry_denied(&self) {
        self.0.denied.inc();
    }

    /// A circuit that was closed is not any more.
    pub fn circuit_opened(&self) {
        self.0.open.inc();
        self.0.opened.inc();
    }

    /// A circuit is closed again, or gone.
    pub fn circuit_closed(&self) {
        self.0.open.dec();
    }
}

//! Requests of clients, by route.

use super::calls::Raised;
use super::time::Timer;
use super::{family, names};
use http::{Method, StatusCode};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};
use std::sync::{LazyLock, OnceLock};

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::HTTP_REQUESTS));
static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| family::histogram(&names::HTTP_DURATION));
static IN_FLIGHT: LazyLock<IntGauge> =
    LazyLock::new(|| family::int_gauge(&names::HTTP_IN_FLIGHT).with_label_values(&[] as &[&str]));
static CONNECTIONS: LazyLock<IntGauge> =
    LazyLock::new(|| family::int_gauge(&names::HTTP_CONNECTIONS).with_label_values(&[] as &[&str]));
static CONNECTIONS_REFUSED: LazyLock<IntCounter> =
    LazyLock::new(|| family::int_counter(&names::HTTP_CONNECTIONS_REFUSED).with_label_values(&[] as &[&str]));

/// Methods that have a label of their own; all others share the one after them. Clients choose methods, so the set is closed.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
/// Label of every method and every status that has none of its own.
const OTHER: &str = "other";
/// Statuses that have a label of their own: 100 to 599.
const STATUSES: usize = 500;
/// Classes of statuses, and all others.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", OTHER];

/// What concerns all routes.
#[derive(Debug)]
pub struct HttpMetrics {
    /// Requests that no route matches.
    pub unrouted: RouteMetrics,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        LazyLock::force(&IN_FLIGHT);
        LazyLock::force(&CONNECTIONS);
        LazyLock::force(&CONNECTIONS_REFUSED);
        Self { unrouted: RouteMetrics::new("", "") }
    }
}

impl HttpMetrics {
    /// A request waits for the head of its response, until the answer is dropped.
    #[must_use]
    pub fn in_flight(&self) -> Raised {
        Raised::new(&IN_FLIGHT)
    }

    /// A connection is open, until the answer is dropped.
    #[must_use]
    pub fn connection(&self) -> Raised {
        Raised::new(&CONNECTIONS)
    }

    /// A connection was closed at once, because its client has too many.
    pub fn connection_refused(&self) {
        CONNECTIONS_REFUSED.inc();
    }
}

/// Handles of one route, each made when it is first needed.
#[derive(Debug)]
pub struct RouteMetrics {
    component: String,
    pattern: String,
    methods: [OnceLock<Box<MethodMetrics>>; METHODS.len() + 1],
}

#[derive(Debug)]
struct MethodMetrics {
    counts: [OnceLock<IntCounter>; STATUSES + 1],
    durations: [OnceLock<Histogram>; CLASSES.len()],
}

impl RouteMetrics {
    /// Handles for a route with this pattern.
    pub fn new(component: &str, pattern: &str) -> Self {
        Self {
            component: component.to_owned(),
            pattern: pattern.to_owned(),
            methods: [const { OnceLock::new() }; METHODS.len() + 1],
        }
    }

    /// A request was answered.
    pub fn answered(&self, method: &Method, status: StatusCode, since: Timer) {
        let method = METHODS.iter().position(|known| known == method).unwrap_or(METHODS.len());
        let handles = self.methods[method].get_or_init(|| {
            Box::new(MethodMetrics {
                counts: [const { OnceLock::new() }; STATUSES + 1],
                durations: [const { OnceLock::new() }; CLASSES.len()],
            })
        });
        let (component, pattern) = (self.component.as_str(), self.pattern.as_str());
        let method = METHODS.get(method).map_or(OTHER, Method::as_str);
        let index = usize::from(status.as_u16()).saturating_sub(100).min(STATUSES);
        let count = handles.counts[index].get_or_init(|| {
            let label = if index < STATUSES { status.as_str() } else { OTHER };
            REQUESTS.with_label_values(&[component, pattern, method, label])
        });
        count.inc();
        let class = (index / 100).min(CLASSES.len() - 1);
        let duration = handles.durations[class]
            .get_or_init(|| DURATION.with_label_values(&[component, pattern, method, CLASSES[class]]));
        since.observe(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_a_closed_set() {
        let route = RouteMetrics::new("own", "/only/in/this/test/:id");
        let odd = Method::from_bytes(b"BREW").unwrap();
        for (method, status) in
            [(Method::GET, 200), (Method::GET, 200), (Method::GET, 404), (odd.clone(), 200), (odd, 799)]
        {
            route.answered(&method, StatusCode::from_u16(status).unwrap(), Timer::start());
        }
        let count = |method, status| {
            REQUESTS.with_label_values(&["own", "/only/in/this/test/:id", method, status]).get()
        };
        assert_eq!(count("GET", "200"), 2);
        assert_eq!(count("GET", "404"), 1);
        assert_eq!(count("other", "200"), 1);
        assert_eq!(count("other", "other"), 1);
        let durations = |method, class| {
            let labels = ["own", "/only/in/this/test/:id", method, class];
            DURATION.with_label_values(&labels).get_sample_count()
        };
        assert_eq!(durations("GET", "2xx"), 2);
        assert_eq!(durations("other", "other"), 1);
    }
}

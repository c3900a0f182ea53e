//! Requests that the edge refused, by route and reason.

use super::{family, names};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use std::sync::LazyLock;

static SHED: LazyLock<IntGauge> =
    LazyLock::new(|| family::int_gauge(&names::HTTP_SHED).with_label_values(&[] as &[&str]));
static REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::HTTP_REFUSED));

/// So many of a hundred requests whose turn is first are refused under overload from now on.
pub fn sheds(percent: i64) {
    SHED.set(percent);
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// More bytes of body than allowed.
    BodySize,
    /// More headers, or more bytes of them, than allowed.
    HeaderSize,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body ended before its end.
    BodyIncomplete,
    /// No host is named, or two are.
    Host,
    /// There was no answer in time.
    RequestTimeout,
    /// No token, or one that is not accepted.
    Token,
    /// The caller has made too many requests.
    RateLimit,
    /// A preflight of an origin that is not allowed.
    Cors,
    /// There is more to do than can be done.
    Overload,
}

impl Refusal {
    const ALL: [Self; 10] = [
        Self::BodySize,
        Self::HeaderSize,
        Self::BodyTimeout,
        Self::BodyIncomplete,
        Self::Host,
        Self::RequestTimeout,
        Self::Token,
        Self::RateLimit,
        Self::Cors,
        Self::Overload,
    ];

    /// As labels and log lines have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::BodySize => "body-size",
            Self::HeaderSize => "header-size",
            Self::BodyTimeout => "body-timeout",
            Self::BodyIncomplete => "body-incomplete",
            Self::Host => "host",
            Self::RequestTimeout => "request-timeout",
            Self::Token => "token",
            Self::RateLimit => "rate-limit",
            Self::Cors => "cors",
            Self::Overload => "overload",
        }
    }
}

/// Handles of one of the edge's routes.
#[derive(Debug)]
pub struct RefusalMetrics {
    counts: [IntCounter; Refusal::ALL.len()],
}

impl RefusalMetrics {
    /// Handles for the rules of a route with this pattern; empty for the defaults.
    pub fn new(pattern: &str) -> Self {
        Self { counts: Refusal::ALL.map(|why| REFUSED.with_label_values(&[pattern, why.label()])) }
    }

    /// A request was refused.
    pub fn refused(&self, why: Refusal) {
        self.counts[why as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        let metrics = RefusalMetrics::new("/only/in/this/test");
        for (times, why) in (1..).zip(Refusal::ALL) {
            (0..times).for_each(|_| metrics.refused(why));
        }
        for (times, why) in (1..).zip(Refusal::ALL) {
            assert_eq!(REFUSED.with_label_values(&["/only/in/this/test", why.label()]).get(), times);
        }
    }
}

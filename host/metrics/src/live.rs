//! Clients of live routes.

use super::calls::Raised;
use super::{family, names};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::LazyLock;

static VIEWERS: LazyLock<IntGaugeVec> = LazyLock::new(|| family::int_gauge(&names::PUSH_VIEWERS));
static ENDED: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::PUSH_ENDED));

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Server-sent events.
    Events,
    /// A WebSocket.
    WebSocket,
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The client went, or did not read.
    Client,
    /// It had lasted as long as a stream may.
    Lifetime,
    /// The client fell too far behind, or the tail began anew.
    CutOff,
    /// The host stopped.
    Stopped,
}

/// Handles of all live routes together.
#[derive(Clone, Debug)]
pub struct LiveMetrics {
    viewers: [IntGauge; 2],
    ended: [IntCounter; 4],
}

impl Default for LiveMetrics {
    fn default() -> Self {
        // In the order of the variants.
        let viewers = ["events", "websocket"].map(|transport| VIEWERS.with_label_values(&[transport]));
        let ended = ["client", "lifetime", "cut-off", "stopped"].map(|end| ENDED.with_label_values(&[end]));
        Self { viewers, ended }
    }
}

impl LiveMetrics {
    /// A client watches, until the answer is dropped.
    #[must_use]
    pub fn watches(&self, transport: Transport) -> Raised {
        Raised::new(&self.viewers[transport as usize])
    }

    /// A stream has ended.
    pub fn ended(&self, end: StreamEnd) {
        self.ended[end as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than other tests of this process watch and end meanwhile.
    const MANY: usize = 1_000;

    #[test]
    fn handles_and_labels_belong_together() {
        let metrics = LiveMetrics::default();
        for (transport, label) in [(Transport::Events, "events"), (Transport::WebSocket, "websocket")] {
            let viewers = VIEWERS.with_label_values(&[label]);
            let watching: Vec<Raised> = (0..MANY).map(|_| metrics.watches(transport)).collect();
            assert!(viewers.get() >= MANY as i64, "{label}");
            drop(watching);
            assert!(viewers.get() < MANY as i64, "{label}");
        }
        let ends = [
            (StreamEnd::Client, "client"),
            (StreamEnd::Lifetime, "lifetime"),
            (StreamEnd::CutOff, "cut-off"),
            (StreamEnd::Stopped, "stopped"),
        ];
        for (end, label) in ends {
            let before = ENDED.with_label_values(&[label]).get();
            (0..MANY).for_each(|_| metrics.ended(end));
            assert!(ENDED.with_label_values(&[label]).get() - before >= MANY as u64, "{label}");
        }
    }
}

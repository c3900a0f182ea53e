//! How long whoever has settled a small batch rests, so that the next one is larger.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest rest. Reached where a host has far more to do than it can; an order then waits for so long a few times.
const REST_MAX: Duration = Duration::from_millis(200);

/// Records of a batch from which on it rests. Where they come one by one, a rest holds them up and brings hardly any together.
const REST_FROM: usize = 2;

/// Batches of this host that are being settled, of all its triggers and relays.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// A batch that is being settled.
pub struct Pace {
    began: Instant,
    /// With this one.
    beside: usize,
}

impl Pace {
    /// A batch begins.
    pub fn begin() -> Self {
        Self { began: Instant::now(), beside: RUNNING.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// The batch of so many records has ended, whose transaction had `begun` then: what was waited for before, as for a service of somebody else, cost
    /// this host and the database nothing. The rest is longer the longer it took and the more others ran beside it, more than in proportion: on an
    /// idle host, where it took a millisecond or two and ran alone, nothing waits noticeably; on a busy one batches grow and share
    /// their transaction, and there are soon fewer that run beside each other.
    pub fn rest(self, records: usize, begun: Option<Instant>) -> Duration {
        if records < REST_FROM {
            return Duration::ZERO;
        }
        let beside = (self.beside + RUNNING.load(Ordering::Relaxed)) as f64 / 2.0;
        begun.unwrap_or(self.began).elapsed().mul_f64(beside * beside).min(REST_MAX)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

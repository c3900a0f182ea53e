//! What a version's calls come to, counted in memory and added to the database from time to time.

use std::sync::atomic::{AtomicU64, Ordering};

pub use fnhost_db::tally::{Counted, Kind, Outcome};

#[derive(Default)]
struct Counters {
    calls: AtomicU64,
    failed_calls: AtomicU64,
    handled: AtomicU64,
    errors: AtomicU64,
    busy_us: AtomicU64,
}

/// Counts of a version at one revision, since they were last taken.
pub struct Tally {
    version: i64,
    revision: i64,
    kinds: [Counters; 2],
}

impl Tally {
    /// Counts of zero for a version.
    pub fn new(version: i64, revision: i64) -> Self {
        Self { version, revision, kinds: Default::default() }
    }

    /// Adds an outcome.
    pub fn add(&self, kind: Kind, outcome: Outcome) {
        let counters = &self.kinds[kind as usize];
        for (counter, by) in [
            (&counters.calls, outcome.calls),
            (&counters.failed_calls, outcome.failed_calls),
            (&counters.handled, outcome.handled),
            (&counters.errors, outcome.errors),
            (&counters.busy_us, outcome.busy_us),
        ] {
            if by > 0 {
                counter.fetch_add(by, Ordering::Relaxed);
            }
        }
    }

    /// What was added since the last time, by kind.
    pub fn take(&self) -> Vec<Counted> {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let counted = Kind::ALL.map(|kind| {
            let counters = &self.kinds[kind as usize];
            let outcome = Outcome {
                calls: take(&counters.calls),
                failed_calls: take(&counters.failed_calls),
                handled: take(&counters.handled),
                errors: take(&counters.errors),
                busy_us: take(&counters.busy_us),
            };
            Counted { version: self.version, revision: self.revision, kind, outcome }
        });
        counted.into_iter().filter(|counted| counted.outcome != Outcome::default()).collect()
    }
}

//! What a version's calls come to, counted in memory and added to the database from time to time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a call is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Http,
    /// A batch of records.
    Kafka,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Http, Self::Kafka];

    /// As the database has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Kafka => "kafka",
        }
    }
}

/// Counts of one kind of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests or batches.
    pub calls: u64,
    /// Those that the function ended badly: trap, deadline, error, no response.
    pub failed_calls: u64,
    /// Requests answered, or records settled.
    pub handled: u64,
    /// Those that failed: an answer of 5xx or none, or an attempt that ended in retry or reject.
    pub errors: u64,
    /// Time in calls, microseconds.
    pub busy_us: u64,
}

impl Outcome {
    /// One call that took so long.
    pub fn call(failed: bool, took: Duration) -> Self {
        let busy_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self { calls: 1, failed_calls: failed.into(), busy_us, ..Self::default() }
    }

    /// So many settled records or requests, and how many of them failed.
    pub fn settled(handled: usize, errors: usize) -> Self {
        Self { handled: handled as u64, errors: errors as u64, ..Self::default() }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            failed_calls: self.failed_calls + other.failed_calls,
            handled: self.handled + other.handled,
            errors: self.errors + other.errors,
            busy_us: self.busy_us.saturating_add(other.busy_us),
        }
    }
}

/// Counts to be added to the database.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Row of `fnhost.version`.
    pub version: i64,
    /// Revision at which the calls were made.
    pub revision: i64,
    /// What the calls were of.
    pub kind: Kind,
    /// The counts.
    pub outcome: Outcome,
}

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
    /// Nothing counted.
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

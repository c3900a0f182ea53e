//! How a host's schedules do: for `/metrics` and `/readyz`.

use fnhost_types::clock::now_ms;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How one schedule does on this host.
#[derive(Debug, Default)]
pub struct ScheduleStatus {
    /// Component and schedule, `<component>:schedule:<id>`.
    pub id: String,
    /// Time between two ticks.
    pub every: Duration,
    /// Ticks called, those that are tried again included.
    pub runs: AtomicU64,
    /// Of these, the ones that failed.
    pub failures: AtomicU64,
    leads: AtomicBool,
    /// Milliseconds since 1970 of the last tick that was done, on whichever host; 0 where none is known.
    done_ms: AtomicI64,
    /// Why the last one failed; nothing where it did not.
    failing: Mutex<Option<String>>,
}

impl ScheduleStatus {
    /// One that this host may lead.
    pub fn new(id: &str, every: Duration) -> Self {
        Self { id: id.to_owned(), every, ..Self::default() }
    }

    /// This host leads, until the answer is dropped; the next tick is at `position`, one after the last that was done.
    #[must_use]
    pub fn leads(&self, position: i64) -> Leads<'_> {
        // A schedule that never ran counts from now on.
        self.done_ms.store(if position > 0 { position - 1 } else { now_ms() }, Ordering::Relaxed);
        self.leads.store(true, Ordering::Relaxed);
        Leads(self)
    }

    /// A tick was called, and is done or is to be tried again for that reason.
    pub fn ran(&self, outcome: Result<i64, &str>) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        if let Ok(tick_ms) = outcome {
            self.done_ms.store(tick_ms, Ordering::Relaxed);
        } else {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = outcome.err().map(str::to_owned);
    }

    /// Seconds since the last tick that was done; none where another host leads.
    pub fn since_done(&self, now_ms: i64) -> Option<f64> {
        let leads = self.leads.load(Ordering::Relaxed);
        leads.then(|| (now_ms - self.done_ms.load(Ordering::Relaxed)).max(0) as f64 / 1e3)
    }

    /// How it does, for people; nothing where another host leads.
    pub fn line(&self, now_ms: i64) -> Option<String> {
        let since = self.since_done(now_ms)?;
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = failing.as_ref().map(|reason| format!("; its last call failed: {reason}"));
        Some(format!(
            "{}: last done {since:.0} s ago, every {} s{}",
            self.id,
            self.every.as_secs(),
            failing.unwrap_or_default()
        ))
    }
}

/// This host leads a schedule.
pub struct Leads<'s>(&'s ScheduleStatus);

impl Drop for Leads<'_> {
    fn drop(&mut self) {
        self.0.leads.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_alone_says_how_a_schedule_does() {
        let status = ScheduleStatus::new("order:schedule:expire", Duration::from_secs(60));
        assert_eq!((status.since_done(5_000), status.line(5_000)), (None, None));
        let leads = status.leads(2_001);
        assert_eq!(status.since_done(5_000), Some(3.0));
        status.ran(Err("no stock"));
        let line = status.line(62_000).expect("a line");
        assert_eq!(
            line,
            "order:schedule:expire: last done 60 s ago, every 60 s; its last call failed: no stock"
        );
        status.ran(Ok(60_000));
        assert_eq!(
            status.line(62_000).as_deref(),
            Some("order:schedule:expire: last done 2 s ago, every 60 s")
        );
        assert_eq!((status.runs.load(Ordering::Relaxed), status.failures.load(Ordering::Relaxed)), (2, 1));
        drop(leads);
        assert_eq!(status.since_done(62_000), None, "another host may lead now");
    }
}

//! How many statements of a call are under way, and for how long there was at least one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The statements of one call that run or wait for a connection.
#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// When the first of those that run began.
    since: Option<Instant>,
    /// Time during which statements ran, up to the last moment when none did.
    total: Duration,
}

impl Busy {
    /// One more runs, until the answer is dropped.
    #[must_use]
    pub(super) fn begin(&self) -> Running<'_> {
        let mut state = self.state();
        state.running += 1;
        state.since.get_or_insert_with(Instant::now);
        Running(self)
    }

    /// True while at least one statement runs.
    pub(super) fn is_busy(&self) -> bool {
        self.state().running > 0
    }

    /// Time during which at least one ran: statements side by side count once.
    pub(super) fn total(&self) -> Duration {
        let state = self.state();
        state.total + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A statement that runs.
pub(super) struct Running<'a>(&'a Busy);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        if state.running == 0
            && let Some(since) = state.since.take()
        {
            state.total += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_side_by_side_count_once() {
        let busy = Busy::default();
        assert!(!busy.is_busy() && busy.total() == Duration::ZERO);
        let began = Instant::now();
        let (first, second) = (busy.begin(), busy.begin());
        std::thread::sleep(Duration::from_millis(20));
        drop(first);
        assert!(busy.is_busy());
        drop(second);
        let total = busy.total();
        assert!(total >= Duration::from_millis(20) && total <= began.elapsed(), "{total:?}");
        assert_eq!(busy.total(), total, "nothing runs any more");
        assert!(!busy.is_busy());
    }
}

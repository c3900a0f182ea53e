//! Measured time: on the wall, and on the processor.

use super::measures;
use prometheus::Histogram;
use rustix::time::{ClockId, clock_gettime};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::{Duration, Instant};

/// A moment to measure from; none where nothing is measured.
#[derive(Clone, Copy, Debug)]
pub struct Timer(Option<Instant>);

impl Timer {
    /// From now on.
    pub fn start() -> Self {
        Self(measures().then(Instant::now))
    }

    /// Time since the start.
    pub fn elapsed(self) -> Option<Duration> {
        self.0.map(|began| began.elapsed())
    }

    /// Puts the time since the start into a histogram of seconds.
    pub(super) fn observe(self, histogram: &Histogram) {
        if let Some(took) = self.elapsed() {
            histogram.observe(took.as_secs_f64());
        }
    }
}

/// Runs a future, and answers also the CPU time that threads spent in it: the sum over its polls of the polling thread's own
/// clock. What other tasks do meanwhile is not in it; what the future hands to other tasks is not either.
pub async fn with_cpu<F: Future>(future: F) -> (F::Output, Duration) {
    let mut future = pin!(future);
    if !measures() {
        return (future.await, Duration::ZERO);
    }
    let mut spent = Duration::ZERO;
    let output = poll_fn(|context| {
        let before = thread_cpu();
        let polled = future.as_mut().poll(context);
        spent += thread_cpu().saturating_sub(before);
        polled
    });
    (output.await, spent)
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_is_no_cpu_time_and_work_is() {
        let (_, idle) = with_cpu(tokio::time::sleep(Duration::from_millis(30))).await;
        let (_, busy) = with_cpu(async {
            let began = thread_cpu();
            while thread_cpu() - began < Duration::from_millis(20) {
                std::hint::spin_loop();
            }
            tokio::task::yield_now().await;
        })
        .await;
        assert!(idle < Duration::from_millis(10), "{idle:?}");
        assert!(busy >= Duration::from_millis(20), "{busy:?}");
    }
}

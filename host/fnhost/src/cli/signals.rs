//! What stops a host: Ctrl-C, SIGTERM, and under Spin the end of the process that started it.

use rustix::process::{Pid, getppid};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that come within this time under Spin are one: Ctrl-C reaches the whole process group, and Spin then sends its
/// triggers SIGTERM.
const SAME_SIGNAL: Duration = Duration::from_secs(1);
/// Between two looks whether Spin still runs.
const PARENT_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// What stops the host, awaited in order.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    under_spin: bool,
    /// Spin's process that started this one. Spin kills it where another trigger ends without a failure, and nobody would
    /// tell this one.
    spin: Option<Pid>,
    /// Until when further signals are copies of the last one.
    same_until: Option<Instant>,
}

impl Signals {
    /// Listens from now on; `under_spin` where this process is Spin's plugin.
    ///
    /// # Errors
    /// The operating system refuses handlers.
    pub(super) fn new(under_spin: bool) -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let spin = if under_spin { getppid() } else { None };
        Ok(Self { interrupt, terminate, under_spin, spin, same_until: None })
    }

    /// Waits for the next reason to stop. Spin's end is one only where nothing else was before: it often follows a signal.
    pub(super) async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
                () = ended(self.spin) => tracing::info!("Spin has ended"),
            }
            self.spin = None;
            if self.same_until.is_none_or(|until| Instant::now() > until) {
                self.same_until = self.under_spin.then(|| Instant::now() + SAME_SIGNAL);
                return;
            }
        }
    }
}

/// Waits until the process that started this one has ended; for ever where there is none to watch.
async fn ended(parent: Option<Pid>) {
    let Some(parent) = parent else { return std::future::pending().await };
    // An orphan gets another parent.
    while getppid() == Some(parent) {
        tokio::time::sleep(PARENT_CHECK_INTERVAL).await;
    }
}

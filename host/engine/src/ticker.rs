//! The thread that advances the epoch, so that a guest that never waits still yields.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time a guest may run before it must yield to the other tasks of its thread.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Advances the epoch of an engine until dropped.
pub(super) struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread; it does not keep the engine alive.
    pub fn start(engine: &wasmtime::Engine) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, engine) = (stop.clone(), engine.weak());
        let thread = std::thread::Builder::new().name("fnhost-epoch".to_owned()).spawn(move || {
            // Without it no guest would ever yield, or end at its deadline.
            while !fnhost_metrics::survives("epoch", "engine", || advance(&engine, &stopped)) {}
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

fn advance(engine: &wasmtime::EngineWeak, stopped: &AtomicBool) {
    while !stopped.load(Ordering::Acquire) {
        std::thread::park_timeout(TICK);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread cannot panic, and a failed join leaves nothing to clean up.
            let _ = thread.join();
        }
    }
}

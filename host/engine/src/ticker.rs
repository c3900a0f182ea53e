//! The thread that advances the epoch while calls run, so that a guest that never waits still yields.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time a guest may run before it must yield to the other tasks of its thread.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Advances the epoch of an engine until dropped.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Calls that have not ended: while there are none, nothing has to yield.
    calls: AtomicUsize,
    /// The thread waits for a call, or is about to.
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// A call that has not ended.
pub(super) struct Running(Arc<Shared>);

impl Ticker {
    /// Starts the thread; it does not keep the engine alive.
    pub fn start(engine: &wasmtime::Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (ours, engine) = (shared.clone(), engine.weak());
        let thread = std::thread::Builder::new().name("fnhost-epoch".to_owned()).spawn(move || {
            // Without it no guest would ever yield, or end at its deadline.
            while !fnhost_metrics::survives("epoch", "engine", || advance(&engine, &ours)) {}
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A call begins: the epoch advances until the answer is dropped.
    pub fn running(&self) -> Running {
        // Either the thread sees this call before it sleeps, or this call sees that it does.
        if self.shared.calls.fetch_add(1, Ordering::SeqCst) == 0
            && self.shared.asleep.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(self.shared.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

fn advance(engine: &wasmtime::EngineWeak, shared: &Shared) {
    while !shared.stop.load(Ordering::SeqCst) {
        shared.asleep.store(true, Ordering::SeqCst);
        if shared.calls.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
            std::thread::park();
            // It may have been woken for nothing.
            continue;
        }
        shared.asleep.store(false, Ordering::SeqCst);
        // Sooner where it was woken, which at worst makes a guest yield once too often.
        std::thread::park_timeout(TICK);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread cannot panic, and a failed join leaves nothing to clean up.
            let _ = thread.join();
        }
    }
}

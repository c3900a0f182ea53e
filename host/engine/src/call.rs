//! One call: its state, its store and its report.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::LoadedComponent;
use super::error::CallError;
use super::guest_log::{Printed, Stream};
use super::limiter::MemoryLimiter;
use super::load::Shared;
use super::output::Output;
use super::ticker::Running;
use fnhost_capabilities::postgres::CallPostgres;
use fnhost_capabilities::{Calls, NewCall, View};
use fnhost_trace::{Cause, Hop, Kind, Origin, Span, batch};
use fnhost_types::memory::CallMemory;

/// Ticks of the epoch after which a running guest yields to the other tasks of its thread.
const YIELD_TICKS: u64 = 1;

/// What a call's instance holds in the host: everything its imports work on.
pub struct CallState {
    component: Arc<Shared>,
    origin: Arc<Origin>,
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    capabilities: Calls,
    limiter: MemoryLimiter,
    stdout: Output,
    stderr: Output,
    /// What was printed, where it is not written at once.
    printed: Option<Arc<Mutex<Printed>>>,
    /// Permits of which an HTTP call needs one, besides those of its component and of the pool.
    pub(super) places: Option<Arc<Semaphore>>,
    _running: Running,
}

/// What is known of a call once it is over.
pub struct CallReport {
    /// The state that the call was given.
    pub state: CallState,
    /// Waiting for a place in the pool.
    pub waited: Duration,
    /// From the instantiation to the end.
    pub took: Duration,
    /// The part of it that the instantiation took.
    pub instantiated: Duration,
    /// The most memory that the call held at a time, in bytes over all its memories and tables and the rows waiting for it.
    pub memory_peak_bytes: usize,
    /// What it printed, where it is part of a transaction; empty otherwise, since it is written already.
    pub printed: Printed,
}

impl LoadedComponent {
    /// The state of a new call whose SQL statements are each a transaction of their own.
    pub fn call_state(&self) -> CallState {
        self.new_call_state(None)
    }

    /// The state of a new call with that use of Postgres, a transaction: what the call prints is kept until it has ended.
    pub fn call_state_with(&self, postgres: CallPostgres) -> CallState {
        self.new_call_state(Some(postgres))
    }

    fn new_call_state(&self, postgres: Option<CallPostgres>) -> CallState {
        static LAST_CALL: AtomicU64 = AtomicU64::new(0);
        let call = LAST_CALL.fetch_add(1, Ordering::Relaxed) + 1;
        let component = self.shared.clone();
        let origin = Arc::new(Origin {
            component: component.id.clone(),
            version: component.version.clone(),
            call,
            cause: OnceLock::new(),
            hop: OnceLock::new(),
        });
        let printed = postgres.is_some().then(|| Arc::new(Mutex::new(Printed::of(origin.clone()))));
        let output = |stream| Output::new(stream, origin.clone(), printed.clone());
        let (stdout, stderr) = (output(Stream::Stdout), output(Stream::Stderr));
        let mut wasi = WasiCtx::builder();
        wasi.stdout(stdout.clone())
            .stderr(stderr.clone())
            .envs(&component.environment)
            // Connections go through the interfaces that hold them to `allowed_outbound_hosts`.
            .allow_tcp(false)
            .allow_udp(false);
        if let Some(files) = &component.files
            && let Err(error) = wasi.preopened_dir(files, "/", FsPerms::ReadOnly)
        {
            // The component finds no files then, and says so in its own way.
            tracing::error!(component = &*component.id, files = %files.display(), "cannot open the files: {error:#}");
        }
        let memory = CallMemory::new(component.limits.memory_bytes);
        CallState {
            wasi: wasi.build(),
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            capabilities: self.capabilities.call(&NewCall { origin: &origin, postgres, memory: &memory }),
            limiter: MemoryLimiter::new(memory),
            stdout,
            stderr,
            printed,
            places: None,
            _running: self.engine.shared.ticker.running(),
            component,
            origin,
        }
    }

    /// A store for one call: limited in memory and yielding every tick.
    pub(super) fn store(&self, state: CallState) -> Store<CallState> {
        let mut store = Store::new(&self.engine.shared.wasm, state);
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(YIELD_TICKS);
        store.epoch_deadline_async_yield_and_update(YIELD_TICKS);
        store
    }
}

impl CallState {
    /// The component's id.
    pub fn component(&self) -> &str {
        &self.component.id
    }

    /// The call's number, unique in this process: log events of the guest carry it.
    pub fn call(&self) -> u64 {
        self.origin.call
    }

    /// Its use of Postgres.
    pub fn postgres(&self) -> CallPostgres {
        self.capabilities.postgres.clone()
    }

    /// Says what causes the call: its log lines carry it. The first one that is said counts.
    pub fn caused_by(&self, cause: impl FnOnce() -> Cause) {
        self.origin.cause.get_or_init(cause);
    }

    /// Of the HTTP calls with these permits only so many run at a time; the others queue.
    pub fn limited_by(&mut self, places: Arc<Semaphore>) {
        self.places = Some(places);
    }

    /// The call is this hop of a trace that is recorded. Said once, before the call.
    pub fn traced(&self, hop: Hop) {
        self.origin.hop.get_or_init(|| hop);
    }

    pub(super) fn deadline_exceeded(&self) -> CallError {
        CallError::DeadlineExceeded { deadline_ms: self.component.limits.deadline.as_millis() as u64 }
    }

    /// Judges an error of the handler.
    pub(super) fn failure(&self, error: &wasmtime::Error) -> CallError {
        CallError::from_wasmtime(error, &self.stderr.tail())
    }

    /// Judges an error before the handler ran.
    pub(super) fn instantiation_failure(&self, error: &wasmtime::Error) -> CallError {
        CallError::from_instantiation(error, &self.stderr.tail())
    }

    /// Ends the call.
    pub(super) fn into_report(self, waited: Duration, took: Duration, instantiated: Duration) -> CallReport {
        self.stdout.flush_line();
        self.stderr.flush_line();
        let printed = self
            .printed
            .as_ref()
            .map(|kept| std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner)));
        CallReport {
            memory_peak_bytes: self.limiter.peak_bytes(),
            waited,
            took,
            instantiated,
            printed: printed.unwrap_or_default(),
            state: self,
        }
    }
}

impl CallReport {
    /// The call, which failed with `error` if any, was a hop of a trace: ends that, where it is recorded.
    pub(super) fn traced(&self, error: Option<String>) {
        let (state, phases) = (&self.state, self.phases());
        let Some(hop) = state.origin.hop.get() else { return };
        let took = self.waited + self.took;
        let from = SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH);
        let span = Span::new(Kind::Internal, format!("call {}", state.origin.component), from)
            .text("fnhost.component", &*state.origin.component)
            .text("fnhost.version", &*state.origin.version)
            .number("fnhost.call", state.origin.call.try_into().unwrap_or(i64::MAX));
        hop.ended(batch::with_phases(span, phases).failed(error));
    }

    /// Time in the parts of the call: waiting for a place, instantiation, the guest outside of SQL, SQL.
    pub fn phases(&self) -> [Duration; 4] {
        let sql = self.state.capabilities.postgres.busy();
        let guest = self.took.saturating_sub(self.instantiated).saturating_sub(sql);
        [self.waited, self.instantiated, guest, sql]
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for CallState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.capabilities.outbound_http,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

impl View for CallState {
    fn capabilities(&mut self) -> (&mut Calls, &mut ResourceTable) {
        (&mut self.capabilities, &mut self.table)
    }
}

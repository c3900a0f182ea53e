//! One call: its state, its store and its report.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::LoadedComponent;
use super::error::CallError;
use super::limiter::MemoryLimiter;
use super::load::Shared;
use super::output::Output;
use super::printed::{Printed, Stream};
use crate::capabilities::outbound_http::OutboundHttp;
use crate::capabilities::postgres::{Access, CallPostgres, PostgresCtx, PostgresView};
use crate::capabilities::variables::Variables;

/// Ticks of the epoch after which a running guest yields to the other tasks of its thread.
const YIELD_TICKS: u64 = 1;

/// What a call's instance holds in the host: everything its imports work on.
pub struct CallState {
    component: Arc<Shared>,
    call: u64,
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    outbound_http: OutboundHttp,
    postgres: CallPostgres,
    limiter: MemoryLimiter,
    stdout: Output,
    stderr: Output,
    /// What was printed, where it is not written at once.
    printed: Option<Arc<Mutex<Printed>>>,
}

/// What is known of a call once it is over.
pub struct CallReport {
    /// The state that the call was given.
    pub state: CallState,
    /// From the instantiation to the end, without waiting for a place in the pool.
    pub took: Duration,
    /// The most memory that the call held at a time, in bytes over all its memories and tables.
    pub memory_peak_bytes: usize,
    /// What it printed, where it is part of a transaction; empty otherwise, since it is written already.
    pub printed: Printed,
}

impl LoadedComponent {
    /// The state of a new call whose SQL statements are each a transaction of their own.
    pub fn call_state(&self) -> CallState {
        let hosts = self.shared.allowed_hosts.clone();
        let allowed = move |host: &str, port: u16| hosts.allows("postgres", host, port);
        let postgres = CallPostgres::new(Access::Autocommit {
            own: self.database.clone(),
            foreign: self.shared.address_pools.clone(),
            allowed: Arc::new(allowed),
        });
        self.new_call_state(postgres, false)
    }

    /// The state of a new call with that use of Postgres, a transaction: what the call prints is kept until it has ended.
    pub fn call_state_with(&self, postgres: CallPostgres) -> CallState {
        self.new_call_state(postgres, true)
    }

    fn new_call_state(&self, postgres: CallPostgres, keep_printed: bool) -> CallState {
        static LAST_CALL: AtomicU64 = AtomicU64::new(0);
        let call = LAST_CALL.fetch_add(1, Ordering::Relaxed) + 1;
        let component = self.shared.clone();
        let printed = keep_printed.then(|| Arc::new(Mutex::new(Printed::of(component.id.clone(), call))));
        let stdout = Output::new(Stream::Stdout, component.id.clone(), call, printed.clone());
        let stderr = Output::new(Stream::Stderr, component.id.clone(), call, printed.clone());
        let wasi = WasiCtx::builder()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .envs(&component.environment)
            // Connections go through the interfaces that hold them to `allowed_outbound_hosts`.
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        CallState {
            call,
            wasi,
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            outbound_http: OutboundHttp::new(component.allowed_hosts.clone()),
            postgres,
            limiter: MemoryLimiter::new(component.limits.memory_bytes),
            stdout,
            stderr,
            printed,
            component,
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
        self.call
    }

    /// What `spin:variables` answers.
    pub fn variables(&self) -> &Variables {
        &self.component.variables
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
    pub(super) fn into_report(self, took: Duration) -> CallReport {
        self.stdout.flush_line();
        self.stderr.flush_line();
        let printed = self
            .printed
            .as_ref()
            .map(|kept| std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner)));
        CallReport {
            memory_peak_bytes: self.limiter.peak_bytes(),
            took,
            printed: printed.unwrap_or_default(),
            state: self,
        }
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for CallState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound_http, table: &mut self.table, ctx: &mut self.http }
    }
}

impl PostgresView for CallState {
    fn postgres(&mut self) -> PostgresCtx<'_> {
        PostgresCtx { call: &mut self.postgres, table: &mut self.table }
    }
}

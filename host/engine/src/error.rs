//! Why a component cannot be loaded, and why a call failed.

use std::io;
use std::path::PathBuf;

use wasmtime::WasmBacktrace;

use super::limiter::OverLimit;
use fnhost_metrics::Ending;

/// Why a component cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Wasmtime cannot be set up.
    #[error("cannot set up the WebAssembly engine: {0:#}")]
    Engine(wasmtime::Error),
    /// The thread that keeps guests yielding cannot be started.
    #[error("cannot start the epoch thread")]
    Ticker(#[source] io::Error),
    /// The directory of precompiled images cannot be used.
    #[error("cannot use {} for precompiled images: {reason}", directory.display())]
    Cache {
        /// The directory.
        directory: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The component's file cannot be read.
    #[error("component \"{component}\": cannot read {}", path.display())]
    Read {
        /// The component's id.
        component: String,
        /// Path of the component's file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("component \"{component}\": {} is not a WebAssembly file; build it for wasm32-wasip2", path.display())]
    NoWebAssembly {
        /// The component's id.
        component: String,
        /// Path of the component's file.
        path: PathBuf,
    },
    /// The component's files cannot be given to it.
    #[error("component \"{component}\": files: {reason}")]
    Files {
        /// The component's id.
        component: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The component asks for what this host cannot give.
    #[error("component \"{component}\" cannot have what it asks for")]
    Refused {
        /// The component's id.
        component: String,
        /// What is wrong and what to do.
        source: fnhost_capabilities::Refused,
    },
    /// The component does not compile.
    #[error("component \"{component}\" does not compile: {reason}")]
    Compile {
        /// The component's id.
        component: String,
        /// What the compiler said.
        reason: String,
    },
    /// The component imports what no host part offers, or another version of it.
    #[error(
        "component \"{component}\" imports {import}, which fnhost does not offer ({reason}); \
         it offers WASI 0.2 and 0.3, {}: remove the import",
        fnhost_capabilities::offered().join(", ")
    )]
    UnknownImport {
        /// The component's id.
        component: String,
        /// The import.
        import: String,
        /// What the linker said.
        reason: String,
    },
    /// The component exports neither handler.
    #[error(
        "component \"{component}\" exports neither wasi:http/handler@0.3.0 (or wasi:http/incoming-handler@0.2) nor \
         fnhost:kafka/handler@0.1.0 (its exports: {exports}); export one with spin_sdk::http_service or fnhost_sdk::export_kafka"
    )]
    NoHandler {
        /// The component's id.
        component: String,
        /// Exports of the component, separated by commas.
        exports: String,
    },
    /// The component lacks the handler that one of its triggers needs.
    #[error(
        "component \"{component}\" has {trigger} trigger but does not export {export}; \
         export it or remove the trigger"
    )]
    MissingHandler {
        /// The component's id.
        component: String,
        /// "an HTTP" or "a Kafka".
        trigger: &'static str,
        /// Name of the exported interface.
        export: &'static str,
    },
    /// The component exports a handler of another shape.
    #[error("component \"{component}\" exports {export} in a form that fnhost does not know: {reason}")]
    WrongHandler {
        /// The component's id.
        component: String,
        /// Name of the exported interface.
        export: &'static str,
        /// How the export differs from what fnhost expects.
        reason: String,
    },
}

/// Why a call failed. What it wrote is to be rolled back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The instance could not be made.
    #[error("cannot create an instance: {0}")]
    Instantiate(String),
    /// The guest stopped by a trap: a panic, an out-of-bounds access, a division by zero.
    #[error("the function trapped: {message}")]
    Trap {
        /// The trap, and what the guest printed to stderr before (a panic's message).
        message: String,
        /// The guest's frames, one a line; empty where there are none.
        backtrace: String,
    },
    /// The call did not end in time.
    #[error("the function took longer than its deadline of {deadline_ms} ms (deadline_ms in spin.toml)")]
    DeadlineExceeded {
        /// The deadline in milliseconds.
        deadline_ms: u64,
    },
    /// The call asked for more memory than it may use.
    #[error(
        "the function asked for {wanted_bytes} bytes of memory, more than its limit of {limit_bytes} \
         (memory_limit_mb in spin.toml)"
    )]
    MemoryLimit {
        /// The limit in bytes.
        limit_bytes: usize,
        /// What the call would have held in bytes.
        wanted_bytes: usize,
    },
    /// An HTTP handler answered with an error in place of a response.
    #[error("the function returned no response: {0}")]
    NoResponse(String),
    /// The request's body broke off while the function read it. The fault is the client's.
    #[error("the request's body broke off: {0}")]
    RequestBroken(String),
}

impl CallError {
    /// Judges what Wasmtime reports; `stderr` is the end of what the guest printed there.
    pub(super) fn from_wasmtime(error: &wasmtime::Error, stderr: &str) -> Self {
        if let Some(over) = error.downcast_ref::<OverLimit>() {
            return Self::MemoryLimit { limit_bytes: over.limit_bytes, wanted_bytes: over.wanted_bytes };
        }
        let cause = error.root_cause();
        let message = if stderr.is_empty() { cause.to_string() } else { format!("{cause}: {stderr}") };
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string).unwrap_or_default();
        Self::Trap { message, backtrace }
    }

    /// Like [`Self::from_wasmtime`] for what fails before the handler runs.
    pub(super) fn from_instantiation(error: &wasmtime::Error, stderr: &str) -> Self {
        match Self::from_wasmtime(error, stderr) {
            Self::Trap { message, .. } => Self::Instantiate(message),
            other => other,
        }
    }

    /// How the call ended, for its metrics.
    pub(super) fn ending(&self) -> Ending {
        match self {
            Self::Instantiate(_) => Ending::Instantiate,
            Self::Trap { .. } => Ending::Trap,
            Self::DeadlineExceeded { .. } => Ending::Deadline,
            Self::MemoryLimit { .. } => Ending::Memory,
            Self::NoResponse(_) => Ending::Error,
            Self::RequestBroken(_) => Ending::Request,
        }
    }
}

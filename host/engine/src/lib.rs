//! Loads WebAssembly components and calls them: each call in a fresh instance, with a memory limit and a deadline.
//!
//! [`Engine::load`] compiles a component (or takes its precompiled image), finds out what it exports and
//! refuses one that cannot serve its triggers. [`LoadedComponent`] then makes the calls: a batch of records
//! through [`LoadedComponent::call_kafka`], an HTTP request through [`LoadedComponent::call_http`]. What a component may import is
//! that of the crate `fnhost-capabilities`.
//!
//! The crate stands by itself: it needs no Kafka, no private servers and no manifest, so that other programs can embed it.
//!
//! ```no_run
//! use fnhost_engine::kafka::{Batch, Message};
//! use fnhost_engine::{ComponentSpec, Engine, EngineOptions};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::new(EngineOptions::default())?;
//! let component = engine.load(&ComponentSpec { kafka: true, ..ComponentSpec::new("counter", "counter.wasm") })?;
//! let message = Message {
//!     offset: 0,
//!     timestamp_ms: -1,
//!     key: None,
//!     value: Some(b"hello".to_vec()),
//!     headers: Vec::new(),
//!     attempt: 1,
//!     last_attempt: false,
//! };
//! let batch = Batch { topic: "greetings".to_owned(), partition: 0, messages: vec![message] };
//! let (outcome, report) = component.call_kafka(component.call_state(), batch).await;
//! match outcome? {
//!     Ok(reply) => println!("{:?} after {} us", reply.outcomes, report.took.as_micros()),
//!     Err(error) => println!("the function failed: {}", error.reason),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed.rs` is a whole program of this kind.

mod cache;
mod call;
mod compile;
mod componentize;
mod error;
pub mod guest_log;
mod http;
mod http_p2;
pub mod kafka;
mod limiter;
mod load;
mod output;
mod ticker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

pub use call::{CallReport, CallState};
pub use compile::{NICENESS, OWN_PROGRAM, compile_to_cache};
pub use error::{CallError, LoadError};
pub use fnhost_manifest::hosts::AllowedHosts;
pub use fnhost_manifest::{ComponentSpec, Secret};
pub use fnhost_trace::Cause;
pub use http::{BodyError, ResponseBody};
pub use load::{LoadedComponent, SHORT_DIGEST_CHARS, digest_of, short_digest};

use cache::Cache;
use fnhost_capabilities::Provided;
use fnhost_capabilities::key_value::{MemoryStores, Stores};
use fnhost_manifest::MAX_MEMORY_LIMIT_MB;
use ticker::Ticker;

/// Calls at a time over all components; a call beyond waits for a place.
pub const DEFAULT_MAX_CALLS: u32 = 256;
/// One in so many permits is for calls of Kafka handlers alone, so that HTTP requests, however many, never hold them up.
const KAFKA_SHARE: u32 = 4;
/// Core instances of one component: its own modules, the adapters that componentizing adds, and shims.
const CORE_INSTANCES_PER_COMPONENT: u32 = 32;
/// Linear memories of one component; Rust makes one.
const MEMORIES_PER_COMPONENT: u32 = 2;
/// Tables of one component: its own and those of the shims.
const TABLES_PER_COMPONENT: u32 = 4;
/// Stacks of one call: its own and those of the tasks it started and that wait.
const STACKS_PER_CALL: u32 = 4;
/// Elements of one table.
const TABLE_ELEMENTS: usize = 20_000;
/// Bytes that a call wrote of its memory and that stay resident for the next call, set back one by one, so that it need not
/// fault them in anew. Only where the kernel tells which pages were written: otherwise Wasmtime takes the lowest ones for
/// those, and there lies the part of the stack that hardly any call reaches.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 512 << 10;
/// Bytes of a freed table that stay resident for the next call.
const TABLE_KEEP_RESIDENT_BYTES: usize = 16 << 10;
/// Freed instances of other components that are kept warm rather than reused.
const MAX_UNUSED_WARM_SLOTS: u32 = 16;
/// Frames of a guest's backtrace in an error.
const MAX_BACKTRACE_FRAMES: usize = 32;

/// Folder beside the precompiled images that holds copies of the components' files.
const FILES_FOLDER: &str = "files";

/// How an [`Engine`] is set up.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Directory of precompiled images and of the components' files, created where missing; `None` compiles at every
    /// start, and refuses a component with files.
    pub cache_dir: Option<PathBuf>,
    /// The `fnhost` program, for compiling in a process of its own where there is a `cache_dir`; `None` compiles in this
    /// process.
    pub compiler: Option<PathBuf>,
    /// Calls at a time over all components; a quarter of them is kept for Kafka handlers.
    pub max_calls: u32,
    /// Where components keep values by key.
    pub key_value: Arc<dyn Stores>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            compiler: None,
            max_calls: DEFAULT_MAX_CALLS,
            key_value: Arc::new(MemoryStores::default()),
        }
    }
}

/// Compiles, loads and runs components. Cheap to clone; the last clone stops its ticker.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    wasm: wasmtime::Engine,
    linker: Linker<CallState>,
    cache: Option<Cache>,
    compiler: Option<PathBuf>,
    /// Folder of the components' files.
    files: Option<PathBuf>,
    /// What the host brings along for all components.
    provided: Provided,
    places: Places,
    /// Components whose code is in memory.
    resident: Arc<AtomicUsize>,
    ticker: Ticker,
}

impl Engine {
    /// Sets up Wasmtime with its pool; reserves address space, not memory.
    pub fn new(options: EngineOptions) -> Result<Self, LoadError> {
        let wasm = wasmtime::Engine::new(&config(options.max_calls)).map_err(LoadError::Engine)?;
        let mut linker = Linker::new(&wasm);
        fnhost_capabilities::add_to_linker(&mut linker).map_err(LoadError::Engine)?;
        let files = options.cache_dir.as_ref().map(|directory| directory.join(FILES_FOLDER));
        let cache = options.cache_dir.map(|directory| Cache::open(directory, &wasm)).transpose()?;
        let ticker = Ticker::start(&wasm).map_err(LoadError::Ticker)?;
        let shared = Shared {
            wasm,
            linker,
            cache,
            compiler: options.compiler,
            files,
            provided: Provided { key_value: options.key_value },
            places: Places::new(options.max_calls),
            resident: Arc::default(),
            ticker,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Waits until no call is running, as when everything that makes calls has stopped.
    pub async fn idle(&self) {
        for (places, all) in self.shared.places.kinds() {
            // The semaphores are never closed.
            let _all = places.acquire_many(all).await;
        }
    }

    /// Calls at a time over all components.
    pub fn max_calls(&self) -> usize {
        self.shared.places.max_calls as usize
    }

    /// Components whose code is in memory: a version counts until its last call has ended.
    pub fn resident(&self) -> usize {
        self.shared.resident.load(Ordering::Relaxed)
    }

    /// Calls that could start now without waiting.
    pub fn free_places(&self) -> usize {
        self.shared.places.kinds().map(|(places, _)| places.available_permits()).iter().sum()
    }
}

/// One permit for each call that the pool has room for, waited for in order of arrival.
struct Places {
    /// For calls of every kind.
    any: Arc<Semaphore>,
    /// For calls of Kafka handlers alone.
    kafka: Arc<Semaphore>,
    max_calls: u32,
}

impl Places {
    fn new(max_calls: u32) -> Self {
        let [any, kafka] = Self::shares(max_calls).map(|calls| Arc::new(Semaphore::new(calls as usize)));
        Self { any, kafka, max_calls }
    }

    /// How many permits are for calls of every kind, and for those of Kafka handlers.
    fn shares(max_calls: u32) -> [u32; 2] {
        let kafka = max_calls / KAFKA_SHARE;
        [max_calls - kafka, kafka]
    }

    /// Both kinds, each with the number of its permits.
    fn kinds(&self) -> [(&Arc<Semaphore>, u32); 2] {
        let [any, kafka] = Self::shares(self.max_calls);
        [(&self.any, any), (&self.kafka, kafka)]
    }

    // The semaphores are never closed, so there always is a permit.

    /// A permit for a call of an HTTP handler.
    async fn http(&self) -> Option<OwnedSemaphorePermit> {
        self.any.clone().acquire_owned().await.ok()
    }

    /// A permit for a call of a Kafka handler.
    async fn kafka(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            place = self.kafka.clone().acquire_owned() => place.ok(),
            place = self.any.clone().acquire_owned() => place.ok(),
        }
    }
}

fn config(max_calls: u32) -> Config {
    // PAGEMAP_SCAN, of Linux 6.7.
    let told = PoolingAllocationConfig::is_pagemap_scan_available();
    let keep_resident = if told { MEMORY_KEEP_RESIDENT_BYTES } else { 0 };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(max_calls)
        .total_core_instances(max_calls * CORE_INSTANCES_PER_COMPONENT)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .total_memories(max_calls * MEMORIES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .total_tables(max_calls * TABLES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .total_stacks(max_calls * STACKS_PER_CALL)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size((MAX_MEMORY_LIMIT_MB as usize) << 20)
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(keep_resident)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
        .max_unused_warm_slots(MAX_UNUSED_WARM_SLOTS);
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .parallel_compilation(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(MAX_BACKTRACE_FRAMES))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

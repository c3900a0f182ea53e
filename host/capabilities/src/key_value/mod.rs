//! `spin:key-value@3.0.0` and, for components of Spin 2 and 3, `fermyon:spin/key-value@2.0.0`.
//!
//! [`Stores`] gives stores by their labels and [`Store`] is one of them; `memory` and `redis` implement it, and
//! [`RuntimeConfig`] says which label is which. A component opens the labels that its `key_value_stores` list, and no
//! others. What is written takes effect at once, also in a Kafka handler: it is no part of the batch's transaction.

mod host;
mod memory;
mod redis;
mod runtime_config;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fnhost_manifest::ComponentSpec;
use fnhost_metrics::{StoreMetrics, Timer};
use wasmtime::component::Linker;

use crate::{Capability, NewCall, Provided, Refused, View};

pub use self::redis::{CALL_TIMEOUT, CONNECT_TIMEOUT, KEYS_MAX, RETRY_MAX, RETRY_MIN, RedisStore, STEADY};
pub use memory::{MemoryStore, MemoryStores, STORE_BYTES_MAX};
pub use runtime_config::{DEFAULT_LABEL, Error, Readers, RuntimeConfig};
pub use store::{Store, StoreError, Stores};

/// Stores that one call may hold open.
const OPEN_STORES_MAX: usize = 64;

/// The stores that a component may open.
#[derive(Default)]
pub struct KeyValue(BTreeMap<String, Grant>);

struct Grant {
    /// Nothing where no such store is configured.
    store: Option<Arc<dyn Store>>,
    /// Made with the grant, so that the store's counters show before the first call.
    metrics: StoreMetrics,
}

impl Capability for KeyValue {
    const OFFERS: &'static [&'static str] = &["spin:key-value@3.0.0", "fermyon:spin/key-value@2.0.0"];

    type Call = CallKeyValue;

    fn validate(component: &ComponentSpec, host: &Provided) -> Result<Self, Refused> {
        let grant = |label: &String| {
            let metrics = StoreMetrics::new(&component.id, label);
            (label.clone(), Grant { store: host.key_value.store(label), metrics })
        };
        Ok(Self(component.key_value_stores.iter().map(grant).collect()))
    }

    fn link<T: View>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
        host::add_to_linker(linker)
    }

    fn call(self: &Arc<Self>, _: &NewCall<'_>) -> Self::Call {
        CallKeyValue { grants: self.clone(), open: Arc::default() }
    }
}

/// One call's use of key-value stores.
pub struct CallKeyValue {
    grants: Arc<KeyValue>,
    open: Arc<AtomicUsize>,
}

/// A store that the guest has opened.
#[derive(Clone)]
pub struct OpenStore {
    store: Arc<dyn Store>,
    metrics: StoreMetrics,
    _place: Arc<Place>,
}

/// A guest's right to one open store, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why a store cannot be opened.
enum OpenError {
    TableFull,
    NoSuchStore,
    AccessDenied,
}

impl CallKeyValue {
    fn open(&self, label: &str) -> Result<OpenStore, OpenError> {
        let grant = self.grants.0.get(label).ok_or(OpenError::AccessDenied)?;
        let store = grant.store.clone().ok_or(OpenError::NoSuchStore)?;
        let place = Arc::new(Place(self.open.clone()));
        if self.open.fetch_add(1, Ordering::AcqRel) >= OPEN_STORES_MAX {
            return Err(OpenError::TableFull);
        }
        Ok(OpenStore { store, metrics: grant.metrics.clone(), _place: place })
    }
}

/// [`Store`], counted.
impl OpenStore {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let since = Timer::start();
        let got = self.store.get(key).await;
        self.metrics.read(since, got.as_ref().map(Option::is_some).ok());
        got
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        let since = Timer::start();
        let set = self.store.set(key, value).await;
        self.metrics.written(since, set.is_ok());
        set
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let since = Timer::start();
        let deleted = self.store.delete(key).await;
        self.metrics.written(since, deleted.is_ok());
        deleted
    }

    async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        let since = Timer::start();
        let exists = self.store.exists(key).await;
        self.metrics.read(since, exists.clone().ok());
        exists
    }

    async fn keys(&self) -> Result<Vec<String>, StoreError> {
        self.store.keys().await
    }
}

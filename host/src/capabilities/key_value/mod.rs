//! `spin:key-value@3.0.0` and, for components of Spin 2 and 3, `fermyon:spin/key-value@2.0.0`.
//!
//! [`Stores`] gives stores by their names and [`Store`] is one of them; `memory` implements both. A component opens the
//! names that its `key_value_stores` list, and no others. What is written takes effect at once, also in a Kafka
//! handler: it is no part of the batch's transaction.

mod host;
mod memory;
mod store;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use host::{KeyValueCtx, add_to_linker};
pub use memory::{MemoryStores, STORE_BYTES_MAX};
pub use store::{Store, StoreError, Stores};

/// Stores that one call may hold open.
const OPEN_STORES_MAX: usize = 64;

/// One call's use of key-value stores.
pub struct CallKeyValue {
    stores: Arc<dyn Stores>,
    allowed: Arc<BTreeSet<String>>,
    open: Arc<AtomicUsize>,
}

/// A store that the guest has opened.
#[derive(Clone)]
pub struct OpenStore {
    store: Arc<dyn Store>,
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
    /// The use of these stores for one call, as far as `allowed` names them.
    pub fn new(stores: Arc<dyn Stores>, allowed: Arc<BTreeSet<String>>) -> Self {
        Self { stores, allowed, open: Arc::default() }
    }

    fn open(&self, name: &str) -> Result<OpenStore, OpenError> {
        if !self.allowed.contains(name) {
            return Err(OpenError::AccessDenied);
        }
        let place = Arc::new(Place(self.open.clone()));
        if self.open.fetch_add(1, Ordering::AcqRel) >= OPEN_STORES_MAX {
            return Err(OpenError::TableFull);
        }
        let store = self.stores.store(name).ok_or(OpenError::NoSuchStore)?;
        Ok(OpenStore { store, _place: place })
    }
}

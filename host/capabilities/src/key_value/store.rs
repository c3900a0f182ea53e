//! What keeps values by key, behind one interface: in memory here, elsewhere a server.

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;

/// Why a store did not do what was asked, for the component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// A store. Its functions may be called at the same time; each takes effect as a whole. None of them waits for a server
/// that cannot be reached: they fail, and at once where that is known.
pub trait Store: Send + Sync + 'static {
    /// The value of a key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>>;
    /// Gives a key a value, in place of the one it has.
    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<(), StoreError>>;
    /// Forgets a key; no error where there is none.
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;
    /// Whether a key has a value.
    fn exists<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>>;
    /// Every key, in no order.
    fn keys(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;
}

/// Where stores come from, by the labels that manifests give them in `key_value_stores`.
pub trait Stores: Debug + Send + Sync + 'static {
    /// The store of this label, the same for every component that may use it; nothing where there is none.
    fn store(&self, label: &str) -> Option<Arc<dyn Store>>;
}

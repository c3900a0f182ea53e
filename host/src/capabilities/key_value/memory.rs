//! Stores in the host's memory: gone when it ends, and not shared with other hosts.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::store::{Store, StoreError, Stores};

/// Bytes of keys and values that one store holds at most.
pub const STORE_BYTES_MAX: usize = 64 << 20;

/// Stores of any name, each made when it is first asked for.
#[derive(Default)]
pub struct MemoryStores(Mutex<HashMap<String, Arc<MemoryStore>>>);

impl Stores for MemoryStores {
    fn store(&self, name: &str) -> Option<Arc<dyn Store>> {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(stores.entry(name.to_owned()).or_default().clone())
    }
}

#[derive(Default)]
struct MemoryStore(Mutex<Content>);

#[derive(Default)]
struct Content {
    values: HashMap<String, Vec<u8>>,
    bytes: usize,
}

impl MemoryStore {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn remove(&mut self, key: &str) {
        if let Some(value) = self.values.remove(key) {
            self.bytes -= key.len() + value.len();
        }
    }

    fn set(&mut self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        let former = self.values.get(key).map_or(0, |value| key.len() + value.len());
        let bytes = self.bytes - former + key.len() + value.len();
        if bytes > STORE_BYTES_MAX {
            return Err(StoreError(format!("the store is full: it holds {STORE_BYTES_MAX} bytes at most")));
        }
        self.bytes = bytes;
        self.values.insert(key.to_owned(), value);
        Ok(())
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        ready(Ok(self.content().values.get(key).cloned())).boxed()
    }

    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(self.content().set(key, value)).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.content().remove(key);
        ready(Ok(())).boxed()
    }

    fn exists<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        ready(Ok(self.content().values.contains_key(key))).boxed()
    }

    fn keys(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        ready(Ok(self.content().values.keys().cloned().collect())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_is_shared_by_its_name_and_bounded() {
        let stores = MemoryStores::default();
        let open = |name| stores.store(name).expect("a store");
        let (one, same, other) = (open("a"), open("a"), open("b"));
        one.set("k", b"v".to_vec()).await.expect("room");
        assert_eq!(same.get("k").await, Ok(Some(b"v".to_vec())));
        assert_eq!((same.exists("k").await, other.exists("k").await), (Ok(true), Ok(false)));
        assert_eq!(same.keys().await, Ok(vec!["k".to_owned()]));
        let all_but_one_byte = vec![0; STORE_BYTES_MAX - 1];
        one.set("k", all_but_one_byte.clone()).await.expect("in place of the former one it fits");
        assert!(one.set("l", vec![]).await.is_err(), "a key takes room too");
        one.delete("k").await.expect("deleted");
        one.delete("k").await.expect("nothing to delete is no error");
        one.set("l", all_but_one_byte).await.expect("room again");
        assert_eq!(one.get("k").await, Ok(None));
    }
}

//! Stores in the host's memory: gone when it ends, and not shared with other hosts.

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::store::{Store, StoreError, Stores};
use fnhost_metrics::StoreUp;

/// Bytes of keys and values that one store holds at most. One whose values have a greatest age drops the oldest of them
/// for a new one, any other refuses.
pub const STORE_BYTES_MAX: usize = 64 << 20;

/// Stores of any label, each made when it is first asked for.
#[derive(Default, Debug)]
pub struct MemoryStores(Mutex<HashMap<String, Arc<MemoryStore>>>);

impl Stores for MemoryStores {
    fn store(&self, label: &str) -> Option<Arc<dyn Store>> {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(
            stores.entry(label.to_owned()).or_insert_with(|| Arc::new(MemoryStore::new(label, None))).clone(),
        )
    }
}

/// A key-value store in this process, lost when it stops.
#[derive(Debug)]
pub struct MemoryStore {
    content: Mutex<Content>,
    max_age: Option<Duration>,
}

#[derive(Default, Debug)]
struct Content {
    values: HashMap<Arc<str>, Kept>,
    /// Keys in the order in which their values were set; kept where values have a greatest age, and so also the order in
    /// which they reach it.
    by_turn: BTreeMap<u64, Arc<str>>,
    last_turn: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    value: Vec<u8>,
    turn: u64,
    expires: Option<Instant>,
}

impl Kept {
    fn is_valid(&self, now: Instant) -> bool {
        self.expires.is_none_or(|at| now < at)
    }
}

impl MemoryStore {
    /// The store of this label, whose values are gone at this age.
    pub fn new(label: &str, max_age: Option<Duration>) -> Self {
        StoreUp::new(label).set(true);
        Self { content: Mutex::default(), max_age }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn get(&self, key: &str, now: Instant) -> Option<&Vec<u8>> {
        self.values.get(key).filter(|kept| kept.is_valid(now)).map(|kept| &kept.value)
    }

    fn remove(&mut self, key: &str) {
        if let Some(Kept { value, turn, .. }) = self.values.remove(key) {
            self.bytes -= key.len() + value.len();
            self.by_turn.remove(&turn);
        }
    }

    /// Drops the oldest value where `of` says so; only where values have a greatest age.
    fn remove_oldest(&mut self, of: impl Fn(&Kept) -> bool) -> bool {
        let Some(key) = self.by_turn.values().next().cloned() else { return false };
        let drops = self.values.get(&key).is_none_or(of);
        if drops {
            self.remove(&key);
        }
        drops
    }

    fn set(
        &mut self,
        key: &str,
        value: Vec<u8>,
        max_age: Option<Duration>,
        now: Instant,
    ) -> Result<(), StoreError> {
        while self.remove_oldest(|kept| !kept.is_valid(now)) {}
        let added = key.len() + value.len();
        let former = self.values.get(key).map_or(0, |kept| key.len() + kept.value.len());
        let refused = || StoreError(format!("the store is full: it holds {STORE_BYTES_MAX} bytes at most"));
        if added > STORE_BYTES_MAX || (max_age.is_none() && self.bytes - former + added > STORE_BYTES_MAX) {
            return Err(refused());
        }
        self.remove(key);
        while self.bytes + added > STORE_BYTES_MAX && self.remove_oldest(|_| true) {}
        self.bytes += added;
        self.last_turn += 1;
        let (key, turn): (Arc<str>, u64) = (key.into(), self.last_turn);
        if max_age.is_some() {
            self.by_turn.insert(turn, key.clone());
        }
        self.values.insert(key, Kept { value, turn, expires: max_age.map(|age| now + age) });
        Ok(())
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        ready(Ok(self.content().get(key, Instant::now()).cloned())).boxed()
    }

    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(self.content().set(key, value, self.max_age, Instant::now())).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.content().remove(key);
        ready(Ok(())).boxed()
    }

    fn exists<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        ready(Ok(self.content().get(key, Instant::now()).is_some())).boxed()
    }

    fn keys(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        let now = Instant::now();
        let content = self.content();
        let valid = content.values.iter().filter(|(_, kept)| kept.is_valid(now));
        ready(Ok(valid.map(|(key, _)| key.to_string()).collect())).boxed()
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
        let all_but_one_byte = vec![0; STORE_BYTES_MAX - 1];
        one.set("k", all_but_one_byte.clone()).await.expect("in place of the former one it fits");
        assert!(one.set("l", vec![]).await.is_err(), "a key takes room too");
        assert!(one.get("k").await.is_ok_and(|value| value.is_some()), "what was refused changes nothing");
        one.delete("k").await.expect("deleted");
        one.set("l", all_but_one_byte).await.expect("room again");
        assert_eq!(one.get("k").await, Ok(None));
    }

    #[test]
    fn values_with_a_greatest_age_go_by_age_and_make_room_for_new_ones() {
        let (age, begin) = (Some(Duration::from_secs(1)), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        let mut content = Content::default();
        content.set("a", vec![1], age, at(0)).expect("room");
        content.set("b", vec![2], age, at(400)).expect("room");
        content.set("a", vec![3], age, at(600)).expect("room");
        assert_eq!(content.get("a", at(1599)), Some(&vec![3]), "a new value has an age of its own");
        assert_eq!((content.get("b", at(1399)), content.get("b", at(1400))), (Some(&vec![2]), None));
        content.set("c", vec![4], age, at(1500)).expect("room");
        assert!(!content.values.contains_key("b"), "what nobody can read any more takes no room");
        assert_eq!((content.values.len(), content.by_turn.len(), content.bytes), (2, 2, 4));

        content.set("d", vec![0; STORE_BYTES_MAX - 3], age, at(1510)).expect("the oldest one makes room");
        assert_eq!((content.get("a", at(1510)), content.get("c", at(1510))), (None, Some(&vec![4])));
        assert!(content.set("e", vec![0; STORE_BYTES_MAX], age, at(1520)).is_err(), "larger than the store");
        assert_eq!(content.bytes, STORE_BYTES_MAX);
        content.remove("d");
        content.remove("c");
        assert_eq!((content.bytes, content.by_turn.len()), (0, 0));
    }
}

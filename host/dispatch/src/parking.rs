//! The records of one partition that wait: for another attempt, or behind an earlier record of their key.
//!
//! This is the owner's memory of `fnhost.parked`; the rows are the truth and are loaded at each take-over.

use super::plan::Item;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Records without a key wait alone: nothing is behind them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Bytes(Vec<u8>),
    Alone(i64),
}

impl Key {
    fn of(item: &Item) -> Self {
        item.record.key.clone().map_or(Key::Alone(item.record.offset), Key::Bytes)
    }
}

#[derive(Debug)]
struct Waiting {
    item: Item,
    /// Moment of the first attempt.
    first_attempt: Option<Instant>,
    due: Instant,
}

/// What waits, by key and in offset order.
#[derive(Debug, Default)]
pub struct Parking {
    keys: HashMap<Key, VecDeque<Waiting>>,
    records: usize,
    /// When the next head is due; absent where it has to be found anew.
    next_due: Option<Option<Instant>>,
}

impl Parking {
    /// Number of records that wait.
    pub fn len(&self) -> usize {
        self.records
    }

    /// True where nothing waits.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// When the oldest record that waits was made, milliseconds since 1970; none where nothing waits. Within a key records stand
    /// in their order, so the heads are enough.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.keys.values().filter_map(|queue| queue.front()).map(|w| w.item.record.timestamp_ms).min()
    }

    /// True where a new record of that key has to wait behind a parked one.
    pub fn blocks(&self, key: Option<&[u8]>) -> bool {
        !self.keys.is_empty() && key.is_some_and(|k| self.keys.contains_key(&Key::Bytes(k.to_vec())))
    }

    /// Parks a record, or puts a parked one (same offset) back with another attempt charged. Due in `delay`.
    pub fn park(&mut self, item: Item, delay: Duration, now: Instant) {
        let key = Key::of(&item);
        let first_attempt = (item.attempts > 0).then(|| now.checked_sub(item.age).unwrap_or(now));
        let queue = self.keys.entry(key).or_default();
        let waiting = Waiting { due: now + delay, first_attempt, item };
        match queue.iter_mut().find(|w| w.item.record.offset == waiting.item.record.offset) {
            Some(same) => *same = waiting,
            None => {
                queue.push_back(waiting);
                self.records += 1;
            }
        }
        self.next_due = None;
    }

    /// Takes a finished record away; the next of its key is due as soon as it said.
    pub fn finish(&mut self, item: &Item) {
        let key = Key::of(item);
        if let Some(queue) = self.keys.get_mut(&key) {
            let before = queue.len();
            queue.retain(|w| w.item.record.offset != item.record.offset);
            self.records -= before - queue.len();
            if queue.is_empty() {
                self.keys.remove(&key);
            }
        }
        self.next_due = None;
    }

    /// The heads of keys that are due, at most `max`, oldest first, with their present age.
    pub fn due(&mut self, max: usize, now: Instant) -> Vec<Item> {
        if self.next_due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut heads: Vec<&Waiting> =
            self.keys.values().filter_map(|q| q.front()).filter(|w| w.due <= now).collect();
        heads.sort_by_key(|w| w.item.record.offset);
        heads
            .into_iter()
            .take(max)
            .map(|w| Item { age: w.first_attempt.map_or(Duration::ZERO, |t| now - t), ..w.item.clone() })
            .collect()
    }

    /// When the next head is due.
    pub fn next_due(&mut self) -> Option<Instant> {
        let heads = self.keys.values().filter_map(|q| q.front());
        *self.next_due.get_or_insert_with(|| heads.map(|w| w.due).min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_types::record::Record;

    fn item(offset: i64, key: Option<&str>, attempts: u32) -> Item {
        let record =
            Record { offset, timestamp_ms: 0, key: key.map(|k| k.into()), value: None, headers: vec![] };
        Item { record, attempts, age: Duration::ZERO }
    }

    fn offsets(items: &[Item]) -> Vec<i64> {
        items.iter().map(|i| i.record.offset).collect()
    }

    #[test]
    fn a_key_waits_in_order_behind_its_head_and_others_do_not() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut parking = Parking::default();
        parking.park(item(1, Some("a"), 1), second, now);
        parking.park(item(2, Some("a"), 0), Duration::ZERO, now);
        parking.park(item(3, None, 1), second * 2, now);
        assert!(parking.blocks(Some(b"a")) && !parking.blocks(Some(b"b")) && !parking.blocks(None));
        assert_eq!(parking.len(), 3);
        assert!(parking.due(10, now).is_empty(), "2 is due by itself but stands behind 1");
        assert_eq!(offsets(&parking.due(10, now + second)), [1]);
        parking.finish(&item(1, Some("a"), 1));
        assert_eq!(offsets(&parking.due(10, now)), [2]);
        parking.park(item(2, Some("a"), 1), second, now);
        assert_eq!(parking.len(), 2, "another attempt is not another record");
        assert_eq!(offsets(&parking.due(10, now + second * 3)), [2, 3]);
        assert_eq!(offsets(&parking.due(1, now + second * 3)), [2]);
        parking.finish(&item(2, Some("a"), 1));
        parking.finish(&item(3, None, 1));
        assert!(parking.is_empty() && !parking.blocks(Some(b"a")) && parking.next_due().is_none());
    }

    #[test]
    fn age_counts_from_the_first_attempt() {
        let now = Instant::now();
        let mut parking = Parking::default();
        parking.park(Item { age: Duration::from_secs(5), ..item(1, Some("a"), 2) }, Duration::ZERO, now);
        let due = parking.due(1, now + Duration::from_secs(2));
        assert_eq!(due[0].age, Duration::from_secs(7));
        assert_eq!(due[0].attempts, 2);
    }
}

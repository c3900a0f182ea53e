//! The records of one partition that wait: for another attempt, or behind an earlier record of their key.
//!
//! This is the owner's memory of `fnhost.parked`; the rows are the truth and are loaded at each take-over. Records of a key are in
//! the order in which they were parked, which is that of the log, but for those that somebody put back: they come last.

use super::plan::Item;
use fnhost_db::ownership::PARKED_MAX;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Bytes of keys, values and headers parked on one partition, which its owner has in memory. While there are as many, the
/// partition fetches no new records.
pub const PARKED_BYTES_MAX: usize = 64 << 20;

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
    /// Place in the line of everything that was parked.
    line: u64,
}

/// What waits, by key and in line.
#[derive(Debug, Default)]
pub struct Parking {
    keys: HashMap<Key, VecDeque<Waiting>>,
    records: usize,
    bytes: usize,
    /// Places taken in the line.
    lined_up: u64,
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

    /// True where so much waits that no new record may be fetched, for it might have to wait too.
    pub fn is_full(&self) -> bool {
        self.records >= PARKED_MAX || self.bytes >= PARKED_BYTES_MAX
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
        let waiting = Waiting { due: now + delay, first_attempt, item, line: self.lined_up };
        match queue.iter_mut().find(|w| w.item.record.offset == waiting.item.record.offset) {
            Some(same) => *same = Waiting { line: same.line, ..waiting },
            None => {
                self.lined_up += 1;
                self.records += 1;
                self.bytes += waiting.item.record.size();
                queue.push_back(waiting);
            }
        }
        self.next_due = None;
    }

    /// Takes a finished record away; the next of its key is due as soon as it said.
    pub fn finish(&mut self, item: &Item) {
        let key = Key::of(item);
        if let Some(queue) = self.keys.get_mut(&key) {
            let at = queue.iter().position(|w| w.item.record.offset == item.record.offset);
            if let Some(finished) = at.and_then(|at| queue.remove(at)) {
                self.records -= 1;
                self.bytes -= finished.item.record.size();
            }
            if queue.is_empty() {
                self.keys.remove(&key);
            }
        }
        self.next_due = None;
    }

    /// What is due, in line, with its present age: at most `max` records, and none after `max_bytes`. First the heads of
    /// keys, the oldest first; then what stands behind a head that has only waited itself. Behind one that failed nothing
    /// is taken: should it fail again, that would only have to go on waiting.
    pub fn due(&mut self, max: usize, max_bytes: usize, now: Instant) -> Vec<Item> {
        if self.next_due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let is_due = |w: &&Waiting| w.due <= now;
        let only_waited = |w: &&Waiting| w.item.attempts == 0 && w.due <= now;
        let mut queues: Vec<_> =
            self.keys.values().filter(|q| q.front().is_some_and(|w| is_due(&w))).collect();
        queues.sort_by_key(|queue| queue[0].line);
        let heads = queues.iter().map(|queue| &queue[0]);
        let behind = queues
            .iter()
            .filter(|queue| only_waited(&&queue[0]))
            .flat_map(|queue| queue.iter().skip(1).take_while(only_waited));
        let mut bytes = 0;
        let fits = |w: &&Waiting| {
            let fits = bytes < max_bytes;
            bytes += w.item.record.size();
            fits
        };
        let mut taken: Vec<&Waiting> = heads.chain(behind).take(max).take_while(fits).collect();
        taken.sort_by_key(|w| w.line);
        let age = |w: &Waiting| w.first_attempt.map_or(Duration::ZERO, |t| now - t);
        taken.into_iter().map(|w| Item { age: age(w), ..w.item.clone() }).collect()
    }

    /// Which of these parked items, by index, still stand behind a record of their key that is not one of them.
    pub fn behind(&self, items: &[Item]) -> HashSet<usize> {
        let offsets: HashSet<i64> = items.iter().map(|item| item.record.offset).collect();
        let head = |item: &Item| self.keys.get(&Key::of(item)).and_then(VecDeque::front);
        let waits = |item: &Item| head(item).is_some_and(|w| !offsets.contains(&w.item.record.offset));
        (0..items.len()).filter(|i| waits(&items[*i])).collect()
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

    const MIB: usize = 1 << 20;

    fn item(offset: i64, key: Option<&str>, attempts: u32) -> Item {
        let record =
            Record { offset, timestamp_ms: 0, key: key.map(|k| k.into()), value: None, headers: vec![] };
        Item { attempts, ..Item::new(record) }
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
        assert!(parking.due(10, MIB, now).is_empty(), "2 is due by itself but stands behind 1");
        assert_eq!(offsets(&parking.due(10, MIB, now + second)), [1]);
        parking.finish(&item(1, Some("a"), 1));
        assert_eq!(offsets(&parking.due(10, MIB, now)), [2]);
        parking.park(item(2, Some("a"), 1), second, now);
        assert_eq!(parking.len(), 2, "another attempt is not another record");
        assert_eq!(offsets(&parking.due(10, MIB, now + second * 3)), [2, 3]);
        assert_eq!(offsets(&parking.due(1, MIB, now + second * 3)), [2]);
        parking.finish(&item(2, Some("a"), 1));
        parking.finish(&item(3, None, 1));
        assert!(parking.is_empty() && !parking.blocks(Some(b"a")) && parking.next_due().is_none());
    }

    #[test]
    fn age_counts_from_the_first_attempt() {
        let now = Instant::now();
        let mut parking = Parking::default();
        parking.park(Item { age: Duration::from_secs(5), ..item(1, Some("a"), 2) }, Duration::ZERO, now);
        let due = parking.due(1, MIB, now + Duration::from_secs(2));
        assert_eq!(due[0].age, Duration::from_secs(7));
        assert_eq!(due[0].attempts, 2);
    }

    #[test]
    fn what_only_waited_follows_as_a_batch_after_the_heads_of_other_keys() {
        let now = Instant::now();
        let mut parking = Parking::default();
        parking.park(item(1, Some("hot"), 1), Duration::ZERO, now);
        (2..8).for_each(|offset| parking.park(item(offset, Some("hot"), 0), Duration::ZERO, now));
        parking.park(item(8, Some("b"), 1), Duration::ZERO, now);
        assert_eq!(offsets(&parking.due(10, MIB, now)), [1, 8], "a head that failed runs alone");
        parking.finish(&item(1, Some("hot"), 1));
        assert_eq!(offsets(&parking.due(10, MIB, now)), [2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(offsets(&parking.due(3, MIB, now)), [2, 3, 8], "other keys go first");
        // One of them fails: it is the head from now on, and what is behind it waits.
        (2..4).for_each(|offset| parking.finish(&item(offset, Some("hot"), 0)));
        parking.park(item(4, Some("hot"), 1), Duration::from_secs(1), now);
        assert_eq!(offsets(&parking.due(10, MIB, now)), [8]);
    }

    #[test]
    fn a_part_of_a_batch_does_not_overtake_what_the_part_before_has_left_waiting() {
        let now = Instant::now();
        let mut parking = Parking::default();
        let hot: Vec<Item> = (1..5).map(|offset| item(offset, Some("hot"), 0)).collect();
        hot.iter().for_each(|item| parking.park(item.clone(), Duration::ZERO, now));
        let alone = item(9, None, 1);
        parking.park(alone.clone(), Duration::ZERO, now);
        assert!(parking.behind(&hot).is_empty());
        let part = [hot[2].clone(), hot[3].clone(), alone];
        assert_eq!(parking.behind(&part), HashSet::from([0, 1]));
        hot[..2].iter().for_each(|item| parking.finish(item));
        assert!(parking.behind(&part).is_empty());
    }

    #[test]
    fn bytes_bound_what_waits_and_what_runs_at_once() {
        let now = Instant::now();
        let mut parking = Parking::default();
        let large = |offset| {
            let mut item = item(offset, None, 0);
            item.record.value = Some(vec![0; 8 * MIB]);
            item
        };
        (0..8).for_each(|offset| parking.park(large(offset), Duration::ZERO, now));
        assert!(parking.is_full(), "64 MiB");
        parking.park(large(7), Duration::ZERO, now);
        assert_eq!(offsets(&parking.due(10, 16 * MIB, now)), [0, 1]);
        parking.finish(&large(3));
        assert!(!parking.is_full());
    }
}

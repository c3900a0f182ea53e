//! The last records that were read, so that a viewer who was cut off misses nothing.

use super::Pushed;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Records kept at most.
pub const RECORDS_MAX: usize = 20_000;
/// Bytes of keys, values and headers kept at most.
pub const BYTES_MAX: usize = 16 << 20;

/// Recent records of all partitions in the order they were read.
#[derive(Default)]
pub(super) struct Recent {
    records: VecDeque<Arc<Pushed>>,
    by_key: HashMap<Vec<u8>, VecDeque<Arc<Pushed>>>,
    bytes: usize,
    /// For each topic and partition: the offset from which all are kept, and the next to be read.
    bounds: HashMap<(usize, i32), (i64, i64)>,
}

impl Recent {
    /// The partition is read from there on.
    pub fn reads_from(&mut self, topic: usize, partition: i32, offset: i64) {
        self.bounds.insert((topic, partition), (offset, offset));
    }

    /// The partition has been read up to there.
    pub fn read_up_to(&mut self, topic: usize, partition: i32, next: i64) {
        self.bounds.entry((topic, partition)).or_insert((next - 1, next)).1 = next;
    }

    /// Keeps a record that has a key; the oldest make room.
    pub fn keep(&mut self, pushed: Arc<Pushed>) {
        self.bytes += pushed.record.size();
        if let Some(key) = &pushed.record.key {
            self.by_key.entry(key.clone()).or_default().push_back(pushed.clone());
        }
        self.records.push_back(pushed);
        while self.records.len() > RECORDS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.record.size();
            if let Some(bounds) = self.bounds.get_mut(&(oldest.topic, oldest.partition)) {
                bounds.0 = oldest.offset + 1;
            }
            let Some(key) = &oldest.record.key else { continue };
            if let Some(of_key) = self.by_key.get_mut(key) {
                // Records leave in the order they came, of each key too.
                of_key.pop_front();
                if of_key.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
    }

    /// Kept records of a key, oldest first.
    pub fn of(&self, key: &[u8]) -> impl Iterator<Item = &Arc<Pushed>> {
        self.by_key.get(key).into_iter().flatten()
    }

    /// The offset from which all of the partition are kept, and the next to be read.
    pub fn bounds(&self, topic: usize, partition: i32) -> (i64, i64) {
        self.bounds.get(&(topic, partition)).copied().unwrap_or_default()
    }
}

//! How far a partition is behind: its lag in records, and the age of its oldest record that is not settled.
//!
//! The worker notes each batch that it takes and what is parked; the group's thread notes the log's end as librdkafka reports it.
//! Nothing here asks Kafka or Postgres, and nobody waits for anybody: these are numbers for people, and for the edge, which refuses requests
//! while too much is ahead of them.

use crate::carried::Carried;
use fnhost_kafka::assigned::Fetches;
use fnhost_types::record::Record;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Stands for what is not known, or is not there.
const NONE: i64 = -1;

/// What is known of the records of one partition that are not settled. Times are milliseconds since 1970.
#[derive(Debug)]
pub struct Backlog {
    /// Offset after the last log's end that was reported.
    log_end: AtomicI64,
    /// A log's end that was reported once, and when: while the position is below it, something waits since then at the latest.
    mark: AtomicI64,
    marked_ms: AtomicI64,
    /// End of the batch in hand, and when its first record was made.
    in_hand_end: AtomicI64,
    in_hand_ms: AtomicI64,
    /// When the oldest parked record was made.
    parked_ms: AtomicI64,
    /// Greatest age at which a record was taken since somebody asked, milliseconds.
    taken_at_age_ms: AtomicI64,
    /// Records of the batch in hand.
    in_hand: AtomicUsize,
    fetches: OnceLock<Fetches>,
    carried: Mutex<Carried>,
}

impl Default for Backlog {
    fn default() -> Self {
        let none = || AtomicI64::new(NONE);
        Self {
            log_end: none(),
            mark: none(),
            marked_ms: none(),
            in_hand_end: none(),
            in_hand_ms: none(),
            parked_ms: none(),
            taken_at_age_ms: AtomicI64::new(0),
            in_hand: AtomicUsize::new(0),
            fetches: OnceLock::new(),
            carried: Mutex::default(),
        }
    }
}

impl Backlog {
    /// The worker has taken these records, in offset order.
    pub fn in_hand(&self, records: &[Record], now_ms: i64) {
        if let (Some(first), Some(last)) = (records.first(), records.last()) {
            self.taken_at_age_ms.fetch_max(age_ms(first.timestamp_ms, now_ms), Ordering::Relaxed);
            self.in_hand_ms.store(first.timestamp_ms, Ordering::Relaxed);
            self.in_hand_end.store(last.offset + 1, Ordering::Relaxed);
        }
        self.in_hand.store(records.len(), Ordering::Relaxed);
    }

    /// Where fetched records wait for the worker.
    pub fn follow(&self, fetches: Fetches) {
        // The same each time: a partition that is assigned anew has a status of its own.
        let _ = self.fetches.set(fetches);
    }

    /// The batch in hand is settled, so long after it was taken.
    pub fn ended(&self, took: Duration) {
        let records = self.in_hand.swap(0, Ordering::Relaxed);
        if records > 0 {
            self.carried().add(records, took);
        }
    }

    /// How long a record will wait that comes now for the work on those before it, by what the worker was seen to carry.
    pub fn ahead(&self) -> Duration {
        let waiting = self.fetches.get().map_or(0, Fetches::waiting);
        // Of the batch in hand a part is over: half of it, on average.
        self.carried().time_for(waiting + self.in_hand.load(Ordering::Relaxed) / 2)
    }

    /// Records a second that the worker was seen to carry while it worked.
    pub fn carried_per_s(&self) -> f64 {
        self.carried().per_s()
    }

    fn carried(&self) -> MutexGuard<'_, Carried> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest parked record was made then.
    pub fn parked(&self, oldest_ms: Option<i64>) {
        self.parked_ms.store(oldest_ms.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// The broker reported the log's end; the partition's position is this, below 0 where it is not known.
    pub fn log_end(&self, end: i64, position: i64, now_ms: i64) {
        self.log_end.store(end, Ordering::Relaxed);
        if position >= self.mark.load(Ordering::Relaxed) {
            self.marked_ms.store(now_ms, Ordering::Relaxed);
            self.mark.store(end, Ordering::Relaxed);
        }
    }

    /// The log's end as last reported; none before the first report.
    pub fn known_log_end(&self) -> Option<i64> {
        Some(self.log_end.load(Ordering::Relaxed)).filter(|end| *end != NONE)
    }

    /// Records between `position` and the log's end; none where either is not known.
    pub fn lag(&self, position: i64) -> Option<i64> {
        (position >= 0).then(|| self.known_log_end().map(|end| (end - position).max(0))).flatten()
    }

    /// Age in milliseconds of the oldest record that is not settled where the position is `position`: by the record's own time where
    /// the worker has it, otherwise at least the time that it is known to wait. 0 where there is none.
    pub fn oldest_age_ms(&self, position: i64, now_ms: i64) -> i64 {
        let parked = self.parked_ms.load(Ordering::Relaxed);
        self.waiting_ms(position, now_ms).max(age_ms(parked, now_ms))
    }

    /// Greatest age in milliseconds at which a record was taken since this was asked last: a worker that rests has nothing in hand.
    pub fn taken_at_age_ms(&self) -> i64 {
        self.taken_at_age_ms.swap(0, Ordering::Relaxed)
    }

    /// As [`Backlog::oldest_age_ms`], without what is parked, which waits for its own reasons.
    pub fn waiting_ms(&self, position: i64, now_ms: i64) -> i64 {
        let read = |value: &AtomicI64| value.load(Ordering::Relaxed);
        let in_hand = (position < read(&self.in_hand_end)).then(|| read(&self.in_hand_ms));
        let waiting = (position < read(&self.mark)).then(|| read(&self.marked_ms));
        [in_hand, waiting].into_iter().flatten().map(|made| age_ms(made, now_ms)).max().unwrap_or(0)
    }
}

/// 0 where nothing was made, or in the future.
fn age_ms(made_ms: i64, now_ms: i64) -> i64 {
    if made_ms < 0 { 0 } else { (now_ms - made_ms).max(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(offsets: std::ops::Range<i64>, timestamp_ms: i64) -> Vec<Record> {
        let record = |offset| Record { offset, timestamp_ms, key: None, value: None, headers: vec![] };
        offsets.map(record).collect()
    }

    #[test]
    fn a_batch_in_hand_ages_until_it_is_settled() {
        let backlog = Backlog::default();
        assert_eq!((backlog.lag(3), backlog.oldest_age_ms(3, 9_000)), (None, 0), "nothing is known");
        backlog.in_hand(&records(3..5, 2_000), 9_000);
        assert_eq!(backlog.oldest_age_ms(3, 9_000), 7_000);
        assert_eq!(backlog.oldest_age_ms(4, 9_000), 7_000, "half of it is not all of it");
        assert_eq!(backlog.oldest_age_ms(5, 9_000), 0);
        backlog.in_hand(&records(5..6, -1), 9_000);
        assert_eq!(backlog.oldest_age_ms(5, 9_000), 0, "a record without a time has no age");
        backlog.in_hand(&records(5..6, 10_000), 9_000);
        assert_eq!(backlog.oldest_age_ms(5, 9_000), 0, "a producer's clock may be ahead");
        assert_eq!(
            (backlog.taken_at_age_ms(), backlog.taken_at_age_ms()),
            (7_000, 0),
            "since it was asked last"
        );
    }

    #[test]
    fn what_nobody_takes_ages_from_when_it_was_seen() {
        let backlog = Backlog::default();
        backlog.log_end(10, 4, 1_000);
        assert_eq!((backlog.lag(4), backlog.lag(-1)), (Some(6), None));
        assert_eq!(backlog.oldest_age_ms(4, 8_000), 7_000);
        // More arrives: what was seen first still waits.
        backlog.log_end(12, 4, 6_000);
        assert_eq!((backlog.lag(4), backlog.oldest_age_ms(4, 8_000)), (Some(8), 7_000));
        // It is settled, and what came later is younger, though there always is something.
        assert_eq!(backlog.oldest_age_ms(10, 8_000), 0);
        backlog.log_end(20, 11, 9_000);
        assert_eq!(backlog.oldest_age_ms(11, 9_500), 500);
        assert_eq!((backlog.lag(20), backlog.oldest_age_ms(20, 9_500)), (Some(0), 0));
        assert_eq!(backlog.lag(21), Some(0), "the report is older than the position");
    }

    #[test]
    fn parked_records_age_behind_the_position() {
        let backlog = Backlog::default();
        backlog.parked(Some(1_000));
        assert_eq!(backlog.oldest_age_ms(50, 4_000), 3_000);
        backlog.parked(None);
        assert_eq!(backlog.oldest_age_ms(50, 4_000), 0);
    }
}

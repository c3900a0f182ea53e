//! The worker's log events about records.

use super::Worker;
use fnhost_types::record::Record;

/// A log event about one record: the same fields at every level.
macro_rules! record_event {
    ($level:ident, $worker:expr, $record:expr, $version:expr, $attempts:expr, $reason:expr, $text:literal) => {
        tracing::$level!(
            trigger = $worker.subscription.id,
            topic = $worker.assigned.tp.topic,
            partition = $worker.assigned.tp.partition,
            offset = $record.offset,
            version = $version,
            key = $record.key_text(),
            trace_id = $record.trace_id(),
            attempts = $attempts,
            reason = $reason,
            $text
        )
    };
}

impl Worker<'_> {
    pub(super) fn say_parked(&self, record: &Record, version: &str, attempts: u32, reason: &str) {
        record_event!(info, self, record, version, attempts, reason, "record parked for another attempt");
    }

    pub(super) fn say_dead(&self, record: &Record, version: &str, attempts: u32, reason: &str) {
        record_event!(error, self, record, version, attempts, reason, "record became a dead letter");
    }

    pub(super) fn say_out_of_order(&self, records: usize) {
        tracing::warn!(
            trigger = self.subscription.id,
            topic = self.assigned.tp.topic,
            partition = self.assigned.tp.partition,
            records,
            "the function finished records behind an unfinished one of the same key; they are parked and the rest runs again"
        );
    }
}

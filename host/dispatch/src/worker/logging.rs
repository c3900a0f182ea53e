//! The worker's log events about records.

use super::Worker;
use fnhost_types::record::Record;

impl Worker<'_> {
    pub(super) fn say_parked(&self, record: &Record, version: &str, attempts: u32, reason: &str) {
        tracing::info!(
            trigger = self.subscription.id,
            topic = self.assigned.tp.topic,
            partition = self.assigned.tp.partition,
            offset = record.offset,
            version,
            key = record.key_text(),
            trace_id = record.trace_id(),
            attempts,
            reason,
            "record parked for another attempt"
        );
    }

    pub(super) fn say_dead(&self, record: &Record, version: &str, attempts: u32, reason: &str) {
        tracing::error!(
            trigger = self.subscription.id,
            topic = self.assigned.tp.topic,
            partition = self.assigned.tp.partition,
            offset = record.offset,
            version,
            key = record.key_text(),
            trace_id = record.trace_id(),
            attempts,
            reason,
            "record became a dead letter"
        );
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

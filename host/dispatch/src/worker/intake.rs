//! What a worker takes next: what waited and is due, and what has arrived and is wanted.

use super::exit::Exit;
use super::work::{Source, Work};
use super::{PARKED_TURNS, Worker};
use crate::plan::Item;
use crate::status::Counts;
use fnhost_kafka::assigned::Taken;
use fnhost_types::causes::chain;
use fnhost_types::clock::now_ms;
use fnhost_types::guard;
use fnhost_types::record::Record;
use std::collections::HashMap;
use std::time::Instant;

impl Worker<'_> {
    /// What waits and is due, and what has arrived, in turn.
    pub(super) fn next_work(&mut self) -> Result<Option<Work>, Exit> {
        if self.paused {
            return Ok(None);
        }
        if self.parked_turns < PARKED_TURNS
            && let Some(work) = self.due_work()
        {
            self.parked_turns += 1;
            return Ok(Some(work));
        }
        self.parked_turns = 0;
        match self.new_work()? {
            Some(work) => Ok(Some(work)),
            None => Ok(self.due_work()),
        }
    }

    /// Parked records that are due.
    fn due_work(&mut self) -> Option<Work> {
        let config = &self.subscription.config;
        let items = self.parking.due(config.max_batch, config.max_batch_bytes, Instant::now());
        (!items.is_empty()).then(|| Work {
            items,
            end: self.ownership.position,
            source: Source::Parked,
            watermarks: HashMap::new(),
            handler: self.pick(),
        })
    }

    /// What has arrived, unless too much waits.
    fn new_work(&mut self) -> Result<Option<Work>, Exit> {
        if self.parking.is_full() {
            return Ok(None);
        }
        let config = &self.subscription.config;
        loop {
            let Taken { records, reached, topic_id } = self
                .assigned
                .take(config.max_batch, config.max_batch_bytes)
                .map_err(|e| Exit::BackOff(chain(&e)))?;
            self.check_fetched(topic_id)?;
            self.reached = self.reached.max(reached.unwrap_or(0));
            if records.is_empty() {
                return Ok(None);
            }
            self.status.backlog.in_hand(&records, now_ms());
            // Until the queue is empty: only what arrives at an empty queue wakes the worker.
            if let Some(work) = self.filter(records) {
                return Ok(Some(work));
            }
        }
    }

    /// Drops records that were accepted before: below the position, or with a number of their stream that is not new; and those that
    /// the trigger does not want.
    fn filter(&mut self, records: Vec<Record>) -> Option<Work> {
        let end = (records.last()?.offset + 1).max(self.reached);
        if end <= self.ownership.position {
            return None;
        }
        let mut work = Work {
            items: Vec::with_capacity(records.len()),
            end,
            source: Source::Fetched,
            watermarks: HashMap::new(),
            handler: self.pick(),
        };
        let (mut duplicates, mut unwanted) = (0, 0);
        for record in records {
            if record.offset < self.ownership.position {
                continue;
            }
            if let Some((stream, seq)) = record.stream() {
                let seen = work.watermarks.get(stream).or_else(|| self.watermarks.get(stream));
                if seen.is_some_and(|seen| seq <= *seen) && guard::on("numbers") {
                    duplicates += 1;
                    continue;
                }
                match work.watermarks.get_mut(stream) {
                    Some(mark) => *mark = seq,
                    None => drop(work.watermarks.insert(stream.to_string(), seq)),
                }
            }
            if !self.subscription.filter.wants(&record) {
                unwanted += 1;
                continue;
            }
            work.items.push(Item::new(record));
        }
        Counts::add(&self.status.counts.unwanted, unwanted);
        if duplicates > 0 {
            Counts::add(&self.status.counts.duplicates, duplicates);
            tracing::info!(
                trigger = self.subscription.id,
                topic = self.assigned.tp.topic,
                partition = self.assigned.tp.partition,
                duplicates,
                "refused duplicates"
            );
        }
        Some(work)
    }
}

//! What a worker settles in one transaction.

use crate::Handler;
use crate::plan::Item;
use fnhost_manifest::TriggerConfig;
use fnhost_types::wit::Message;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Items to settle in one transaction, and the position after them.
pub(super) struct Work {
    pub items: Vec<Item>,
    pub end: i64,
    pub source: Source,
    /// Watermarks that these items raise.
    pub watermarks: HashMap<String, i64>,
    /// The version that handles them: one for the whole batch, unless it is rolled back meanwhile.
    pub handler: Arc<dyn Handler>,
}

/// Where items come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Fetched,
    Parked,
}

impl Work {
    /// The trigger's settings; while the version is on trial no record dies of it.
    pub fn config(&self, config: &TriggerConfig) -> TriggerConfig {
        if self.handler.on_trial() { config.clone().of_trial() } else { config.clone() }
    }

    /// The items in parts, last first, each with the position after it and the watermarks it raises.
    pub fn divide(self, ranges: &dyn Fn(usize) -> Vec<std::ops::Range<usize>>) -> Vec<Work> {
        let ranges = ranges(self.items.len());
        let (end, source, handler) = (self.end, self.source, self.handler);
        let last = ranges.len().saturating_sub(1);
        let mut items = self.items.into_iter();
        let mut parts: Vec<Work> = ranges
            .into_iter()
            .enumerate()
            .map(|(i, range)| {
                let items: Vec<Item> = items.by_ref().take(range.len()).collect();
                let mut watermarks = HashMap::new();
                if source == Source::Fetched {
                    for (stream, seq) in items.iter().filter_map(|item| item.record.stream()) {
                        watermarks.insert(stream.to_string(), seq);
                    }
                }
                let own_end = items.last().map_or(end, |item| item.record.offset + 1);
                Work {
                    end: if i == last || source == Source::Parked { end } else { own_end },
                    items,
                    source,
                    watermarks,
                    handler: handler.clone(),
                }
            })
            .collect();
        parts.reverse();
        parts
    }
}

/// An item as the function gets it.
pub(super) fn message(item: &Item, config: &TriggerConfig) -> Message {
    let record = &item.record;
    Message {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
        attempt: item.attempts + 1,
        last_attempt: item.is_last_attempt(config),
    }
}

/// `delay`, or less by up to `percent` of it, so that records parked together do not come back together.
pub(super) fn jittered(delay: Duration, percent: u32) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    let share = f64::from(percent) / 100.0 * f64::from(random) / f64::from(u32::MAX);
    delay - delay.mul_f64(share)
}

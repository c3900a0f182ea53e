//! What a batch's verdicts change of its partition, beside position and messages.

use super::work::{Source, Work, jittered};
use crate::BACK_OFF_MAX;
use crate::plan::Verdict;
use fnhost_db::store::{Bury, Changes, Park};
use fnhost_manifest::{BackOff, TriggerConfig};
use std::collections::HashMap;
use std::time::Duration;

/// Adds what is parked, unparked and buried, and whether the partition is paused, to `changes`; answers how long each of the parked items
/// that were tried waits.
pub(super) fn add<'w>(
    changes: &mut Changes<'w>,
    work: &'w Work,
    verdicts: &[(usize, Verdict)],
    config: &TriggerConfig,
) -> HashMap<usize, Duration> {
    let pauses = config.back_off;
    let mut delays = HashMap::new();
    for (i, verdict) in verdicts {
        let record = &work.items[*i].record;
        match verdict {
            Verdict::Done => {}
            Verdict::SetAside { times, reason } => {
                let delay =
                    jittered(BackOff::default().up_to(BACK_OFF_MAX).pause(*times + 1), pauses.jitter_percent);
                delays.insert(*i, delay);
                changes.park.push(Park {
                    record,
                    attempts: work.items[*i].attempts,
                    delay_ms: delay.as_millis() as i64,
                    reason: reason.clone(),
                });
            }
            Verdict::Retry { attempts, reason, .. } => {
                let delay = jittered(pauses.pause(*attempts), pauses.jitter_percent);
                delays.insert(*i, delay);
                changes.park.push(Park {
                    record,
                    attempts: *attempts,
                    delay_ms: delay.as_millis() as i64,
                    reason: reason.clone(),
                });
            }
            Verdict::Exhausted { attempts, reason } => {
                changes.park.push(Park { record, attempts: *attempts, delay_ms: 0, reason: reason.clone() });
                changes.pause = Some(format!(
                    "the record at offset {} failed its last attempt ({attempts}): {reason}",
                    record.offset
                ));
            }
            // As it is.
            Verdict::Behind if work.source == Source::Parked => {}
            Verdict::Behind => changes.park.push(Park {
                record,
                attempts: work.items[*i].attempts,
                delay_ms: 0,
                reason: "waits behind an earlier record of its key".into(),
            }),
            Verdict::Dead { attempts, reason } => {
                changes.bury.push(Bury {
                    record,
                    attempts: *attempts,
                    reason: reason.clone(),
                    silent: work.items[*i].silent,
                });
            }
        }
        if work.source == Source::Parked && matches!(verdict, Verdict::Done | Verdict::Dead { .. }) {
            changes.unpark.push(record.offset);
        }
    }
    delays
}

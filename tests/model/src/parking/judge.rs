//! What may become of records, and what must not.

use super::{ATTEMPTS_MAX, Fate, KEYS, Parked, RECORDS, Stored, key};
use crate::part::{Promise, breaks};

/// What has become of records: it judges the protocol, which does not see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ghost {
    /// Records that took effect, as bits.
    effects: u8,
    /// Failed attempts since a record came or was put back.
    failed: [u8; RECORDS],
    /// The unfinished records of each key, in the order in which they have to be finished.
    order: [Vec<u8>; 2],
}

impl Ghost {
    pub(super) fn new() -> Self {
        let of_key = |of: u8| (0..RECORDS as u8).filter(|record| KEYS[usize::from(*record)] == of).collect();
        Self { effects: 0, failed: [0; RECORDS], order: [of_key(0), of_key(1)] }
    }

    /// A record has this fate; answers what that breaks.
    pub(super) fn judge(&mut self, fate: Fate) -> Option<Promise> {
        let record = match fate {
            Fate::Done(record) | Fate::Dead(record) => record,
            Fate::Park(record, attempts) => return self.fail(record, attempts),
        };
        if let Fate::Done(_) = fate {
            let bit = 1 << record;
            let twice = self.effects & bit != 0;
            self.effects |= bit;
            if twice {
                return Some(Promise::NoEffectTwice);
            }
        }
        let order = &mut self.order[usize::from(key(record))];
        let overtaken = order.first() != Some(&record);
        order.retain(|other| *other != record);
        breaks(Promise::OrderOfKey, overtaken)
    }

    /// A record is parked: after a failed attempt, or behind another one.
    fn fail(&mut self, record: u8, attempts: u8) -> Option<Promise> {
        if attempts == 0 {
            return None;
        }
        let failed = &mut self.failed[usize::from(record)];
        *failed += 1;
        breaks(Promise::AttemptsCount, *failed >= ATTEMPTS_MAX)
    }

    /// A dead letter is put back: behind what waits, before what has not been taken up.
    pub(super) fn put_back(&mut self, record: u8, position: u8) {
        self.failed[usize::from(record)] = 0;
        let order = &mut self.order[usize::from(key(record))];
        if !order.contains(&record) {
            let at = order.iter().position(|other| *other >= position).unwrap_or(order.len());
            order.insert(at, record);
        }
    }

    /// Whether a record below the position is nowhere.
    pub(super) fn skipped(&self, db: &Stored) -> Option<Promise> {
        let is_kept = |record: u8| {
            self.effects & (1 << record) != 0 || db.at(record).is_some() || db.dead.contains(&record)
        };
        breaks(Promise::NoRecordSkipped, !(0..db.position).all(is_kept))
    }
}

/// All that can become of these records in one batch.
pub(super) fn outcomes(items: &[Parked], waits: &dyn Fn(u8) -> bool, in_order: bool) -> Vec<Vec<Fate>> {
    let mut all = vec![Vec::new()];
    for Parked { record, attempts } in items {
        let mut longer = Vec::new();
        for fates in all {
            let behind = fates.iter().any(
                |fate| matches!(fate, Fate::Park(earlier, _) if key(*earlier) == key(*record) && in_order),
            );
            let failed = attempts + 1;
            let mut choices = vec![Fate::Park(*record, 0)];
            if !behind && !waits(*record) {
                choices = vec![Fate::Done(*record), Fate::Dead(*record)];
                if failed < ATTEMPTS_MAX {
                    choices.push(Fate::Park(*record, failed));
                }
            }
            longer.extend(choices.into_iter().map(|fate| [fates.clone(), vec![fate]].concat()));
        }
        all = longer;
    }
    all
}

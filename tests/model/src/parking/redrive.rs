//! An operator puts dead letters back.

use super::{Parked, REDRIVE_AT_ONCE, REDRIVE_LAST, REDRIVE_LOCKS, REDRIVE_RAISES_VERSION, State, key};
use crate::functions::REDRIVE_PART;
use crate::part::{Step, Steps, Without};

/// Between two statements of the command, where a rule is off.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Redrive {
    /// Has looked up behind which record this one has to stand.
    Placed { record: u8, behind: Option<u8> },
    /// Has parked the record, and not yet deleted the dead letter.
    Parked { record: u8 },
}

impl State {
    pub(super) fn operator(&self, without: &Without, steps: &mut Steps<Self>) {
        match &self.redrive {
            Some(Redrive::Placed { record, behind }) => {
                let after = self.put_back(*record, *behind, without);
                steps.to(Step::operator("park the dead letter at the place that was looked up"), after);
            }
            Some(Redrive::Parked { record }) => {
                let mut after = Self { redrive: None, ..self.clone() };
                after.db.drop_letter(*record);
                steps.to(Step::operator("delete the dead letter"), after);
                steps.to(Step::world("the command is killed"), Self { redrive: None, ..self.clone() });
            }
            None if self.redrives == 0 => {}
            None => {
                for record in self.db.dead.iter().copied() {
                    if self.db.at(record).is_some() {
                        continue;
                    }
                    let of_key = |parked: &&Parked| key(parked.record) == key(record);
                    let behind = self.db.parked.iter().rev().find(of_key).map(|parked| parked.record);
                    let mut begun = Self { redrives: self.redrives - 1, ..self.clone() };
                    if without.keeps(&REDRIVE_LOCKS) {
                        let after = begun.put_back(record, behind, without);
                        steps.to(REDRIVE_PART.step("put a dead letter back"), after);
                    } else {
                        begun.redrive = Some(Redrive::Placed { record, behind });
                        steps.to(Step::operator("look up the dead letter's place, without a lock"), begun);
                    }
                }
            }
        }
    }

    /// Parks the record behind another one.
    fn put_back(&self, record: u8, behind: Option<u8>, without: &Without) -> Self {
        let mut after = Self { redrive: None, ..self.clone() };
        let parked = &mut after.db.parked;
        let at = if without.keeps(&REDRIVE_LAST) {
            let place = parked.iter().position(|parked| Some(parked.record) == behind);
            place.map_or_else(|| first_of_key(parked, record), |place| place + 1)
        } else {
            parked.iter().position(|parked| parked.record > record).unwrap_or(parked.len())
        };
        parked.insert(at, Parked { record, attempts: 0 });
        after.ghost.put_back(record, after.db.position);
        if without.keeps(&REDRIVE_AT_ONCE) {
            after.db.drop_letter(record);
        } else {
            after.redrive = Some(Redrive::Parked { record });
        }
        if without.keeps(&REDRIVE_RAISES_VERSION) {
            after.owner.iter_mut().for_each(|owner| owner.fresh = false);
        }
        after
    }
}

/// Where nothing of its key was parked when the place was looked up: before what has been parked since.
fn first_of_key(parked: &[Parked], record: u8) -> usize {
    parked.iter().position(|parked| key(parked.record) == key(record)).unwrap_or(parked.len())
}

//! What became of a record at a trigger. Pure.

use fnhost_db::fates::TriggerAt;
use serde::Serialize;

/// What became of a record at one trigger.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Fate {
    /// The trigger has no position in the partition yet.
    NotBegun,
    /// It has not come to the record.
    NotReached {
        /// The next offset that it processes.
        position: i64,
        /// Offsets before the record.
        lag: i64,
    },
    /// Its effects are committed.
    Handled,
    /// Passed over: the trigger's filter does not want it.
    Unwanted,
    /// Refused: its number, or a higher one of its stream, was accepted before.
    Duplicate {
        /// Offset of the earlier record, where it was found.
        of: Option<i64>,
    },
    /// The position is behind the record, and its number was never accepted: the trigger began behind it, or was moved.
    Passed,
    /// Waits for another attempt, or behind an earlier record of its key.
    Parked {
        /// Attempts made.
        attempts: i32,
        /// What the last attempt said.
        reason: String,
        /// RFC 3339.
        next_attempt_at: String,
        /// Offset of the first record of its key that it waits behind.
        behind: Option<i64>,
    },
    /// A dead letter.
    Dead {
        /// Attempts made.
        attempts: i32,
        /// Why the last attempt failed.
        reason: String,
        /// RFC 3339.
        died_at: String,
        /// Number of the letter.
        letter: i64,
    },
}

/// Judges the record at `offset`, numbered `seq` on a stream where it is `numbered`; `copy` is the offset of an earlier record with
/// that number or a higher one.
pub fn judge(offset: i64, numbered: Option<(&str, i64)>, copy: Option<i64>, at: Option<&TriggerAt>) -> Fate {
    let Some(at) = at else { return Fate::NotBegun };
    if let Some(parked) = at.parked.get(&offset) {
        return Fate::Parked {
            attempts: parked.attempts,
            reason: parked.reason.clone(),
            next_attempt_at: parked.next_attempt_at.clone(),
            behind: parked.behind,
        };
    }
    if offset >= at.position {
        return Fate::NotReached { position: at.position, lag: offset - at.position };
    }
    if let Some(dead) = at.dead.get(&offset) {
        return Fate::Dead {
            attempts: dead.attempts,
            reason: dead.reason.clone(),
            died_at: dead.died_at.clone(),
            letter: dead.letter,
        };
    }
    match numbered {
        Some((stream, seq)) if at.watermarks.get(stream).is_none_or(|mark| *mark < seq) => Fate::Passed,
        Some(_) if copy.is_some() => Fate::Duplicate { of: copy },
        _ => Fate::Handled,
    }
}

impl Fate {
    /// In a few words, for a line with others.
    pub fn word(&self) -> String {
        match self {
            Self::NotBegun => "not begun".into(),
            Self::NotReached { lag, .. } => format!("not reached (lag {lag})"),
            Self::Handled => "handled".into(),
            Self::Unwanted => "not wanted by its filter".into(),
            Self::Duplicate { .. } => "refused as a duplicate".into(),
            Self::Passed => "passed over".into(),
            Self::Parked { behind: Some(behind), .. } => format!("parked behind offset {behind}"),
            Self::Parked { attempts, .. } => format!("parked after {}", times(*attempts)),
            Self::Dead { letter, .. } => format!("dead (letter {letter})"),
        }
    }

    /// In sentences.
    pub fn sentence(&self) -> String {
        match self {
            Self::NotBegun => "not begun: the trigger has no position in this partition yet".into(),
            Self::NotReached { position, lag } => {
                format!("not reached: the position is {position}, lag {lag}")
            }
            Self::Handled => "handled: its effects are committed".into(),
            Self::Unwanted => "passed over: the trigger's filter does not want it".into(),
            Self::Duplicate { of: Some(offset) } => {
                format!("refused as a duplicate: offset {offset} has its number, or a higher one, of its stream")
            }
            Self::Duplicate { of: None } => "refused as a duplicate".into(),
            Self::Passed => {
                "passed over: the position is behind it and its number was never accepted, so the trigger began behind it or was moved"
                    .into()
            }
            Self::Parked { attempts, reason, next_attempt_at, behind } => {
                let behind = behind.map_or_else(
                    || format!("next attempt at {next_attempt_at}"),
                    |offset| format!("waits behind offset {offset} of its key"),
                );
                format!("parked after {}: {reason}; {behind}", times(*attempts))
            }
            Self::Dead { attempts, reason, died_at, letter } => {
                format!("dead after {} at {died_at}: {reason}; letter {letter}", times(*attempts))
            }
        }
    }
}

fn times(attempts: i32) -> String {
    if attempts == 1 { "1 attempt".into() } else { format!("{attempts} attempts") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_db::fates::{DeadAt, ParkedAt};

    /// A trigger at position 10 that has accepted number 5 of stream `s`, parked offset 3 and buried offset 4.
    fn at() -> TriggerAt {
        let parked = ParkedAt {
            attempts: 2,
            reason: "busy".into(),
            next_attempt_at: "2026-01-01T00:00:00.000Z".into(),
            behind: None,
        };
        let dead = DeadAt {
            letter: 7,
            attempts: 1,
            reason: "no event".into(),
            died_at: "2026-01-01T00:00:00.000Z".into(),
        };
        TriggerAt {
            position: 10,
            watermarks: [("s".to_owned(), 5)].into(),
            parked: [(3, parked)].into(),
            dead: [(4, dead.clone()), (12, dead)].into(),
        }
    }

    #[test]
    fn a_record_has_the_fate_that_the_tables_tell() {
        for (offset, numbered, copy, expected) in [
            (2, None, None, "handled"),
            (2, Some(("s", 5)), None, "handled"),
            (2, Some(("s", 5)), Some(1), "refused as a duplicate"),
            (2, Some(("s", 6)), None, "passed over"),
            (2, Some(("t", 1)), None, "passed over"),
            // Parked and dead come before what the numbers say.
            (3, Some(("s", 6)), None, "parked after 2 attempts"),
            (4, Some(("s", 5)), Some(1), "dead (letter 7)"),
            (10, Some(("s", 5)), Some(1), "not reached (lag 0)"),
            // Died once, and the position was moved back before it: it is to be handled again.
            (12, None, None, "not reached (lag 2)"),
        ] {
            assert_eq!(judge(offset, numbered, copy, Some(&at())).word(), expected, "{offset} {numbered:?}");
        }
        assert_eq!(judge(0, None, None, None), Fate::NotBegun);
    }
}

//! Whether a version that is on trial stays. Pure: counts in, judgement out.
//!
//! A version is compared with the one that it replaces, not with an ideal: a payment that a gateway refuses, or a record
//! that nobody can read, fails under every version alike.

use fnhost_db::deployment::Trial;
use fnhost_db::tally::Outcome;

/// Errors of a hundred that no version may pass, whatever the other one's are.
pub const ERROR_PERCENT_MAX: f64 = 2.0;
/// How many times the other version's rate of errors is taken for the same.
pub const ERROR_FACTOR: f64 = 2.0;
/// Errors above what the other version would have had that are needed for a judgement.
pub const ERRORS_MIN: f64 = 10.0;
/// Failed calls after which a version that has not handled a single record or request is given up: more than it takes to
/// split the largest batch down to one bad record.
pub const FAILED_CALLS_MAX: u64 = 16;
/// Calls of each version that a comparison of their times needs.
pub const TIMED_CALLS_MIN: u64 = 50;
/// How many times the other version's mean time of a call is too slow...
pub const TIME_FACTOR: f64 = 2.0;
/// ... where it is also so much more, microseconds.
pub const TIME_DIFFERENCE_MIN_US: f64 = 5_000.0;
/// Calls that a canary needs before it is promoted.
pub const CANARY_CALLS_MIN: u64 = 10;

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It goes on being tried.
    Wait,
    /// The trial is over and the version stays.
    Accept,
    /// It goes, for this reason.
    Withdraw(String),
}

/// Judges a version by the counts of its requests and of its batches, each beside those of the other version. `over`: its time is up.
pub fn judge(trial: Trial, over: bool, kinds: &[(Outcome, Outcome)]) -> Judgement {
    for (tried, other) in kinds {
        if let Some(reason) = fault(trial, tried, other) {
            return Judgement::Withdraw(reason);
        }
    }
    let calls: u64 = kinds.iter().map(|(tried, _)| tried.calls).sum();
    match trial {
        _ if !over => Judgement::Wait,
        Trial::Canary if calls < CANARY_CALLS_MIN => Judgement::Wait,
        Trial::Canary | Trial::Probation => Judgement::Accept,
    }
}

fn fault(trial: Trial, tried: &Outcome, other: &Outcome) -> Option<String> {
    if tried.failed_calls >= FAILED_CALLS_MAX && tried.handled == tried.errors {
        return Some(format!("{} calls failed and none succeeded", tried.failed_calls));
    }
    let rate = |outcome: &Outcome| ratio(outcome.errors, outcome.handled);
    let limit = (rate(other) * ERROR_FACTOR).max(ERROR_PERCENT_MAX / 100.0);
    // What the other version would have had: a few errors more among many are no evidence.
    let expected = rate(other) * ERROR_FACTOR * tried.handled as f64;
    if rate(tried) >= limit && tried.errors as f64 >= expected + ERRORS_MIN {
        return Some(format!(
            "{} of {} failed ({:.1}%), with the previous version {:.1}%",
            tried.errors,
            tried.handled,
            rate(tried) * 100.0,
            rate(other) * 100.0
        ));
    }
    if trial == Trial::Canary && tried.calls >= TIMED_CALLS_MIN && other.calls >= TIMED_CALLS_MIN {
        let mean = |outcome: &Outcome| ratio(outcome.busy_us, outcome.calls);
        let (tried, other) = (mean(tried), mean(other));
        if tried >= other * TIME_FACTOR && tried - other >= TIME_DIFFERENCE_MIN_US {
            let ms = |us: f64| us / 1_000.0;
            return Some(format!(
                "a call takes {:.1} ms, with the current version {:.1} ms",
                ms(tried),
                ms(other)
            ));
        }
    }
    None
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls, failed calls, handled, errors, mean time of a call in microseconds.
    fn counts((calls, failed_calls, handled, errors, mean_us): (u64, u64, u64, u64, u64)) -> Outcome {
        Outcome { calls, failed_calls, handled, errors, busy_us: mean_us * calls }
    }

    #[test]
    fn versions_are_judged_beside_the_one_that_they_replace() {
        use Trial::{Canary, Probation};
        const GOOD: (u64, u64, u64, u64, u64) = (100, 0, 10_000, 0, 2_000);
        const FLAKY: (u64, u64, u64, u64, u64) = (100, 0, 10_000, 1_000, 2_000);
        // name, trial, over, tried, other, judgement ("" waits, "stays", else a part of the reason)
        let cases = [
            ("nothing seen yet", Probation, false, (0, 0, 0, 0, 0), GOOD, ""),
            ("a probation without calls ends well", Probation, true, (0, 0, 0, 0, 0), GOOD, "stays"),
            ("a canary without calls goes on", Canary, true, (9, 0, 9, 0, 10), GOOD, ""),
            ("a canary with calls ends well", Canary, true, (10, 0, 10, 0, 10), GOOD, "stays"),
            ("its time is not up", Canary, false, (1_000, 0, 100_000, 0, 10), GOOD, ""),
            ("5% of records", Probation, false, (60, 30, 400, 20, 900), GOOD, "20 of 400 failed (5.0%)"),
            ("5%, but few", Probation, false, (60, 30, 180, 9, 900), GOOD, ""),
            ("1% is below the limit", Probation, false, (60, 30, 10_000, 100, 900), GOOD, ""),
            ("as flaky as before", Probation, false, (100, 0, 10_000, 1_500, 900), FLAKY, ""),
            (
                "three times as flaky",
                Probation,
                false,
                (100, 0, 10_000, 3_000, 900),
                FLAKY,
                "with the previous version 10.0%",
            ),
            ("a bad start of few", Probation, false, (5, 0, 40, 12, 900), FLAKY, ""),
            ("time is up and it is bad", Canary, true, (60, 30, 400, 20, 900), GOOD, "20 of 400"),
            ("it never works", Probation, false, (16, 16, 0, 0, 900), GOOD, "16 calls failed"),
            ("all that it settled failed", Probation, false, (20, 20, 2, 2, 900), GOOD, "none succeeded"),
            ("one record that splits its batch", Probation, false, (15, 15, 1, 1, 900), GOOD, ""),
            ("slow beside the other", Canary, false, (50, 0, 5_000, 0, 9_000), GOOD, "takes 9.0 ms"),
            ("slow, after the other", Probation, false, (50, 0, 5_000, 0, 9_000), GOOD, ""),
            ("slow in few calls", Canary, false, (49, 0, 5_000, 0, 9_000), GOOD, ""),
            ("slower by little", Canary, false, (50, 0, 5_000, 0, 6_900), GOOD, ""),
            ("slower by little of much", Canary, false, (50, 0, 50, 0, 90_000), (50, 0, 50, 0, 80_000), ""),
        ];
        for (name, trial, over, tried, other, expected) in cases {
            let judgement = judge(trial, over, &[(counts(tried), counts(other))]);
            match (&judgement, expected) {
                (Judgement::Wait, "") | (Judgement::Accept, "stays") => {}
                (Judgement::Withdraw(reason), part) if !part.is_empty() && reason.contains(part) => {}
                _ => panic!("{name}: {judgement:?}"),
            }
        }
    }

    #[test]
    fn requests_and_batches_are_judged_apart() {
        let good = counts((100, 0, 100_000, 0, 2_000));
        let bad = counts((100, 50, 100, 50, 2_000));
        let both = judge(Trial::Canary, false, &[(bad, counts((100, 0, 100, 0, 2_000))), (good, good)]);
        assert!(
            matches!(both, Judgement::Withdraw(_)),
            "few bad requests do not hide among many good records"
        );
    }
}

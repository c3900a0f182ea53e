//! How the gateway behaves: by payment token, and as an operator has set it.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Authorizes.
pub const OK: &str = "tok_ok";
/// Declines.
pub const DECLINED: &str = "tok_declined";
/// Authorizes after [`SLOW_ANSWER`].
pub const SLOW: &str = "tok_slow";
/// Fails [`FLAKY_FAILURES`] times with 503, then authorizes.
pub const FLAKY: &str = "tok_flaky";
/// The bank behind the card never answers: always 424.
pub const DOWN: &str = "tok_down";

/// How long [`SLOW`] takes.
pub const SLOW_ANSWER: Duration = Duration::from_secs(2);
/// How often [`FLAKY`] fails for a key.
pub const FLAKY_FAILURES: u32 = 2;
/// The longest latency that can be set, in milliseconds.
pub const LATENCY_MAX_MS: u64 = 60_000;

/// Whether the token is one of these.
#[must_use]
pub fn is_known(token: &str) -> bool {
    [OK, DECLINED, SLOW, FLAKY, DOWN].contains(&token)
}

/// What an operator sets, for every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// Whether it works at all.
    pub outage: Outage,
    /// Added to each answer, in milliseconds.
    pub latency_ms: u64,
    /// Requests of a hundred that are answered with 503, evenly.
    pub error_percent: u32,
}

/// How the gateway is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outage {
    /// No outage: the gateway answers.
    #[default]
    None,
    /// Every request is answered with 503.
    Errors,
    /// Every connection is closed without an answer.
    Closed,
    /// No request is answered.
    Silence,
}

impl Behaviour {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// Says what is out of range.
    pub fn check(&self) -> Result<(), String> {
        if self.error_percent > 100 {
            return Err(format!("error_percent is {}, and no more than 100 of 100 fail", self.error_percent));
        }
        if self.latency_ms > LATENCY_MAX_MS {
            return Err(format!("latency_ms is {}, and at most {LATENCY_MAX_MS}", self.latency_ms));
        }
        Ok(())
    }

    /// Whether the request of this number fails: `error_percent` of any hundred do.
    #[must_use]
    pub fn fails(&self, number: u64) -> bool {
        // Steps through all residues, so that the failures lie apart.
        number.wrapping_mul(37) % 100 < u64::from(self.error_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_hundred_fail() {
        for percent in [0, 1, 50, 100] {
            let behaviour = Behaviour { error_percent: percent, ..Behaviour::default() };
            let failed = (0..100).filter(|number| behaviour.fails(*number)).count();
            assert_eq!(failed, percent as usize);
        }
    }
}

//! The pauses between a record's attempts.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::Error;
use super::validate::Builder;

const INITIAL_MS: i64 = 200;
const INITIAL_MAX_MS: i64 = 60_000;
const FACTOR: i64 = 2;
const FACTOR_MAX: i64 = 10;
const CAP_S: i64 = 60;
const CAP_MAX_S: i64 = 60;
const JITTER_PERCENT: i64 = 50;

/// `back_off` of a Kafka trigger as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    initial_ms: Option<Spanned<i64>>,
    factor: Option<Spanned<i64>>,
    cap_s: Option<Spanned<i64>>,
    jitter_percent: Option<Spanned<i64>>,
}

/// How long a record waits for its next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// Pause before the second attempt.
    pub initial: Duration,
    /// By this each pause is longer than the one before.
    pub factor: u32,
    /// Longest pause.
    pub cap: Duration,
    /// Part of a pause, in percent, that chance may take off, so that records parked together do not come back together.
    pub jitter_percent: u32,
}

impl Default for BackOff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(INITIAL_MS as u64),
            factor: FACTOR as u32,
            cap: Duration::from_secs(CAP_S as u64),
            jitter_percent: JITTER_PERCENT as u32,
        }
    }
}

impl BackOff {
    /// Pause after that many attempts, before jitter.
    pub fn pause(&self, attempts: u32) -> Duration {
        let times = self.factor.saturating_pow(attempts.saturating_sub(1));
        self.initial.saturating_mul(times).min(self.cap)
    }

    /// The same with this cap.
    #[must_use]
    pub fn up_to(self, cap: Duration) -> Self {
        Self { cap, ..self }
    }

    /// `max_back_off_s` is the cap where no table is written.
    pub(crate) fn check(
        written: Option<&Spanned<Written>>,
        max_back_off_s: Option<Spanned<i64>>,
        builder: &Builder<'_>,
    ) -> Result<Self, Error> {
        let (Some(table), cap) = (written, &max_back_off_s) else {
            let cap = builder.number("max_back_off_s", max_back_off_s, CAP_S, CAP_MAX_S)?;
            return Ok(Self::default().up_to(Duration::from_secs(cap)));
        };
        let Written { initial_ms, factor, cap_s, jitter_percent } = table.get_ref();
        if let Some(other) = cap {
            return builder.fail(other.span().start, "write the longest pause as cap_s of back_off");
        }
        let initial = builder.number("initial_ms", initial_ms.clone(), INITIAL_MS, INITIAL_MAX_MS)?;
        let factor = builder.number("factor", factor.clone(), FACTOR, FACTOR_MAX)?;
        let cap = builder.number("cap_s", cap_s.clone(), CAP_S, CAP_MAX_S)?;
        let jitter =
            builder.number_within("jitter_percent", jitter_percent.clone(), JITTER_PERCENT, 0..=100)?;
        Ok(Self {
            initial: Duration::from_millis(initial),
            factor: factor as u32,
            cap: Duration::from_secs(cap),
            jitter_percent: jitter as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_by_the_factor_up_to_the_cap() {
        let pauses = BackOff::default();
        assert_eq!(pauses.pause(1), Duration::from_millis(200));
        assert_eq!(pauses.pause(3), Duration::from_millis(800));
        assert_eq!(pauses.pause(40), Duration::from_secs(60));
        assert_eq!(pauses.pause(u32::MAX), Duration::from_secs(60));
        assert_eq!(pauses.up_to(Duration::from_millis(600)).pause(40), Duration::from_millis(600));
        let steady = BackOff { factor: 1, ..pauses };
        assert_eq!(steady.pause(1_000), Duration::from_millis(200));
    }
}

//! Guards of the dispatch protocol that a build for the fault suite can take away, one at a time, to see that the suite notices.
//!
//! Each guard is asked for in one line where it protects. Without the feature `guards-off` the answer is a constant, and nothing of this is
//! in the program. With it, `FNHOST_GUARD_OFF=NAME` takes that guard away: such a build loses and doubles effects, and is for tests alone.

/// The guards: name, and what happens without it.
pub const GUARDS: [(&str, &str); 7] = [
    (
        "judge",
        "a COMMIT without an answer is taken for one that happened, and messages are sent that nobody committed",
    ),
    ("epoch", "another owner's commit is taken for one's own, and messages are sent that nobody committed"),
    ("numbers", "a message that is sent a second time takes effect a second time"),
    (
        "acknowledged",
        "messages are cleared from the outbox before Kafka has them, and are lost with the host",
    ),
    (
        "fresh-read",
        "what the former owner commits during a take-over is never sent, and what it accepted is accepted again",
    ),
    ("announcements", "a record that ends its session is never found, and its partition stands still"),
    ("mac", "a forged number is believed, and the messages with lower numbers are refused"),
];

/// True while the guard of this name protects.
#[cfg(not(feature = "guards-off"))]
#[inline(always)]
#[must_use]
pub const fn on(_name: &str) -> bool {
    true
}

/// True while the guard of this name protects.
#[cfg(feature = "guards-off")]
#[must_use]
pub fn on(name: &str) -> bool {
    static OFF: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| {
        let off = std::env::var("FNHOST_GUARD_OFF").ok();
        tracing::warn!(guard = off, "a build without protection, for tests alone");
        off
    });
    OFF.as_deref() != Some(name)
}

#[cfg(all(test, not(feature = "guards-off")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_a_guard_is_a_constant() {
        const { assert!(on("judge")) }
        assert!(GUARDS.iter().all(|(name, _)| on(name)));
    }
}

//! What groups and topics of these tests are called.

pub fn group(role: &str, unique: &str) -> String {
    format!("{role}-{unique}")
}

use fnhost_dispatch::Limits;
use fnhost_dispatch::plan::RETRY_DELAY_MAX;
use std::time::Duration;

/// What the triggers of these tests have where nothing else is said.
pub const LIMITS: Limits = Limits {
    max_batch: 500,
    max_attempts: 8,
    max_age: Duration::from_secs(3600),
    max_back_off: RETRY_DELAY_MAX,
};

/// The topic that the guest emits to when it handles this one.
pub fn out(topic: &str) -> String {
    format!("{topic}.out")
}

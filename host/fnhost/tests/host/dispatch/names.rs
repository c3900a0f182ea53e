//! What groups and topics of these tests are called.

pub fn group(role: &str, unique: &str) -> String {
    format!("{role}-{unique}")
}

use fnhost_manifest::TriggerConfig;
use std::time::Duration;

/// What the triggers of these tests have where nothing else is said.
pub fn config() -> TriggerConfig {
    TriggerConfig { max_age: Duration::from_secs(3600), ..TriggerConfig::new() }
}

/// The topic that the guest emits to when it handles this one.
pub fn out(topic: &str) -> String {
    format!("{topic}.out")
}

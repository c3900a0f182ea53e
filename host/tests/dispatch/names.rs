//! What groups and topics of these tests are called.

pub fn group(role: &str, unique: &str) -> String {
    format!("{role}-{unique}")
}

/// The topic that the guest emits to when it handles this one.
pub fn out(topic: &str) -> String {
    format!("{topic}.out")
}

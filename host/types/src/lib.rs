//! What several crates of fnhost speak of.
//!
//! [`record`] and [`wit`] are a Kafka record and the contract's own types, [`stream_keys`] tell whose a record's number is, [`outbox`] how messages stand in the database,
//! [`trace_context`] the header that carries a trace, [`failure`] whose fault an error is, [`clock`] the time, [`waits`] how long there is to wait, [`memory`] what a call may hold; [`causes`],
//! [`log`] and [`trust`] are errors for people, the form of log lines, and whose certificates connections trust; [`guard`] is for the fault suite.

pub mod causes;
pub mod clock;
pub mod failure;
pub mod guard;
pub mod log;
pub mod memory;
pub mod outbox;
#[cfg(test)]
mod properties;
pub mod record;
pub mod stream_keys;
pub mod trace_context;
pub mod trust;
pub mod waits;
pub mod wit;

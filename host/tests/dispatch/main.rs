//! The dispatch with the misbehaving guest, real Kafka and real Postgres: what a batch leaves behind when its function,
//! its database or its host fails.

#[path = "../support/mod.rs"]
mod support;
mod world;

mod changes;
mod failures;
mod printed;
mod readiness;
mod takeover;
mod walls;

//! The dispatch with the misbehaving guest, real Kafka and real Postgres: what a batch leaves behind when its function,
//! its database or its host fails.

mod broker;
mod world;

mod backlog;
mod bytes;
mod changes;
mod edges;
mod failures;
mod interrupted;
mod leaders;
mod log;
mod logs;
mod names;
mod operations;
mod printed;
mod reader;
mod readiness;
mod refusals;
mod restored;
mod schedule;
mod settings;
mod starts;
mod swaps;
mod takeover;
mod turns;
mod walls;

//! fnhost runs WebAssembly components on Kafka records and HTTP requests.
//!
//! `ARCHITECTURE.md` is the map. The short form: [`manifest`] reads `spin.toml`, [`engine`] loads components,
//! [`capabilities`] are what a component may import, [`kafka`] and [`http`] trigger calls, [`dispatch`] turns a batch of
//! records into one Postgres transaction, [`deployment`] is which code runs, [`db`] holds the SQL, and [`embedded`] runs private servers where no
//! addresses are given.

pub mod admin;
pub mod capabilities;
pub mod causes;
pub mod cli;
pub mod db;
pub mod deployment;
pub mod dispatch;
pub mod embedded;
pub mod engine;
pub mod health;
pub mod http;
pub mod kafka;
pub mod leader;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod push;
pub mod relay;
pub mod schedule;
pub mod trace;
pub mod trust;

//! fnhost runs WebAssembly components on Kafka records and HTTP requests.
//!
//! `ARCHITECTURE.md` is the map. The short form: [`manifest`] reads `spin.toml`, [`engine`] loads components,
//! [`capabilities`] are what a component may import, [`kafka`] and [`http`] trigger calls, [`dispatch`] turns a batch of
//! records into one Postgres transaction, [`deployment`] is which code runs, [`db`] holds the SQL, and [`embedded`] runs private servers where no
//! addresses are given.

#[path = "../admin/src/lib.rs"]
pub mod admin;
#[path = "../capabilities/src/lib.rs"]
pub mod capabilities;
#[path = "../types/src/causes.rs"]
pub mod causes;
#[path = "../fnhost/src/cli/mod.rs"]
pub mod cli;
#[path = "../db/src/lib.rs"]
pub mod db;
#[path = "../deployment/src/lib.rs"]
pub mod deployment;
#[path = "../dispatch/src/lib.rs"]
pub mod dispatch;
#[path = "../embedded/src/lib.rs"]
pub mod embedded;
#[path = "../engine/src/lib.rs"]
pub mod engine;
#[path = "../admin/src/health/mod.rs"]
pub mod health;
#[path = "../http/src/lib.rs"]
pub mod http;
#[path = "../kafka/src/lib.rs"]
pub mod kafka;
#[path = "../dispatch/src/leader.rs"]
pub mod leader;
#[path = "../types/src/log.rs"]
pub mod log;
#[path = "../manifest/src/lib.rs"]
pub mod manifest;
#[path = "../metrics/src/lib.rs"]
pub mod metrics;
#[path = "../http/src/hub/mod.rs"]
pub mod push;
#[path = "../dispatch/src/relay/mod.rs"]
pub mod relay;
#[path = "../dispatch/src/schedule/mod.rs"]
pub mod schedule;
#[path = "../trace/src/lib.rs"]
pub mod trace;
#[path = "../types/src/trust.rs"]
pub mod trust;

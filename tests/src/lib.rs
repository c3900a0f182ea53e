//! What the whole-system tests stand on: the real `fnhost` with its private Postgres and Kafka, a typed client of the
//! order system, the database behind it, and the one judge of whether an outcome is consistent.
//!
//! [`system`] starts, signals and restarts processes; [`client`] speaks HTTP and [`customer`] orders with it;
//! [`database`] and [`kafka`] look behind the addresses; [`load`] orders at full speed through faults; [`browser`]
//! drives the pages; [`payment_gateway`] is what pays; [`service`] is an address in front of several hosts; [`tls`] serves with [`certificates`] made for a test; [`consistency`] says what
//! must be true after all of them; [`faults`] is the suite of `./dev faults`. Whatever is awaited is a condition with a deadline, by [`wait::until`].
//!
//! [`client`] and [`customer`] know nothing of the rest, so that `./dev demo` and the benchmark use them as well.

pub mod browser;
pub mod certificates;
pub mod client;
pub mod consistency;
pub mod customer;
pub mod database;
pub mod faults;
pub mod kafka;
pub mod keys;
pub mod live;
pub mod load;
pub mod otlp;
pub mod outcome;
pub mod payment_gateway;
mod prepared;
mod process;
pub mod prometheus;
pub mod promql;
pub mod redis;
pub mod scrape;
pub mod secured;
pub mod service;
pub mod system;
pub mod tls;
pub mod wait;

//! The `order` function: takes orders over HTTP and decides them from what inventory and payment answer.
//!
//! Glue only. [`domain`] decides, [`sql`] holds the statements, [`http`] and [`kafka`] connect the two.

pub mod domain;
pub mod expiry;
pub mod http;
pub mod kafka;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod prices;
pub mod refund;
pub mod sql;

fnhost_sdk::export_http!(crate::http::handle);
fnhost_sdk::export_kafka!(crate::kafka::handle);

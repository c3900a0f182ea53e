//! The `notify` function: tells users what became of their orders. Glue only.

pub mod domain;
pub mod http;
pub mod kafka;
#[cfg(feature = "openapi")]
pub mod openapi;
mod sql;

fnhost_sdk::export_http!(crate::http::handle);
fnhost_sdk::export_kafka!(crate::kafka::handle);

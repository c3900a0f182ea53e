//! The `payment` function: takes the money of orders, once each. Glue only.

pub mod domain;
pub mod gateway;
pub mod http;
pub mod kafka;
#[cfg(feature = "openapi")]
pub mod openapi;
mod sql;
pub mod webhook;

fnhost_sdk::export_http!(crate::http::handle);
fnhost_sdk::export_kafka!(crate::kafka::handle);

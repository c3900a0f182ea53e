//! The `inventory` function: the catalogue, its stock, and what each order holds of it. Glue only.

pub mod domain;
pub mod http;
pub mod kafka;
#[cfg(feature = "openapi")]
pub mod openapi;
mod sql;

fnhost_sdk::export_http!(crate::http::handle);
fnhost_sdk::export_kafka!(crate::kafka::handle);

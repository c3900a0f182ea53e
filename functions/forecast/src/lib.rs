//! The `forecast` function: what of each product is wanted each day, what will be, and when to order more. Glue only.

pub mod choose;
pub mod domain;
pub mod http;
pub mod kafka;
pub mod models;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod reorder;
pub mod schedule;
pub mod series;
mod smoothing;
mod sql;

fnhost_sdk::export_http!(crate::http::handle);
fnhost_sdk::export_kafka!(crate::kafka::handle);

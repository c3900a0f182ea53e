//! The glue between the plain types of this crate and the component's imports and exports.

mod cache;
mod client;
pub mod http;
pub mod kafka;
mod sql;

pub use spin_sdk::wasip3;
pub use sql::Component;

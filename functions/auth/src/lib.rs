//! The `auth` function: registers accounts, logs them in, and publishes the keys that everybody checks tokens with.
//!
//! Glue only. [`domain`] says what is acceptable, [`password`] hashes, [`session`] makes tokens, [`throttle`]
//! slows down who guesses, [`link`] makes what mails carry, [`passkey`] checks
//! what authenticators say, [`breached`] knows leaked passwords, [`sql`] holds the statements, [`http`] connects them.

pub mod breached;
pub mod domain;
pub mod http;
pub mod link;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod passkey;
pub mod password;
pub mod session;
pub mod sql;
pub mod throttle;

fnhost_sdk::export_http!(crate::http::handle);

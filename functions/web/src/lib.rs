//! The `web` function: serves the pages of `web/`. Glue only.

mod files;
pub mod http;

fnhost_sdk::export_http!(crate::http::handle);

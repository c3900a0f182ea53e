//! The `web` function: serves the pages of `web/`. Glue only.

mod files;
pub mod http;

kit::export_http!(crate::http::handle);

//! The documents of the order system, from the functions' own types and from `spin.toml`: OpenAPI for its HTTP interface,
//! AsyncAPI for its topics, and a Postman collection from the former.

pub mod asyncapi;
mod events;
mod manifest;
pub mod openapi;
pub mod postman;

pub use manifest::Manifest;

use serde_json::Value;

/// Each document: its file name in `web/api/`, and its text.
///
/// # Errors
/// `spin.toml` cannot be read.
pub fn files() -> anyhow::Result<[(&'static str, String); 3]> {
    let manifest = Manifest::read()?;
    let openapi = openapi::document(&manifest)?;
    let text = |document: &Value| anyhow::Ok(serde_json::to_string_pretty(document)? + "\n");
    Ok([
        ("openapi.json", text(&openapi)?),
        ("asyncapi.json", text(&asyncapi::document(&manifest))?),
        ("postman.json", text(&postman::collection(&openapi)?)?),
    ])
}

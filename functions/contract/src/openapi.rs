//! What the descriptions of the functions share.

use crate::problem::NAMESPACE;
use fnhost_sdk::openapi::Api;
use serde_json::{Value, json};

/// The interface of a function, with nothing in it yet.
#[must_use]
pub fn api(name: &'static str, description: &'static str) -> Api {
    Api::new(name, description).with_problems_in(NAMESPACE)
}

/// The keywords of a product's SKU, as the catalogue's schema checks it.
#[must_use]
pub fn sku() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" })
}

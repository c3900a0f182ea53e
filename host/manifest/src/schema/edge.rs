//! `[application.tool.fnhost.edge]` as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    pub trusted_proxies: Option<Spanned<String>>,
    pub proxy_networks: Option<Vec<Spanned<String>>>,
    pub header_timeout_ms: Option<Spanned<i64>>,
    pub max_viewers_per_user: Option<Spanned<String>>,
    pub token: Option<Token>,
    pub shed: Option<Spanned<Shed>>,
    #[serde(default)]
    pub defaults: Policy,
    #[serde(default)]
    pub route: Vec<Spanned<Policy>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub public_keys: Spanned<String>,
    pub signing_key: Option<Spanned<String>>,
    pub issuer: String,
    pub audience: String,
}

/// `[…edge.defaults]` without a route, `[[…edge.route]]` with one.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub route: Option<Spanned<String>>,
    pub max_body_bytes: Option<Spanned<i64>>,
    pub max_header_bytes: Option<Spanned<i64>>,
    pub max_headers: Option<Spanned<i64>>,
    pub body_timeout_ms: Option<Spanned<i64>>,
    pub request_timeout_ms: Option<Spanned<i64>>,
    pub max_concurrency: Option<Spanned<i64>>,
    pub token: Option<Spanned<String>>,
    pub rate_limit: Option<Spanned<RateLimit>>,
    pub shed: Option<Spanned<BTreeMap<Spanned<String>, Spanned<String>>>>,
    pub cors: Option<Spanned<Cors>>,
    pub security_headers: Option<BTreeMap<Spanned<String>, Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shed {
    pub triggers: Vec<Spanned<String>>,
    pub target_ms: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    pub requests: Spanned<i64>,
    pub per_s: Option<Spanned<i64>>,
    pub burst: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    pub origins: Vec<Spanned<String>>,
    pub methods: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub headers: Vec<Spanned<String>>,
    #[serde(default)]
    pub expose: Vec<Spanned<String>>,
    pub max_age_s: Option<Spanned<i64>>,
    #[serde(default)]
    pub credentials: bool,
}

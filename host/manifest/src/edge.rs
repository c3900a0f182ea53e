//! `[application.tool.fnhost.edge]`: what a request has to pass before a function or a live route sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use super::route::Pattern;
use super::variables::{Secret, Template};
use crate::keys::Keys;

/// Bytes of a request's body where a route names no limit.
pub const DEFAULT_MAX_BODY_BYTES: i64 = 1 << 20;
/// The most bytes of a body that can be named.
pub const MAX_MAX_BODY_BYTES: i64 = 1 << 30;
/// Bytes of a request's line and headers where a route names no limit.
pub const DEFAULT_MAX_HEADER_BYTES: i64 = 32 << 10;
/// The most bytes of a request's line and headers that can be named.
pub const MAX_MAX_HEADER_BYTES: i64 = 256 << 10;
/// Headers of a request where a route names no limit.
pub const DEFAULT_MAX_HEADERS: i64 = 64;
/// The most headers that can be named.
pub const MAX_MAX_HEADERS: i64 = 256;
/// Time in which a request's head must arrive, in milliseconds; a kept connection without a request ends after it too.
pub const DEFAULT_HEADER_TIMEOUT_MS: i64 = 30_000;
/// Time that is waited for a body's parts, all of them together, in milliseconds.
pub const DEFAULT_BODY_TIMEOUT_MS: i64 = 30_000;
/// The longest time-out that can be named, in milliseconds.
pub const MAX_TIMEOUT_MS: i64 = 60 * 60 * 1000;
/// The most requests of a rate that can be named.
pub const MAX_RATE_REQUESTS: i64 = 1_000_000;
/// The longest time that a rate can be over, in seconds.
pub const MAX_RATE_PER_S: i64 = 3600;
/// The most requests at once that can be named.
pub const MAX_RATE_BURST: i64 = 1_000_000;
/// How long events may wait where no target is named, in milliseconds.
pub const DEFAULT_SHED_TARGET_MS: i64 = 500;
/// How long a browser may keep a preflight's answer where none is named, in seconds.
pub const DEFAULT_CORS_MAX_AGE_S: i64 = 600;
/// The longest such time, in seconds.
pub const MAX_CORS_MAX_AGE_S: i64 = 86_400;
/// Streams of live updates that one user may have open on a host where no number is named.
pub const DEFAULT_MAX_VIEWERS_PER_USER: usize = 20;
/// The most that can be named: beyond it the host is full.
pub const MAX_VIEWERS_PER_USER: usize = 3_000;
/// The most proxies in a row that can be trusted.
pub const MAX_TRUSTED_PROXIES: usize = 16;
/// Where proxies connect from where no network is named: this machine, and networks that the internet does not route.
pub const DEFAULT_PROXY_NETWORKS: [&str; 6] =
    ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
/// Headers that answers get where the function does not set them, before the manifest changes the list.
pub const DEFAULT_SECURITY_HEADERS: [(&str, &str); 3] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
];

/// `[application.tool.fnhost.edge]`.
#[derive(Debug, Clone)]
pub struct Edge {
    /// How many proxies in front append to `x-forwarded-for`: a number, once its variables are filled in.
    pub trusted_proxies: Template,
    /// Where the nearest of them connects from.
    pub proxy_networks: Vec<IpNet>,
    /// Time in which a request's head must arrive.
    pub header_timeout: Duration,
    /// Streams of live updates that one user may have open on a host.
    pub max_viewers_per_user: Template,
    /// How tokens are checked; none where no route asks for one.
    pub token: Option<TokenCheck>,
    /// When requests are refused because there is more to do than can be done; none where no route says so.
    pub shed: Option<Shed>,
    /// For paths that no route names.
    pub defaults: Policy,
    /// For paths below a route: of those that match, the most specific one holds.
    pub routes: Vec<(Pattern, Policy)>,
}

/// How tokens are checked.
#[derive(Debug, Clone)]
pub struct TokenCheck {
    /// A JSON Web Key Set, once its variables are filled in.
    pub public_keys: Template,
    /// The variables that `fnhost keys` changes; none where tokens are made elsewhere.
    pub rotated: Option<KeyVariables>,
    /// The `iss` that a token must have.
    pub issuer: String,
    /// The `aud` that a token must have.
    pub audience: String,
}

/// The application variables that hold the keys of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyVariables {
    /// What signs: PKCS#8 PEM.
    pub private: String,
    /// What is good: a JSON Web Key Set.
    pub public: String,
}

/// What is asked of the requests of a route.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Bytes of a body at most.
    pub max_body_bytes: u64,
    /// Bytes of the request's line and headers at most.
    pub max_header_bytes: usize,
    /// Headers at most.
    pub max_headers: usize,
    /// How long the body is waited for.
    pub body_timeout: Duration,
    /// Time until the head of the answer; without one, what the longest deadline of a component needs.
    pub request_timeout: Option<Duration>,
    /// Calls at a time for all requests of these rules, others queue; `None` leaves the bound to component and pool.
    pub max_concurrency: Option<usize>,
    /// Whether a token is asked for.
    pub token: TokenRule,
    /// How many requests a caller may make.
    pub rate_limit: Option<RateLimit>,
    /// Which requests are refused under overload, by method, and in what order; a method that is not here never.
    pub shed: Vec<(Method, Turn)>,
    /// Which pages of other origins may call.
    pub cors: Option<Cors>,
    /// Headers that an answer gets where the function has not set them.
    pub security_headers: Vec<(HeaderName, HeaderValue)>,
}

/// Whether a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRule {
    /// Nobody looks at it.
    Ignored,
    /// One that is sent must be good.
    Optional,
    /// Without a good one there is no answer.
    Required,
}

/// Requests of one caller on one route: so many at once, and as many again as the rate gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests that are given back over `per`.
    pub requests: u32,
    /// The time of the rate.
    pub per: Duration,
    /// Requests at once.
    pub burst: u32,
}

/// When there is more to do than can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shed {
    /// Triggers whose events are what there is to do.
    pub triggers: Vec<String>,
    /// How long their oldest event may have waited.
    pub target: Duration,
}

/// Whose turn it is to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Before all others: what makes new work.
    First,
    /// When to refuse those is not enough.
    Last,
}

/// Which pages of other origins may call.
#[derive(Debug, Clone)]
pub struct Cors {
    /// Their origins; none means every one.
    pub origins: Option<Vec<String>>,
    /// Methods that they may use.
    pub methods: Vec<Method>,
    /// Headers that they may send.
    pub headers: Vec<HeaderName>,
    /// Headers of answers that they may read.
    pub expose: Vec<HeaderName>,
    /// How long a browser may keep what a preflight was told.
    pub max_age: Duration,
    /// Whether a browser may send cookies and the like.
    pub credentials: bool,
}

/// What depends on variables.
#[derive(Debug, Clone, Default)]
pub struct ResolvedEdge {
    /// Proxies in front that append to `x-forwarded-for`.
    pub trusted_proxies: usize,
    /// Streams of live updates that one user may have open on a host.
    pub max_viewers_per_user: usize,
    /// What tokens are checked with.
    pub keys: Option<Keys>,
}

impl Edge {
    /// Fills the variables in; the error says which value is wrong, without the value.
    pub(super) fn resolve(&self, values: &BTreeMap<String, Secret>) -> Result<ResolvedEdge, String> {
        let trusted_proxies = self.trusted_proxies.fill(values);
        let trusted_proxies = match trusted_proxies.trim().parse() {
            Ok(number) if number <= MAX_TRUSTED_PROXIES => number,
            _ => return Err(format!("trusted_proxies must be a number from 0 to {MAX_TRUSTED_PROXIES}")),
        };
        let viewers = self.max_viewers_per_user.fill(values);
        let max_viewers_per_user = match viewers.trim().parse() {
            Ok(number) if (1..=MAX_VIEWERS_PER_USER).contains(&number) => number,
            _ => {
                return Err(format!(
                    "max_viewers_per_user must be a number from 1 to {MAX_VIEWERS_PER_USER}"
                ));
            }
        };
        let keys = match &self.token {
            None => None,
            Some(check) => Some(
                Keys::parse(&check.public_keys.fill(values))
                    .map_err(|fault| format!("token.public_keys: {fault}"))?,
            ),
        };
        Ok(ResolvedEdge { trusted_proxies, max_viewers_per_user, keys })
    }
}

//! What a request passes before a function or a live route sees it, and what an answer passes on its way back.
//!
//! The rules are the manifest's (`[application.tool.fnhost.edge]`), those of the most specific route that the path matches. They
//! come on top of what a function checks itself: under Spin there is nothing but the function.

mod bounded;
mod caller;
mod cors;
mod limiter;
mod shed;
mod token;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::MonotonicClock;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use tokio::sync::Semaphore;

use super::body::{BodyLimits, Fault};
use super::headers::REQUEST_ID;
use super::problem::refusal;
use super::{Peers, ServerBody};
pub use caller::MAX_REQUEST_ID_CHARS;
use caller::Proxies;
pub(super) use caller::network;
use cors::Cors;
use fnhost_manifest::edge::{Policy, TokenRule};
use fnhost_manifest::route::{Pattern, Route};
use fnhost_manifest::{Manifest, Values};
use fnhost_metrics::{Refusal, RefusalMetrics};
pub use limiter::REMEMBERED_CALLERS;
use limiter::{Caller, Left, Limiter, Memory};
use shed::{Admitted, Shedder};
pub use shed::{UPDATE_INTERVAL, Waiting};
pub use token::{CLOCK_LEEWAY_S, MAX_TOKEN_BYTES, REMEMBERED_TOKENS};
use token::{Refused, Tokens};

/// Time that a request may wait for a place, on top of the longest deadline of a component, where no time-out is declared.
pub const QUEUE_TIME: Duration = Duration::from_secs(30);
/// How many times the declared bytes of headers a connection reads, so that what is over is refused with a problem document.
/// Beyond that, and beyond half as many headers again as are declared, the connection answers 431 without one.
const HEAD_BYTES_FACTOR: usize = 2;
/// Headers that a connection reads at least: up to here hyper needs no memory for them.
const READ_HEADERS_MIN: usize = 100;

/// The door.
pub(super) struct Edge {
    defaults: Rules,
    routes: Vec<(Pattern, Rules)>,
    tokens: Option<Tokens>,
    shedder: Option<Arc<Shedder>>,
    proxies: Proxies,
    /// What a connection reads.
    pub reading: Reading,
}

/// What a connection reads, whatever the path.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    /// Time in which a request's head must arrive.
    pub head_timeout: Duration,
    /// Bytes of a request's head, read-ahead included.
    pub head_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
}

/// The rules of one route.
struct Rules {
    policy: Policy,
    request_timeout: Duration,
    limiter: Option<Limiter>,
    /// One permit for each call that may run at a time.
    places: Option<Arc<Semaphore>>,
    cors: Option<Cors>,
    metrics: RefusalMetrics,
}

/// A request on its way through.
pub(super) struct Pass<'g> {
    rules: &'g Rules,
    id: HeaderValue,
    /// It has more headers than its rules allow.
    over_size: bool,
    /// It brings a token that was checked.
    token_is_good: bool,
    /// What the answer says of the page's origin.
    origin: Option<HeaderValue>,
    left: Option<Left>,
    /// Counts it until the answer's head, where that is asked for.
    admitted: Option<Admitted>,
}

/// What a call may do that the edge let in.
#[derive(Default)]
pub(super) struct Granted {
    /// Permits that it needs one of; no limit where there are none.
    pub places: Option<Arc<Semaphore>>,
    /// The request's access token was checked, and the component may hear of it.
    pub token_is_good: bool,
}

impl Edge {
    /// The edge of a manifest.
    pub fn new(manifest: &Manifest, values: &Values, waiting: Option<Waiting>) -> Self {
        let declared = &manifest.application.edge;
        let public = manifest.http.iter().filter(|trigger| trigger.route != Route::Private);
        let deadlines = public.filter_map(|t| Some(manifest.components.get(&t.component)?.limits.deadline));
        let request_timeout = deadlines.max().unwrap_or_default() + QUEUE_TIME;
        let memory = Memory::default();
        let rules = |number, pattern: &str, policy: &Policy| Rules {
            request_timeout: policy.request_timeout.unwrap_or(request_timeout),
            limiter: policy.rate_limit.map(|limit| Limiter::new(number, limit, &memory, MonotonicClock)),
            places: policy.max_concurrency.map(|places| Arc::new(Semaphore::new(places))),
            cors: policy.cors.as_ref().map(Cors::new),
            metrics: RefusalMetrics::new(pattern),
            policy: policy.clone(),
        };
        let routes = declared.routes.iter().enumerate();
        // Shown from the start.
        fnhost_metrics::sheds(0);
        let check = declared.token.as_ref().zip(values.edge.keys.clone());
        let policies = || declared.routes.iter().map(|(_, policy)| policy).chain([&declared.defaults]);
        Self {
            defaults: rules(declared.routes.len(), "", &declared.defaults),
            routes: routes
                .map(|(number, (pattern, policy))| (pattern.clone(), rules(number, pattern.raw(), policy)))
                .collect(),
            tokens: check.map(|(check, keys)| Tokens::new(keys, &check.issuer, &check.audience)),
            shedder: declared
                .shed
                .as_ref()
                .zip(waiting)
                .map(|(shed, waiting)| Arc::new(Shedder::new(shed, waiting))),
            proxies: Proxies {
                count: values.edge.trusted_proxies,
                networks: declared.proxy_networks.clone(),
            },
            reading: Reading {
                head_timeout: declared.header_timeout,
                head_bytes: HEAD_BYTES_FACTOR
                    * policies().map(|policy| policy.max_header_bytes).max().unwrap_or(0),
                headers: policies()
                    .map(|policy| policy.max_headers * 3 / 2)
                    .max()
                    .unwrap_or(0)
                    .max(READ_HEADERS_MIN),
            },
        }
    }

    /// Whether a declared proxy connects from this address.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.include(address)
    }

    /// Takes out of a request what nobody vouches for: where a function looks for its client's address, it finds what the edge
    /// found.
    pub fn keep_known_address<B>(&self, request: &mut Request<B>, peers: Peers) {
        self.proxies.keep_what_they_wrote(peers.client.ip(), request.headers_mut());
    }

    /// Gives a request its id, and finds the rules for its path.
    pub fn open<B>(&self, request: &mut Request<B>) -> Pass<'_> {
        let path = request.uri().path();
        let matching = self.routes.iter().filter(|(pattern, _)| pattern.covers(path));
        let rules =
            matching.min_by(|(a, _), (b, _)| a.specificity(b)).map_or(&self.defaults, |(_, rules)| rules);
        // As the client sent it, before anything is added.
        let over_size = over_size(request, &rules.policy);
        let id = caller::identify(request.headers_mut());
        let origin = rules.cors.as_ref().and_then(|cors| cors.allowed(request.headers()));
        Pass { rules, id, over_size, token_is_good: false, origin, left: None, admitted: None }
    }

    /// The user that a request's token stands for, where tokens are checked and it has a good one.
    pub fn user(&self, headers: &HeaderMap) -> Option<u64> {
        self.tokens.as_ref()?.check(headers).ok()
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// The answer, where it is given here: a refusal, or that to a preflight.
    pub fn admit<B>(
        &self,
        pass: &mut Pass<'_>,
        request: &Request<B>,
        peers: Peers,
    ) -> Result<(), Box<Response<ServerBody>>> {
        let policy = &pass.rules.policy;
        if pass.over_size {
            return Err(pass.refuse(Refusal::HeaderSize).into());
        }
        if !caller::names_its_host(request) {
            return Err(pass.refuse(Refusal::Host).into());
        }
        if pass.rules.cors.is_some() && cors::is_preflight(request) {
            return Err(pass.preflight().into());
        }
        if let Some(shedder) = &self.shedder
            && let Some((_, turn)) = policy.shed.iter().find(|(method, _)| method == request.method())
        {
            if let Some(retry_after) = shedder.refuses(*turn) {
                let mut response = pass.refuse(Refusal::Overload);
                response.headers_mut().insert(header::RETRY_AFTER, retry_after.as_secs().into());
                return Err(response.into());
            }
            pass.admitted = shedder.admit(*turn);
        }
        let verified = match &self.tokens {
            Some(tokens) if policy.token != TokenRule::Ignored => Some(tokens.check(request.headers())),
            _ => None,
        };
        let address = || Caller::at(self.proxies.client(peers.client.ip(), request.headers()));
        if let Some(limiter) = &pass.rules.limiter {
            // Who has no good token counts for the address, so that guessing one is limited too.
            let caller = verified.and_then(Result::ok).map_or_else(address, Caller::Subject);
            match limiter.count(caller) {
                Ok(left) => pass.left = Some(left),
                Err(left) => {
                    pass.left = Some(left);
                    return Err(pass.refuse(Refusal::RateLimit).into());
                }
            }
        }
        match verified {
            Some(Err(Refused::Missing))
                if policy.token == TokenRule::Optional && !has_authorization(request) => {}
            Some(Err(refused)) => return Err(pass.unauthorized(refused).into()),
            None => {}
            Some(Ok(_)) => pass.token_is_good = true,
        }
        if declared_length(request).is_some_and(|length| length > policy.max_body_bytes) {
            return Err(pass.refuse(Refusal::BodySize).into());
        }
        Ok(())
    }
}

impl Pass<'_> {
    /// Time until the head of the answer.
    pub fn request_timeout(&self) -> Duration {
        self.rules.request_timeout
    }

    /// What its call may do.
    pub fn granted(&self) -> Granted {
        Granted { places: self.rules.places.clone(), token_is_good: self.token_is_good }
    }

    /// What the request's body may be.
    pub fn body_limits(&self) -> BodyLimits {
        let policy = &self.rules.policy;
        BodyLimits { bytes: policy.max_body_bytes, wait: policy.body_timeout }
    }

    /// The answer to a request whose body was broken off.
    pub fn broken_off(&self, fault: Fault) -> Response<ServerBody> {
        match fault {
            Fault::TooLarge => self.refuse(Refusal::BodySize),
            Fault::TooSlow => self.refuse(Refusal::BodyTimeout),
            Fault::Incomplete => self.refuse(Refusal::BodyIncomplete),
        }
    }

    /// The answer to a request that is refused; counts it.
    pub fn refuse(&self, why: Refusal) -> Response<ServerBody> {
        let policy = &self.rules.policy;
        let (status, detail) = match why {
            Refusal::BodySize => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {} bytes", policy.max_body_bytes),
            ),
            Refusal::HeaderSize => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!(
                    "a request may have {} headers and {} bytes of them, its first line included",
                    policy.max_headers, policy.max_header_bytes
                ),
            ),
            Refusal::BodyTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                format!("the body was not sent within {} ms", policy.body_timeout.as_millis()),
            ),
            Refusal::BodyIncomplete => {
                (StatusCode::BAD_REQUEST, "the body broke off before its end".to_owned())
            }
            Refusal::Host => (StatusCode::BAD_REQUEST, "send the header host, once".to_owned()),
            Refusal::RequestTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "the function did not answer in time; try again".to_owned())
            }
            Refusal::RateLimit => (
                StatusCode::TOO_MANY_REQUESTS,
                format!("too many requests; try again in {} s", self.left.map_or(1, Left::retry_s)),
            ),
            Refusal::Overload => (
                StatusCode::SERVICE_UNAVAILABLE,
                "there is more to do than can be done at the moment; try again later".to_owned(),
            ),
            Refusal::Cors => {
                (StatusCode::FORBIDDEN, "pages of this origin may not call this route".to_owned())
            }
            Refusal::Token => (StatusCode::UNAUTHORIZED, Refused::Missing.to_string()),
        };
        let field = match why {
            Refusal::BodySize | Refusal::BodyTimeout | Refusal::BodyIncomplete => Some("body"),
            Refusal::Host => Some("host"),
            _ => None,
        };
        self.counted(why, refusal(status, &detail, field))
    }

    fn unauthorized(&self, refused: Refused) -> Response<ServerBody> {
        let field = header::AUTHORIZATION;
        let mut response = refusal(StatusCode::UNAUTHORIZED, &refused.to_string(), Some(field.as_str()));
        // RFC 6750: without a token the challenge alone.
        let challenge = match refused {
            Refused::Missing => "Bearer",
            _ => "Bearer error=\"invalid_token\"",
        };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        self.counted(Refusal::Token, response)
    }

    fn counted(&self, why: Refusal, mut response: Response<ServerBody>) -> Response<ServerBody> {
        self.rules.metrics.refused(why);
        let request_id = self.id.to_str().unwrap_or_default();
        tracing::debug!(
            request_id,
            reason = why.label(),
            status = response.status().as_u16(),
            "request refused"
        );
        if matches!(why, Refusal::BodySize | Refusal::BodyTimeout | Refusal::BodyIncomplete) {
            // What is left of the body is not read, so the connection cannot carry another request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn preflight(&self) -> Response<ServerBody> {
        let (Some(cors), Some(_)) = (&self.rules.cors, &self.origin) else {
            return self.refuse(Refusal::Cors);
        };
        let mut response = Response::new(super::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        cors.write_preflight(response.headers_mut());
        response
    }

    /// Gives an answer what every answer has.
    pub fn close<B>(self, response: &mut Response<B>) {
        if let Some(admitted) = self.admitted.filter(|_| response.status().is_success()) {
            admitted.made();
        }
        let headers = response.headers_mut();
        for (name, value) in &self.rules.policy.security_headers {
            if !headers.contains_key(name) {
                headers.insert(name, value.clone());
            }
        }
        if let Some(cors) = &self.rules.cors {
            cors.write(self.origin, headers);
        }
        if let Some(left) = self.left {
            left.write(headers);
        }
        headers.insert(REQUEST_ID, self.id);
    }
}

/// What is signed of the access token that a request brings: `header.claims`.
pub(super) fn signed_part(headers: &HeaderMap) -> Option<&str> {
    token::bearer(headers).ok()?.rsplit_once('.').map(|(signed, _)| signed)
}

/// Whether a request has more headers, or more bytes of line and headers, than the policy allows.
fn over_size<B>(request: &Request<B>, policy: &Policy) -> bool {
    /// Colon, space and line break of a header; spaces, version and line break of the first line.
    const BETWEEN: usize = 4;
    const FIRST_LINE: usize = 12;
    let headers = request.headers();
    let path = request.uri().path_and_query().map_or(1, |path| path.as_str().len());
    let line = request.method().as_str().len() + path + FIRST_LINE;
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + BETWEEN).sum();
    headers.len() > policy.max_headers || line + bytes > policy.max_header_bytes
}

fn has_authorization<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::AUTHORIZATION)
}

fn declared_length<B>(request: &Request<B>) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

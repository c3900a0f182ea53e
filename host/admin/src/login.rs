//! Who asks the admin address, and what that token may do. Whoever deploys decides which code runs, so nothing is answered
//! without a token but what says how the host is.

use super::audit::Peer;
use super::door::Door;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// Characters of the deployment's own token at least: what is generated has 64 hex digits.
pub const TOKEN_CHARS_MIN: usize = 32;
/// Further tokens that may be declared: each is compared with what a request brings.
pub const TOKENS_MAX: usize = 100;
/// Name of the deployment's own token in the audit.
const OWN: &str = "admin";
/// Paths that need no token: a probe has none to send, and they tell names that the manifest declares, and counts.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// What changes records and positions, and no code. All other changes are deployments.
const OPERATED: [&str; 6] = ["/dead-letters/", "/parked/", "/outbox/", "/triggers/", "/positions", "/replay"];

/// What a token may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See everything, the bytes of records too.
    Read,
    /// Redrive, discard, retry, move, replay, pause and resume.
    Operate,
    /// Decide which code runs, and with which variables.
    Deploy,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Deploy => "deploy",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Read, Self::Operate, Self::Deploy]
            .into_iter()
            .find(|role| role.to_string() == text)
            .ok_or_else(|| format!("\"{text}\" is no role; there are read, operate and deploy"))
    }
}

/// The tokens that are good, by their SHA-256: none is kept as it is.
#[derive(Clone)]
pub struct Tokens(Arc<[Known]>);

struct Known {
    name: String,
    role: Role,
    digest: [u8; 32],
}

impl fmt::Debug for Tokens {
    /// Names and roles alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|known| (&known.name, known.role))).finish()
    }
}

impl Tokens {
    /// The deployment's own token, which may do everything, and those `declared`: a line for each with its name, its role and the
    /// SHA-256 of the token in hex. Empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    /// A line is not of that form, or the own token could be guessed. Nothing of a token is in the message.
    pub fn new(own: &str, declared: &str) -> Result<Self, String> {
        let plain = own.len() >= TOKEN_CHARS_MIN && own.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain {
            return Err(format!(
                "the admin token needs at least {TOKEN_CHARS_MIN} printable ASCII characters without spaces; make one with: \
                 openssl rand -hex 32"
            ));
        }
        let mut known = vec![Known { name: OWN.to_owned(), role: Role::Deploy, digest: digest(own) }];
        for (index, line) in declared.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |reason: String| format!("line {}: {reason}", index + 1);
            let declared = Known::read(line).map_err(at)?;
            if known.iter().any(|known| known.name == declared.name) {
                return Err(at(format!("there are two tokens named {}", declared.name)));
            }
            known.push(declared);
        }
        if known.len() > TOKENS_MAX {
            return Err(format!("more than {TOKENS_MAX} tokens are declared"));
        }
        Ok(Self(known.into()))
    }

    /// Whose token this is. All are compared, and each in whole, so that the time tells nothing.
    fn find(&self, token: &str) -> Option<&Known> {
        let digest = digest(token);
        self.0.iter().fold(
            None,
            |found, known| if bool::from(known.digest.ct_eq(&digest)) { Some(known) } else { found },
        )
    }
}

impl Known {
    fn read(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let (Some(name), Some(role), Some(hex), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("expected NAME ROLE SHA-256, separated by spaces".to_owned());
        };
        let byte = |index: usize| {
            hex.get(index * 2..index * 2 + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok())
        };
        let mut digest = [0; 32];
        for (index, place) in digest.iter_mut().enumerate() {
            *place = byte(index).filter(|_| hex.len() == 64).ok_or_else(|| {
                format!("the token of {name} is given by its SHA-256, 64 hex digits: printf %s \"$TOKEN\" | sha256sum")
            })?;
        }
        Ok(Self { name: name.to_owned(), role: role.parse()?, digest })
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The networks, besides the loopback one, from which a token may come in plain text: nobody else reads what they carry.
#[derive(Clone, Debug, Default)]
pub struct Networks(Arc<[IpNet]>);

impl Networks {
    /// These networks.
    #[must_use]
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether a token may come over this connection.
    fn may_send(&self, peer: Peer) -> bool {
        peer.is_secure || self.contain(peer.address.ip())
    }

    fn contain(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        peer.is_loopback() || self.0.iter().any(|network| network.contains(&peer))
    }
}

/// Who sent a request, for the audit.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub String);

/// The role that a request needs; none where it needs no token. What is not known here needs the highest.
fn required(method: &Method, path: &str) -> Option<Role> {
    match *method {
        Method::GET | Method::HEAD if OPEN.contains(&path) => None,
        Method::GET | Method::HEAD => Some(Role::Read),
        Method::POST if OPERATED.iter().any(|operated| is_at(path, operated)) => Some(Role::Operate),
        _ => Some(Role::Deploy),
    }
}

/// Whether a path is the one named, or below it where that ends with a slash.
fn is_at(path: &str, named: &str) -> bool {
    if named.ends_with('/') { path.starts_with(named) } else { path == named }
}

/// The token of a request; two headers are no token, since something on the way may have read the other one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, another) = (values.next()?, values.next());
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    (another.is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim())
}

/// Answers only who may ask.
pub(super) async fn guard(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let Some(role) = required(request.method(), request.uri().path()) else { return next.run(request).await };
    // Without a peer it was not asked over a network: by a test.
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| *peer);
    if peer.is_some_and(|peer| !door.networks.may_send(peer)) {
        let cure = "the admin address takes tokens in plain text from loopback and from networks that are named with \
                    --admin-network alone; with --admin-tls-cert it takes them from everywhere over https\n";
        return (StatusCode::FORBIDDEN, cure).into_response();
    }
    match bearer(request.headers()).map(|token| door.tokens.find(token)) {
        Some(Some(known)) if known.role >= role => {
            request.extensions_mut().insert(Caller(known.name.clone()));
            next.run(request).await
        }
        Some(Some(known)) => {
            let said =
                format!("the token {} has the role {}, and this needs {role}\n", known.name, known.role);
            (StatusCode::FORBIDDEN, said).into_response()
        }
        none => {
            if none.is_some() {
                tracing::warn!(peer = ?peer.map(|peer| peer.address.ip()), "a token that is not known was sent to the admin address");
            }
            let cure = "send the header authorization: Bearer TOKEN; the token is FNHOST_ADMIN_TOKEN of this host, or stands in \
                        secrets/admin of its data directory\n";
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], cure).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: &str = "0123456789abcdef0123456789abcdef";

    fn hex(token: &str) -> String {
        digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_change_needs_a_role_and_only_health_needs_none() {
        use Role::{Deploy, Operate, Read};
        for (method, path, role) in [
            (Method::GET, "/healthz", None),
            (Method::HEAD, "/readyz", None),
            (Method::GET, "/metrics", None),
            (Method::POST, "/metrics", Some(Deploy)),
            (Method::GET, "/metrics/", Some(Read)),
            (Method::GET, "/dead-letters", Some(Read)),
            (Method::GET, "/audit", Some(Read)),
            (Method::POST, "/dead-letters/redrive", Some(Operate)),
            (Method::POST, "/parked/discard", Some(Operate)),
            (Method::POST, "/outbox/to-dead", Some(Operate)),
            (Method::POST, "/triggers/pause", Some(Operate)),
            (Method::POST, "/positions", Some(Operate)),
            (Method::POST, "/replay", Some(Operate)),
            (Method::POST, "/components/order/versions", Some(Deploy)),
            (Method::POST, "/components/order/rollback", Some(Deploy)),
            (Method::POST, "/anything", Some(Deploy)),
            (Method::DELETE, "/dead-letters/redrive", Some(Deploy)),
        ] {
            assert_eq!(required(&method, path), role, "{method} {path}");
        }
    }

    #[test]
    fn tokens_are_known_by_their_digest_and_have_their_role() {
        let declared =
            format!("# of the team\n\nviewer read {}\n ci  deploy {}\n", hex("v"), hex("c").to_uppercase());
        let tokens = Tokens::new(OWNERS, &declared).expect("tokens");
        let found = |token: &str| tokens.find(token).map(|known| (known.name.as_str(), known.role));
        assert_eq!(found(OWNERS), Some(("admin", Role::Deploy)));
        assert_eq!(found("v"), Some(("viewer", Role::Read)));
        assert_eq!(found("c"), Some(("ci", Role::Deploy)));
        for other in ["", "V", "vc", &hex("v"), &OWNERS[1..]] {
            assert_eq!(found(other), None, "{other}");
        }
        let shown = format!("{tokens:?}");
        assert!(shown.contains("viewer") && !shown.contains(&hex("v")[..8]), "{shown}");
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        for own in ["", "short-secret", &"secret ".repeat(10)] {
            let refused = Tokens::new(own, "").expect_err("it can be guessed");
            assert!(!refused.contains("secret"), "{refused}");
        }
        let good = hex("v");
        for (line, said) in [
            ("viewer read".to_owned(), "line 1: expected NAME ROLE SHA-256"),
            (format!("viewer read {good} more"), "line 1: expected"),
            (format!("viewer write {good}"), "no role"),
            ("viewer read hunter2".to_owned(), "64 hex digits"),
            (format!("viewer read {}é", &good[..62]), "64 hex digits"),
            (format!("viewer read {good}\nviewer deploy {good}"), "line 2: there are two"),
            (format!("admin read {good}"), "there are two"),
        ] {
            let refused = Tokens::new(OWNERS, &line).expect_err(&line);
            assert!(refused.contains(said) && !refused.contains("hunter2"), "{line}: {refused}");
        }
    }

    #[test]
    fn only_loopback_and_declared_networks_are_answered() {
        let networks =
            Networks::new(&["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("one")]);
        for (peer, answered) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("fd12::1", true),
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            let address = (peer.parse::<IpAddr>().expect("an address"), 1).into();
            assert_eq!(networks.may_send(Peer { address, is_secure: false }), answered, "{peer}");
            assert!(networks.may_send(Peer { address, is_secure: true }), "{peer} over TLS");
        }
    }
}

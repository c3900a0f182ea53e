//! From where the admin address may be asked. A browser on the operator's machine reaches it too: a page of any site could send
//! requests to the loopback address, or to a name of its own that it lets resolve to that. Such a request says so: in
//! `Origin`, or in `Host`. What the token may do that a request brings, [`login`](super::login) decides.

use std::net::IpAddr;
use std::sync::Arc;

use super::login::{Networks, Tokens};
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Who may ask the admin address.
#[derive(Clone, Debug)]
pub struct Door {
    /// Hosts by which it may be asked.
    pub hosts: AllowedHosts,
    /// Tokens that are good.
    pub tokens: Tokens,
    /// From where tokens may come, in plain text as they do.
    pub networks: Networks,
}

/// Hosts by which the admin address may be asked besides the loopback ones.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Arc<[String]>);

impl AllowedHosts {
    /// These names or addresses, without a port.
    #[must_use]
    pub fn new(hosts: &[String]) -> Self {
        Self(hosts.iter().map(|host| bare(host).to_ascii_lowercase()).collect())
    }

    /// Whether requests to this `host` or `host:port` may be answered.
    fn allow(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let host = bare(authority.host()).to_ascii_lowercase();
        // The unspecified address leads to the loopback one, and is what commands next to such a host are given.
        let here = |address: IpAddr| address.is_loopback() || address.is_unspecified();
        host.parse().map_or(host == "localhost", here) || self.0.contains(&host)
    }

    /// Why a request is refused; none where it is not.
    fn refusal(&self, request: &Request) -> Option<(StatusCode, &'static str)> {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let mut hosts: Vec<String> = request.headers().get_all(header::HOST).iter().map(text).collect();
        if hosts.len() > 1 {
            return Some((StatusCode::BAD_REQUEST, "send the header host once\n"));
        }
        // Of HTTP/2, or of a request as proxies get it.
        hosts.extend(request.uri().authority().map(|authority| authority.as_str().to_owned()));
        if hosts.is_empty() || !hosts.iter().all(|host| self.allow(host)) {
            return Some((
                StatusCode::FORBIDDEN,
                "the admin address is asked by a loopback address or name, or by a host that is named with --admin-host\n",
            ));
        }
        let own = |origin: &HeaderValue| {
            text(origin).split_once("://").is_some_and(|(_, authority)| self.allow(authority))
        };
        let foreign = request.headers().get_all(header::ORIGIN).iter().any(|origin| !own(origin));
        foreign.then_some((StatusCode::FORBIDDEN, "pages of other sites may not ask the admin address\n"))
    }
}

/// A host without the brackets of an IPv6 address, and without the dot that ends a full name.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches([']', '.'])
}

/// Refuses requests that a page of another site may have sent.
pub(super) async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.hosts.refusal(&request) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn status(allowed: &[&str], headers: &[(&str, &str)]) -> u16 {
        let allowed: Vec<String> = allowed.iter().map(|host| (*host).to_owned()).collect();
        let mut request = Request::post("/components/order/versions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        AllowedHosts::new(&allowed).refusal(&request).map_or(200, |(status, _)| status.as_u16())
    }

    #[test]
    fn only_loopback_and_declared_hosts_are_asked() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:3001",
            "127.1.2.3:3001",
            "localhost:3001",
            "LocalHost.",
            "[::1]:3001",
            "0.0.0.0:3001",
        ] {
            assert_eq!(status(&[], &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:3001",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example@127.0.0.1",
            "127.0.0.1@evil.example",
            "192.0.2.1:3001",
            "[2001:db8::1]:3001",
            "",
            "a b",
        ] {
            assert_eq!(status(&[], &[("host", host)]), 403, "{host}");
        }
        assert_eq!(status(&[], &[]), 403, "no host");
        assert_eq!(status(&[], &[("host", "localhost"), ("host", "localhost")]), 400);
        let declared = ["fnhost", "2001:db8::1"];
        for host in ["fnhost:3001", "FNHOST", "[2001:db8::1]:3001", "localhost"] {
            assert_eq!(status(&declared, &[("host", host)]), 200, "{host}");
        }
        assert_eq!(status(&declared, &[("host", "other:3001")]), 403);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let asked = |origin: &str| status(&["fnhost"], &[("host", "127.0.0.1:3001"), ("origin", origin)]);
        for origin in ["http://127.0.0.1:3001", "http://localhost:3001", "http://fnhost:3001"] {
            assert_eq!(asked(origin), 200, "{origin}");
        }
        for origin in ["https://evil.example", "null", "", "http://localhost.evil.example", "file://"] {
            assert_eq!(asked(origin), 403, "{origin}");
        }
    }

    #[test]
    fn a_request_as_proxies_get_it_is_judged_by_both_hosts() {
        let judged = |uri: &str, host: &str| {
            let request = Request::get(uri).header("host", host).body(Body::empty()).expect("a request");
            AllowedHosts::default().refusal(&request).is_none()
        };
        assert!(judged("http://localhost:3001/readyz", "localhost:3001"));
        assert!(!judged("http://evil.example/readyz", "localhost:3001"));
        assert!(!judged("http://localhost:3001/readyz", "evil.example"));
    }
}

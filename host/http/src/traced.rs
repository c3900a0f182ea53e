//! The span of a request.

use fnhost_manifest::route::Pattern;
use fnhost_trace::{Hop, Kind, Span};
use http::{StatusCode, request};
use std::net::SocketAddr;
use std::time::SystemTime;

/// What a request's span says of it.
pub(super) struct About {
    method: String,
    route: String,
    path: String,
    client: String,
}

/// Of a request that is recorded. Its query is left out: it may hold what is secret.
pub(super) fn about(head: &request::Parts, pattern: &Pattern, client: SocketAddr) -> About {
    About {
        method: head.method.to_string(),
        route: pattern.raw().to_owned(),
        path: head.uri.path().to_owned(),
        client: client.ip().to_string(),
    }
}

impl About {
    /// The head of the answer is there.
    pub(super) fn answered(self, hop: Hop, from: SystemTime, status: StatusCode) {
        let failed = status.is_server_error().then(|| status.to_string());
        hop.ended(
            Span::new(Kind::Server, format!("{} {}", self.method, self.route), from)
                .text("http.request.method", self.method)
                .text("http.route", self.route)
                .text("url.path", self.path)
                .text("url.scheme", "http")
                .text("client.address", self.client)
                .number("http.response.status_code", status.as_u16().into())
                .failed(failed),
        );
    }
}

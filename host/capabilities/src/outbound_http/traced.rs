//! Outbound requests as hops of a trace: the request carries the header `traceparent`, and a recorded one becomes a span.

use fnhost_trace::{Context, Hop, Kind, Span, TRACEPARENT};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use std::time::SystemTime;

/// The hop of an outbound request that is recorded.
pub(super) struct Outbound {
    hop: Hop,
    span: Span,
}

/// Has the request go on with the trace that the function put on it, else with the trace of its call. Answers its hop, where
/// that is recorded.
pub(super) fn follow<B>(request: &mut Request<B>, call: Option<Context>) -> Option<Outbound> {
    let given = request.headers().get(TRACEPARENT);
    let parent = given.and_then(|value| Context::parse(value.as_bytes())).or(call)?;
    let hop = Hop::after(parent);
    let context = hop.map_or_else(|| parent.next(), Hop::context);
    // Hexadecimal digits and dashes.
    if let Ok(value) = HeaderValue::from_str(&context.to_string()) {
        request.headers_mut().insert(HeaderName::from_static(TRACEPARENT), value);
    }
    let hop = hop?;
    let (method, uri) = (request.method().as_str(), request.uri());
    let (scheme, host) = (uri.scheme_str().unwrap_or("https"), uri.host().unwrap_or_default());
    let span = Span::new(Kind::Client, method.to_owned(), SystemTime::now())
        .text("http.request.method", method)
        .text("server.address", host)
        // Without the query, which may hold what is secret, and without a login.
        .text("url.full", format!("{scheme}://{host}{}{}", Port(uri.port_u16()), uri.path()));
    let span = match uri.port_u16() {
        Some(port) => span.number("server.port", port.into()),
        None => span,
    };
    Some(Outbound { hop, span })
}

impl Outbound {
    /// The head of the answer is there, or why there is none.
    pub(super) fn answered(self, outcome: Result<StatusCode, String>) {
        self.hop.ended(match outcome {
            Ok(status) => {
                let failed =
                    (status.is_client_error() || status.is_server_error()).then(|| status.to_string());
                self.span.number("http.response.status_code", status.as_u16().into()).failed(failed)
            }
            Err(reason) => self.span.failed(Some(reason)),
        });
    }
}

/// A port as it stands in a URL.
struct Port(Option<u16>);

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

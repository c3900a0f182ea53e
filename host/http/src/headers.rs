//! What the host adds to a request before a component sees it: its full address and Spin's headers.

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header, request};

use super::Peers;
use fnhost_engine::LoadedComponent;
use fnhost_manifest::route::{Captures, Pattern};
use fnhost_trace::Cause;
use fnhost_trace::Hop;

/// What the host's headers begin with, Spin's and our own; a client's headers of such names are dropped.
const PREFIXES: [&str; 2] = ["spin-", "fnhost-"];
/// What the headers with the values of a route's parameters begin with.
const PATH_MATCH: &str = "spin-path-match-";

/// The header of a request's id, both ways.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// The address and the headers that a request gets.
pub(super) struct Added {
    uri: Uri,
    headers: HeaderMap,
}

/// Computes what is added; the error is for the client.
pub(super) fn spin<B>(
    request: &Request<B>,
    pattern: &Pattern,
    captures: &Captures<'_>,
    peers: Peers,
) -> Result<Added, &'static str> {
    const BAD_HOST: &str = "the Host header is not a host and port";
    let authority: Authority = match (request.uri().authority(), request.headers().get(header::HOST)) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes()).map_err(|_| BAD_HOST)?,
        (None, None) => Authority::try_from(peers.local.to_string()).map_err(|_| BAD_HOST)?,
    };
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|_| "the request's address is not valid")?;
    let mut headers = HeaderMap::new();
    let mut add = |name: HeaderName, value: &str| -> Result<(), &'static str> {
        let value = HeaderValue::from_str(value).map_err(|_| "the request's path is not valid")?;
        headers.insert(name, value);
        Ok(())
    };
    add(HeaderName::from_static("spin-path-info"), &captures.path_info)?;
    add(HeaderName::from_static("spin-full-url"), &uri.to_string())?;
    // The base path is always "/", so that the matched route and the raw one are the same.
    add(HeaderName::from_static("spin-matched-route"), pattern.raw())?;
    add(HeaderName::from_static("spin-raw-component-route"), pattern.raw())?;
    add(HeaderName::from_static("spin-component-route"), pattern.prefix())?;
    add(HeaderName::from_static("spin-base-path"), "/")?;
    add(HeaderName::from_static("spin-client-addr"), &peers.client.to_string())?;
    for (parameter, value) in &captures.params {
        let name = format!("{PATH_MATCH}{}", parameter.to_ascii_lowercase().replace('_', "-"));
        let name = HeaderName::try_from(name).map_err(|_| "the route's parameter is not valid")?;
        add(name, value)?;
    }
    Ok(Added { uri, headers })
}

/// What the log lines of a request's call carry.
pub(super) fn cause(head: &request::Parts, pattern: &Pattern) -> Cause {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    Cause {
        method: Some(head.method.to_string()),
        route: Some(pattern.raw().to_owned()),
        request_id: header(REQUEST_ID).map(str::to_owned),
        context: header(fnhost_trace::TRACEPARENT)
            .and_then(|value| fnhost_trace::Context::parse(value.as_bytes())),
        ..Cause::default()
    }
}

/// Has the call go on with the client's trace, or begin one: that of the request's id, where it is one. Either way with a span of
/// its own. Answers the hops of a trace that is recorded: that of the request, and within it that of the call, which is the one
/// the component sees.
pub(super) fn continue_trace(headers: &mut HeaderMap) -> Option<[Hop; 2]> {
    let given = headers
        .get(fnhost_trace::TRACEPARENT)
        .and_then(|value| fnhost_trace::Context::parse(value.as_bytes()));
    if given.is_none() {
        // It says more of a trace that this request does not belong to.
        headers.remove("tracestate");
    }
    let (context, hop) = match given {
        Some(given) => (given.next(), Hop::after(given)),
        None => {
            let id = headers.get(REQUEST_ID).and_then(|id| fnhost_trace::TraceId::parse(id.as_bytes()));
            let id = id.unwrap_or_else(fnhost_trace::TraceId::new);
            let begun = fnhost_trace::Context::begin_as(id, fnhost_trace::export::samples());
            (begun, Hop::first(begun))
        }
    };
    let hops = hop.map(|request| [request, request.next()]);
    let seen = hops.map_or(context, |[_, call]| call.context());
    // Hexadecimal digits and dashes.
    if let Ok(value) = HeaderValue::from_str(&seen.to_string()) {
        headers.insert(HeaderName::from_static(fnhost_trace::TRACEPARENT), value);
    }
    hops
}

/// Puts the additions into the request's head in place of what the client may have sent under these names.
pub(super) fn apply(head: &mut request::Parts, added: Added) {
    let forged = |name: &&HeaderName| PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix));
    let forged: Vec<HeaderName> = head.headers.keys().filter(forged).cloned().collect();
    for name in forged {
        head.headers.remove(name);
    }
    head.headers.extend(added.headers);
    head.uri = added.uri;
}

/// Tells the component that the request's access token was checked, once that is so; after [`apply`].
pub(super) fn vouch(headers: &mut HeaderMap, component: &LoadedComponent) {
    let Some(signed) = super::edge::signed_part(headers) else { return };
    let (name, mac) = component.vouch(signed.as_bytes());
    if let Ok(mac) = HeaderValue::try_from(mac) {
        headers.insert(HeaderName::from_static(name), mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_name_the_request() {
        let pattern = Pattern::parse("/orders/:id").expect("a pattern");
        let request = Request::post("/orders/7")
            .header("x-request-id", "seen-by-the-proxy")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
        let (mut head, ()) = request.body(()).expect("a request").into_parts();
        continue_trace(&mut head.headers);
        let found = cause(&head, &pattern);
        assert_eq!((found.method.as_deref(), found.route.as_deref()), (Some("POST"), Some("/orders/:id")));
        assert_eq!(found.request_id.as_deref(), Some("seen-by-the-proxy"));
        assert_eq!(
            found.context.map(|c| c.trace_id().to_string()).as_deref(),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        assert_eq!((found.topic, found.key), (None, None));
    }
}

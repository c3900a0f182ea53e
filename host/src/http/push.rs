//! Live updates: the records of one key as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! ```text
//! retry: 1000
//!
//! event: snapshot            the function's own answer; not sent to a client whose Last-Event-ID still holds
//! id: 12-0-7
//! data: {...}
//!
//! event: payment.authorized  the CloudEvents type, or `record`
//! id: 12-0-8
//! data: {"topic":"payment-events","type":"payment.authorized","time":"...","data":{...}}
//! ```

use super::{Peers, Server, ServerBody, problem::problem};
use crate::engine::BodyError;
use crate::kafka::Record;
use crate::kafka::cluster::Cluster;
use crate::manifest::route::{Captures, Pattern};
use crate::manifest::{self, Manifest};
use crate::metrics::RouteMetrics;
use crate::push::{Hub, Pushed, Subscription};
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Either, Empty, Limited, StreamBody};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bytes of a snapshot.
pub const SNAPSHOT_MAX_BYTES: usize = 1 << 20;
/// How long a stream lasts. The caller's right to see it was checked at its beginning: it comes back and is checked again.
pub const LIFETIME_MAX: Duration = Duration::from_secs(15 * 60);
/// How often a quiet stream sends a comment, so that a connection that has died is noticed, and none is closed for idleness.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon a client is asked to come back after its stream has ended.
const RETRY: Duration = Duration::from_secs(1);
/// Headers of the client's request that are not the function's: they are about this connection, or the stream.
const NOT_PASSED_ON: [header::HeaderName; 8] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::IF_NONE_MATCH,
    header::RANGE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Stands for the host in the metrics of routes, where others have a component.
const METRICS_COMPONENT: &str = "fnhost";
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) type PushBody = UnsyncBoxBody<Bytes, BodyError>;

/// What live updates come from.
#[derive(Clone)]
pub struct Source {
    /// Where the tail's records arrive.
    pub hub: Arc<Hub>,
    /// Knows the topics' partitions.
    pub cluster: Arc<Cluster>,
}

/// The routes that push.
pub(super) struct PushRoutes {
    routes: Vec<Target>,
    source: Option<Source>,
    stop: CancellationToken,
}

struct Target {
    route: Pattern,
    key: String,
    snapshot: Pattern,
    /// Places in the hub's topics.
    topics: Vec<usize>,
    fields: Option<Arc<[String]>>,
    metrics: RouteMetrics,
}

impl PushRoutes {
    /// The manifest's push routes; without a source they answer that updates are not available.
    pub fn new(manifest: &Manifest, source: Option<Source>, stop: CancellationToken) -> Self {
        let target = |push: &manifest::Push| Target {
            route: push.route.clone(),
            key: push.key.clone(),
            snapshot: push.snapshot.clone(),
            fields: push.fields.as_deref().map(Arc::from),
            metrics: RouteMetrics::new(METRICS_COMPONENT, push.route.raw()),
            topics: source
                .iter()
                .flat_map(|source| push.topics.iter().filter_map(|topic| source.hub.topic(topic)))
                .collect(),
        };
        Self { routes: manifest.application.push.iter().map(target).collect(), source, stop }
    }

    /// Where a request on this path is counted; none where it is on no push route.
    pub fn metrics(&self, path: &str) -> Option<&RouteMetrics> {
        self.routes.iter().find(|target| target.route.covers(path)).map(|target| &target.metrics)
    }

    fn target<'path>(&self, path: &'path str) -> Option<(&Target, Captures<'path>)> {
        self.routes.iter().find_map(|target| Some((target, target.route.matches(path)?)))
    }
}

impl Server {
    /// Answers a request on a push route; none where the path is on none.
    pub(super) async fn push<'s, B>(
        &'s self,
        request: &Request<B>,
        peers: Peers,
        route: &mut &'s RouteMetrics,
    ) -> Option<Response<ServerBody>> {
        let (target, captures) = self.push.target(request.uri().path())?;
        *route = &target.metrics;
        if request.method() != Method::GET {
            let mut response =
                problem(StatusCode::METHOD_NOT_ALLOWED, "live updates are read with GET", None);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
            return Some(response);
        }
        Some(self.stream(target, &captures, request.headers(), peers).await.unwrap_or_else(|refused| refused))
    }

    async fn stream(
        &self,
        target: &Target,
        captures: &Captures<'_>,
        headers: &HeaderMap,
        peers: Peers,
    ) -> Result<Response<ServerBody>, Response<ServerBody>> {
        let unavailable = |detail: &str| {
            let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail, None);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY.as_secs()));
            response
        };
        let source = self
            .push
            .source
            .as_ref()
            .ok_or_else(|| unavailable("this host runs without Kafka: no live updates"))?;
        let key = captures.params.iter().find(|(name, _)| *name == target.key).map_or("", |(_, value)| value);
        let key: Vec<u8> = percent_encoding::percent_decode_str(key).collect();
        let partition = |topic: &str| source.cluster.partition_for(topic, Some(&key), 0);
        let cursor = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
        // Before the function is asked: what happens between its answer and now must not be missed.
        let subscription = source
            .hub
            .subscribe(&key, &target.topics, &partition, cursor)
            .map_err(|refused| unavailable(&refused.to_string()))?;
        let snapshot = self.snapshot(target, captures, headers, peers).await?;
        let mut updates = Updates {
            subscription,
            hub: source.hub.clone(),
            fields: target.fields.clone(),
            ready: VecDeque::new(),
            ends: Instant::now() + LIFETIME_MAX,
            stop: self.push.stop.clone(),
        };
        updates.begin(&snapshot);
        let body: PushBody = StreamBody::new(updates.stream()).boxed_unsync();
        let mut response = Response::new(Either::Left(Either::Right(body)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Proxies of nginx's kind would hold events back.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }

    /// The function's answer on how things stand; the error is its answer where that is anything but 200.
    async fn snapshot(
        &self,
        target: &Target,
        captures: &Captures<'_>,
        headers: &HeaderMap,
        peers: Peers,
    ) -> Result<Bytes, Response<ServerBody>> {
        let mut request = Request::new(
            Empty::<Bytes>::new().map_err(|never| -> wasmtime_wasi_http::Error { match never {} }),
        );
        *request.uri_mut() = target
            .snapshot
            .fill(&captures.params)
            .parse()
            .map_err(|_| problem(StatusCode::BAD_REQUEST, "the path is not valid", None))?;
        *request.headers_mut() = headers.clone();
        for name in NOT_PASSED_ON {
            request.headers_mut().remove(name);
        }
        request.headers_mut().remove(LAST_EVENT_ID);
        // Counted as the push route's, not as a request of its own.
        let mut route = &target.metrics;
        let response = self.call(request, peers, &mut route).await;
        if response.status() != StatusCode::OK {
            return Err(response);
        }
        let body = Limited::new(response.into_body(), SNAPSHOT_MAX_BYTES).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| {
            tracing::error!(%error, path = target.snapshot.raw(), "a snapshot for live updates could not be read");
            problem(StatusCode::BAD_GATEWAY, "the function's answer could not be read", None)
        })
    }
}

/// One client's stream.
struct Updates {
    subscription: Subscription,
    hub: Arc<Hub>,
    fields: Option<Arc<[String]>>,
    /// Text that is ready to go out.
    ready: VecDeque<String>,
    ends: Instant,
    stop: CancellationToken,
}

impl Updates {
    fn begin(&mut self, snapshot: &[u8]) {
        let mut first = format!("retry: {}\n\n", RETRY.as_millis());
        if !self.subscription.resumed {
            let data = String::from_utf8_lossy(snapshot);
            write_event(&mut first, "snapshot", &self.subscription.cursor.to_string(), &data);
        }
        self.ready.push_back(first);
        for pushed in std::mem::take(&mut self.subscription.backlog) {
            let event = self.event(&pushed);
            self.ready.push_back(event);
        }
    }

    fn stream(self) -> impl Stream<Item = Result<Frame<Bytes>, BodyError>> + Send {
        futures::stream::unfold(self, |mut updates| async move {
            let text = updates.next().await?;
            Some((Ok(Frame::data(Bytes::from(text))), updates))
        })
    }

    /// What goes out next; none at the stream's end.
    async fn next(&mut self) -> Option<String> {
        if let Some(text) = self.ready.pop_front() {
            return Some(text);
        }
        tokio::select! {
            pushed = self.subscription.next() => {
                let pushed = pushed?;
                Some(self.event(&pushed))
            }
            () = tokio::time::sleep(HEARTBEAT) => Some(":\n\n".to_owned()),
            () = tokio::time::sleep_until(self.ends) => None,
            () = self.stop.cancelled() => None,
        }
    }

    /// A record as an event; the client's cursor moves past it.
    fn event(&mut self, pushed: &Pushed) -> String {
        self.subscription.cursor.pass(pushed);
        let record = &pushed.record;
        let kind = text_header(record, "ce_type").unwrap_or("record");
        let data = serde_json::json!({
            "topic": self.hub.topics()[pushed.topic],
            "type": kind,
            "time": text_header(record, "ce_time"),
            "data": record.value.as_deref().map(|value| data(value, self.fields.as_deref())),
        });
        let mut text = String::new();
        write_event(&mut text, kind, &self.subscription.cursor.to_string(), &data.to_string());
        text
    }
}

/// What clients are sent of a value: JSON as such, anything else as text, and of the latter nothing where fields are named.
fn data(value: &[u8], fields: Option<&[String]>) -> serde_json::Value {
    use serde_json::Value;
    match (serde_json::from_slice(value), fields) {
        (Ok(Value::Object(mut object)), Some(fields)) => {
            object.retain(|name, _| fields.contains(name));
            Value::Object(object)
        }
        (_, Some(_)) => Value::Null,
        (Ok(json), None) => json,
        (Err(_), None) => String::from_utf8_lossy(value).into_owned().into(),
    }
}

/// A header that can stand in a line of the stream.
fn text_header<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    let text = std::str::from_utf8(record.header(name)?).ok()?;
    text.bytes().all(|byte| byte.is_ascii_graphic()).then_some(text)
}

fn write_event(text: &mut String, event: &str, id: &str, data: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "event: {event}\nid: {id}\n");
    for line in data.split(['\n', '\r']) {
        let _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_several_lines_stays_one_event() {
        let mut text = String::new();
        write_event(&mut text, "snapshot", "1-2", "{\n\"a\": 1}");
        assert_eq!(text, "event: snapshot\nid: 1-2\ndata: {\ndata: \"a\": 1}\n\n");
    }

    #[test]
    fn only_the_named_fields_are_sent() {
        let fields = ["status".to_owned()];
        let cases: [(&str, Option<&[String]>, serde_json::Value); 5] = [
            (r#"{"status":"A","secret":1}"#, Some(&fields), serde_json::json!({"status": "A"})),
            (r#"{"status":"A","secret":1}"#, None, serde_json::json!({"status": "A", "secret": 1})),
            ("[1]", Some(&fields), serde_json::Value::Null),
            ("not json", Some(&fields), serde_json::Value::Null),
            ("not json", None, "not json".into()),
        ];
        for (value, fields, expected) in cases {
            assert_eq!(data(value.as_bytes(), fields), expected, "{value}");
        }
    }
}

//! Live updates: the records of one key, as server-sent events or over a WebSocket.

mod events;
mod socket;
mod updates;
mod users;

use super::edge::Granted;
use super::{Peers, Server, ServerBody, problem::problem};
use crate::hub::Hub;
use bytes::Bytes;
pub(super) use events::LiveBody;
use fnhost_kafka::cluster::Cluster;
use fnhost_manifest::route::{Captures, Pattern};
use fnhost_manifest::{Manifest, Values};
use fnhost_metrics::{LiveMetrics, RouteMetrics, Transport};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Empty, Limited};
pub(super) use socket::Socket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use updates::Updates;
use users::Users;

/// Bytes of a snapshot.
pub const SNAPSHOT_MAX_BYTES: usize = 1 << 20;
/// How long a stream lasts. The caller's right to see it was checked at its beginning: it comes back and is checked again.
pub const LIFETIME_MAX: Duration = Duration::from_secs(15 * 60);
/// How soon a client is asked to come back after its stream has ended.
const RETRY: Duration = Duration::from_secs(1);
/// Headers of the client's request that are not the function's: they are about this connection, or the stream.
const NOT_PASSED_ON: [header::HeaderName; 12] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::IF_NONE_MATCH,
    header::RANGE,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Stands for the host in the metrics of routes, where others have a component.
const METRICS_COMPONENT: &str = "fnhost";
const LAST_EVENT_ID: &str = "last-event-id";
/// The same in the address, for who cannot set headers.
const LAST_EVENT_ID_PARAMETER: &str = "last_event_id";

/// What live updates come from.
#[derive(Clone)]
pub struct Source {
    /// Where the tail's records arrive.
    pub hub: Arc<Hub>,
    /// Knows the topics' partitions.
    pub cluster: Arc<Cluster>,
}

/// The routes that push.
pub(super) struct LiveRoutes {
    routes: Vec<Target>,
    source: Option<Source>,
    stop: CancellationToken,
    metrics: LiveMetrics,
    users: Users,
}

struct Target {
    route: Pattern,
    key: String,
    snapshot: Pattern,
    /// Places in the hub's topics.
    topics: Vec<usize>,
    fields: Option<Arc<[String]>>,
    /// Origins of other hosts whose pages may open a WebSocket.
    origins: Vec<String>,
    metrics: RouteMetrics,
}

/// What one connection becomes: left by the request that changes it, taken by who serves the connection.
#[derive(Clone, Default)]
pub(super) struct Handover {
    socket: Arc<Mutex<Option<Socket>>>,
    streams: Arc<AtomicBool>,
}

impl Handover {
    /// The connection carries a stream that ends when the host stops.
    fn streams(&self) {
        self.streams.store(true, Ordering::Release);
    }

    /// True if the response is a stream of live updates.
    pub fn is_stream(&self) -> bool {
        self.streams.load(Ordering::Acquire)
    }

    fn leave(&self, socket: Socket) {
        *self.socket() = Some(socket);
    }

    /// What the connection goes on with once it has ended as HTTP.
    pub fn take(&self) -> Option<Socket> {
        self.socket().take()
    }

    fn socket(&self) -> MutexGuard<'_, Option<Socket>> {
        // Nothing panics while it is held.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveRoutes {
    /// The manifest's live routes; without a source they answer that updates are not available.
    pub fn new(
        manifest: &Manifest,
        values: &Values,
        source: Option<Source>,
        stop: CancellationToken,
    ) -> Self {
        let target = |push: &fnhost_manifest::LiveRoute| Target {
            route: push.route.clone(),
            key: push.key.clone(),
            snapshot: push.snapshot.clone(),
            fields: push.fields.as_deref().map(Arc::from),
            origins: push.origins.clone(),
            metrics: RouteMetrics::new(METRICS_COMPONENT, push.route.raw()),
            topics: source
                .iter()
                .flat_map(|source| push.topics.iter().filter_map(|topic| source.hub.topic(topic)))
                .collect(),
        };
        let routes = manifest.application.live.iter().map(target).collect();
        let users = Users::new(values.edge.max_viewers_per_user);
        Self { routes, source, stop, metrics: LiveMetrics::default(), users }
    }

    /// Where a request on this path is counted; none where it is on no live route.
    pub fn route_metrics(&self, path: &str) -> Option<&RouteMetrics> {
        self.routes.iter().find(|target| target.route.covers(path)).map(|target| &target.metrics)
    }

    fn target<'path>(&self, path: &'path str) -> Option<(&Target, Captures<'path>)> {
        self.routes.iter().find_map(|target| Some((target, target.route.matches(path)?)))
    }
}

impl Server {
    /// Answers a request on a live route; none where the path is on none. What a WebSocket goes on with is left in `handover`.
    pub(super) async fn push<'s, B>(
        &'s self,
        request: &mut Request<B>,
        peers: Peers,
        handover: &Handover,
        route: &mut &'s RouteMetrics,
    ) -> Option<Response<ServerBody>> {
        // The path is looked at while the request is taken apart.
        let path = request.uri().path().to_owned();
        let (target, captures) = self.push.target(&path)?;
        *route = &target.metrics;
        // HEAD is answered as GET is; the server leaves the stream out.
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "read live updates with GET", None);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        let answer = if request.method() == Method::GET && socket::is_wanted(request.headers()) {
            self.socket(target, &captures, request, peers, handover).await
        } else {
            self.events(target, &captures, request, peers, handover).await
        };
        Some(answer.unwrap_or_else(|refused| refused))
    }

    async fn events<B>(
        &self,
        target: &Target,
        captures: &Captures<'_>,
        request: &Request<B>,
        peers: Peers,
        handover: &Handover,
    ) -> Result<Response<ServerBody>, Response<ServerBody>> {
        let updates = self.updates(target, captures, request, peers, Transport::Events).await?;
        handover.streams();
        Ok(events::stream(updates).map(|body| Either::Left(Either::Right(body))))
    }

    async fn socket<B>(
        &self,
        target: &Target,
        captures: &Captures<'_>,
        request: &mut Request<B>,
        peers: Peers,
        handover: &Handover,
    ) -> Result<Response<ServerBody>, Response<ServerBody>> {
        let agreed = socket::agree(request, &target.origins)?;
        if let Some(authorization) = socket::authorization(request.headers()) {
            request.headers_mut().entry(header::AUTHORIZATION).or_insert(authorization);
        }
        let updates = self.updates(target, captures, request, peers, Transport::WebSocket).await?;
        handover.leave(Socket::new(hyper::upgrade::on(request), updates));
        Ok(agreed)
    }

    /// Takes the client as a viewer, if the function lets it see what it asks for.
    async fn updates<B>(
        &self,
        target: &Target,
        captures: &Captures<'_>,
        request: &Request<B>,
        peers: Peers,
        transport: Transport,
    ) -> Result<Updates, Response<ServerBody>> {
        let unavailable = |detail: &str| {
            let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail, None);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY.as_secs()));
            response
        };
        let source = self
            .push
            .source
            .as_ref()
            .ok_or_else(|| unavailable("this host runs without Kafka, so it has no live updates"))?;
        // Of a user that is not known, the function decides; the address has its own bound.
        let place = match self.edge.user(request.headers()).map(|user| self.push.users.enter(user)) {
            Some(None) => return Err(too_many(self.push.users.max())),
            place => place.flatten(),
        };
        let key = captures.params.iter().find(|(name, _)| *name == target.key).map_or("", |(_, value)| value);
        let key: Vec<u8> = percent_encoding::percent_decode_str(key).collect();
        let partition = |topic: &str| source.cluster.partition_for(topic, Some(&key), 0);
        source.hub.read().await.map_err(|refused| unavailable(&refused.to_string()))?;
        // Before the function is asked: what happens between its answer and now must not be missed.
        let subscription = source
            .hub
            .subscribe(&key, &target.topics, &partition, last_event_id(request).as_deref())
            .map_err(|refused| unavailable(&refused.to_string()))?;
        let snapshot = self.snapshot(target, captures, request.headers(), peers).await?;
        let (hub, fields, stop) = (source.hub.clone(), target.fields.clone(), self.push.stop.clone());
        let counted = (&self.push.metrics, transport, place);
        Ok(Updates::new(subscription, hub, fields, &snapshot, stop, counted))
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
        // Counted as the live route's, not as a request of its own.
        let mut route = &target.metrics;
        let response = self.call(request, peers, Granted::default(), &mut route).await;
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

fn too_many(max: usize) -> Response<ServerBody> {
    let detail = format!("you have {max} streams of live updates open; close one first");
    let mut response = problem(StatusCode::TOO_MANY_REQUESTS, &detail, None);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY.as_secs()));
    response
}

/// The id that a client goes on from: of the header, which browsers send by themselves when they come back, or of the address.
fn last_event_id<B>(request: &Request<B>) -> Option<String> {
    if let Some(header) = request.headers().get(LAST_EVENT_ID) {
        return header.to_str().ok().map(str::to_owned);
    }
    let query = url::form_urlencoded::parse(request.uri().query()?.as_bytes());
    query.into_iter().find(|(name, _)| name == LAST_EVENT_ID_PARAMETER).map(|(_, value)| value.into_owned())
}

//! The HTTP trigger: accepts connections, finds the component of a request's route and calls it.

mod accept;
mod body;
mod clients;
mod edge;
mod headers;
pub mod hub;
mod live;
mod problem;
mod router;
mod traced;

use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use accept::Accepted;
use body::{LimitedBody, Received, discard};
pub use body::{MAX_UPLOADS, WHOLE_BODY_MAX_BYTES};
pub use clients::MAX_CONNECTIONS_PER_ADDRESS;
use clients::{Clients, Open};
pub use edge::{
    CLOCK_LEEWAY_S, MAX_REQUEST_ID_CHARS, MAX_TOKEN_BYTES, QUEUE_TIME, REMEMBERED_CALLERS, REMEMBERED_TOKENS,
    UPDATE_INTERVAL, Waiting,
};
use edge::{Edge, Granted, Pass};
use fnhost_deployment::Slot;
use fnhost_deployment::tally::{Kind, Outcome};
use fnhost_engine::{CallError, Cause, ResponseBody};
use fnhost_manifest::route::Route;
use fnhost_manifest::{Manifest, Values};
use fnhost_metrics::{HttpMetrics, Refusal, RouteMetrics, Timer};
pub use live::Source;
use live::{Handover, LiveBody, LiveRoutes};
use problem::problem;
use router::Router;

/// Connections at a time; one more is accepted when another ends.
pub const MAX_CONNECTIONS: usize = 4096;
/// Longest time that a client may leave unread, or unacknowledged, what is sent to it; then its connection is closed.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time, while the host stops, that a client takes to read the end of a stream.
const STREAM_END_TIMEOUT: Duration = Duration::from_secs(2);

/// Paths that the host answers itself, as Spin does.
const WELL_KNOWN: &str = "/.well-known/spin/";

type ServerBody = Either<Either<ResponseBody, LiveBody>, Full<Bytes>>;

/// Serves the public HTTP triggers of an application.
pub struct Server {
    router: Router<Target>,
    metrics: HttpMetrics,
    push: LiveRoutes,
    edge: Edge,
    clients: Arc<Clients>,
    /// One permit for each call that may receive a large body.
    uploads: Arc<Semaphore>,
}

/// Where a route leads.
struct Target {
    slot: Arc<Slot>,
    metrics: RouteMetrics,
}

impl Server {
    /// A server of the manifest's public routes; components by id, one that is not there has no route. LiveRoute routes have their
    /// records from `source`, and their streams end at `stop`. Under overload, which `waiting` tells, the edge sheds.
    pub fn new(
        manifest: &Manifest,
        values: &Values,
        components: &BTreeMap<String, Arc<Slot>>,
        source: Option<Source>,
        waiting: Option<Waiting>,
        stop: CancellationToken,
    ) -> Self {
        let mut router = Router::default();
        for trigger in &manifest.http {
            if let (Route::Public(pattern), Some(slot)) = (&trigger.route, components.get(&trigger.component))
            {
                let metrics = RouteMetrics::new(&trigger.component, pattern.raw());
                router.add(pattern.clone(), Target { slot: slot.clone(), metrics });
            }
        }
        let push = LiveRoutes::new(manifest, values, source, stop);
        Self {
            router,
            metrics: HttpMetrics::default(),
            push,
            edge: Edge::new(manifest, values, waiting),
            clients: Arc::default(),
            uploads: Arc::new(Semaphore::new(MAX_UPLOADS)),
        }
    }

    /// Serves until `shutdown`, then lets running requests end. Dropped, it ends them.
    pub fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, io::Result<()>> {
        // Boxed, so that it is compiled here and not in the crate that awaits it.
        Box::pin(async move {
            let local = listener.local_addr()?;
            let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
            let serve = |(stream, client, place): Accepted| {
                let counted = self.admit(client)?;
                let connection = self.clone().connection(stream, Peers { local, client }, shutdown.clone());
                let open = self.metrics.connection();
                Some(async move {
                    let _open = open;
                    connection.await;
                    drop((place, counted));
                })
            };
            let accept = || accept(&listener, &places);
            let mut connections = accept::until(&shutdown, &local.to_string(), accept, serve).await;
            drop(listener);
            while connections.join_next().await.is_some() {}
            Ok(())
        })
    }

    /// Counts a new connection; none where its client has too many.
    fn admit(&self, client: SocketAddr) -> Option<Open> {
        // The connections of all clients behind a proxy are that proxy's.
        if self.edge.is_proxy(client.ip()) {
            return Some(Open::default());
        }
        let open = self.clients.open(client.ip());
        if open.is_none() {
            self.metrics.connection_refused();
            tracing::debug!(%client, "a connection was refused: its address has too many");
        }
        open
    }

    /// Serves one connection until it closes; on shutdown it ends with the request that is running.
    async fn connection(self: Arc<Self>, stream: TcpStream, peers: Peers, shutdown: CancellationToken) {
        // Parts of an answer go out when they are written; the kernel must not hold them back. It also sees who does not read:
        // a stream's body is asked for nothing while there is no room to write to.
        let options = stream
            .set_nodelay(true)
            .and_then(|()| SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT)));
        if let Err(error) = options {
            tracing::debug!(%error, "a connection was closed before it was served");
            return;
        }
        let reading = self.edge.reading;
        let handover = Handover::default();
        let service = service_fn(|request| {
            let (server, handover) = (self.clone(), handover.clone());
            async move { Ok::<_, Infallible>(server.answer(request, peers, &handover).await) }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(reading.head_timeout)
            .max_buf_size(reading.head_bytes)
            .max_headers(reading.headers)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = shutdown.cancelled() => {
                Pin::new(&mut connection).graceful_shutdown();
                // A stream has its end by now, and a client that does not read it keeps nobody waiting.
                let patience = if handover.is_stream() { STREAM_END_TIMEOUT } else { Duration::MAX };
                tokio::time::timeout(patience, &mut connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, client = %peers.client, "a connection ended");
            // A connection without a request just ends; one in the middle of a head is told why.
            let parts = connection.into_parts().filter(|parts| !parts.read_buf.is_empty());
            if let Some(parts) = parts.filter(|_| error.is_timeout()) {
                problem::head_timed_out(parts.io.into_inner()).await;
            }
        }
        if let Some(socket) = handover.take() {
            socket.run().await;
        }
    }

    /// Answers a request, and counts it.
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        peers: Peers,
        handover: &Handover,
    ) -> Response<ServerBody> {
        let _in_flight = self.metrics.in_flight();
        let (began, method) = (Timer::start(), request.method().clone());
        let mut route = &self.metrics.unrouted;
        let mut pass = self.edge.open(&mut request);
        let mut response = match self.edge.admit(&mut pass, &request, peers) {
            Ok(()) => {
                self.edge.keep_known_address(&mut request, peers);
                let reply = self.reply(request, peers, &pass, handover, &mut route);
                let reply = tokio::time::timeout(pass.request_timeout(), reply).await;
                reply.unwrap_or_else(|_| pass.refuse(Refusal::RequestTimeout))
            }
            Err(answer) => {
                route = self.route_metrics(request.uri().path());
                discard(request).await;
                *answer
            }
        };
        pass.close(&mut response);
        route.answered(&method, response.status(), began);
        response
    }

    /// Where a request on this path is counted.
    fn route_metrics(&self, path: &str) -> &RouteMetrics {
        let push = || self.push.route_metrics(path);
        let route = || self.router.route(path).map(|(_, target, _)| &target.metrics);
        push().or_else(route).unwrap_or(&self.metrics.unrouted)
    }

    /// Answers a request, and says by `route` whose it is.
    async fn reply<'s>(
        &'s self,
        mut request: Request<Incoming>,
        peers: Peers,
        pass: &Pass<'_>,
        handover: &Handover,
        route: &mut &'s RouteMetrics,
    ) -> Response<ServerBody> {
        let path = request.uri().path();
        if let Some(name) = path.strip_prefix(WELL_KNOWN) {
            return match name {
                "health" => Response::new(Either::Right(Full::new(Bytes::from_static(b"OK")))),
                _ => problem(StatusCode::NOT_FOUND, "no function serves this path", None),
            };
        }
        if let Some(response) = self.push(&mut request, peers, handover, route).await {
            return response;
        }
        let (head, body) = request.into_parts();
        let (body, fate) = LimitedBody::new(body, pass.body_limits());
        let response = match Received::begin(body, &self.uploads).await {
            Ok(body) => self.call(Request::from_parts(head, body), peers, pass.granted(), route).await,
            Err(error) => {
                *route = self.route_metrics(head.uri.path());
                problem(StatusCode::BAD_REQUEST, &error.to_string(), None)
            }
        };
        // Whatever came of the part that arrived.
        fate.fault().map_or(response, |fault| pass.broken_off(fault))
    }

    /// Hands a request to the component of its route; where its rules have places, it waits for one.
    async fn call<'s, B>(
        &'s self,
        request: Request<B>,
        peers: Peers,
        granted: Granted,
        route: &mut &'s RouteMetrics,
    ) -> Response<ServerBody>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let Some((pattern, target, captures)) = self.router.route(request.uri().path()) else {
            return problem(StatusCode::NOT_FOUND, "no function serves this path", None);
        };
        *route = &target.metrics;
        let spin_headers = match headers::spin(&request, pattern, &captures, peers) {
            Ok(headers) => headers,
            Err(detail) => return problem(StatusCode::BAD_REQUEST, detail, None),
        };
        let version = target.slot.pick_request();
        let component = version.component();
        let (mut head, body) = request.into_parts();
        headers::apply(&mut head, spin_headers);
        if granted.token_is_good {
            headers::vouch(&mut head.headers, component);
        }
        let (from, hops) = (SystemTime::now(), headers::continue_trace(&mut head.headers));
        let mut state = component.call_state();
        if let Some(places) = granted.places {
            state.limited_by(places);
        }
        let cause = headers::cause(&head, pattern);
        state.caused_by(|| cause.clone());
        let request_hop = hops.map(|[request_hop, call_hop]| {
            state.traced(call_hop);
            (request_hop, traced::about(&head, pattern, peers.client))
        });
        let (call, postgres) = (state.call(), state.postgres());
        let began = Instant::now();
        let outcome = component.call_http(state, Request::from_parts(head, body)).await;
        // What a client breaks off says nothing about the version.
        if !matches!(outcome, Err(CallError::RequestBroken(_))) {
            let failed = outcome.as_ref().map_or(true, |response| response.status().is_server_error());
            // What the database cannot do at the moment, no version could.
            let blamed = postgres.failure().is_none_or(|sql| !sql.class().is_database());
            let failed = failed && blamed;
            let counted = Outcome::call(outcome.is_err() && blamed, began.elapsed());
            version.count(Kind::Http, counted.plus(Outcome::settled(1, failed.into())));
        }
        let response = match outcome {
            Ok(response) => response.map(|body| Either::Left(Either::Left(body))),
            Err(error) => failure(component.id(), component.version(), call, &cause, &error),
        };
        if let Some((hop, about)) = request_hop {
            about.answered(hop, from, response.status());
        }
        response
    }
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
struct Peers {
    local: SocketAddr,
    client: SocketAddr,
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Accepted> {
    // The semaphore is never closed.
    let place = places.clone().acquire_owned().await.ok();
    let (stream, client) = listener.accept().await?;
    Ok((stream, client, place))
}

/// No body.
fn empty() -> ServerBody {
    Either::Right(Full::new(Bytes::new()))
}

/// Logs why a call failed and answers without the reason.
fn failure(
    component: &str,
    version: &str,
    call: u64,
    cause: &Cause,
    error: &CallError,
) -> Response<ServerBody> {
    if let CallError::RequestBroken(_) = error {
        tracing::debug!(component, version, call, "{error}");
        return problem(StatusCode::BAD_REQUEST, "the body broke off", Some(call));
    }
    let Cause { method, route, request_id, .. } = cause;
    let trace_id = cause.trace_id();
    let backtrace = match error {
        CallError::Trap { backtrace, .. } => Some(backtrace),
        _ => None,
    };
    tracing::error!(component, version, call, method, route, request_id, trace_id, backtrace, "{error}");
    match error {
        CallError::DeadlineExceeded { .. } => {
            problem(StatusCode::GATEWAY_TIMEOUT, "the function did not answer in time", Some(call))
        }
        _ => problem(StatusCode::INTERNAL_SERVER_ERROR, "the function failed", Some(call)),
    }
}

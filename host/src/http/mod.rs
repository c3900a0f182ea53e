//! The HTTP trigger: accepts connections, finds the component of a request's route and calls it.

mod body;
mod headers;
mod problem;
mod push;
mod router;
mod traced;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::deployment::Slot;
use crate::deployment::tally::{Kind, Outcome};
use crate::engine::{CallError, Cause, ResponseBody};
use crate::manifest::Manifest;
use crate::manifest::route::Route;
use crate::metrics::{HttpMetrics, RouteMetrics, Timer};
use body::LimitedBody;
use problem::problem;
pub use push::Source;
use push::{Handover, PushBody, PushRoutes};
use router::Router;

/// Bytes of a request's body.
pub const MAX_REQUEST_BODY_BYTES: u64 = 1 << 20;
/// Bytes of a refused body that are read and thrown away, so that the client gets to read the answer.
const DISCARD_MAX_BYTES: usize = 16 << 20;
/// Longest time that a refused body is read for.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a request's line and headers.
pub const MAX_REQUEST_HEAD_BYTES: usize = 32 << 10;
/// Headers of a request.
pub const MAX_REQUEST_HEADERS: usize = 100;
/// Connections at a time; one more is accepted when another ends.
pub const MAX_CONNECTIONS: usize = 4096;
/// Time in which a request's head must arrive; a kept connection without a request ends after it too.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time that a client may leave unread, or unacknowledged, what is sent to it; then its connection is closed.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time, while the host stops, that a client takes to read the end of a stream.
const STREAM_END_TIMEOUT: Duration = Duration::from_secs(2);
/// Time after which accepting is tried again where the system has no more file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Paths that the host answers itself, as Spin does.
const WELL_KNOWN: &str = "/.well-known/spin/";

type ServerBody = Either<Either<ResponseBody, PushBody>, Full<Bytes>>;

/// Serves the public HTTP triggers of an application.
pub struct Server {
    router: Router<Target>,
    metrics: HttpMetrics,
    push: PushRoutes,
}

/// Where a route leads.
struct Target {
    slot: Arc<Slot>,
    metrics: RouteMetrics,
}

impl Server {
    /// A server of the manifest's public routes; components by id, one that is not there has no route. Push routes have their
    /// records from `source`, and their streams end at `stop`.
    pub fn new(
        manifest: &Manifest,
        components: &BTreeMap<String, Arc<Slot>>,
        source: Option<Source>,
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
        let push = PushRoutes::new(manifest, source, stop);
        Self { router, metrics: HttpMetrics::default(), push }
    }

    /// Serves until `shutdown`, then lets running requests end. Dropped, it ends them.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let local = listener.local_addr()?;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = accept(&listener, &places) => match accepted {
                    Ok((stream, client, place)) => {
                        let peers = Peers { local, client };
                        let connection = self.clone().connection(stream, peers, shutdown.clone());
                        let open = self.metrics.connection();
                        connections.spawn(async move {
                            let _open = open;
                            connection.await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
        Ok(())
    }

    /// Serves one connection until it closes; on shutdown it ends with the request that is running.
    async fn connection(self: Arc<Self>, stream: TcpStream, peers: Peers, shutdown: CancellationToken) {
        // Parts of an answer go out when they are written; the kernel must not hold them back. It also sees who does not read:
        // a stream's body is asked for nothing while there is no room to write to.
        let options = stream
            .set_nodelay(true)
            .and_then(|()| SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT)));
        if let Err(error) = options {
            tracing::debug!(%error, "a connection is gone already");
            return;
        }
        let handover = Handover::default();
        let service = service_fn(|request| {
            let (server, handover) = (self.clone(), handover.clone());
            async move { Ok::<_, Infallible>(server.answer(request, peers, &handover).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_REQUEST_HEAD_BYTES)
            .max_headers(MAX_REQUEST_HEADERS)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // A stream has its end by now, and a client that does not read it keeps nobody waiting.
                let patience = if handover.is_stream() { STREAM_END_TIMEOUT } else { Duration::MAX };
                tokio::time::timeout(patience, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, client = %peers.client, "a connection ended");
        }
        if let Some(socket) = handover.take() {
            socket.run().await;
        }
    }

    /// Answers a request, and counts it.
    async fn answer(
        &self,
        request: Request<Incoming>,
        peers: Peers,
        handover: &Handover,
    ) -> Response<ServerBody> {
        let _in_flight = self.metrics.in_flight();
        let (began, method) = (Timer::start(), request.method().clone());
        let mut route = &self.metrics.unrouted;
        let response = self.reply(request, peers, handover, &mut route).await;
        route.answered(&method, response.status(), began);
        response
    }

    /// Answers a request, and says by `route` whose it is.
    async fn reply<'s>(
        &'s self,
        mut request: Request<Incoming>,
        peers: Peers,
        handover: &Handover,
        route: &mut &'s RouteMetrics,
    ) -> Response<ServerBody> {
        let path = request.uri().path();
        if let Some(name) = path.strip_prefix(WELL_KNOWN) {
            return match name {
                "health" => Response::new(Either::Right(Full::new(Bytes::from_static(b"OK")))),
                _ => problem(StatusCode::NOT_FOUND, "there is nothing at this path", None),
            };
        }
        if let Some(response) = self.push(&mut request, peers, handover, route).await {
            return response;
        }
        if content_length(&request).is_some_and(|length| length > MAX_REQUEST_BODY_BYTES) {
            discard(request.into_body()).await;
            return too_large();
        }
        self.call(request, peers, route).await
    }

    /// Hands a request to the component of its route.
    async fn call<'s, B>(
        &'s self,
        request: Request<B>,
        peers: Peers,
        route: &mut &'s RouteMetrics,
    ) -> Response<ServerBody>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let Some((pattern, target, captures)) = self.router.route(request.uri().path()) else {
            return problem(StatusCode::NOT_FOUND, "there is nothing at this path", None);
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
        let (from, hops) = (SystemTime::now(), headers::continue_trace(&mut head.headers));
        let (body, exceeded) = LimitedBody::new(body, MAX_REQUEST_BODY_BYTES);
        let state = component.call_state();
        let cause = headers::cause(&head, pattern);
        state.caused_by(|| cause.clone());
        let request_hop = hops.map(|[request_hop, call_hop]| {
            state.traced(call_hop);
            (request_hop, traced::about(&head, pattern, peers.client))
        });
        let call = state.call();
        let began = Instant::now();
        let outcome = component.call_http(state, Request::from_parts(head, body)).await;
        let failed = outcome.as_ref().map_or(true, |response| response.status().is_server_error());
        let counted = Outcome::call(outcome.is_err(), began.elapsed());
        version.count(Kind::Http, counted.plus(Outcome::settled(1, failed.into())));
        let response = if exceeded.load(Ordering::Acquire) {
            // Whatever the function made of the part that it could read.
            too_large()
        } else {
            match outcome {
                Ok(response) => response.map(|body| Either::Left(Either::Left(body))),
                Err(error) => failure(component.id(), component.version(), call, &cause, &error),
            }
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

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
    // The semaphore is never closed.
    let place = places.clone().acquire_owned().await.ok();
    let (stream, client) = listener.accept().await?;
    Ok((stream, client, place))
}

fn content_length<B>(request: &Request<B>) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads what a client still sends and throws it away, up to named limits: a connection that is closed with bytes unread is reset,
/// and the client would see that instead of the answer.
async fn discard(mut body: Incoming) {
    let mut left = DISCARD_MAX_BYTES;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    if tokio::time::timeout(DISCARD_TIMEOUT, read).await.is_err() {
        tracing::debug!("a client sent a refused body too slowly to be read to its end");
    }
}

fn too_large() -> Response<ServerBody> {
    let detail = format!("the body is larger than {MAX_REQUEST_BODY_BYTES} bytes");
    let mut response = problem(StatusCode::PAYLOAD_TOO_LARGE, &detail, None);
    // What is left of the body is not read, so the connection cannot carry another request.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Logs why a call failed and answers without the reason.
fn failure(
    component: &str,
    version: &str,
    call: u64,
    cause: &Cause,
    error: &CallError,
) -> Response<ServerBody> {
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

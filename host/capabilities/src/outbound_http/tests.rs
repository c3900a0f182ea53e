//! Requests to a host that answers, fails, dawdles, and goes away.

use super::*;
use bytes::Bytes;
use fnhost_manifest::outbound::OutboundSettings;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What is awaited comes within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the host does with the request of a number, 1 for the first.
type Behaviour = Arc<dyn Fn(usize) -> Step + Send + Sync>;

#[derive(Clone, Copy)]
enum Step {
    Answer(u16),
    /// With `Retry-After`, in seconds.
    Later(u16, u32),
    /// Never answers.
    Hang,
    /// Closes the connection in place of an answer.
    Close,
}

struct Host {
    port: u16,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Host {
    async fn start(behaviour: impl Fn(usize) -> Step + Send + Sync + 'static) -> Self {
        Self::start_at(0, Arc::new(behaviour)).await
    }

    async fn start_at(port: u16, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let (seen, opened) = (requests.clone(), connections.clone());
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                let (seen, behaviour) = (seen.clone(), behaviour.clone());
                let answer = service_fn(move |request: Request<Incoming>| {
                    let step = behaviour(seen.fetch_add(1, Ordering::SeqCst) + 1);
                    async move { act(step, request).await }
                });
                served.spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { port, requests, connections, tasks }
    }

    fn outbound(&self, settings: OutboundSettings) -> Arc<Outbound> {
        let allowed = AllowedHosts::parse("test", [format!("http://127.0.0.1:{}", self.port)]).unwrap();
        Arc::new(Outbound::new("test", Arc::new(allowed), settings).unwrap())
    }

    fn request(&self, method: Method, key: Option<&str>) -> Request<WasiBody> {
        let uri = format!("http://127.0.0.1:{}/path?query", self.port);
        let mut request = Request::builder().method(method).uri(uri).header(header::CONTENT_LENGTH, 4);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.body(Full::new(Bytes::from("body")).map_err(|never| match never {}).boxed_unsync()).unwrap()
    }

    async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn act(step: Step, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let path = request.uri().to_string();
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    assert_eq!((path.as_str(), &body[..]), ("/path?query", &b"body"[..]));
    let answer = Response::builder();
    let answer = match step {
        Step::Answer(status) => answer.status(status),
        Step::Later(status, seconds) => answer.status(status).header(header::RETRY_AFTER, seconds),
        Step::Hang => std::future::pending().await,
        Step::Close => return Err(std::io::Error::other("closed on purpose")),
    };
    Ok(answer.body(Full::new(Bytes::from("answer"))).unwrap())
}

/// Sends, and reads the answer to its end.
async fn send(
    outbound: &Arc<Outbound>,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<StatusCode, Error> {
    let answer = tokio::time::timeout(PATIENCE, outbound.send(request, options)).await.expect("an end")?;
    let status = answer.status();
    assert_eq!(&answer.into_body().collect().await?.to_bytes()[..], b"answer");
    Ok(status)
}

async fn post(host: &Host, outbound: &Arc<Outbound>) -> Result<StatusCode, Error> {
    send(outbound, host.request(Method::POST, Some("key")), RequestOptions::default()).await
}

#[tokio::test]
async fn a_connection_is_used_again_and_a_closed_one_is_replaced() {
    let host = Host::start(|_| Step::Answer(200)).await;
    let outbound = host.outbound(OutboundSettings::default());
    for _ in 0..20 {
        assert_eq!(post(&host, &outbound).await.unwrap(), 200);
    }
    assert_eq!(host.connections.load(Ordering::SeqCst), 1);
    // The host restarts: what was kept is closed.
    let port = host.port;
    host.stop().await;
    let host = Host::start_at(port, Arc::new(|_| Step::Answer(200))).await;
    assert_eq!(post(&host, &outbound).await.unwrap(), 200);
}

#[tokio::test]
async fn only_what_is_safe_is_sent_again_and_only_where_it_may_help() {
    for (method, key, steps, expected, tries) in [
        (Method::POST, Some("key"), [503, 502, 200], 200, 3),
        (Method::GET, None, [503, 504, 200], 200, 3),
        (Method::POST, None, [503, 200, 200], 503, 1),
        (Method::POST, Some("key"), [500, 200, 200], 500, 1),
        (Method::POST, Some("key"), [429, 200, 200], 429, 1),
        (Method::POST, Some("key"), [503, 503, 503], 503, 3),
    ] {
        let host = Host::start(move |number| Step::Answer(steps[number - 1])).await;
        let outbound = host.outbound(OutboundSettings::default());
        let answer = send(&outbound, host.request(method.clone(), key), RequestOptions::default()).await;
        assert_eq!((answer.unwrap().as_u16(), host.requests()), (expected, tries), "{method} {steps:?}");
    }
    let host = Host::start(|_| Step::Answer(503)).await;
    let outbound = host.outbound(OutboundSettings { retry_budget_percent: 0, ..OutboundSettings::default() });
    assert_eq!(post(&host, &outbound).await.unwrap(), 503);
    assert_eq!(host.requests(), 1, "there is no budget");
}

#[tokio::test]
async fn a_host_that_says_when_is_not_asked_before() {
    let host = Host::start(|number| if number == 1 { Step::Later(503, 1) } else { Step::Answer(200) }).await;
    let outbound = host.outbound(OutboundSettings::default());
    let began = std::time::Instant::now();
    assert_eq!(post(&host, &outbound).await.unwrap(), 200);
    assert!(began.elapsed() >= Duration::from_secs(1));
    // Where that is too late for the function, it has the answer at once.
    let host = Host::start(|_| Step::Later(503, 3_600)).await;
    let outbound = host.outbound(OutboundSettings::default());
    assert_eq!(post(&host, &outbound).await.unwrap(), 503);
    assert_eq!(host.requests(), 1);
}

#[tokio::test]
async fn the_time_that_a_function_names_bounds_all_tries() {
    let host = Host::start(|_| Step::Hang).await;
    let outbound = host.outbound(OutboundSettings::default());
    let options =
        RequestOptions { first_byte_timeout: Some(Duration::from_millis(100)), ..RequestOptions::default() };
    let answer = send(&outbound, host.request(Method::POST, Some("key")), options).await;
    assert!(matches!(answer, Err(Error::ConnectionReadTimeout)), "{answer:?}");
    assert_eq!(host.requests(), 1, "a request without an answer may be under way still");
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error_and_nothing_is_sent_twice() {
    let host = Host::start(|_| Step::Close).await;
    let outbound = host.outbound(OutboundSettings::default());
    let answer = post(&host, &outbound).await;
    assert!(matches!(answer, Err(Error::Hyper(_))), "{answer:?}");
    assert_eq!(host.requests(), 1);
}

#[tokio::test]
async fn a_host_that_fails_is_left_alone_until_it_answers_again() {
    let well = Arc::new(AtomicUsize::new(0));
    let answers = well.clone();
    let host =
        Host::start(move |_| Step::Answer(if answers.load(Ordering::SeqCst) == 0 { 500 } else { 200 })).await;
    let open_for = Duration::from_millis(300);
    let outbound =
        host.outbound(OutboundSettings { open_at_calls: 5, open_for, ..OutboundSettings::default() });
    for _ in 0..5 {
        assert_eq!(post(&host, &outbound).await.unwrap(), 500);
    }
    for _ in 0..10 {
        let refused = post(&host, &outbound).await;
        assert!(matches!(refused, Err(Error::DestinationUnavailable)), "{refused:?}");
    }
    assert_eq!(host.requests(), 5, "a refused request does not reach the host");
    well.store(1, Ordering::SeqCst);
    let healed = async {
        while !matches!(post(&host, &outbound).await, Ok(StatusCode::OK)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, healed).await.expect("the circuit closes");
    for _ in 0..10 {
        assert_eq!(post(&host, &outbound).await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_host_has_so_many_places_and_so_many_wait() {
    let host = Host::start(|_| Step::Answer(200)).await;
    let settings = OutboundSettings { max_concurrent: 1, max_queued: 1, ..OutboundSettings::default() };
    let outbound = host.outbound(settings);
    let begin = || outbound.send(host.request(Method::POST, Some("key")), RequestOptions::default());
    // Its answer has begun and is not read: it is under way.
    let first = begin().await.unwrap();
    let second = tokio::spawn(begin());
    let waits = async {
        let address = Address { host: "127.0.0.1".to_owned(), port: host.port, tls: false };
        let target = outbound.targets.lock().unwrap()[&address].clone();
        while !target.has_no_room() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("the second waits");
    let third = begin().await.map(|_| ());
    assert!(matches!(third, Err(Error::ConnectionLimitReached)), "{third:?}");
    first.into_body().collect().await.unwrap();
    let second = tokio::time::timeout(PATIENCE, second).await.unwrap().unwrap().unwrap();
    assert_eq!(second.status(), 200);
}

#[tokio::test]
async fn other_hosts_are_refused() {
    let host = Host::start(|_| Step::Answer(200)).await;
    let other = Host::start(|_| Step::Answer(200)).await;
    let outbound = host.outbound(OutboundSettings::default());
    let refused = post(&other, &outbound).await;
    assert!(matches!(refused, Err(Error::HttpRequestDenied)), "{refused:?}");
    assert_eq!(other.connections.load(Ordering::SeqCst), 0);
}

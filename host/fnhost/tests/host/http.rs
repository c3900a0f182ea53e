//! Real requests against the HTTP trigger, with the misbehaving guest behind it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::app::App;
use bytes::Bytes;
use fnhost_engine::ComponentSpec;
use fnhost_http::WHOLE_BODY_MAX_BYTES;
use fnhost_manifest::edge::DEFAULT_MAX_BODY_BYTES;
use fnhost_manifest::hosts::AllowedHosts;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than an answer takes on a busy machine, and shorter than a body is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

const MANIFEST: &str = r#"
spin_manifest_version = 2
[application]
name = "test"
[[trigger.http]]
route = "/..."
component = "guest"
[[trigger.http]]
route = "/request/:user_id/..."
component = "guest"
[[trigger.http]]
route = { private = true }
component = "hidden"
[component.guest]
source = "guest.wasm"
[component.hidden]
source = "hidden.wasm"
"#;

async fn start(change: impl FnOnce(&mut ComponentSpec)) -> App {
    App::start(MANIFEST, change).await
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_function_with_spins_headers() {
    let app = start(|_| {}).await;
    let request = Request::get("/request/42/a/b?x=1")
        .header("host", "shop.example:8080")
        .header("spin-client-addr", "forged")
        .header("spin-forged", "forged")
        .header("x-own", "kept")
        .header("x-forwarded-for", "192.0.2.1")
        .header("forwarded", "for=192.0.2.1")
        .header("x-real-ip", "192.0.2.1")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = app.send(request).await.unwrap();
    let seen = json(std::str::from_utf8(&response.into_body().collect().await.unwrap().to_bytes()).unwrap());
    assert_eq!(seen["uri"], "http://shop.example:8080/request/42/a/b?x=1");
    let headers: BTreeMap<String, String> =
        serde_json::from_value::<Vec<(String, String)>>(seen["headers"].clone())
            .unwrap()
            .into_iter()
            .collect();
    for (name, value) in [
        ("spin-path-info", "/a/b"),
        ("spin-full-url", "http://shop.example:8080/request/42/a/b?x=1"),
        ("spin-matched-route", "/request/:user_id/..."),
        ("spin-raw-component-route", "/request/:user_id/..."),
        ("spin-component-route", "/request/:user_id"),
        ("spin-base-path", "/"),
        ("spin-path-match-user-id", "42"),
        ("x-own", "kept"),
    ] {
        assert_eq!(headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(headers["spin-client-addr"].starts_with("127.0.0.1:"), "{headers:?}");
    for forged in ["spin-forged", "x-forwarded-for", "forwarded", "x-real-ip"] {
        assert!(!headers.contains_key(forged), "{forged}: nobody vouches for it");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_valid_trace_is_continued_and_anything_else_begins_one() {
    const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let app = start(|_| {}).await;
    let valid = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    for (given, continued) in [(Some(valid.as_str()), true), (Some("00-no-trace-01"), false), (None, false)] {
        let mut request = Request::get("/request/42").header("host", "it").header("tracestate", "vendor=1");
        if let Some(given) = given {
            request = request.header("traceparent", given);
        }
        let response = app.send(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        let seen =
            json(std::str::from_utf8(&response.into_body().collect().await.unwrap().to_bytes()).unwrap());
        let headers: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
        let header = |name: &str| {
            headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
        };
        let [traceparent] = header("traceparent")[..] else { panic!("{headers:?}") };
        let parts: Vec<&str> = traceparent.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{traceparent}");
        assert_eq!((parts[1] == TRACE_ID, parts[3]), (continued, if continued { "01" } else { "00" }));
        assert_ne!(parts[2], "00f067aa0ba902b7", "the call is a hop of its own");
        // What vendors add belongs to the client's trace.
        assert_eq!(header("tracestate").len(), usize::from(continued));
    }
    app.stop().await;
}

#[tokio::test]
async fn variables_and_environment_are_those_of_the_manifest() {
    let app = start(|_| {}).await;
    assert_eq!(app.get("/variable/greeting").await.1, "hello");
    let (_, missing) = app.get("/variable/other").await;
    assert!(missing.contains("[component.guest.variables]"), "{missing}");
    assert_eq!(app.get("/environment/COLOUR").await.1, "green");
    assert_eq!(app.get("/environment/PATH").await.1, "", "nothing of the host's environment");
    app.stop().await;
}

#[tokio::test]
async fn bodies_and_statuses_pass_both_ways() {
    let app = start(|_| {}).await;
    let sent = "x".repeat(300_000);
    assert_eq!(app.call(Method::POST, "/echo", sent.clone()).await, (StatusCode::OK, sent));
    assert_eq!(app.call(Method::PUT, "/status/422", "").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, body) = app.get("/stream/40").await;
    assert_eq!((status, body.len()), (StatusCode::OK, 40 * (64 << 10)));
    app.stop().await;
}

#[tokio::test]
async fn paths_without_a_function() {
    let routes = MANIFEST.replace("\"/...\"", "\"/only\"");
    let app = App::start(&routes, |_| {}).await;
    assert_eq!(app.get("/only").await.0, StatusCode::OK);
    assert_eq!(app.get("/.well-known/spin/health").await, (StatusCode::OK, "OK".to_owned()));
    for path in ["/hidden", "/", "/only/more", "/.well-known/spin/other"] {
        let (status, body) = app.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(json(&body)["status"], 404);
    }
    app.stop().await;
}

#[tokio::test]
async fn failures_become_problems_without_internals() {
    let app = start(|spec| spec.limits.deadline = Duration::from_millis(300)).await;
    for (path, status) in [
        ("/panic", 500),
        ("/memory", 500),
        ("/exit", 500),
        ("/error", 500),
        ("/loop", 504),
        ("/sleep/60000", 504),
    ] {
        let response = app
            .send(Request::get(path).header("host", "it").body(Full::new(Bytes::new())).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = json(std::str::from_utf8(&body).unwrap());
        assert_eq!(body["status"], status);
        assert!(body["call"].is_u64(), "the log's number is there: {body}");
        for internal in ["panic", "secret", "wasm", "memory"] {
            assert!(!body.to_string().contains(internal), "{internal} in {body}");
        }
    }
    assert_eq!(app.get("/ok").await.0, StatusCode::OK);
    app.stop().await;
}

#[tokio::test]
async fn a_body_that_the_function_does_not_finish_is_seen_to_break_off() {
    let app = start(|_| {}).await;
    let response = app
        .send(Request::get("/break/3").header("host", "it").body(Full::new(Bytes::new())).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK, "the head was sent before");
    assert!(response.into_body().collect().await.is_err(), "and the body has no regular end");
    app.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let app = start(|_| {}).await;
    let most = vec![b'a'; DEFAULT_MAX_BODY_BYTES as usize];
    let (status, length) = app.call(Method::POST, "/length", most.clone()).await;
    assert_eq!((status, length), (StatusCode::OK, most.len().to_string()));
    // A declared length is refused at once, without reading.
    let request =
        Request::post("/length").header("host", "it").header("content-length", (most.len() + 1).to_string());
    let endless = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
    let response = app.send(request.body(endless).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // A body in chunks is refused when it goes over, whatever the function answers then.
    let parts = std::iter::repeat_n(Bytes::from(vec![b'a'; 64 << 10]), 17);
    let parts = parts.map(|part| Ok::<_, std::io::Error>(Frame::data(part)));
    let body = StreamBody::new(futures::stream::iter(parts));
    let response = app.send(Request::post("/length").header("host", "it").body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    app.stop().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_taken_for_a_whole_one() {
    let app = start(|_| {}).await;
    let small = "a".repeat(10);
    // More than is read before the function is called.
    let large = "a".repeat(2 * WHOLE_BODY_MAX_BYTES);
    for path in ["/length", "/heedless"] {
        for sent in [&small, &large] {
            let length = sent.len();
            for (framing, body) in [
                (format!("content-length: {}", length + 50), sent.clone()),
                ("transfer-encoding: chunked".to_owned(), format!("{length:x}\r\n{sent}\r\n")),
                ("transfer-encoding: chunked".to_owned(), format!("{length:x}\r\n{sent}\r\nno chunk")),
            ] {
                let head = format!("POST {path} HTTP/1.1\r\nhost: it\r\n{framing}\r\n\r\n");
                let mut stream = TcpStream::connect(app.address).await.unwrap();
                stream.write_all((head + &body).as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 400 "), "{path}, {length}, {framing}: {answer}");
                assert!(answer.contains("the body broke off before its end"), "{answer}");
            }
        }
        assert_eq!(app.call(Method::POST, path, large.clone()).await.1, large.len().to_string());
    }
    app.stop().await;
}

#[tokio::test]
async fn a_slow_body_holds_up_no_call() {
    let app = start(|spec| spec.limits.max_concurrency = Some(1)).await;
    let mut slow = TcpStream::connect(app.address).await.unwrap();
    let head = "POST /length HTTP/1.1\r\nhost: it\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 25];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer[..12], b"HTTP/1.1 100", "the host waits for the body");
    slow.write_all(b"a").await.unwrap();
    let other = tokio::time::timeout(PATIENCE, app.get("/ok")).await.expect("nothing is held up");
    assert_eq!(other.0, StatusCode::OK);
    slow.write_all(b"b").await.unwrap();
    slow.read_exact(&mut answer[..12]).await.unwrap();
    assert_eq!(&answer[..12], b"HTTP/1.1 200");
    app.stop().await;
}

#[tokio::test]
async fn a_malformed_or_huge_head_is_refused() {
    let app = start(|_| {}).await;
    let huge = format!("GET /ok HTTP/1.1\r\nhost: x\r\nbig: {}\r\n\r\n", "a".repeat(64 << 10));
    let many = format!("GET /ok HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    for (request, status) in [
        (huge.as_str(), "431"),
        (many.as_str(), "431"),
        ("GET /ok HTTP/1.1\r\nhost: a b\r\n\r\n", "400"),
        ("GET /ok HTTP/1.1\r\n\r\n", "400"),
        ("GET /ok HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", "400"),
        ("GET /ok HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("GET /ok HTTP/1.0\r\n\r\n", "200"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(std::str::from_utf8(&answer[9..]).unwrap(), status, "{:.20}", request);
    }
    app.stop().await;
}

#[tokio::test]
async fn outbound_requests_are_held_to_the_allowed_hosts() {
    let target = start(|_| {}).await;
    let allowed = format!("http://{}", target.address);
    let app = start(|spec| spec.allowed_hosts = AllowedHosts::parse("guest", [&allowed]).unwrap()).await;
    let (_, answer) = app.get(&format!("/fetch/http/{}/variable/greeting", target.address)).await;
    assert_eq!(answer, "200 hello");
    let (_, answer) = app.get(&format!("/fetch/http/{}/ok", app.address)).await;
    assert!(answer.contains("HttpRequestDenied"), "{answer}");
    app.stop().await;
    target.stop().await;
}

#[tokio::test]
async fn calls_beyond_max_concurrency_queue() {
    let app = start(|spec| spec.limits.max_concurrency = Some(1)).await;
    let started = Instant::now();
    let calls = (0..4).map(|_| app.get("/sleep/50"));
    for (status, _) in futures::future::join_all(calls).await {
        assert_eq!(status, StatusCode::OK);
    }
    assert!(started.elapsed() >= Duration::from_millis(200), "one at a time: {:?}", started.elapsed());
    app.stop().await;
}

#[tokio::test]
async fn requests_that_run_end_before_the_server_does() {
    let app = start(|_| {}).await;
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    // The first part of the answer shows that the request is running.
    let request = Request::get("/stream/200").header("host", "it").body(Full::new(Bytes::new())).unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    let first = response.body_mut().frame().await.unwrap().unwrap();
    let address = app.address;
    app.shutdown.cancel();
    let rest = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(first.data_ref().unwrap().len() + rest.len(), 200 * (64 << 10));
    app.served.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    connection.await.unwrap().unwrap();
}

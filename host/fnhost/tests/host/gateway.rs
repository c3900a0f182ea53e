//! The gateway in front of the misbehaving guest: what it refuses, and what it adds.

use std::time::Duration;

use crate::support::app::App;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than anything here takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A system with these lines under `[application.tool.fnhost.edge]`.
async fn start(gateway: &str) -> App {
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"test\"\n[[trigger.http]]\nroute = \"/...\"\n\
         component = \"guest\"\n[component.guest]\nsource = \"guest.wasm\"\n\
         [application.tool.fnhost.edge]\n{gateway}"
    );
    App::start(&manifest, |_| {}).await
}

/// A request without a body.
fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "shop.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::new())).unwrap()
}

async fn get(app: &App, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    app.send(request(Method::GET, path, headers)).await.unwrap()
}

async fn body(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// Checks that a refusal is a problem document of this status with the request's id; answers its detail.
async fn problem(response: Response<Incoming>, status: u16) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(header(response.headers(), "content-type"), "application/problem+json");
    assert!(!header(response.headers(), "x-request-id").is_empty());
    let document: Value = serde_json::from_str(&body(response).await).unwrap();
    assert_eq!((&document["status"], &document["type"]), (&json!(status), &json!("about:blank")));
    document["detail"].as_str().unwrap().to_owned()
}

/// The headers that the guest saw.
async fn seen(response: Response<Incoming>) -> Vec<(String, String)> {
    let seen: Value = serde_json::from_str(&body(response).await).unwrap();
    serde_json::from_value(seen["headers"].clone()).unwrap()
}

#[tokio::test]
async fn every_answer_has_the_id_that_the_function_saw() {
    let app = start("").await;
    for (given, kept) in [(Some("seen-by/the.proxy"), true), (Some("a b"), false), (None, false)] {
        let headers: Vec<_> = given.iter().map(|id| ("x-request-id", *id)).collect();
        let response = get(&app, "/request/1", &headers).await;
        let id = header(response.headers(), "x-request-id").to_owned();
        let seen = seen(response).await;
        let of = |name: &str| {
            seen.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of("x-request-id"), std::slice::from_ref(&id));
        match kept {
            true => assert_eq!(Some(id.as_str()), given),
            false => assert_eq!(of("traceparent")[0].split('-').nth(1), Some(id.as_str()), "the trace's id"),
        }
    }
    for path in ["/panic", "/status/404"] {
        let response = get(&app, path, &[("x-request-id", "mine")]).await;
        assert_eq!(header(response.headers(), "x-request-id"), "mine", "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_the_rules_of_its_route() {
    let app = start(
        "[application.tool.fnhost.edge.defaults]\nmax_headers = 12\n\
         [[application.tool.fnhost.edge.route]]\nroute = \"/length/...\"\nmax_body_bytes = 100\n\
         [[application.tool.fnhost.edge.route]]\nroute = \"/length/large\"\nmax_header_bytes = 400\n",
    )
    .await;
    let post = |path: &str, bytes: usize| {
        let mut request = request(Method::POST, path, &[]);
        *request.body_mut() = Full::new(Bytes::from(vec![b'a'; bytes]));
        app.send(request)
    };
    assert_eq!(body(post("/length/small", 100).await.unwrap()).await, "100");
    let said = problem(post("/length/small", 101).await.unwrap(), 413).await;
    assert_eq!(said, "the body is larger than 100 bytes");
    assert_eq!(body(post("/length/large", 5000).await.unwrap()).await, "5000", "the defaults' 1 MiB");
    // In chunks, without a length: refused while it arrives, whatever the function answers.
    let parts = (0..3).map(|_| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&[b'a'; 40]))));
    let chunked =
        Request::post("/length").header("host", "x").body(StreamBody::new(futures::stream::iter(parts)));
    problem(app.send(chunked.unwrap()).await.unwrap(), 413).await;

    let names: Vec<String> = (0..12).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let said = problem(get(&app, "/length", &many).await, 431).await;
    assert!(said.contains("12 headers"), "{said}");
    assert_eq!(get(&app, "/length", &many[..11]).await.status(), StatusCode::OK, "and host, the twelfth");
    let long = "a".repeat(400);
    problem(get(&app, "/length/large", &[("x-long", &long)]).await, 431).await;
    problem(get(&app, &format!("/length/large?{long}"), &[]).await, 431).await;
    assert_eq!(get(&app, "/length/other", &[("x-long", &long)]).await.status(), StatusCode::OK);
    app.stop().await;
}

#[tokio::test]
async fn what_is_too_slow_is_refused() {
    let app = start(
        "header_timeout_ms = 300\n[application.tool.fnhost.edge.defaults]\nbody_timeout_ms = 300\n\
         [[application.tool.fnhost.edge.route]]\nroute = \"/sleep/...\"\nrequest_timeout_ms = 300\n",
    )
    .await;
    // A body that stops in the middle, and a function that waits for all of it.
    let first = futures::stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"a")))]);
    let stalled = futures::StreamExt::chain(first, futures::stream::pending());
    let stalled = Request::post("/length").header("host", "x").body(StreamBody::new(stalled)).unwrap();
    let response = tokio::time::timeout(PATIENCE, app.send(stalled)).await.unwrap().unwrap();
    assert_eq!(header(response.headers(), "connection"), "close");
    let said = problem(response, 408).await;
    assert_eq!(said, "the body was not sent within 300 ms");
    // A function that does not answer.
    problem(get(&app, "/sleep/60000", &[]).await, 504).await;
    // A head that stops in the middle is told; a connection on which nothing was asked just ends.
    for (sent, told) in [("GET /ok HTTP/1.1\r\nhost:", true), ("", false)] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 408 "), told, "{answer}");
        assert_eq!(answer.contains("application/problem+json"), told, "{answer}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_route_bounds_the_calls_of_its_own_requests() {
    let app = start(
        "[[application.tool.fnhost.edge.route]]\nroute = \"/sleep/...\"\nmax_concurrency = 1\n\
         [[application.tool.fnhost.edge.route]]\nroute = \"/sleep/100\"\n",
    )
    .await;
    let started = std::time::Instant::now();
    futures::future::join_all((0..4).map(|_| get(&app, "/sleep/50", &[]))).await;
    assert!(started.elapsed() >= Duration::from_millis(200), "one at a time: {:?}", started.elapsed());
    let others = async {
        for _ in 0..5 {
            assert_eq!(get(&app, "/sleep/100", &[]).await.status(), StatusCode::OK);
        }
    };
    tokio::select! {
        _ = get(&app, "/sleep/60000", &[]) => panic!("the others wait for it"),
        () = others => {}
    }
    app.stop().await;
}

#[tokio::test]
async fn security_headers_are_added_where_the_function_has_none() {
    const CSP: &str = "content-security-policy";
    let app = start(
        "[[application.tool.fnhost.edge.route]]\nroute = \"/header/...\"\n\
         security_headers = { content-security-policy = \"default-src 'none'\", x-frame-options = \"\" }\n",
    )
    .await;
    // path, header, value
    let cases = [
        ("/ok", "x-content-type-options", "nosniff"),
        ("/ok", "x-frame-options", "DENY"),
        ("/ok", "referrer-policy", "strict-origin-when-cross-origin"),
        ("/ok", CSP, ""),
        ("/panic", "x-content-type-options", "nosniff"),
        ("/header/a/b", CSP, "default-src 'none'"),
        ("/header/content-security-policy/own", CSP, "own"),
        ("/header/a/b", "x-frame-options", ""),
        ("/header/referrer-policy/no-referrer", "referrer-policy", "no-referrer"),
    ];
    for (path, name, value) in cases {
        let response = get(&app, path, &[]).await;
        assert_eq!(header(response.headers(), name), value, "{name} of {path}");
        assert!(response.headers().get_all(name).iter().count() <= 1);
    }
    app.stop().await;
}

#[tokio::test]
async fn pages_of_declared_origins_may_call_and_no_others() {
    let app = start(
        "[application.tool.fnhost.edge.defaults.cors]\norigins = [\"https://shop.example\"]\n\
         methods = [\"GET\", \"DELETE\"]\nheaders = [\"authorization\"]\nexpose = [\"x-request-id\"]\n\
         max_age_s = 60\ncredentials = true\n\
         [[application.tool.fnhost.edge.route]]\nroute = \"/status/...\"\ncors = { origins = [\"*\"] }\n\
         [[application.tool.fnhost.edge.route]]\nroute = \"/echo\"\ncors = { origins = [] }\n",
    )
    .await;
    let preflight = |path: &'static str, origin: &'static str| {
        let headers = [("origin", origin), ("access-control-request-method", "DELETE")];
        app.send(request(Method::OPTIONS, path, &headers))
    };
    let allowed = preflight("/panic", "https://shop.example").await.unwrap();
    assert_eq!(allowed.status(), StatusCode::NO_CONTENT, "the function was not asked");
    for (name, value) in [
        ("access-control-allow-origin", "https://shop.example"),
        ("access-control-allow-methods", "GET, DELETE"),
        ("access-control-allow-headers", "authorization"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "60"),
        ("vary", "origin"),
    ] {
        assert_eq!(header(allowed.headers(), name), value, "{name}");
    }
    let refused = preflight("/panic", "https://evil.example").await.unwrap();
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    problem(refused, 403).await;
    let every = preflight("/status/1", "https://evil.example").await.unwrap();
    assert_eq!(header(every.headers(), "access-control-allow-origin"), "*");
    assert_eq!(
        preflight("/echo", "https://evil.example").await.unwrap().status(),
        StatusCode::OK,
        "the function's"
    );

    // path, origin, allow-origin, vary
    let cases = [
        ("/ok", "https://shop.example", "https://shop.example", "origin"),
        ("/ok", "https://evil.example", "", "origin"),
        ("/panic", "https://shop.example", "https://shop.example", "origin"),
        ("/status/201", "https://evil.example", "*", ""),
        ("/echo", "https://shop.example", "", ""),
        ("/header/access-control-allow-origin/own", "https://shop.example", "own", "origin"),
    ];
    for (path, origin, allow, vary) in cases {
        let response = get(&app, path, &[("origin", origin)]).await;
        assert_eq!(header(response.headers(), "access-control-allow-origin"), allow, "{path} {origin}");
        assert_eq!(header(response.headers(), "vary"), vary, "{path} {origin}");
    }
    app.stop().await;
}

#[tokio::test]
async fn one_request_too_many_is_refused_until_the_rate_has_given_it_back() {
    let app = start(
        "[[application.tool.fnhost.edge.route]]\nroute = \"/ok/...\"\n\
         rate_limit = { requests = 1, per_s = 1, burst = 3 }\n\
         [[application.tool.fnhost.edge.route]]\nroute = \"/echo\"\n\
         rate_limit = { requests = 1, per_s = 3600 }\n",
    )
    .await;
    let statuses = |path: &'static str, headers: &'static [(&str, &str)]| async {
        let mut statuses = Vec::new();
        for _ in 0..2 {
            statuses.push(get(&app, path, headers).await.status().as_u16());
        }
        statuses
    };
    // What a client says of itself makes it nobody else.
    assert_eq!(statuses("/echo", &[]).await, [200, 429]);
    assert_eq!(statuses("/echo", &[("x-forwarded-for", "192.0.2.1")]).await, [429, 429]);
    assert_eq!(statuses("/other", &[]).await, [200, 200], "no limit there");

    let refused = tokio::time::timeout(PATIENCE, async {
        loop {
            let response = get(&app, "/ok/1", &[]).await;
            let left = header(response.headers(), "ratelimit-remaining").to_owned();
            assert_eq!(header(response.headers(), "ratelimit-limit"), "3");
            match response.status() {
                StatusCode::OK => assert!(left.parse::<u32>().unwrap() < 3),
                _ => return response,
            }
        }
    });
    let refused = refused.await.unwrap();
    assert_eq!(header(refused.headers(), "ratelimit-remaining"), "0");
    assert_eq!(header(refused.headers(), "retry-after"), "1");
    assert!((2..=3).contains(&header(refused.headers(), "ratelimit-reset").parse::<u32>().unwrap()));
    assert_eq!(problem(refused, 429).await, "too many requests; try again in 1 s");
    let recovered = async { while get(&app, "/ok/1", &[]).await.status() != StatusCode::OK {} };
    tokio::time::timeout(PATIENCE, recovered).await.unwrap();
    app.stop().await;
}

#[tokio::test]
async fn behind_a_declared_proxy_each_client_is_counted_by_itself() {
    let limited = "[application.tool.fnhost.edge.defaults]\nrate_limit = { requests = 1, per_s = 3600 }\n";
    let trusted = start(&format!("trusted_proxies = \"1\"\n{limited}")).await;
    for (forwarded, status) in [
        ("192.0.2.1", 200),
        ("192.0.2.1", 429),
        ("192.0.2.2", 200),
        ("192.0.2.3, 192.0.2.2", 429),
        ("192.0.2.2, 192.0.2.3", 200),
    ] {
        let response = get(&trusted, "/ok", &[("x-forwarded-for", forwarded)]).await;
        assert_eq!(response.status(), status, "{forwarded}");
    }
    trusted.stop().await;
    let elsewhere = format!("trusted_proxies = \"1\"\nproxy_networks = [\"10.0.0.0/8\"]\n{limited}");
    let elsewhere = start(&elsewhere).await;
    for (forwarded, status) in [("192.0.2.1", 200), ("192.0.2.2", 429)] {
        let response = get(&elsewhere, "/ok", &[("x-forwarded-for", forwarded)]).await;
        assert_eq!(response.status(), status, "{forwarded} from no proxy of ours");
    }
    elsewhere.stop().await;
}

/// A key pair, and its public part under a name.
fn key(seed: u8, kid: &str) -> (Ed25519KeyPair, Value) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    (pair, json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x }))
}

fn token(pair: &Ed25519KeyPair, kid: &str, sub: &str, exp: u64) -> String {
    let header = json!({ "alg": "EdDSA", "kid": kid }).to_string();
    let claims = json!({ "iss": "us", "aud": "ours", "sub": sub, "nbf": 1, "exp": exp }).to_string();
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
    format!("Bearer {signed}.{signature}")
}

#[tokio::test]
async fn a_token_is_asked_for_where_the_route_says_so_and_its_subject_is_the_caller() {
    const NEVER: u64 = 1 << 40;
    let ((old, old_public), (new, new_public)) = (key(1, "old"), key(2, "new"));
    let keys = json!({ "keys": [new_public, old_public] }).to_string();
    let app = start(&format!(
        "token = {{ public_keys = '{keys}', issuer = \"us\", audience = \"ours\" }}\n\
         [[application.tool.fnhost.edge.route]]\nroute = \"/ok/...\"\ntoken = \"required\"\n\
         [[application.tool.fnhost.edge.route]]\nroute = \"/echo\"\ntoken = \"optional\"\n\
         [[application.tool.fnhost.edge.route]]\nroute = \"/length\"\ntoken = \"required\"\n\
         rate_limit = {{ requests = 1, per_s = 3600 }}\n"
    ))
    .await;
    let ada = token(&new, "new", "ada", NEVER);
    let before = token(&old, "old", "ada", NEVER);
    let expired = token(&new, "new", "ada", 2);
    let foreign = token(&old, "new", "ada", NEVER);
    // path, what is sent, status, challenge
    let cases = [
        ("/ok/1", Some(ada.as_str()), 200, ""),
        ("/ok/1", Some(ada.as_str()), 200, ""),
        ("/ok/1", Some(before.as_str()), 200, ""),
        ("/ok/1", None, 401, "Bearer"),
        ("/ok/1", Some("Basic YTpi"), 401, "Bearer"),
        ("/ok/1", Some(expired.as_str()), 401, "Bearer error=\"invalid_token\""),
        ("/ok/1", Some(foreign.as_str()), 401, "Bearer error=\"invalid_token\""),
        ("/echo", None, 200, ""),
        ("/echo", Some(ada.as_str()), 200, ""),
        ("/echo", Some(expired.as_str()), 401, "Bearer error=\"invalid_token\""),
        ("/echo", Some("Basic YTpi"), 401, "Bearer"),
        ("/other", Some(expired.as_str()), 200, ""),
    ];
    for (path, sent, status, challenge) in cases {
        let headers: Vec<_> = sent.iter().map(|sent| ("authorization", *sent)).collect();
        let response = get(&app, path, &headers).await;
        assert_eq!(response.status(), status, "{path} {sent:?}");
        assert_eq!(header(response.headers(), "www-authenticate"), challenge, "{path} {sent:?}");
        if status == 401 {
            problem(response, 401).await;
        }
    }
    // Two people at one address are two callers; who has no good token counts for the address.
    let eve = token(&new, "new", "eve", NEVER);
    for (sent, status) in
        [(&ada, 200), (&before, 429), (&eve, 200), (&eve, 429), (&expired, 401), (&foreign, 429)]
    {
        let response = get(&app, "/length", &[("authorization", sent)]).await;
        assert_eq!(response.status(), status, "{sent}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_request_for_another_protocol_passes() {
    let app = start("").await;
    let headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    let response = get(&app, "/request/1", &headers).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(seen(response).await.iter().any(|(name, _)| name == "sec-websocket-version"));
    app.stop().await;
}

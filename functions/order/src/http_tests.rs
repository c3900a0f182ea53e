//! What is refused before the database is asked: the host of these tests has keys and no database.

use super::*;
use contract::token::{AUDIENCE, Claims, ISSUER, Role, Signer};
use fnhost_sdk::http::{BODY_LIMIT_BYTES, Body};
use fnhost_sdk::{Row, Sql, SqlError, Value};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

struct KeysOnly;

impl Sql for KeysOnly {
    async fn query(&self, statement: &'static str, _: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        panic!("the database was asked: {statement}")
    }

    async fn execute(&self, statement: &'static str, _: Vec<Value>) -> Result<u64, SqlError> {
        panic!("the database was asked: {statement}")
    }
}

impl Host for KeysOnly {
    async fn variable(&self, name: &str) -> Result<String, String> {
        assert_eq!(name, "token_public_keys");
        Ok(PUBLIC_KEYS.to_owned())
    }
}

impl Cache for KeysOnly {
    async fn get(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    async fn set(&self, key: &str, _: Vec<u8>) {
        panic!("{key} was kept, and nothing was read")
    }
}

const GOOD: &str = r#"{"items":[{"sku":"MUG-RED","quantity":1}],"payment_token":"tok_ok"}"#;
const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

const PRIVATE_KEY: &str = include_str!("../../contract/testing/private.pem");
const PUBLIC_KEYS: &str = include_str!("../../contract/testing/public.json");

fn signer() -> Signer {
    Signer::new(PRIVATE_KEY, &serde_json::from_str(PUBLIC_KEYS).unwrap()).unwrap()
}

fn request(method: &str, target: &str, body: &str) -> Request {
    let now = fnhost_sdk::time::unix_seconds();
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: Uuid::from_u128(1),
        role: Role::Customer,
        iat: now,
        nbf: now,
        exp: now + 60,
    };
    let bearer = format!("Bearer {}", signer().sign(&claims).unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: vec![
            ("authorization".to_owned(), bearer.into_bytes()),
            ("content-type".to_owned(), b"application/json".to_vec()),
        ],
        body: Body::Read(body.into()),
    }
}

/// Status and field of the answer. Nothing here ever waits, so one poll is the whole call.
fn refusal(request: Request) -> (u16, Option<String>) {
    let answer = pin!(handle(&KeysOnly, request)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(response) = answer else { panic!("the call waits for something") };
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(problem["status"], response.status);
    (response.status, problem["field"].as_str().map(str::to_owned))
}

#[test]
fn a_body_that_is_no_order_names_the_field() {
    let lines = |count: usize| {
        let lines: Vec<_> = (0..count).map(|i| format!(r#"{{"sku":"S{i}","quantity":1}}"#)).collect();
        format!(r#"{{"items":[{}],"payment_token":"tok_ok"}}"#, lines.join(","))
    };
    let cases = [
        (GOOD.replace(":1", ":0"), 422, "items[0].quantity"),
        (GOOD.replace(":1", ":-1"), 422, "items[0].quantity"),
        (GOOD.replace(":1", ":1.5"), 422, "items[0].quantity"),
        (GOOD.replace(":1", ":10001"), 422, "items[0].quantity"),
        (GOOD.replace(":1", ":99999999999999999999"), 422, "items[0].quantity"),
        (GOOD.replace("MUG-RED", ""), 422, "items[0].sku"),
        (GOOD.replace("MUG-RED", "MUG\\u0000"), 422, "items[0].sku"),
        (GOOD.replace("tok_ok", ""), 422, "payment_token"),
        (GOOD.replace(r#","payment_token":"tok_ok""#, ""), 422, "payment_token"),
        (r#"{"items":[["MUG-RED",1]],"payment_token":"tok_ok"}"#.to_owned(), 422, "items[0]"),
        (r#"[[{"sku":"MUG-RED","quantity":1}],"tok_ok"]"#.to_owned(), 422, "body"),
        (lines(0), 422, "items"),
        (lines(101), 422, "items"),
        ("{".to_owned(), 400, "body"),
        (String::new(), 400, "body"),
    ];
    for (body, status, field) in cases {
        assert_eq!(refusal(request("POST", "/orders", &body)), (status, Some(field.to_owned())), "{body}");
    }
}

#[test]
fn headers_that_do_not_fit_name_themselves() {
    let with = |name: &str, value: &[u8]| {
        let mut request = request("POST", "/orders", GOOD);
        request.headers.retain(|(found, _)| found != name);
        request.headers.push((name.to_owned(), value.to_vec()));
        refusal(request)
    };
    let long = [b'k'; IDEMPOTENCY_KEY_BYTES_MAX + 1];
    assert_eq!(with("content-type", b"text/plain"), (415, Some("content-type".to_owned())));
    for key in [&b""[..], b"a\tb", &long, "\u{fc}".as_bytes()] {
        assert_eq!(with("idempotency-key", key), (422, Some("idempotency-key".to_owned())), "{key:?}");
    }
    assert_eq!(with("idempotency-key", b"\xff"), (400, Some("idempotency-key".to_owned())));
    for token in [&b""[..], b"Basic YTpi", b"Bearer", b"Bearer x.y.z"] {
        assert_eq!(with("authorization", token), (401, Some("authorization".to_owned())), "{token:?}");
    }
}

#[test]
fn a_refund_that_is_none_names_the_field() {
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(201));
    for (body, status, field) in [
        ("", 400, "body"),
        ("[]", 422, "body"),
        (r#"{"lines":"MUG-RED"}"#, 422, "lines"),
        (r#"{"lines":[["MUG-RED",1]]}"#, 422, "lines[0]"),
        (r#"{"lines":[{"quantity":1}]}"#, 422, "lines[0].sku"),
        (r#"{"lines":[{"sku":"MUG-RED","quantity":"1"}]}"#, 422, "lines[0].quantity"),
        (r#"{"reason":"a\nb"}"#, 422, "reason"),
        (&*long, 422, "reason"),
    ] {
        let request = request("POST", &format!("/orders/{ID}/refund"), body);
        assert_eq!(refusal(request), (status, Some(field.to_owned())), "{body}");
    }
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let request = Request { body: Body::TooLarge, ..request("POST", "/orders", "") };
    assert_eq!(refusal(request), (413, Some("body".to_owned())), "over {BODY_LIMIT_BYTES} bytes");
}

#[test]
fn every_address_needs_a_caller() {
    let paths = [("GET", "/orders".to_owned()), ("POST", "/orders".to_owned())].into_iter().chain([
        ("GET", format!("/orders/{ID}")),
        ("GET", format!("/orders/{ID}/timeline")),
        ("POST", format!("/orders/{ID}/cancel")),
        ("POST", format!("/orders/{ID}/refund")),
    ]);
    for (method, path) in paths {
        let request = Request { headers: Vec::new(), ..request(method, &path, GOOD) };
        assert_eq!(refusal(request).0, 401, "{method} {path}");
    }
}

#[test]
fn addresses_methods_and_parameters_that_do_not_exist_are_refused() {
    for (method, target, status, field) in [
        ("GET", "/orders/7", 404, None),
        ("POST", "/orders/7/cancel", 404, None),
        ("GET", "/orders/7/timeline", 404, None),
        ("GET", "/orders/7/other", 404, None),
        ("GET", "/", 404, None),
        ("PUT", "/orders", 405, None),
        ("DELETE", "/orders/7", 405, None),
        ("GET", "/orders/7/cancel", 405, None),
        ("GET", "/orders/7/refund", 405, None),
        ("POST", "/orders/7/refund", 404, None),
        ("GET", "/orders?from=yesterday", 422, Some("from")),
        ("GET", "/orders?to=2026-02-29", 422, Some("to")),
        ("GET", "/orders?from=2026-01-01T00:00:00+01:00", 422, Some("from")),
        ("GET", "/orders?limit=0", 422, Some("limit")),
        ("GET", "/orders?limit=101", 422, Some("limit")),
        ("GET", "/orders?status=LOST", 422, Some("status")),
        ("GET", "/orders?cursor=1", 422, Some("cursor")),
        ("GET", "/orders?cursor=%00", 400, Some("cursor")),
    ] {
        let found = refusal(request(method, target, ""));
        assert_eq!(found, (status, field.map(str::to_owned)), "{method} {target}");
    }
}

//! Requests that are malformed, unauthorised or contradict what is: a 4xx problem+json that names the field.

use crate::shared;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tests::client::{Answer, Client};
use tests::customer::Customer;
use tests::outcome::Outcome;

/// Bytes that a function reads of a body, and that the host takes.
const BODY_LIMIT_BYTES: usize = 64 << 10;
const HOST_BODY_LIMIT_BYTES: usize = 1 << 20;
/// The largest amount that an order's total can be, and the price of MOON.
const MOON_PRICE: i64 = 900_000_000_000_000_000;

/// One request that must be refused.
struct Refused<'a> {
    what: &'a str,
    method: Method,
    path: &'a str,
    headers: Vec<(&'a str, String)>,
    body: Bytes,
    status: u16,
    field: Option<&'a str>,
}

impl<'a> Refused<'a> {
    /// A request with a JSON body and a token.
    fn json(what: &'a str, token: &str, path: &'a str, body: &Value, status: u16, field: &'a str) -> Self {
        Self::raw(what, token, path, body.to_string(), status, field)
    }

    fn raw(
        what: &'a str,
        token: &str,
        path: &'a str,
        body: impl Into<Bytes>,
        status: u16,
        field: &'a str,
    ) -> Self {
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("authorization", format!("Bearer {token}")),
        ];
        Self { what, method: Method::POST, path, headers, body: body.into(), status, field: Some(field) }
    }

    fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self.headers.push((name, value.into()));
        self
    }

    fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    async fn check(self, client: &Client) -> anyhow::Result<()> {
        let Self { what, method, path, headers, body, status, field } = self;
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = client.send(request.body(Full::new(body))?).await?;
        assert_problem(what, &answer, status, field);
        Ok(())
    }
}

fn assert_problem(what: &str, answer: &Answer, status: u16, field: Option<&str>) {
    assert_eq!(answer.status.as_u16(), status, "{what}: {answer}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}: {answer}");
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    assert_eq!(problem["status"], status, "{what}: {answer}");
    assert_eq!(problem["field"].as_str(), field, "{what}: {answer}");
    for part in ["type", "title", "detail"] {
        assert!(
            problem[part].as_str().is_some_and(|text| !text.is_empty()),
            "{what} has no {part}: {answer}"
        );
    }
}

/// The body of an order of these lines.
fn order(items: Value) -> Value {
    json!({ "items": items, "payment_token": "tok_ok" })
}

fn line(sku: &str, quantity: impl Into<Value>) -> Value {
    json!([{ "sku": sku, "quantity": quantity.into() }])
}

#[tokio::test]
async fn orders_that_cannot_be_are_refused_by_field() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let lines = |count: usize| -> Value {
        (0..count).map(|index| json!({ "sku": format!("SKU-{index}"), "quantity": 1 })).collect()
    };
    let two = |other: Value| json!([{ "sku": "TEA-250G", "quantity": 1 }, other]);
    let max = json!(u64::MAX);
    for (what, body, status, field) in [
        ("no body", json!(null), 422, "body"),
        ("no object", json!("order"), 422, "body"),
        ("the fields by position", json!([line("TEA-250G", 1), "tok_ok"]), 422, "body"),
        ("no items", json!({ "payment_token": "tok_ok" }), 422, "items"),
        ("no payment token", json!({ "items": line("TEA-250G", 1) }), 422, "payment_token"),
        ("items of another type", order(json!("TEA-250G")), 422, "items"),
        ("no lines", order(json!([])), 422, "items"),
        ("101 lines", order(lines(101)), 422, "items"),
        ("an unknown SKU", order(line("NO-SUCH", 1)), 422, "items[0].sku"),
        (
            "an unknown SKU in the second line",
            order(two(json!({ "sku": "X", "quantity": 1 }))),
            422,
            "items[1].sku",
        ),
        ("a SKU twice", order(two(json!({ "sku": "TEA-250G", "quantity": 1 }))), 422, "items[1].sku"),
        ("an empty SKU", order(line("", 1)), 422, "items[0].sku"),
        ("a long SKU", order(line(&"S".repeat(65), 1)), 422, "items[0].sku"),
        ("a SKU that is a number", order(json!([{ "sku": 7, "quantity": 1 }])), 422, "items[0].sku"),
        ("NUL in a SKU", order(line("TEA\0", 1)), 422, "items[0].sku"),
        ("no quantity", order(json!([{ "sku": "TEA-250G" }])), 422, "items[0].quantity"),
        ("quantity 0", order(line("TEA-250G", 0)), 422, "items[0].quantity"),
        ("a negative quantity", order(line("TEA-250G", -1)), 422, "items[0].quantity"),
        ("a huge quantity", order(line("TEA-250G", 10_001)), 422, "items[0].quantity"),
        ("a quantity beyond 64 bits", order(line("TEA-250G", max)), 422, "items[0].quantity"),
        ("half a piece", order(line("TEA-250G", 0.5)), 422, "items[0].quantity"),
        ("a quantity in words", order(line("TEA-250G", "one")), 422, "items[0].quantity"),
        ("a total beyond 64 bits", order(line("MOON", i64::MAX / MOON_PRICE + 1)), 422, "items"),
        (
            "an empty payment token",
            json!({ "items": line("TEA-250G", 1), "payment_token": "" }),
            422,
            "payment_token",
        ),
        (
            "NUL in the payment token",
            json!({ "items": line("TEA-250G", 1), "payment_token": "\0" }),
            422,
            "payment_token",
        ),
        (
            "a long payment token",
            json!({ "items": line("TEA-250G", 1), "payment_token": "t".repeat(129) }),
            422,
            "payment_token",
        ),
    ] {
        Refused::json(what, &ada.token, "/orders", &body, status, field).check(&ada.client).await?;
    }
    let page: Value = ada.ask(Method::GET, "/orders", None).await?.json(http::StatusCode::OK)?;
    assert_eq!(page["orders"], json!([]), "none of these became an order");
    Ok(())
}

#[tokio::test]
async fn bodies_and_headers_that_cannot_be_read_are_refused() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let (token, good) = (&ada.token, order(line("TEA-250G", 1)));
    let good = |what, status, field| Refused::json(what, token, "/orders", &good, status, field);
    let raw = |what, body: Bytes, status, field| Refused::raw(what, token, "/orders", body, status, field);
    let large = Bytes::from(vec![b' '; BODY_LIMIT_BYTES + 1]);
    for request in [
        raw("an empty body", Bytes::new(), 400, "body"),
        raw("broken JSON", Bytes::from_static(b"{\"items\":["), 400, "body"),
        raw("more than JSON", Bytes::from(format!("{}x", order(line("TEA-250G", 1)))), 400, "body"),
        raw("no UTF-8", Bytes::from_static(b"{\"items\":\"\xff\"}"), 400, "body"),
        raw("a body over the limit", large, 413, "body"),
        good("another content type", 415, "content-type").header("content-type", "text/plain"),
        good("an empty idempotency key", 422, "idempotency-key").header("idempotency-key", ""),
        good("a long idempotency key", 422, "idempotency-key").header("idempotency-key", "k".repeat(256)),
        good("no token", 401, "authorization").header("authorization", "Basic YTpi"),
        good("a broken token", 401, "authorization").header("authorization", format!("Bearer {token}x")),
        good("an empty token", 401, "authorization").header("authorization", "Bearer "),
    ] {
        request.check(&ada.client).await?;
    }
    // Beyond what the host takes at all, whatever the function would do with it. It does not read the rest, and so the
    // connection may end before all of it is sent.
    let huge = vec![b' '; HOST_BODY_LIMIT_BYTES + 1];
    raw("a body over the host's limit", huge.into(), 413, "body").check(&ada.client).await?;
    Ok(())
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "mostly a table of requests")]
async fn unauthorised_and_contradicting_requests_are_refused() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    let (ada, bob) = (Customer::register(&client).await?, Customer::register(&client).await?);
    let (ada_token, good) = (&ada.token, json!({ "email": ada.email, "password": "correct horse 7" }));
    let post = |what, path, body: Value, status, field| Refused::json(what, "", path, &body, status, field);
    let get = |what, path, status, field| Refused {
        field,
        ..Refused::json(what, ada_token, path, &Value::Null, status, "").method(Method::GET)
    };
    let weak = |password: &str| json!({ "email": "new@example.com", "password": password });
    let put = |what, body: Value, status| {
        let request = Refused::json(what, &bob.token, "/inventory/TEA-250G", &body, status, "");
        Refused { field: None, ..request.method(Method::PUT) }
    };
    for request in [
        post(
            "no address",
            "/auth/register",
            json!({ "email": "x", "password": "correct horse" }),
            422,
            "email",
        ),
        post(
            "NUL in a name",
            "/auth/register",
            json!({ "email": "a@b.c", "password": "correct horse", "name": "\0" }),
            422,
            "name",
        ),
        post("a short password", "/auth/register", weak("short"), 422, "password"),
        post("a common password", "/auth/register", weak("password123"), 422, "password"),
        post("a link that is none", "/auth/verify", json!({ "token": "x" }), 401, "token"),
        post(
            "another's token for a password",
            "/auth/password/reset",
            json!({ "token": ada_token, "new_password": "a long enough one" }),
            401,
            "token",
        ),
        post("a wrong password", "/auth/login", good, 401, "password"),
        post("an unknown account", "/auth/login", weak("correct horse"), 401, "password"),
        post(
            "an unknown refresh token",
            "/auth/refresh",
            json!({ "refresh_token": "x" }),
            401,
            "refresh_token",
        ),
        get("a limit of 0", "/orders?limit=0", 422, Some("limit")),
        get("a huge limit", "/orders?limit=101", 422, Some("limit")),
        get("a cursor that is none", "/orders?cursor=x", 422, Some("cursor")),
        get("a status that is none", "/orders?status=LOST", 422, Some("status")),
        get("NUL in a query", "/orders?status=%00", 400, Some("status")),
        get("an id that is none", "/orders/x", 404, None),
        get("NUL in a path", "/orders/%00", 404, None),
        get("a product that is none", "/products/NO-SUCH", 404, Some("sku")),
        get("NUL in a SKU", "/inventory/%00", 404, Some("sku")),
        get("an address of nobody", "/nowhere", 404, None),
        get("an address of nobody in a function", "/orders/x/y/z", 404, None),
        get("another method", "/orders", 405, None).method(Method::DELETE),
        get("no token", "/orders", 401, Some("authorization")).header("authorization", ""),
        get("no token for payments", "/payments/x", 401, Some("authorization")).header("authorization", ""),
        get("no token for notifications", "/notifications", 401, Some("authorization"))
            .header("authorization", ""),
        put("stock by a customer", json!({ "on_hand": 1 }), 403),
    ] {
        request.check(&client).await?;
    }
    let admin = fnhost.database().await?.make_admin(&bob).await?;
    for (what, body, status) in [
        ("a negative stock", json!({ "on_hand": -1 }), 422),
        ("a huge stock", json!({ "on_hand": 1_000_000_001 }), 422),
        ("a stock in words", json!({ "on_hand": "many" }), 422),
        ("no stock", json!({}), 422),
    ] {
        let request = Refused::json(what, &admin.token, "/inventory/TEA-250G", &body, status, "on_hand");
        request.method(Method::PUT).check(&client).await?;
    }
    Ok(())
}

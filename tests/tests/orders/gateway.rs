//! The gateway in front of the order system: what it adds to every answer, and what it refuses before a function is asked.

use crate::shared;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use std::time::Duration;
use tests::client::{Answer, Client, request};
use tests::customer::{Customer, NewOrder, PASSWORD};
use tests::kafka;
use tests::outcome::Outcome;
use tests::scrape::Scrape;
use tests::system::{Fnhost, Setup};
use tests::wait::{Look, until};

/// Longer than a rate of one a second takes to give a request back.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(30);
/// What the manifest says of logins and registrations.
const DECLARED_RATE: &str = "rate_limit = { requests = 10, per_s = 1, burst = 200 }";
const PAGE: &str = "https://elsewhere.example";

/// The manifest with limits that a test reaches.
fn strict(manifest: String) -> String {
    const GATEWAY: &str = "[application.tool.fnhost.edge]\n";
    let defaults = format!(
        "[application.tool.fnhost.edge.defaults]\nmax_body_bytes = 2000\n\
         cors = {{ origins = [\"{PAGE}\"], headers = [\"authorization\"], expose = [\"x-request-id\"] }}\n{GATEWAY}"
    );
    let rate = "rate_limit = { requests = 1, per_s = 1, burst = 3 }";
    let changed = manifest.replacen(GATEWAY, &defaults, 1).replace(DECLARED_RATE, rate);
    assert!(changed.contains(rate) && changed.contains(PAGE), "spin.toml declares the gateway otherwise");
    changed
}

/// Another host of the shared system, for HTTP alone, with the strict manifest and a log for programs.
async fn strict_host(shared: &Fnhost) -> Result<Fnhost> {
    let arguments = ["--only", "http", "--log-format", "json"].map(str::to_owned).to_vec();
    let mut host = Fnhost::new(Setup { manifest: Some(strict), arguments, ..shared.setup_of_joining()? })?;
    host.restart().await?;
    Ok(host)
}

fn is_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer}");
    assert!(!answer.header("x-request-id").is_empty(), "{answer}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer}");
}

#[tokio::test]
async fn too_much_is_refused_before_a_function_is_asked() -> Outcome {
    let shared = shared().await?;
    let host = strict_host(&shared).await?;
    let client = host.client()?;
    let ada = Customer::register(&client).await?;

    // A browser's question for another origin, on a route that asks for a token.
    let preflight = |origin: &str| {
        let asked = Request::options("/orders").header("origin", origin);
        let asked = asked.header("access-control-request-method", "POST").body(Full::new(Bytes::new()));
        let client = client.clone();
        async move { client.send(asked?).await }
    };
    let allowed = preflight(PAGE).await?;
    assert_eq!(allowed.status, StatusCode::NO_CONTENT, "{allowed}");
    assert_eq!(allowed.header("access-control-allow-origin"), PAGE);
    assert_eq!(allowed.header("access-control-allow-headers"), "authorization");
    is_problem(&preflight("https://evil.example").await?, 403);
    let mut refused = request(Method::GET, "/orders", None, None)?;
    refused.headers_mut().insert("origin", PAGE.parse()?);
    let refused = client.send(refused).await?;
    is_problem(&refused, 401);
    assert_eq!(refused.header("access-control-allow-origin"), PAGE, "the page gets to read why");

    let long = json!({ "payment_token": "t".repeat(2000) });
    is_problem(&ada.ask(Method::POST, "/orders", Some(&long)).await?, 413);
    let mut many = request(Method::GET, "/orders", Some(&ada.token), None)?;
    for number in 0..64 {
        many.headers_mut().insert(http::HeaderName::try_from(format!("x-{number}"))?, "1".parse()?);
    }
    is_problem(&client.send(many).await?, 431);

    // Registering is limited by address, whatever a client says of itself; others go on.
    let attempt = |number: usize| {
        let attempt = request(Method::POST, "/auth/register", None, Some(&json!({})));
        let client = client.clone();
        async move {
            let mut attempt = attempt?;
            attempt.headers_mut().insert("x-forwarded-for", format!("198.51.100.{number}").parse()?);
            client.send(attempt).await
        }
    };
    let limited = until("429", RECOVERY_DEADLINE, async || {
        let answer = attempt(1).await?;
        Ok(Look::from_bool(answer.status == StatusCode::TOO_MANY_REQUESTS, answer.to_string()))
    });
    limited.await?;
    let answer = (attempt(2).await?, attempt(3).await?);
    let limited =
        [&answer.0, &answer.1].into_iter().find(|answer| answer.status == 429).context("one of two")?;
    is_problem(limited, 429);
    assert_eq!((limited.header("retry-after"), limited.header("ratelimit-limit")), ("1", "3"), "{limited}");
    assert_eq!(ada.ask(Method::GET, "/auth/me", None).await?.status, StatusCode::OK);
    until("another registration", RECOVERY_DEADLINE, async || {
        let answer = attempt(4).await?;
        Ok(Look::from_bool(answer.status == StatusCode::UNPROCESSABLE_ENTITY, answer.to_string()))
    })
    .await?;

    let scrape = Scrape::of(&host.admin()?).await?;
    for (route, reason) in [
        ("/auth/register", "rate-limit"),
        ("/orders", "body-size"),
        ("/orders", "header-size"),
        ("/orders", "token"),
        ("/orders", "cors"),
    ] {
        let refused = scrape.sum("fnhost_http_refused_total", &[("route", route), ("reason", reason)]);
        assert!(refused >= 1.0, "{route} {reason}: {refused}");
    }
    Ok(())
}

#[tokio::test]
async fn an_id_runs_from_the_answer_through_the_log_and_the_trace() -> Outcome {
    const ID: &str = "seen-by-the-proxy/7";
    let shared = shared().await?;
    let host = strict_host(&shared).await?;
    let client = host.client()?;
    let ada = Customer::register(&client).await?;
    // A function's own line carries the client's id.
    let login = json!({ "email": ada.email, "password": PASSWORD });
    let session: Value = post(&client, "/auth/login", &login).await?.json(StatusCode::OK)?;
    let token = json!({ "refresh_token": session["refresh_token"] });
    for status in [StatusCode::OK, StatusCode::UNAUTHORIZED] {
        let answer = post(&client, "/auth/refresh", &token).await?;
        assert_eq!((answer.status, answer.header("x-request-id")), (status, ID), "{answer}");
    }
    let line = until("the function's line", RECOVERY_DEADLINE, async || {
        let log = host.log();
        let mut events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let said = |event: &Value| event["message"].to_string().contains("was used twice");
        Ok(Look::from_option(events.find(said), "nothing"))
    });
    let line = line.await?;
    assert_eq!((&line["request_id"], &line["component"]), (&ID.into(), &"auth".into()), "{line}");
    // Without one, the id is that of the trace, which runs through Kafka.
    let order =
        request(Method::POST, "/orders", Some(&ada.token), Some(&NewOrder::of(&[("TEA-250G", 1)]).body()))?;
    let answer = client.send(order).await?;
    let order: Value = answer.json(StatusCode::ACCEPTED)?;
    let id = order["order_id"].as_str().context("an order's id")?.to_owned();
    ada.wait_final(id.parse()?).await?;
    let cluster = shared.kafka()?;
    let records = tokio::task::spawn_blocking(move || kafka::read_all(&cluster, "order-events"));
    let records = records.await.map_err(anyhow::Error::from)??;
    let of_order: Vec<_> =
        records.iter().filter(|record| record.key.as_deref() == Some(id.as_bytes())).collect();
    assert!(!of_order.is_empty(), "no record of the order");
    for record in of_order {
        let trace = record.headers.get("traceparent").map(String::as_str).unwrap_or_default();
        assert_eq!(trace.split('-').nth(1), Some(answer.header("x-request-id")), "{trace}");
    }
    Ok(())
}

async fn post(client: &Client, path: &str, body: &Value) -> Result<Answer> {
    let mut post = request(Method::POST, path, None, Some(body))?;
    post.headers_mut().insert("x-request-id", "seen-by-the-proxy/7".parse()?);
    client.send(post).await
}

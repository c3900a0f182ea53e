//! Traces: what a collector gets of an order, what it does not get, and that a dead one changes nothing.

use http::{Method, StatusCode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use tests::client::request;
use tests::customer::{Customer, FINAL_DEADLINE, NewOrder, Status};
use tests::otlp::{Collector, Span, SpanKind};
use tests::outcome::Outcome;
use tests::scrape::Scrape;
use tests::system::{Fnhost, READY_DEADLINE, Setup};
use tests::wait::{Look, until};

/// A trace that a client brings, and the client's span.
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

/// The hops from a notification back to the request, where the order was confirmed for the payment's sake.
const WAY_BACK: [&[&str]; 10] = [
    &["process notification-events"],
    &["send notification-events"],
    &["call order"],
    &["process payment-events", "process inventory-events"],
    &["send payment-events", "send inventory-events"],
    &["call payment", "call inventory"],
    &["process order-events"],
    &["send order-events"],
    &["call order"],
    &["POST /orders/..."],
];

async fn traced(url: &str, ratio: &str) -> anyhow::Result<Fnhost> {
    let arguments = ["--otlp", url, "--trace-ratio", ratio].map(str::to_owned).to_vec();
    Fnhost::start(Setup { arguments, ..Setup::default() }).await
}

/// Orders with a `traceparent` of the client's, and waits for the order's end.
async fn order_within(ada: &Customer, traceparent: &str) -> anyhow::Result<()> {
    let body = NewOrder::of(&[("TEA-250G", 1)]).body();
    let mut request = request(Method::POST, "/orders", Some(&ada.token), Some(&body))?;
    request.headers_mut().insert("traceparent", traceparent.parse()?);
    let order: Value = ada.client.send(request).await?.json(StatusCode::ACCEPTED)?;
    let id = order["order_id"].as_str().unwrap_or_default().parse()?;
    assert_eq!(ada.wait_final(id).await?.status, Status::Confirmed);
    Ok(())
}

/// The spans of a trace that reached the notification and the last effects of a confirmed order, as soon as all are there.
async fn whole_trace(
    collector: &Collector,
    trace: impl Fn(&[Span]) -> Option<String>,
) -> anyhow::Result<Vec<Span>> {
    until("a trace from the request to the notification", READY_DEADLINE, async || {
        let all = collector.spans();
        let Some(trace) = trace(&all) else { return Ok(Look::NotYet(format!("{} spans", all.len()))) };
        let spans: Vec<Span> = all.into_iter().filter(|span| span.trace == trace).collect();
        let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
        let linked = spans.iter().all(|span| {
            span.parent.is_empty() || span.parent == CLIENT_SPAN || ids.contains(span.parent.as_str())
        });
        let notified = spans.iter().any(|span| span.name == "process notification-events");
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        let seen = format!("{names:?}, every parent known: {linked}");
        Ok(if notified && linked { Look::Found(spans) } else { Look::NotYet(seen) })
    })
    .await
}

/// Goes from the notification to the request, span by span, and holds each to what its kind has to say.
fn check_way_back(spans: &[Span]) {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "each span has an id of its own");
    let last = spans.iter().find(|span| span.name == "process notification-events");
    let mut span = last.unwrap_or_else(|| panic!("no notification: {spans:?}"));
    for names in WAY_BACK {
        assert!(names.contains(&span.name.as_str()), "{span:?} is not one of {names:?}");
        assert!(span.times.0 <= span.times.1 && span.service == "orders" && !span.failed, "{span:?}");
        let Some(parent) = by_id.get(span.parent.as_str()) else {
            assert_eq!(span.kind, SpanKind::Server, "the request begins it: {span:?}");
            return;
        };
        assert!(parent.times.0 <= span.times.0, "{parent:?} began after {span:?}");
        span = parent;
    }
    panic!("more hops than expected, at {span:?}");
}

fn attributes_of<'s>(spans: &'s [Span], name: &str) -> (&'s Span, BTreeMap<&'s str, &'s str>) {
    let span = spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {spans:?}"));
    (span, span.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect())
}

#[tokio::test]
async fn an_order_is_one_trace_from_the_request_to_the_notification() -> Outcome {
    let collector = Collector::start().await?;
    let mut fnhost = traced(&collector.url, "1").await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    // A client that says no is heard, whatever the ratio.
    order_within(&ada, &format!("00-{TRACE_ID}-{CLIENT_SPAN}-00")).await?;
    let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    let key = order.order_id.to_string();
    let spans = whole_trace(&collector, |all| {
        let of_order = |span: &&Span| span.attributes.get("messaging.kafka.message.key") == Some(&key);
        all.iter().find(of_order).map(|span| span.trace.clone())
    })
    .await?;
    check_way_back(&spans);
    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{roots:?}");

    let (span, server) = attributes_of(&spans, "POST /orders/...");
    assert_eq!(span.kind, SpanKind::Server);
    let status = ("http.response.status_code", "202");
    for (name, value) in [("http.request.method", "POST"), ("http.route", "/orders/..."), status] {
        assert_eq!(server.get(name), Some(&value), "{server:?}");
    }
    let (span, process) = attributes_of(&spans, "process notification-events");
    assert_eq!(span.kind, SpanKind::Consumer);
    for (name, value) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "notification-events"),
        ("messaging.consumer.group.name", "notify"),
        ("messaging.kafka.message.key", &key),
        ("fnhost.outcome", "done"),
        ("fnhost.attempt", "1"),
    ] {
        assert_eq!(process.get(name), Some(&value), "{process:?}");
    }
    for name in
        ["messaging.destination.partition.id", "messaging.kafka.offset", "messaging.batch.message_count"]
    {
        assert!(process.get(name).is_some_and(|value| value.parse::<i64>().is_ok()), "{name}: {process:?}");
    }
    assert_eq!(process["fnhost.version"].len(), 12, "{process:?}");
    let (span, _) = attributes_of(&spans, "send order-events");
    assert_eq!(span.kind, SpanKind::Producer);
    let (_, call) = attributes_of(&spans, "call notify");
    assert!(call["fnhost.sql_seconds"].parse::<f64>()? > 0.0, "{call:?}");

    assert!(fnhost.interrupt().await?.success());
    let refused: Vec<Span> = collector.spans().into_iter().filter(|span| span.trace == TRACE_ID).collect();
    assert!(refused.is_empty(), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_ratio_of_zero_begins_no_trace_and_goes_on_with_those_of_clients() -> Outcome {
    let collector = Collector::start().await?;
    let mut fnhost = traced(&collector.url, "0").await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    order_within(&ada, &format!("00-{TRACE_ID}-{CLIENT_SPAN}-01")).await?;
    let spans = whole_trace(&collector, |_| Some(TRACE_ID.to_owned())).await?;
    check_way_back(&spans);
    let (server, _) = attributes_of(&spans, "POST /orders/...");
    assert_eq!(server.parent, CLIENT_SPAN);
    // What was left is sent at the end, and nothing of it is of another trace.
    assert!(fnhost.interrupt().await?.success());
    let others: Vec<Span> = collector.spans().into_iter().filter(|span| span.trace != TRACE_ID).collect();
    assert!(others.is_empty(), "{others:?}");
    Ok(())
}

#[tokio::test]
async fn a_dead_collector_costs_spans_and_nothing_else() -> Outcome {
    // Nobody listens there any more.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut fnhost = traced(&format!("http://127.0.0.1:{port}"), "1").await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    let admin = fnhost.admin()?;
    until("dropped spans to be counted", FINAL_DEADLINE, async || {
        let scrape = Scrape::of(&admin).await?;
        let dropped = scrape.sum("fnhost_trace_spans_dropped_total", &[("reason", "collector")]);
        let exported = scrape.sum("fnhost_trace_spans_exported_total", &[]);
        Ok(Look::from_bool(
            dropped > 0.0 && exported == 0.0,
            format!("{dropped} dropped, {exported} exported"),
        ))
    })
    .await?;
    assert_eq!(ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?.status, Status::Confirmed);
    assert_eq!(fnhost.log().matches("the collector does not accept traces").count(), 1, "{}", fnhost.log());
    assert!(fnhost.interrupt().await?.success());
    Ok(())
}

//! The log as JSON: what a program can select by.

use serde_json::Value;
use tests::client::request;
use tests::customer::{Customer, NewOrder};
use tests::kafka::{self, Record};
use tests::outcome::Outcome;
use tests::system::{Fnhost, READY_DEADLINE, Setup};
use tests::wait::{Look, until};
use uuid::Uuid;

/// A trace that a client brings.
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A function's line about an order's notification, and the dead letter of a bad record, with where they came from.
#[tokio::test]
async fn json_lines_carry_the_records_that_caused_them_and_one_trace_runs_through() -> Outcome {
    let arguments = ["--log-format", "json"].map(str::to_owned).to_vec();
    let fnhost = Fnhost::start(Setup { arguments, ..Setup::default() }).await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let cluster = fnhost.kafka()?;

    let order = place_order(&ada).await?;
    let line = format!("Notification sent to user {}: Your order is confirmed!", ada.user_id);
    let said = logged(&fnhost, |event| event["message"] == line.as_str()).await?;
    assert_eq!(
        (&said["component"], &said["topic"]),
        (&"notify".into(), &"notification-events".into()),
        "{said}"
    );
    let (first, last) = (said["first_offset"].as_i64(), said["last_offset"].as_i64());
    assert!(said["partition"].is_i64() && first.is_some() && first <= last, "{said}");
    assert_eq!(said["version"].as_str().map(str::len), Some(12), "{said}");

    let components: Value = fnhost.admin()?.get("/components").await?.json(http::StatusCode::OK)?;
    let of_order = components.as_array().into_iter().flatten().find(|component| component["id"] == "order");
    let order_version: String =
        of_order.and_then(|component| component["digest"].as_str()).unwrap_or_default()[..12].into();

    // One trace from the request to the notification, and each hop with a span of its own.
    let mut spans = vec!["00f067aa0ba902b7".to_owned()];
    for topic in ["order-events", "inventory-events", "payment-events", "notification-events"] {
        let cluster = cluster.clone();
        let records = tokio::task::spawn_blocking(move || kafka::read_all(&cluster, topic))
            .await
            .map_err(anyhow::Error::from)??;
        let of_order = |record: &&kafka::Arrived| record.key.as_deref() == Some(order.as_bytes());
        let records: Vec<_> = records.iter().filter(of_order).collect();
        assert!(!records.is_empty(), "{topic} has nothing of the order");
        for record in records {
            let trace = record.headers.get("traceparent").unwrap_or_else(|| panic!("no trace: {record:?}"));
            let parts: Vec<&str> = trace.split('-').collect();
            assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE_ID, "01"), "{topic}: {trace}");
            spans.push(parts[2].to_owned());
            let version = record.headers.get("fnhost-version").map(String::as_str);
            if topic == "order-events" || topic == "notification-events" {
                // Those of the request as well as those of dispatches.
                assert_eq!(version, Some(&*order_version), "{topic}: {record:?}");
            } else {
                assert_eq!(version.map(str::len), Some(12), "{topic}: {record:?}");
            }
        }
    }
    let count = spans.len();
    spans.sort();
    spans.dedup();
    assert_eq!(spans.len(), count, "each hop has a span of its own");
    let told = fnhost.beside(&["explain", &order]).await?;
    assert!(told.status.success(), "{told:?}");

    // What a program asks for: everything of a key, everything of a trace.
    let committed =
        logged(&fnhost, |event| event["key"] == order.as_str() && event["type"] == "order.confirmed").await?;
    assert_eq!((&committed["trace_id"], &committed["topic"]), (&TRACE_ID.into(), &"order-events".into()));

    check_dead_letter(&fnhost).await?;
    for line in fnhost.log().lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["timestamp"].is_string() && event["level"].is_string(), "{line}");
    }
    Ok(())
}

/// Orders with the trace of a client; answers the order's id.
async fn place_order(ada: &Customer) -> anyhow::Result<String> {
    let body = NewOrder::of(&[("TEA-250G", 1)]).body();
    let mut request = request(http::Method::POST, "/orders", Some(&ada.token), Some(&body))?;
    let traceparent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    request.headers_mut().insert("traceparent", traceparent.parse()?);
    let order: Value = ada.client.send(request).await?.json(http::StatusCode::ACCEPTED)?;
    let id = order["order_id"].as_str().unwrap_or_default().to_owned();
    ada.wait_final(id.parse()?).await?;
    Ok(id)
}

async fn check_dead_letter(fnhost: &Fnhost) -> anyhow::Result<()> {
    let key = Uuid::now_v7().to_string();
    let headers = vec![
        ("ce_type".to_owned(), "order.lost".to_owned()),
        ("traceparent".to_owned(), format!("00-{TRACE_ID}-00f067aa0ba902b8-00")),
    ];
    let record = Record { key: Some(key.clone()), value: Some(b"{}".to_vec()), headers };
    let offset = kafka::produce(&fnhost.kafka()?, "order-events", 2, &record).await?;
    let dead = logged(fnhost, |event| {
        event["key"] == key.as_str()
            && event["message"] == "record became a dead letter"
            && event["trigger"] == "payment"
    })
    .await?;
    assert_eq!((&dead["topic"], &dead["partition"]), (&"order-events".into(), &2.into()), "{dead}");
    assert_eq!((&dead["offset"], &dead["trace_id"]), (&offset.into(), &TRACE_ID.into()), "{dead}");
    assert_eq!(dead["level"], "ERROR");
    Ok(())
}

/// The first event of the log that is `wanted`, as soon as it is there.
async fn logged(fnhost: &Fnhost, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    until("a log event", READY_DEADLINE, async || {
        let log = fnhost.log();
        let mut events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(Look::from_option(events.find(&wanted), format!("{} lines", log.lines().count())))
    })
    .await
}

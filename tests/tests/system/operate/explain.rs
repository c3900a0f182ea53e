//! What `fnhost explain` tells: of orders that go well, wait and die, beside the host that runs them.

use serde_json::Value;
use std::collections::BTreeSet;
use tests::customer::{Customer, NewOrder};
use tests::kafka::{self, Record};
use tests::outcome::Outcome;
use tests::payment_gateway::PaymentGateway;
use tests::system::{Fnhost, READY_DEADLINE, Setup};
use tests::wait::{Look, until};
use uuid::Uuid;

/// Exit code of a command that found something wrong.
const UNSATISFIED: i32 = 3;

/// What the command tells of a record or a key, and its exit code.
async fn explain(fnhost: &Fnhost, what: &str) -> anyhow::Result<(Value, i32)> {
    let output = fnhost.beside(&["explain", what, "--output", "json"]).await?;
    let code = output.status.code().unwrap_or(-1);
    let said = String::from_utf8_lossy(&output.stderr);
    let story = serde_json::from_slice(&output.stdout);
    Ok((story.map_err(|error| anyhow::anyhow!("exit code {code}: {error}: {said}"))?, code))
}

/// A record of a story.
struct Line {
    place: String,
    kind: String,
    /// What each trigger made of it.
    fates: Vec<(String, String)>,
}

fn lines(story: &Value) -> Vec<Line> {
    let record = |record: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let fates = record["fates"].as_object().into_iter().flatten();
        Line {
            place: format!("{}/{}/{}", text(&record["topic"]), record["partition"], record["offset"]),
            kind: text(&record["record"]["type"]),
            fates: fates.map(|(id, fate)| (id.clone(), text(&fate["state"]))).collect(),
        }
    };
    story["records"].as_array().into_iter().flatten().map(record).collect()
}

/// Waits until the story of a key is as it should be.
async fn until_told(
    fnhost: &Fnhost,
    key: &str,
    told: impl Fn(&Value) -> bool,
) -> anyhow::Result<(Value, i32)> {
    until("the story to be told", READY_DEADLINE, async || {
        let (story, code) = match explain(fnhost, key).await {
            Ok(told) => told,
            Err(error) => return Ok(Look::NotYet(format!("{error:#}"))),
        };
        let is_it = told(&story);
        Ok(Look::from_option(is_it.then(|| (story.clone(), code)), story.to_string()))
    })
    .await
}

/// What `trigger` made of the record of that type.
fn fate<'s>(story: &'s Value, kind: &str, trigger: &str) -> &'s Value {
    let records = story["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    let record = records.iter().find(|record| record["record"]["type"] == kind);
    record.map_or(&Value::Null, |record| &record["fates"][trigger])
}

#[tokio::test]
async fn the_fate_of_records_that_are_handled_parked_and_dead() -> Outcome {
    let fnhost = Fnhost::start(Setup::default()).await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    check_confirmed(&fnhost, &ada).await?;
    check_parked(&fnhost, &ada).await?;
    check_dead(&fnhost).await?;

    let (nowhere, key) = ("order-events/0/1000000", Uuid::now_v7().to_string());
    for (what, reason) in [(nowhere, "there is no record at"), (&key, "no record has the key")] {
        let output = fnhost.beside(&["explain", what]).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(UNSATISFIED), "{said}");
        assert!(said.contains(reason), "{said}");
    }
    Ok(())
}

async fn check_confirmed(fnhost: &Fnhost, ada: &Customer) -> anyhow::Result<()> {
    let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    ada.wait_notifications(order.order_id, &["CONFIRMED"]).await?;
    let id = order.order_id.to_string();
    let wanted =
        ["order.created", "inventory.reserved", "payment.authorized", "order.confirmed", "payment.captured"];
    let (story, code) = until_told(fnhost, &id, |story| {
        let lines = lines(story);
        let handled = |(_, state): &(String, String)| state == "handled";
        wanted.iter().all(|kind| lines.iter().any(|line| line.kind == *kind))
            && lines.iter().all(|line| line.fates.iter().all(handled))
            && story["unsent"].as_array().is_some_and(Vec::is_empty)
    })
    .await?;
    assert_eq!(code, 0, "{story:#}");
    // The request had no trace: the host has begun one.
    let records = story["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    let traces: BTreeSet<&str> =
        records.iter().filter_map(|record| record["record"]["trace_id"].as_str()).collect();
    assert_eq!((traces.len(), traces.first().map(|id| id.len())), (1, Some(32)), "{story:#}");
    let lines = lines(&story);
    assert_eq!(lines[0].kind, "order.created", "{story:#}");
    let triggers = |topic: &str| {
        let line = lines.iter().find(|line| line.place.starts_with(topic));
        line.map(|line| line.fates.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>()).unwrap_or_default()
    };
    assert_eq!(triggers("order-events/"), ["forecast", "inventory", "payment"]);
    assert_eq!(triggers("notification-events/"), ["notify"]);

    // The record by itself: where it came from, in words.
    let output = fnhost.beside(&["explain", &lines[0].place]).await?;
    let text = String::from_utf8(output.stdout)?;
    for part in
        [&lines[0].place, &id, "order.created", "/order:events", "inventory  handled", "payment    handled"]
    {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let output = fnhost.beside(&["explain", &id]).await?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(text.lines().count(), lines.len(), "a line for each record:\n{text}");
    Ok(())
}

async fn check_parked(fnhost: &Fnhost, ada: &Customer) -> anyhow::Result<()> {
    // A record that the payment gateway does not answer for stays parked.
    PaymentGateway::of(fnhost)?.outage("errors").await?;
    let order = ada.order(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    let id = order.order_id.to_string();
    let (story, code) = until_told(fnhost, &id, |story| {
        fate(story, "order.created", "payment")["attempts"].as_i64() > Some(1)
            && fate(story, "order.created", "inventory")["state"] == "handled"
    })
    .await?;
    let parked = fate(&story, "order.created", "payment");
    assert_eq!((code, &parked["state"]), (0, &Value::from("parked")), "{story:#}");
    assert_eq!(parked["behind"], Value::Null);
    assert!(parked["reason"].as_str().is_some_and(|reason| reason.contains("gateway")), "{parked}");

    // What follows of its key waits behind it.
    ada.cancel(order.order_id).await?;
    let (story, _) =
        until_told(fnhost, &id, |story| fate(story, "order.cancelled", "payment")["state"] == "parked")
            .await?;
    let created = lines(&story).into_iter().find(|line| line.kind == "order.created");
    let created = created.and_then(|line| line.place.rsplit_once('/')?.1.parse::<i64>().ok());
    let behind = fate(&story, "order.cancelled", "payment");
    assert_eq!(behind["behind"].as_i64(), created, "{story:#}");
    assert_eq!(behind["attempts"], 0);
    Ok(())
}

async fn check_dead(fnhost: &Fnhost) -> anyhow::Result<()> {
    let key = Uuid::now_v7().to_string();
    let headers = vec![("ce_type".to_owned(), "order.lost".to_owned())];
    let record = Record { key: Some(key.clone()), value: Some(b"{}".to_vec()), headers };
    let offset = kafka::produce(&fnhost.kafka()?, "order-events", 1, &record).await?;
    let place = format!("order-events/1/{offset}");
    let (story, code) = until_told(fnhost, &place, |story| {
        ["forecast", "inventory", "payment"].iter().all(|id| fate(story, "order.lost", id)["state"] == "dead")
    })
    .await?;
    assert_eq!(code, UNSATISFIED);
    let dead = fate(&story, "order.lost", "inventory");
    assert!(dead["reason"].as_str().is_some_and(|reason| reason.contains("unknown event type")), "{dead}");
    assert!(dead["letter"].as_i64() > Some(0) && dead["attempts"] == 1, "{dead}");
    // Its producer chose the partition by itself.
    let output = fnhost.beside(&["explain", &key, "--all-partitions"]).await?;
    let text = String::from_utf8(output.stdout)?;
    assert!(text.contains(&place) && text.contains("inventory dead (letter "), "{text}");
    Ok(())
}

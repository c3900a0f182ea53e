//! Records that are no events: dead-lettered with their reason, and the partition goes on.

use serde::Deserialize;
use serde_json::{Value, json};
use tests::client::request;
use tests::customer::{Customer, NewOrder, Status};
use tests::kafka::{self, Cluster, Record};
use tests::outcome::Outcome;
use tests::system::{Fnhost, READY_DEADLINE};
use tests::wait::{Look, until};
use uuid::Uuid;

/// What the admin address tells of a dead record.
#[derive(Clone, Debug, Deserialize)]
struct Dead {
    trigger: String,
    topic: String,
    partition: i32,
    offset: i64,
    value: Option<String>,
    reason: String,
}

fn typed(event_type: &str) -> Vec<(String, String)> {
    vec![("ce_type".to_owned(), event_type.to_owned()), ("ce_id".to_owned(), Uuid::new_v4().to_string())]
}

/// What it is, the record, and a part of the reason.
fn bad_records() -> Vec<(&'static str, Record, &'static str)> {
    let key = || Some(Uuid::now_v7().to_string());
    let value = |text: &str| Some(text.as_bytes().to_vec());
    let record = |key, value, headers| Record { key, value, headers };
    vec![
        ("broken JSON", record(key(), value("{"), typed("order.created")), "broken JSON"),
        ("no headers", record(key(), value("{}"), vec![]), "the header ce_type is missing"),
        ("an unknown type", record(key(), value("{}"), typed("order.lost")), "unknown event type"),
        ("no key", record(None, value("{}"), typed("order.confirmed")), "the key is missing"),
        ("a tombstone", record(key(), None, typed("order.created")), "a tombstone is no event"),
        ("missing fields", record(key(), value("{}"), typed("order.created")), "missing field"),
        ("no UTF-8", record(key(), Some(vec![0xff, 0xfe]), typed("order.created")), "JSON"),
    ]
}

/// Alone on its system: dead letters would be violations elsewhere.
#[tokio::test]
async fn records_that_are_no_events_are_dead_letters_and_the_partition_goes_on() -> Outcome {
    let fnhost = Fnhost::start(Default::default()).await?;
    let (cluster, admin) = (fnhost.kafka()?, fnhost.admin()?);
    let ada = Customer::register(&fnhost.client()?).await?;
    let mut produced = Vec::new();
    for partition in 0..3 {
        for (what, record, reason) in bad_records() {
            let offset = kafka::produce(&cluster, "order-events", partition, &record).await?;
            produced.push((what, partition, offset, record, reason));
        }
    }
    // The three functions that read the topic refuse each of them.
    let dead = until("dead letters", READY_DEADLINE, async || {
        let dead: Vec<Dead> = admin.get("/dead-letters?limit=500").await?.json(http::StatusCode::OK)?;
        let (there, seen) =
            (dead.len() >= 3 * produced.len(), format!("{} of {}", dead.len(), 3 * produced.len()));
        Ok(Look::from_option(there.then_some(dead), seen))
    })
    .await?;
    assert_eq!(dead.len(), 3 * produced.len());
    for (what, partition, offset, record, reason) in &produced {
        for trigger in ["forecast", "inventory", "payment"] {
            let letter = dead.iter().find(|dead| {
                dead.trigger == trigger && dead.partition == *partition && dead.offset == *offset
            });
            let letter = letter.unwrap_or_else(|| panic!("{what} is no dead letter of {trigger}: {dead:#?}"));
            assert_eq!(letter.topic, "order-events");
            assert!(letter.reason.contains(reason), "{what}: {}", letter.reason);
            let value = record.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
            assert_eq!(letter.value, value, "{what}");
        }
    }
    check_dead_letter_topic(&cluster, &dead).await?;

    // Every partition goes on: orders spread over all of them.
    for _ in 0..10 {
        let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
        assert_eq!(order.status, Status::Confirmed);
    }
    Ok(operate(&fnhost, dead.len()).await?)
}

/// What a command beside the host prints as JSON.
async fn printed(fnhost: &Fnhost, arguments: &[&str]) -> anyhow::Result<Value> {
    let output = fnhost.beside(&[arguments, &["--output", "json"]].concat()).await?;
    anyhow::ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Waits until so many dead letters of a trigger are there.
async fn until_dead(fnhost: &Fnhost, trigger: &str, count: usize) -> anyhow::Result<Vec<Value>> {
    until("dead letters", READY_DEADLINE, async || {
        let dead = printed(fnhost, &["dead", "list", "--trigger", trigger, "--limit", "1000"]).await?;
        let dead = dead.as_array().cloned().unwrap_or_default();
        let seen = format!("{} of {count}", dead.len());
        Ok(Look::from_option((dead.len() == count).then_some(dead), seen))
    })
    .await
}

/// What an operator does with `dead` letters, a third of which are each forecast's, inventory's and payment's.
async fn operate(fnhost: &Fnhost, dead: usize) -> anyhow::Result<()> {
    let groups = printed(fnhost, &["dead", "list", "--groups", "--trigger", "inventory"]).await?;
    let counts: Vec<i64> =
        groups.as_array().iter().flat_map(|g| g.iter()).filter_map(|g| g["count"].as_i64()).collect();
    assert_eq!(counts.iter().sum::<i64>(), dead as i64 / 3, "{groups}");
    assert!(counts.iter().all(|count| count % 3 == 0), "each fault came to three partitions: {groups}");

    // One comes back and dies again, of its own trigger alone.
    let first = &until_dead(fnhost, "inventory", dead / 3).await?[0];
    let id = first["id"].to_string();
    let redriven = printed(fnhost, &["dead", "redrive", &id]).await?;
    assert_eq!((&redriven["records"], &redriven["waits_already"]), (&1.into(), &0.into()), "{redriven}");
    let again = &until_dead(fnhost, "inventory", dead / 3).await?[0];
    assert_eq!(
        (&again["topic"], &again["partition"], &again["offset"], &again["reason"]),
        (&first["topic"], &first["partition"], &first["offset"], &first["reason"])
    );
    assert_ne!(again["id"], first["id"]);
    until_dead(fnhost, "payment", dead / 3).await?;
    let gone = fnhost.beside(&["dead", "show", &id]).await?;
    assert_eq!(gone.status.code(), Some(3), "{gone:?}");
    // Over the admin address too.
    let admin = fnhost.admin()?;
    let ids = json!({ "filter": { "ids": [again["id"]] } });
    let body = request(http::Method::POST, "/dead-letters/redrive", None, Some(&ids))?;
    let redriven: Value = admin.send(body).await?.json(http::StatusCode::OK)?;
    assert_eq!(redriven["records"], 1, "{redriven}");
    until_dead(fnhost, "inventory", dead / 3).await?;

    // Much is not changed without a word.
    let unasked = fnhost.beside(&["dead", "discard", "--trigger", "payment"]).await?;
    let said = String::from_utf8_lossy(&unasked.stderr).into_owned();
    assert!(unasked.status.code() == Some(1) && said.contains("--yes"), "{said}");
    let matching = printed(fnhost, &["dead", "discard", "--trigger", "payment", "--dry-run"]).await?;
    assert_eq!(matching["matching"], dead as i64 / 3);
    let discarded = printed(fnhost, &["dead", "discard", "--trigger", "payment", "--yes"]).await?;
    assert_eq!(discarded["discarded"], dead as i64 / 3);
    until_dead(fnhost, "payment", 0).await?;
    let nothing = fnhost.beside(&["dead", "discard"]).await?;
    assert_eq!(nothing.status.code(), Some(1), "not everything by mistake: {nothing:?}");
    pause_and_replay(fnhost).await
}

/// A paused trigger waits while orders go on; replayed records run again.
async fn pause_and_replay(fnhost: &Fnhost) -> anyhow::Result<()> {
    let state = async |trigger: &str| -> anyhow::Result<Value> {
        printed(fnhost, &["lag", "--trigger", trigger]).await
    };
    printed(fnhost, &["pause", "notify", "--reason", "no mail today"]).await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    assert_eq!(order.status, Status::Confirmed);
    let paused = state("notify").await?;
    let of = |lag: &Value, key: &str| -> Vec<Value> {
        lag.as_array().iter().flat_map(|l| l.iter()).map(|l| l[key].clone()).collect()
    };
    assert!(of(&paused, "paused").iter().all(|reason| reason == "no mail today"), "{paused}");
    assert!(of(&paused, "lag").iter().filter_map(Value::as_i64).sum::<i64>() > 0, "{paused}");
    printed(fnhost, &["resume", "notify"]).await?;
    until("notify goes on", READY_DEADLINE, async || {
        let lag = state("notify").await?;
        let done =
            of(&lag, "lag").iter().all(|lag| *lag == 0) && of(&lag, "paused").iter().all(Value::is_null);
        Ok(Look::from_bool(done, lag.to_string()))
    })
    .await?;

    let plan = printed(fnhost, &["replay", "--trigger", "notify", "--from", "earliest", "--dry-run"]).await?;
    let sum = |parts: &Value, key: &str| of(parts, key).iter().filter_map(Value::as_i64).sum::<i64>();
    assert!(sum(&plan, "end") > 0 && sum(&plan, "records") == 0, "{plan}");
    let ran = printed(fnhost, &["replay", "--trigger", "notify", "--from", "earliest", "--yes"]).await?;
    assert!(sum(&ran, "records") > 0 && sum(&ran, "next") == sum(&ran, "end"), "{ran}");
    until("the replayed records are done", READY_DEADLINE, async || {
        let parked = printed(fnhost, &["parked", "list", "--trigger", "notify"]).await?;
        Ok(Look::from_bool(parked.as_array().is_some_and(Vec::is_empty), parked.to_string()))
    })
    .await?;
    let unknown = fnhost.beside(&["replay", "--trigger", "nobody", "--from", "earliest", "--yes"]).await?;
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");
    Ok(())
}

/// The dead letters' topic has each letter with its bytes, where it came from, and its reason.
async fn check_dead_letter_topic(cluster: &Cluster, dead: &[Dead]) -> anyhow::Result<()> {
    let letters = until("the dead letters' topic", READY_DEADLINE, async || {
        let cluster = cluster.clone();
        let read =
            tokio::task::spawn_blocking(move || kafka::read_all(&cluster, "order-events.dlq")).await??;
        let (there, seen) = (read.len() >= dead.len(), format!("{} of {}", read.len(), dead.len()));
        Ok(Look::from_option(there.then_some(read), seen))
    })
    .await?;
    assert_eq!(letters.len(), dead.len(), "each dead letter is sent once");
    for dead in dead {
        let Dead { trigger, topic, partition, offset, value, reason } = dead;
        let wanted = [
            ("fnhost-dead-trigger", trigger.clone()),
            ("fnhost-dead-topic", topic.clone()),
            ("fnhost-dead-partition", partition.to_string()),
            ("fnhost-dead-offset", offset.to_string()),
            ("fnhost-dead-reason", reason.clone()),
        ];
        let is_it = |letter: &&kafka::Arrived| {
            wanted.iter().all(|(name, value)| letter.headers.get(*name) == Some(value))
        };
        let letter = letters.iter().find(is_it).unwrap_or_else(|| panic!("{dead:?} is not in the topic"));
        let sent = letter.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(sent, *value, "{dead:?}");
    }
    Ok(())
}

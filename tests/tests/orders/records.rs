//! Records that are no events: dead-lettered with their reason, and the partition goes on.

use serde::Deserialize;
use tests::customer::{Customer, NewOrder, Status};
use tests::kafka::{self, Record};
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
    let (brokers, admin) = (fnhost.kafka()?, fnhost.admin()?);
    let ada = Customer::register(&fnhost.client()?).await?;
    let mut produced = Vec::new();
    for partition in 0..3 {
        for (what, record, reason) in bad_records() {
            let offset = kafka::produce(&brokers, "order-events", partition, &record).await?;
            produced.push((what, partition, offset, record, reason));
        }
    }
    // Both functions that read the topic refuse each of them.
    let dead = until("dead letters", READY_DEADLINE, async || {
        let dead: Vec<Dead> = admin.get("/dead-letters?limit=500").await?.json(http::StatusCode::OK)?;
        let (there, seen) =
            (dead.len() >= 2 * produced.len(), format!("{} of {}", dead.len(), 2 * produced.len()));
        Ok(Look::from_option(there.then_some(dead), seen))
    })
    .await?;
    assert_eq!(dead.len(), 2 * produced.len());
    for (what, partition, offset, record, reason) in &produced {
        for trigger in ["inventory", "payment"] {
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
    check_dead_letter_topic(&brokers, &dead).await?;

    // Every partition goes on: orders spread over all of them.
    for _ in 0..10 {
        let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
        assert_eq!(order.status, Status::Confirmed);
    }
    Ok(())
}

/// The dead letters' topic has each letter with its bytes, where it came from, and its reason.
async fn check_dead_letter_topic(brokers: &str, dead: &[Dead]) -> anyhow::Result<()> {
    let letters = until("the dead letters' topic", READY_DEADLINE, async || {
        let brokers = brokers.to_owned();
        let read =
            tokio::task::spawn_blocking(move || kafka::read_all(&brokers, "order-events.dlq")).await??;
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

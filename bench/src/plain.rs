//! The plain way, run as a process of its own: one loop per function of rdkafka's `StreamConsumer` and sqlx, offsets in
//! Kafka, events produced after the commit. At least once: a crash between the two repeats the batch.
//!
//! The handlers and their statements are the same as everywhere; so is the size of a batch.

use crate::native::{Around, Connected, Function};
use crate::system::Servers;
use anyhow::Context as _;
use contract::event::Batch;
use fnhost_db::schema::role_password;
use fnhost_manifest::{KafkaTrigger, Manifest};
use fnhost_sdk::kafka::{Emit, Header as EventHeader, Message, Outcome};
use futures::FutureExt as _;
use rdkafka::Message as _;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Runs a loop for every Kafka trigger of the manifest until SIGINT.
///
/// # Errors
/// One of the loops failed.
pub async fn run(manifest: &Path, servers: Servers) -> anyhow::Result<()> {
    let manifest = Manifest::load(manifest)?;
    let mut loops = JoinSet::new();
    for trigger in manifest.kafka.clone() {
        let around = Around::of(&manifest, &trigger.component)?;
        loops.spawn(work(trigger, around, servers.clone()));
    }
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok(()),
        ended = loops.join_next() => ended.context("there is no Kafka trigger")??,
    }
}

async fn work(trigger: KafkaTrigger, around: Arc<Around>, servers: Servers) -> anyhow::Result<()> {
    let function = Function::of_component(&trigger.component)?;
    let login = format!("fn_{}", trigger.component);
    let options = PgConnectOptions::from_str(&servers.database)?
        .username(&login)
        .password(&role_password(&servers.role_secret, &login));
    let connection = Mutex::new(PgConnection::connect_with(&options).await?);
    let database = Connected { connection, around };
    let mut config = servers.kafka.client()?;
    let producer: FutureProducer = config
        .clone()
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("queue.buffering.max.messages", "500000")
        .create()?;
    let consumer: StreamConsumer = config
        .set("group.id", format!("plain-{}", trigger.group))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let topics: Vec<&str> = trigger.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics)?;
    loop {
        let mut records = vec![message(&consumer.recv().await?, &trigger)];
        while records.len() < trigger.config.max_batch
            && let Some(record) = consumer.recv().now_or_never()
        {
            records.push(message(&record?, &trigger));
        }
        let emits = handle(function, &database, records).await?;
        produce(&producer, emits).await?;
        consumer.commit_consumer_state(CommitMode::Async)?;
    }
}

/// One batch in one transaction; answers what it wants sent.
async fn handle(
    function: Function,
    database: &Connected,
    records: Vec<Message>,
) -> anyhow::Result<Vec<Emit>> {
    database.connection.lock().await.execute("BEGIN").await?;
    let reply = function
        .handle(database, Batch::decode(records))
        .await
        .map_err(|failure| anyhow::anyhow!("{function:?}: {}", failure.reason))?;
    database.connection.lock().await.execute("COMMIT").await?;
    // Parking and dead letters are the host's; the records of a measurement need neither.
    anyhow::ensure!(
        reply.outcomes.iter().all(|outcome| *outcome == Outcome::Done),
        "{function:?} refused a record"
    );
    Ok(reply.emits)
}

/// Sends events and waits for their acknowledgement.
async fn produce(producer: &FutureProducer, emits: Vec<Emit>) -> anyhow::Result<()> {
    let mut deliveries = Vec::with_capacity(emits.len());
    for emit in &emits {
        let headers = emit.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
            headers.insert(Header { key: &header.name, value: Some(&header.value) })
        });
        let record = FutureRecord::to(&emit.topic).key(&emit.key).payload(&emit.value).headers(headers);
        deliveries.push(producer.send_result(record).map_err(|(error, _)| error)?);
    }
    for delivery in deliveries {
        delivery.await?.map_err(|(error, _)| error)?;
    }
    Ok(())
}

fn message(record: &BorrowedMessage<'_>, trigger: &KafkaTrigger) -> Message {
    let header = |header: Header<'_, &[u8]>| EventHeader {
        name: header.key.to_owned(),
        value: header.value.unwrap_or_default().to_vec(),
    };
    Message {
        key: record.key().map(<[u8]>::to_vec),
        value: record.payload().map(<[u8]>::to_vec),
        headers: record.headers().map_or_else(Vec::new, |headers| headers.iter().map(header).collect()),
        attempt: 1,
        last_attempt: trigger.config.max_attempts == 1,
    }
}

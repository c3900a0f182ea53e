//! What a bad record costs its partition: the same records, each with an effect in SQL, with one bad one among as many as a batch holds.

use crate::host_native::ROLE_CONNECTIONS_MAX;
use crate::kafka::Kafka;
use crate::noop;
use crate::report::median;
use crate::system::{Base, Stage};
use anyhow::Context as _;
use fnhost_db::OwnerPool;
use fnhost_db::schema::{self, role_password};
use fnhost_db::session::{RolePool, SessionLimits};
use fnhost_deployment::Slot;
use fnhost_dispatch::status::Registry;
use fnhost_dispatch::subscription::{Running, Subscription};
use fnhost_dispatch::wasm::WasmHandlers;
use fnhost_kafka::cluster::Cluster;
use fnhost_kafka::producer::Producer;
use fnhost_manifest::{Filter, Secret, Start, TriggerConfig};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::postgres::PgConnectOptions;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Kinds of bad records: the value that makes the test guest behave like this, and the share of the clean rate that is the aim.
const KINDS: [(&str, &str, f64); 4] = [
    ("clean", "write", 1.0),
    ("a reject", "reject", 0.9),
    ("a trap before any SQL", "panic", 0.6),
    ("an SQL error that nobody names", "sql-swallow SELECT 1 / 0", 0.3),
];
/// Records of one run.
const RECORDS: usize = 20_000;
/// Rounds over all kinds.
const ROUNDS: usize = 3;
/// Longest run.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Between two looks at the position.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// The role that the guest runs as, with its schema.
const LOGIN: &str = "fn_order";
const SCHEMA: &str = "orders";

/// Runs each kind in turn and prints rates, and medians of the rate beside the clean one of the same round.
///
/// # Errors
/// A run failed.
pub async fn run(base: &Base) -> anyhow::Result<()> {
    let stage = base.stage("bad").await?;
    let owner = OwnerPool::connect(PgConnectOptions::from_str(&stage.servers.database)?).await?;
    let database = sqlx::PgPool::connect(&stage.servers.database).await?;
    let table = format!("CREATE TABLE {SCHEMA}.effect (topic text NOT NULL, record bigint NOT NULL)");
    sqlx::raw_sql(sqlx::AssertSqlSafe(table)).execute(&database).await?;
    let mut rates: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..ROUNDS {
        for (number, (kind, bad, _)) in KINDS.iter().enumerate() {
            let topic = format!("bad-{round}-{number}");
            let rate =
                one(&stage, &owner, &database, &topic, bad).await.with_context(|| (*kind).to_owned())?;
            eprintln!("    {kind}: {rate:.0} records/s");
            rates.entry(kind).or_default().push(rate);
        }
    }
    let clean = rates["clean"].clone();
    for (kind, _, aim) in KINDS {
        let shares: Vec<f64> = rates[kind].iter().zip(&clean).map(|(rate, clean)| rate / clean).collect();
        println!(
            "one bad record in 500, {kind:<32} {:>7.0}/s  {:.2} of clean ({})   >= {aim}",
            median(rates[kind].iter().copied()),
            median(shares.iter().copied()),
            shares.iter().map(|share| format!("{share:.2}")).collect::<Vec<_>>().join(" ")
        );
    }
    database.close().await;
    owner.close().await;
    stage.end().await
}

/// Records a second of one run.
async fn one(
    stage: &Stage,
    owner: &OwnerPool,
    database: &sqlx::PgPool,
    topic: &str,
    bad: &str,
) -> anyhow::Result<f64> {
    let (access, config) = (stage.servers.kafka.access()?, TriggerConfig::new());
    let cluster = Cluster::connect(&access).await?;
    let (letters, out) = (fnhost_types::record::dead_letter_topic(topic), format!("{topic}.out"));
    let topics = BTreeMap::from([(topic.to_owned(), 1), (letters.clone(), 1), (out.clone(), 1)]);
    cluster.prepare_topics(&topics, &[topic.to_owned(), letters, out.clone()]).await?;
    produce(&stage.servers.kafka, topic, bad, config.max_batch).await?;

    let row = schema::register_trigger(owner, "bench", topic, "kafka", topic, LOGIN).await?;
    let password = role_password(&stage.servers.role_secret, LOGIN);
    let options = PgConnectOptions::from_str(&stage.servers.database)?.username(LOGIN).password(&password);
    let url = format!(
        "postgres://{LOGIN}:{password}@{}:{}/{}",
        options.get_host(),
        options.get_port(),
        options.get_database().unwrap_or_default()
    );
    let limits = SessionLimits { max_connections: ROLE_CONNECTIONS_MAX, deadline: noop::LIMITS.deadline };
    let role = RolePool::new("guest", options, limits);
    let guest =
        noop::load_with(Path::new("."), BTreeMap::from([("database_url".to_owned(), Secret::new(url))]))?;
    let registry = Registry::default();
    let producer = Arc::new(Producer::new(&access, cluster.clone())?);
    let subscription = Subscription {
        id: topic.to_owned(),
        deployment: "bench".to_owned(),
        group: topic.to_owned(),
        trigger: row,
        topics: vec![topic.to_owned()],
        emits: HashSet::from([out]),
        start: Start::Earliest,
        in_flight: Arc::new(Semaphore::new(config.max_in_flight)),
        config,
        filter: Filter::default(),
        dead_letter_topic: None,
        host: Uuid::new_v4(),
        instance: topic.to_owned(),
        owner: owner.clone(),
        role: role.clone(),
        cluster,
        producer: producer.clone(),
        handlers: Arc::new(WasmHandlers::new(Slot::of(guest), role)),
        status: registry.trigger(topic, "guest", topic),
    };
    let running = Running::start(Arc::new(subscription), &access).await?;
    let took = until_done(database, row).await;
    tokio::task::spawn_blocking(move || {
        running.stop();
        producer.flush();
    })
    .await?;
    Ok(RECORDS as f64 / took?.as_secs_f64())
}

/// Waits until the trigger's position is behind all records; answers the time since its first batch.
async fn until_done(database: &sqlx::PgPool, trigger: i64) -> anyhow::Result<Duration> {
    let mut began = None;
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let position: Option<i64> =
            sqlx::query_scalar("SELECT position FROM fnhost.partition WHERE trigger = $1")
                .bind(trigger)
                .fetch_optional(database)
                .await?;
        match (position, began) {
            (Some(position), Some(began)) if position >= RECORDS as i64 => return Ok(Instant::now() - began),
            // The owner has the partition, and has not stored its first batch.
            (Some(_), None) => began = Some(Instant::now()),
            _ => {}
        }
        anyhow::ensure!(Instant::now() < deadline, "it is not done after {} s", TIMEOUT.as_secs());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn produce(kafka: &Kafka, topic: &str, bad: &str, batch: usize) -> anyhow::Result<()> {
    let producer: FutureProducer = kafka.client()?.create()?;
    let sent = (0..RECORDS).map(|n| {
        let (key, producer) = (n.to_string(), producer.clone());
        // In the middle of a batch.
        let value = if n % batch == batch / 2 { bad } else { "write" };
        async move {
            let record = FutureRecord::to(topic).key(&key).payload(value);
            producer.send(record, TIMEOUT).await.map_err(|(error, _)| error)
        }
    });
    futures::future::try_join_all(sent).await?;
    Ok(())
}

//! Live viewers: what a host pays for those that only watch, and how soon they see what was committed.
//!
//! The memory is that of fnhost's process before and after they have come, each with a snapshot. The database's own count of
//! transactions says what they cost it: the same window with and without them. Then customers order while all of them are still
//! there, and each new order is watched from its beginning. The time of an event is taken from the timestamp that the host puts on
//! its record when it hands it to its producer, right after COMMIT, until a viewer has it.

use crate::cpu;
use crate::kafka::Kafka;
use crate::load::Load;
use crate::orders;
use crate::report::percentile;
use crate::system::{Base, Running};
use crate::viewer::{Transport, Viewer};
use anyhow::Context as _;
use contract::event::{INVENTORY_EVENTS, ORDER_EVENTS, PAYMENT_EVENTS};
use futures::StreamExt as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

/// Viewers that connect at a time.
const CONNECTING: usize = 16;
/// How long the host is left alone before its memory is read and transactions are counted: idle sessions of Postgres report theirs
/// within 10 s.
const REST: Duration = Duration::from_secs(12);
/// Over which the database's transactions are counted.
const WINDOW: Duration = Duration::from_secs(15);
/// Orders a second while everybody watches.
const ORDERS_PER_S: f64 = 20.0;
/// How long orders come.
const ORDERING: Duration = Duration::from_secs(15);
/// Longest wait for orders to be settled, and for what is pushed to come.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(180);
/// How often it is looked for.
const SETTLE_INTERVAL: Duration = Duration::from_millis(200);
/// Longest wait for Kafka's answer to a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The last event of an order that goes well, of those that are pushed: whichever of the two is later.
const LAST: [&str; 2] = ["inventory.committed", "payment.captured"];

/// What was measured for one transport.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "named by the fields; MB of 1,000,000 bytes")]
pub struct Viewers {
    pub transport: &'static str,
    pub viewers: usize,
    pub rss_before_mb: f64,
    pub rss_after_mb: f64,
    pub rss_delta_mb: f64,
    /// Transactions of the application's database, all sessions of the idle host together.
    pub transactions_per_s_without: f64,
    pub transactions_per_s_with: f64,
    /// Orders that came while all of them watched, and events of these that were pushed.
    pub orders: usize,
    pub events: usize,
    /// From the record's timestamp, taken after COMMIT, to the viewer.
    pub push_p50_ms: f64,
    pub push_p99_ms: f64,
    pub push_max_ms: f64,
}

/// An event as it came; times in milliseconds since 1970.
struct Seen {
    order: String,
    event: String,
    at_ms: f64,
    /// Since when its viewer watched.
    since_ms: f64,
}

/// Measures `count` viewers by each transport.
///
/// # Errors
/// As [`run`].
pub async fn all(base: &Base, count: usize) -> anyhow::Result<Vec<Viewers>> {
    let mut all = Vec::new();
    for transport in [Transport::Events, Transport::WebSocket] {
        let measured = run(base, transport, count).await?;
        eprintln!(
            "    {}: {:+.1} MB; {:.1} transactions/s with them, {:.1} without; commit to viewer p50 {:.1} ms, p99 {:.1} ms",
            measured.transport,
            measured.rss_delta_mb,
            measured.transactions_per_s_with,
            measured.transactions_per_s_without,
            measured.push_p50_ms,
            measured.push_p99_ms
        );
        all.push(measured);
    }
    Ok(all)
}

/// Measures `count` viewers on a host of their own.
///
/// # Errors
/// A viewer was refused or cut off, or an event did not come.
async fn run(base: &Base, transport: Transport, count: usize) -> anyhow::Result<Viewers> {
    let running = base.up(&base.copy(&format!("viewers-{}", transport.name()))?).await?;
    let (database, kafka) = running.addresses()?;
    let owner = PgPoolOptions::new().max_connections(1).connect(&database).await?;
    orders::add_catalogue(&owner).await?;
    let load = Load::new(running.listen, kafka.clone(), 1).await?;
    let (token, ids) = load.own_orders(count).await?;
    settled(&owner, count).await?;
    tokio::time::sleep(REST).await;
    let host = running.pids()?.host;
    let rss_before_mb = cpu::resident_mb(host)?;
    let transactions_per_s_without = transactions_per_s(&owner).await?;

    let mut watching = connect(&running, transport, &token, &ids).await?;
    tokio::time::sleep(REST).await;
    let rss_after_mb = cpu::resident_mb(host)?;
    let transactions_per_s_with = transactions_per_s(&owner).await?;

    let (orders, seen) = order_and_watch(&running, transport, &load).await?;
    if let Some(ended) = watching.try_join_next() {
        ended??;
        anyhow::bail!("a viewer that only watched was left");
    }
    let delays_ms = tokio::task::spawn_blocking(move || delays_ms(&kafka, &seen)).await??;
    drop(watching);
    owner.close().await;
    running.end().await?;
    Ok(Viewers {
        transport: transport.name(),
        viewers: count,
        rss_before_mb,
        rss_after_mb,
        rss_delta_mb: rss_after_mb - rss_before_mb,
        transactions_per_s_without,
        transactions_per_s_with,
        orders,
        events: delays_ms.len(),
        push_p50_ms: percentile(&delays_ms, 0.5),
        push_p99_ms: percentile(&delays_ms, 0.99),
        push_max_ms: percentile(&delays_ms, 1.0),
    })
}

async fn settled(owner: &PgPool, count: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    while !orders::are_settled(owner, count).await? {
        anyhow::ensure!(
            Instant::now() < deadline,
            "{count} orders were not settled within {SETTLE_TIMEOUT:?}"
        );
        tokio::time::sleep(SETTLE_INTERVAL).await;
    }
    Ok(())
}

/// A viewer for each order, all of which have their snapshot.
async fn connect(
    running: &Running,
    transport: Transport,
    token: &str,
    ids: &[String],
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let opening = ids.iter().map(|id| async move {
        let mut viewer = Viewer::open(transport, running.listen, id, token).await?;
        let first = viewer.next().await?;
        anyhow::ensure!(first == "snapshot", "the first event is {first}");
        Ok(viewer)
    });
    let mut opened = futures::stream::iter(opening).buffer_unordered(CONNECTING);
    let mut watching = JoinSet::new();
    while let Some(viewer) = opened.next().await {
        let mut viewer: Viewer = viewer?;
        watching.spawn(async move {
            loop {
                viewer.next().await?;
            }
        });
    }
    Ok(watching)
}

/// Orders at a fixed rate, each watched from when it is answered until its last event; how many, and what was seen.
async fn order_and_watch(
    running: &Running,
    transport: Transport,
    load: &Load,
) -> anyhow::Result<(usize, Vec<Seen>)> {
    let began = Instant::now();
    let mut watching = JoinSet::new();
    while began.elapsed() < ORDERING {
        let due = Duration::from_secs_f64(watching.len() as f64 / ORDERS_PER_S);
        tokio::time::sleep_until((began + due).into()).await;
        let (token, ids) = load.own_orders(1).await?;
        let (address, order) = (running.listen, ids.into_iter().next().context("no order")?);
        watching.spawn(async move {
            let mut viewer = Viewer::open(transport, address, &order, &token).await?;
            let since_ms = now_ms()?;
            let (mut seen, mut missing) = (Vec::new(), LAST.to_vec());
            while !missing.is_empty() {
                let event = viewer.next().await?;
                missing.retain(|last| *last != event);
                seen.push(Seen { order: order.clone(), event, at_ms: now_ms()?, since_ms });
            }
            anyhow::Ok(seen)
        });
    }
    let orders = watching.len();
    let mut all = Vec::new();
    let watched = async {
        while let Some(seen) = watching.join_next().await {
            all.extend(seen??);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SETTLE_TIMEOUT, watched).await.context("events of an order did not come")??;
    Ok((orders, all))
}

/// How long each event took that happened while its viewer was there, sorted.
fn delays_ms(kafka: &Kafka, seen: &[Seen]) -> anyhow::Result<Vec<f64>> {
    let sent_ms = timestamps(kafka)?;
    let delays = seen.iter().filter_map(|seen| {
        let sent_ms = sent_ms.get(&(seen.order.clone(), seen.event.clone()))?;
        // The others waited for their viewer.
        (*sent_ms >= seen.since_ms).then_some(seen.at_ms - sent_ms)
    });
    let mut delays: Vec<f64> = delays.collect();
    delays.sort_by(f64::total_cmp);
    anyhow::ensure!(!delays.is_empty(), "no event came while somebody watched");
    Ok(delays)
}

/// The timestamps of all records of pushed topics, by order and type: a type comes once for each order here.
fn timestamps(kafka: &Kafka) -> anyhow::Result<HashMap<(String, String), f64>> {
    let consumer: BaseConsumer =
        kafka.client()?.set("group.id", "bench").set("enable.auto.commit", "false").create()?;
    let (mut all, mut unread) = (TopicPartitionList::new(), 0);
    for topic in [ORDER_EVENTS, INVENTORY_EVENTS, PAYMENT_EVENTS] {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            let (start, end) = consumer.fetch_watermarks(topic, partition.id(), ANSWER_TIMEOUT)?;
            all.add_partition_offset(topic, partition.id(), Offset::Offset(start))?;
            // Offsets have no gaps here: nothing is compacted, and no transactions of Kafka's are used.
            unread += end - start;
        }
    }
    consumer.assign(&all)?;
    let mut found = HashMap::new();
    while unread > 0 {
        let record = consumer.poll(ANSWER_TIMEOUT).context("Kafka does not answer")??;
        unread -= 1;
        let kind = record.headers().and_then(|headers| headers.iter().find(|header| header.key == "ce_type"));
        let kind =
            kind.and_then(|header| header.value).map(|value| String::from_utf8_lossy(value).into_owned());
        let key = record.key().map(|key| String::from_utf8_lossy(key).into_owned());
        if let (Some(key), Some(kind), Some(at_ms)) = (key, kind, record.timestamp().to_millis()) {
            found.insert((key, kind), at_ms as f64);
        }
    }
    Ok(found)
}

/// Transactions of the application's database, over [`WINDOW`].
async fn transactions_per_s(owner: &PgPool) -> anyhow::Result<f64> {
    let count = async || -> anyhow::Result<i64> {
        let count =
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
        Ok(sqlx::query_scalar(count).fetch_one(owner).await?)
    };
    let (began, before) = (Instant::now(), count().await?);
    tokio::time::sleep(WINDOW).await;
    Ok((count().await? - before) as f64 / began.elapsed().as_secs_f64())
}

fn now_ms() -> anyhow::Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e3)
}

//! The orders of the measurements: a catalogue, orders as `POST /orders` writes them, and how far they are.

use crate::kafka::Kafka;
use anyhow::Context as _;
use contract::event::{Batch, Record};
use contract::event::{Event, Item, Money, ORDER_EVENTS, OrderCreated};
use fnhost_kafka::murmur2;
use fnhost_sdk::kafka::{Emit, Header as EventHeader};
use fnhost_types::record::{MAC_HEADER, SEQ_HEADER, STREAM_HEADER};
use fnhost_types::stream_keys::{Claim, StreamKey, StreamKeys};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use sqlx::PgPool;
use std::time::Duration;
use uuid::Uuid;

/// Products of the catalogue, each as much in demand as any other. Every batch of inventory writes to most of them.
const PRODUCTS: usize = 100;
/// What each product costs, in minor units.
const PRICE: i64 = 1_250;
/// Pieces of each product: more than all measurements order.
const STOCK: i64 = 1_000_000_000;
/// Users whose orders are preloaded.
const USERS: u128 = 1_000;
/// Orders written in one statement.
const CHUNK: usize = 2_000;
/// Longest wait for Kafka to take what is preloaded.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// The stream that the relay of the order component sends on.
const RELAY_STREAM: &str = "orders/preloaded/order:events";
/// Entries of a confirmed order's timeline: created, reserved, authorized, confirmed, committed, captured.
const TIMELINE_ENTRIES: i64 = 6;

/// The SKU of product `n`, modulo the size of the catalogue.
fn sku(n: usize) -> String {
    format!("BENCH-{:04}", n % PRODUCTS)
}

/// The lines of order `n`: one to three products, two on average.
pub fn lines(n: usize) -> Vec<(String, i32)> {
    // A prime, so that orders that come together share few products.
    (0..=n % 3).map(|line| (sku(n * 379 + line * 131), 1)).collect()
}

/// Adds the catalogue.
///
/// # Errors
/// The database refused it.
pub async fn add_catalogue(owner: &PgPool) -> anyhow::Result<()> {
    let skus: Vec<String> = (0..PRODUCTS).map(sku).collect();
    sqlx::query("INSERT INTO orders.price (sku, amount, currency) SELECT sku, $2, 'EUR' FROM unnest($1::text[]) AS sku")
        .bind(&skus)
        .bind(PRICE)
        .execute(owner)
        .await?;
    sqlx::query(
        "INSERT INTO inventory.product (sku, name, price, currency, on_hand)
         SELECT sku, 'Product ' || sku, $2, 'EUR', $3 FROM unnest($1::text[]) AS sku",
    )
    .bind(&skus)
    .bind(PRICE)
    .bind(STOCK)
    .execute(owner)
    .await?;
    Ok(())
}

/// Writes `count` orders: in the database what `POST /orders` writes, and in Kafka what its relay sends.
///
/// # Errors
/// The database or Kafka refused.
pub async fn preload(owner: &PgPool, kafka: &Kafka, count: usize) -> anyhow::Result<()> {
    let orders = insert(owner, count).await?;
    let relay = Relay::new(owner, kafka.client()?).await?;
    for (seq, order) in (1..).zip(&orders) {
        relay.send(seq, order)?;
    }
    relay.flush()?;
    // What the autovacuum of a system that has been running has done long since.
    for table in ["orders.orders", "orders.timeline", "inventory.product"] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("VACUUM (ANALYZE) {table}"))).execute(owner).await?;
    }
    sqlx::raw_sql("CHECKPOINT").execute(owner).await?;
    Ok(())
}

fn order(n: usize) -> OrderCreated {
    let items: Vec<Item> =
        lines(n).into_iter().map(|(sku, quantity)| Item { sku, quantity, unit_price: PRICE }).collect();
    OrderCreated {
        order_id: Uuid::now_v7(),
        user_id: Uuid::from_u128(n as u128 % USERS),
        version: 1,
        total: Money { amount: PRICE * items.len() as i64, currency: "EUR".to_owned() },
        items,
        payment_token: "tok_ok".to_owned(),
    }
}

/// Writes `count` orders in the database alone.
///
/// # Errors
/// The database refused.
pub async fn insert(owner: &PgPool, count: usize) -> anyhow::Result<Vec<OrderCreated>> {
    let orders: Vec<OrderCreated> = (0..count).map(order).collect();
    for chunk in orders.chunks(CHUNK) {
        insert_chunk(owner, chunk).await?;
    }
    Ok(orders)
}

async fn insert_chunk(owner: &PgPool, orders: &[OrderCreated]) -> anyhow::Result<()> {
    let ids: Vec<Uuid> = orders.iter().map(|order| order.order_id).collect();
    let users: Vec<Uuid> = orders.iter().map(|order| order.user_id).collect();
    let items: Result<Vec<String>, _> =
        orders.iter().map(|order| serde_json::to_string(&order.items)).collect();
    let totals: Vec<i64> = orders.iter().map(|order| order.total.amount).collect();
    sqlx::query(
        "WITH created AS (
            INSERT INTO orders.orders (id, user_id, status, version, items, total, currency)
            SELECT id, user_id, 'PENDING', 1, items::jsonb, total, 'EUR'
            FROM unnest($1, $2, $3, $4) AS o (id, user_id, items, total)
            RETURNING id
        )
        INSERT INTO orders.timeline (order_id, event, status) SELECT id, 'order.created', 'PENDING' FROM created",
    )
    .bind(ids)
    .bind(users)
    .bind(items?)
    .bind(totals)
    .execute(owner)
    .await?;
    Ok(())
}

/// Sends orders as the relay of the order component does: numbered, and signed with a key of the database.
pub struct Relay {
    producer: ThreadedProducer<DefaultProducerContext>,
    /// Builds before the MAC have none, and believe any number.
    keys: Option<StreamKeys>,
    partitions: i32,
}

impl Relay {
    /// Connects with a client that has these properties.
    ///
    /// # Errors
    /// The database or Kafka did not answer, or the topic is missing.
    pub async fn new(owner: &PgPool, mut config: ClientConfig) -> anyhow::Result<Self> {
        let signs: bool = sqlx::query_scalar("SELECT to_regclass('fnhost.stream_key') IS NOT NULL")
            .fetch_one(owner)
            .await?;
        let keys = if signs {
            let found: Vec<(i32, Vec<u8>)> =
                sqlx::query_as("SELECT id, secret FROM fnhost.stream_key").fetch_all(owner).await?;
            let keys = StreamKeys::default();
            let key = |(id, secret)| StreamKey { id, secret, settled: true };
            keys.replace(found.into_iter().map(key).collect());
            Some(keys)
        } else {
            None
        };
        let producer: ThreadedProducer<DefaultProducerContext> = config
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "10000000")
            .create()?;
        let topic = producer.client().fetch_metadata(Some(ORDER_EVENTS), FLUSH_TIMEOUT)?;
        let partitions = topic.topics().first().map_or(0, |topic| topic.partitions().len());
        let partitions =
            i32::try_from(partitions).ok().filter(|n| *n > 0).context("order-events has no partitions")?;
        Ok(Self { producer, keys, partitions })
    }

    /// Hands over an order's first event under this number, which is one more than the last.
    ///
    /// # Errors
    /// The event cannot be written, or the queue is full.
    pub fn send(&self, seq: i64, order: &OrderCreated) -> anyhow::Result<()> {
        let Emit { key, value, headers, topic, .. } = event(order)?;
        let headers = headers.iter().fold(OwnedHeaders::new(), |all, EventHeader { name, value }| {
            all.insert(Header { key: name, value: Some(value) })
        });
        let mut headers = headers
            .insert(Header { key: STREAM_HEADER, value: Some(RELAY_STREAM) })
            .insert(Header { key: SEQ_HEADER, value: Some(&seq.to_string()) });
        let partition = murmur2::partition(&key, self.partitions);
        if let Some(keys) = &self.keys {
            let claim = Claim { stream: RELAY_STREAM, seq, topic: &topic, partition };
            let mac = keys.sign(claim).context("the database has no key for streams")?;
            headers = headers.insert(Header { key: MAC_HEADER, value: Some(&mac) });
        }
        let record = BaseRecord::to(&topic).key(&key).payload(&value).headers(headers).partition(partition);
        Ok(self.producer.send(record).map_err(|(error, _)| error)?)
    }

    /// Waits until Kafka has everything.
    ///
    /// # Errors
    /// It has not in time.
    pub fn flush(&self) -> anyhow::Result<()> {
        Ok(self.producer.flush(FLUSH_TIMEOUT)?)
    }
}

/// The event as a function sends it: the same code writes its headers.
fn event(order: &OrderCreated) -> anyhow::Result<Emit> {
    let mut reply = Batch::decode(Vec::new()).reply;
    let event = Event::OrderCreated(order.clone());
    let cause = Record {
        index: 0,
        event: event.clone(),
        event_id: None,
        traceparent: None,
        attempt: 1,
        last_attempt: false,
    };
    reply.emit(&cause, &event);
    reply.emits.pop().context("an event was not emitted")
}

/// Whether the first order has been touched.
///
/// # Errors
/// The database did not answer.
pub async fn have_begun(owner: &PgPool) -> anyhow::Result<bool> {
    let begun = "SELECT EXISTS (SELECT FROM inventory.reservation) OR EXISTS (SELECT FROM payment.payment)";
    Ok(sqlx::query_scalar(begun).fetch_one(owner).await?)
}

/// Whether nothing is left to do for `count` confirmed orders: stock committed, money captured, customer told.
///
/// # Errors
/// The database did not answer.
pub async fn are_settled(owner: &PgPool, count: usize) -> anyhow::Result<bool> {
    // What was written is counted only when enough numbers were drawn for it: counting often would cost the database as much
    // as some of what is measured.
    let (entries, told): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT last_value FROM orders.timeline_place_seq), (SELECT last_value FROM notify.notification_id_seq)",
    )
    .fetch_one(owner)
    .await?;
    if entries < count as i64 * TIMELINE_ENTRIES || told < count as i64 {
        return Ok(false);
    }
    let (entries, told): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM orders.timeline), (SELECT count(*) FROM notify.notification)",
    )
    .fetch_one(owner)
    .await?;
    Ok(entries >= count as i64 * TIMELINE_ENTRIES && told >= count as i64)
}

/// Orders whose customer has been told that they are confirmed, by the numbers that were drawn for it: a few may not be committed yet.
///
/// # Errors
/// The database did not answer.
pub async fn told(owner: &PgPool) -> anyhow::Result<usize> {
    let last = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM notify.notification_id_seq";
    let told: i64 = sqlx::query_scalar(last).fetch_one(owner).await?;
    Ok(usize::try_from(told)?)
}

/// When the orders of a run were decided and settled, in seconds from the beginning of the first batch of any function.
#[derive(Debug)]
pub struct Times {
    /// A quarter, half, three quarters and all of them confirmed.
    pub confirmed_s: [f64; 4],
    /// The last entry of any timeline.
    pub settled_s: f64,
}

/// Reads the times of a run from what it wrote, by the database's clock.
///
/// # Errors
/// Not every order was confirmed.
pub async fn times(owner: &PgPool, count: usize) -> anyhow::Result<Times> {
    let confirmed: i64 = sqlx::query_scalar("SELECT count(*) FROM orders.orders WHERE status = 'CONFIRMED'")
        .fetch_one(owner)
        .await?;
    anyhow::ensure!(confirmed == count as i64, "{confirmed} of {count} orders were confirmed");
    let (quarters, settled_s): (Vec<f64>, f64) = sqlx::query_as(
        "WITH begin AS (
            SELECT least((SELECT min(created_at) FROM inventory.reservation),
                         (SELECT min(created_at) FROM payment.payment)) AS at
        ), seconds AS (
            SELECT event, extract(epoch FROM timeline.at - begin.at)::float8 AS s FROM orders.timeline, begin
        )
        SELECT percentile_disc('{0.25,0.5,0.75,1}'::float8[]) WITHIN GROUP (ORDER BY s)
                   FILTER (WHERE event = 'order.confirmed'),
               max(s)
        FROM seconds",
    )
    .fetch_one(owner)
    .await?;
    let confirmed_s = quarters.try_into().map_err(|_| anyhow::anyhow!("there are no four quarters"))?;
    Ok(Times { confirmed_s, settled_s })
}

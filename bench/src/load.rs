//! Orders from customers: at a fixed rate whatever the answers do, or as many as go through.
//!
//! What is measured runs from the time a POST was due (so that a POST that has to wait for a free connection counts its
//! waiting) until the host has committed CONFIRMED: that is the timestamp which the host puts on the record
//! `order.confirmed` when it hands it to its producer, right after COMMIT. From then on `GET /orders/{id}` shows it.
//! The timestamps are read from Kafka after the load has ended, so that watching costs the system nothing.

use crate::client::Connection;
use crate::kafka::Kafka;
use crate::orders;
use anyhow::Context as _;
use contract::event::ORDER_EVENTS;
use hyper::{Method, StatusCode};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use uuid::Uuid;

/// The payment token that is authorized at once.
pub const OK_TOKEN: &str = payment_gateway::behaviour::OK;
/// The one that is authorized after 2 s.
const SLOW_TOKEN: &str = payment_gateway::behaviour::SLOW;
/// Keep-alive connections of the load generator.
const CONNECTIONS: usize = 32;
/// As many under overload, where an order that is due must not wait for a free one.
const OVERLOAD_CONNECTIONS: usize = 256;
/// How long a connection that is to saturate waits after a refusal.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for the confirmation of what was accepted.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(90);
/// Longest wait for Kafka's answer to a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// One read of the confirmations.
const POLL_TIMEOUT: Duration = Duration::from_millis(200);

/// How orders are offered: at a fixed rate, or as fast as they are taken.
#[derive(Clone, Copy, Debug)]
pub enum Offer {
    /// So many orders a second, evenly spaced.
    Rate(f64),
    /// Each connection sends its next order when the last is answered; when it was refused, a little later.
    Saturation,
    /// So many orders a second, more than can be carried: some are refused, which is no failure.
    Overload(f64),
}

/// An order that was accepted: when its POST was due, in milliseconds since 1970, and whether its payment is slow.
type Accepted = HashMap<Uuid, (f64, bool)>;
/// Due time and latency of orders in milliseconds, by due time.
type Latencies = Vec<(f64, f64)>;

/// What became of the orders of one step.
pub struct Outcome {
    /// Due time and latency of each order in milliseconds, by due time; of those with a slow payment apart.
    pub latencies_ms: Latencies,
    pub slow_latencies_ms: Latencies,
    /// From the first due time to the last confirmation, in seconds.
    pub took_s: f64,
    /// From the first due time to the last answer, in seconds.
    pub posted_s: f64,
    /// How long each refusal took, in milliseconds, sorted.
    pub refused_ms: Vec<f64>,
}

/// Customers who order.
pub struct Load {
    address: SocketAddr,
    kafka: Kafka,
    tokens: Arc<Vec<String>>,
    ordered: Arc<AtomicUsize>,
}

impl Load {
    /// Registers `users` customers and logs them in; their tokens serve all steps.
    ///
    /// # Errors
    /// A call was refused.
    pub async fn new(address: SocketAddr, kafka: Kafka, users: usize) -> anyhow::Result<Self> {
        let mut connection = Connection::open(address).await?;
        let mut tokens = Vec::new();
        for n in 0..users {
            let login =
                json!({"email": format!("bench-{n}@example.com"), "password": "correct horse battery"});
            // Builds that answered at once whether an account was new said 201; a login shows whether there is one.
            connection.call(Method::POST, "/auth/register", "", serde_json::to_vec(&login)?.into()).await?;
            let session = connection.post("/auth/login", "", &login, StatusCode::OK).await?;
            let token = session["access_token"].as_str().context("no access_token")?;
            tokens.push(token.to_owned());
        }
        Ok(Self { address, kafka, tokens: Arc::new(tokens), ordered: Arc::default() })
    }

    /// One customer's token with the ids of `count` orders of theirs.
    ///
    /// # Errors
    /// A call was refused.
    pub async fn own_orders(&self, count: usize) -> anyhow::Result<(String, Vec<String>)> {
        let mut connection = Connection::open(self.address).await?;
        let token = self.tokens[0].clone();
        let mut ids = Vec::new();
        for n in 0..count {
            ids.push(post(&mut connection, &token, n, OK_TOKEN).await?.to_string());
        }
        Ok((token, ids))
    }

    /// Orders for `duration`, on so many connections at a time, and asks for nothing further; answers how many orders were taken, and
    /// in what time.
    ///
    /// # Errors
    /// An order was refused.
    pub async fn posts(&self, connections: usize, duration: Duration) -> anyhow::Result<(usize, Duration)> {
        let began = Instant::now();
        let mut customers = JoinSet::new();
        for _ in 0..connections {
            let mut connection = Connection::open(self.address).await?;
            let (tokens, ordered) = (self.tokens.clone(), self.ordered.clone());
            customers.spawn(async move {
                let mut count = 0;
                while began.elapsed() < duration {
                    let n = ordered.fetch_add(1, Ordering::Relaxed);
                    match try_post(&mut connection, &tokens[n % tokens.len()], n, OK_TOKEN).await? {
                        Some(_) => count += 1,
                        None => tokio::time::sleep(REFUSED_PAUSE).await,
                    }
                }
                anyhow::Ok(count)
            });
        }
        let mut count = 0;
        while let Some(customer) = customers.join_next().await {
            count += customer??;
        }
        Ok((count, began.elapsed()))
    }

    /// Orders for `duration`, then waits until everything accepted is confirmed.
    ///
    /// # Errors
    /// An order was refused or not confirmed in time.
    pub async fn step(&self, offer: Offer, duration: Duration) -> anyhow::Result<Outcome> {
        self.step_with_slow(offer, duration, None).await
    }

    /// As [`Load::step`], where the payment of one order in `slow_one_in` is slow.
    ///
    /// # Errors
    /// As there.
    pub async fn step_with_slow(
        &self,
        offer: Offer,
        duration: Duration,
        slow_one_in: Option<usize>,
    ) -> anyhow::Result<Outcome> {
        let confirmations = Confirmations::from_now(&self.kafka)?;
        let began = Instant::now();
        let began_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e3;
        let next = Arc::new(AtomicUsize::new(0));
        let mut customers = JoinSet::new();
        let connections = match offer {
            Offer::Overload(_) => OVERLOAD_CONNECTIONS,
            Offer::Rate(_) | Offer::Saturation => CONNECTIONS,
        };
        for _ in 0..connections {
            let mut connection = Connection::open(self.address).await?;
            let (tokens, ordered, next) = (self.tokens.clone(), self.ordered.clone(), next.clone());
            customers.spawn(async move {
                let (mut accepted, mut refused_ms) = (Vec::new(), Vec::new());
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let due = match offer {
                        Offer::Rate(per_s) | Offer::Overload(per_s) => {
                            Duration::from_secs_f64(n as f64 / per_s)
                        }
                        Offer::Saturation => began.elapsed(),
                    };
                    if due >= duration {
                        return anyhow::Ok((accepted, refused_ms));
                    }
                    tokio::time::sleep_until((began + due).into()).await;
                    let slow = slow_one_in.is_some_and(|of| n % of == of / 2);
                    let payment = if slow { SLOW_TOKEN } else { OK_TOKEN };
                    let n = ordered.fetch_add(1, Ordering::Relaxed);
                    let sent = Instant::now();
                    let token = &tokens[n % tokens.len()];
                    match try_post(&mut connection, token, n, payment).await? {
                        Some(id) => accepted.push((id, (began_ms + due.as_secs_f64() * 1e3, slow))),
                        None => {
                            refused_ms.push(sent.elapsed().as_secs_f64() * 1e3);
                            if matches!(offer, Offer::Saturation) {
                                tokio::time::sleep(REFUSED_PAUSE).await;
                            }
                        }
                    }
                }
            });
        }
        let (mut accepted, mut refused_ms) = (Accepted::new(), Vec::new());
        while let Some(customer) = customers.join_next().await {
            let (taken, refused) = customer??;
            accepted.extend(taken);
            refused_ms.extend(refused);
        }
        refused_ms.sort_by(f64::total_cmp);
        let posted_s = began.elapsed().as_secs_f64();
        let ([latencies_ms, slow_latencies_ms], last_ms) =
            tokio::task::spawn_blocking(move || confirmations.read(accepted)).await??;
        let took_s = (last_ms - began_ms) / 1e3;
        Ok(Outcome { latencies_ms, slow_latencies_ms, took_s, posted_s, refused_ms })
    }
}

/// Posts order `n`, paid with this payment token; answers its id.
///
/// # Errors
/// It was not accepted.
pub async fn post(
    connection: &mut Connection,
    token: &str,
    n: usize,
    payment_token: &str,
) -> anyhow::Result<Uuid> {
    let id = try_post(connection, token, n, payment_token).await?;
    id.context("an order was refused for overload")
}

/// As [`post`]; none where the host has more to do than it can.
async fn try_post(
    connection: &mut Connection,
    token: &str,
    n: usize,
    payment_token: &str,
) -> anyhow::Result<Option<Uuid>> {
    let items: Vec<_> = orders::lines(n)
        .into_iter()
        .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
        .collect();
    let body = json!({"items": items, "payment_token": payment_token});
    let (status, answer) =
        connection.call(Method::POST, "/orders", token, serde_json::to_vec(&body)?.into()).await?;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return Ok(None);
    }
    anyhow::ensure!(
        status == StatusCode::ACCEPTED,
        "POST /orders: {status} {}",
        String::from_utf8_lossy(&answer)
    );
    let order: serde_json::Value = serde_json::from_slice(&answer)?;
    let id = order["order_id"].as_str().and_then(|id| id.parse().ok());
    Ok(Some(id.context("the answer has no order_id")?))
}

/// Reads confirmations from Kafka.
struct Confirmations(BaseConsumer);

impl Confirmations {
    /// Those from here on.
    fn from_now(kafka: &Kafka) -> anyhow::Result<Self> {
        let consumer: BaseConsumer =
            kafka.client()?.set("group.id", "bench").set("enable.auto.commit", "false").create()?;
        let metadata = consumer.fetch_metadata(Some(ORDER_EVENTS), ANSWER_TIMEOUT)?;
        let topic = metadata.topics().first().context("there is no topic order-events")?;
        let mut ends = TopicPartitionList::new();
        for partition in topic.partitions() {
            let (_, end) = consumer.fetch_watermarks(ORDER_EVENTS, partition.id(), ANSWER_TIMEOUT)?;
            ends.add_partition_offset(ORDER_EVENTS, partition.id(), Offset::Offset(end))?;
        }
        consumer.assign(&ends)?;
        // Fetching begins when it is read.
        consumer.pause(&ends)?;
        Ok(Self(consumer))
    }

    /// Waits for the confirmation of all of `accepted`; answers due times with latencies, those of slow payments last, and the time
    /// of the last one.
    fn read(self, mut accepted: Accepted) -> anyhow::Result<([Latencies; 2], f64)> {
        self.0.resume(&self.0.assignment()?)?;
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let (mut latencies, mut last_ms) = ([Vec::with_capacity(accepted.len()), Vec::new()], 0.0_f64);
        while !accepted.is_empty() {
            let left = accepted.len();
            anyhow::ensure!(
                Instant::now() < deadline,
                "{left} orders were not confirmed within {DRAIN_TIMEOUT:?}"
            );
            let Some(record) = self.0.poll(POLL_TIMEOUT) else { continue };
            let record = record?;
            let confirms = record.headers().is_some_and(|headers| {
                headers
                    .iter()
                    .any(|header| header.key == "ce_type" && header.value == Some(b"order.confirmed"))
            });
            let id = record.key_view::<str>().and_then(|key| key.ok()?.parse::<Uuid>().ok());
            let order = id.filter(|_| confirms).and_then(|id| accepted.remove(&id));
            if let (Some((due_ms, slow)), Some(at_ms)) = (order, record.timestamp().to_millis()) {
                let at_ms = at_ms as f64;
                latencies[usize::from(slow)].push((due_ms, (at_ms - due_ms).max(0.0)));
                last_ms = last_ms.max(at_ms);
            }
        }
        for latencies in &mut latencies {
            latencies.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Ok((latencies, last_ms))
    }
}

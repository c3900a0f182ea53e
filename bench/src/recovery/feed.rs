//! A steady load that no failure stops: orders are written in the database before it, and go to Kafka one by one.

use crate::kafka::Kafka;
use crate::orders::{self, Relay};
use anyhow::Context as _;
use contract::event::OrderCreated;
use sqlx::PgPool;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Longest pause between two tries to reach a broker that is away, milliseconds: what is measured is the host's.
const RECONNECT_MAX_MS: &str = "50";
/// Longest wait for Kafka to take what is left at the end.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// Orders that go to Kafka at a steady rate, whether hosts or the database run or not; a broker that is away gets them when it is
/// back.
pub struct Feed {
    stock: Arc<Mutex<VecDeque<OrderCreated>>>,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<Relay>>,
}

impl Feed {
    /// Begins with `rate` orders a second, once there is a stock.
    ///
    /// # Errors
    /// The database or Kafka did not answer.
    pub async fn start(owner: &PgPool, kafka: &Kafka, rate: f64) -> anyhow::Result<Self> {
        let mut config = kafka.client()?;
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", RECONNECT_MAX_MS);
        let relay = Relay::new(owner, config).await?;
        let stock = Arc::<Mutex<VecDeque<OrderCreated>>>::default();
        let (sent, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let task = tokio::spawn({
            let (stock, sent, stop) = (stock.clone(), sent.clone(), stop.clone());
            async move {
                let mut due = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    due = Instant::now().max(due + Duration::from_secs_f64(1.0 / rate));
                    tokio::time::sleep_until(due.into()).await;
                    let next = stock.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(order) = next else { continue };
                    let seq = sent.load(Ordering::Relaxed) + 1;
                    relay.send(i64::try_from(seq)?, &order)?;
                    sent.store(seq, Ordering::Relaxed);
                }
                anyhow::Ok(relay)
            }
        });
        Ok(Self { stock, sent, stop, task })
    }

    /// Writes so many orders in the database as are missing to have `count` in stock.
    ///
    /// # Errors
    /// The database refused, or the feed has ended.
    pub async fn fill(&self, owner: &PgPool, count: usize) -> anyhow::Result<()> {
        anyhow::ensure!(!self.task.is_finished(), "the feed of orders has ended");
        // A statement of its own: the lock must not be held while the database is waited for.
        let missing = count.saturating_sub(self.stock().len());
        let orders = orders::insert(owner, missing).await?;
        self.stock().extend(orders);
        Ok(())
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, VecDeque<OrderCreated>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails where the load has run out, or has ended by itself: what was measured then was measured without load.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.task.is_finished(), "the feed of orders has ended");
        anyhow::ensure!(!self.stock().is_empty(), "the feed of orders ran dry");
        Ok(())
    }

    /// Orders that are written in the database and not sent yet.
    pub fn left(&self) -> usize {
        self.stock().len()
    }

    /// Ends the load, and answers how many orders were sent, all of which Kafka has, and how many are left.
    ///
    /// # Errors
    /// Kafka did not take all of them.
    pub async fn end(self) -> anyhow::Result<(usize, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        let relay = self.task.await??;
        tokio::time::timeout(END_TIMEOUT, tokio::task::spawn_blocking(move || relay.flush()))
            .await
            .context("Kafka does not take the last orders")???;
        let left = self.stock.lock().unwrap_or_else(PoisonError::into_inner).len();
        Ok((self.sent.load(Ordering::Relaxed), left))
    }
}

//! Many orders at full speed, through whatever happens to the system meanwhile.
//!
//! Every order has an idempotency key of its own and is asked for again until it is accepted, as a careful client does:
//! in the end there must be exactly as many orders as were asked for.

use crate::client::Client;
use crate::customer::{Customer, NewOrder, Order};
use anyhow::Context as _;
use http::StatusCode;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Requests under way at a time, each on a connection that is kept.
pub const CONCURRENCY: usize = 16;
/// Accounts that order.
const CUSTOMERS: usize = 4;
/// Time in which an order is accepted, through kills and restarts.
const ACCEPT_DEADLINE: Duration = Duration::from_secs(120);
/// Pause before an order that was not accepted is asked for again.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// Orders under way.
#[derive(Debug)]
pub struct Load {
    accepted: watch::Receiver<usize>,
    workers: JoinSet<anyhow::Result<Vec<Uuid>>>,
    total: usize,
    failures: Arc<AtomicUsize>,
    refusals: Arc<AtomicUsize>,
}

/// What the workers share.
struct Plan {
    customers: Vec<Customer>,
    seed: u64,
    next: AtomicUsize,
    total: usize,
    accepted: watch::Sender<usize>,
    failures: Arc<AtomicUsize>,
    refusals: Arc<AtomicUsize>,
}

impl Load {
    /// Begins to place `total` orders, a mix that `seed` determines. Of some the customer thinks better and cancels.
    ///
    /// # Errors
    /// The customers cannot be registered.
    pub async fn start(client: &Client, total: usize, seed: u64) -> anyhow::Result<Self> {
        let mut customers = Vec::new();
        for _ in 0..CUSTOMERS {
            customers.push(Customer::register(client).await?);
        }
        let (sender, accepted) = watch::channel(0);
        let (failures, refusals) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let plan = Arc::new(Plan {
            customers,
            seed,
            next: AtomicUsize::new(0),
            total,
            accepted: sender,
            failures: failures.clone(),
            refusals: refusals.clone(),
        });
        let mut workers = JoinSet::new();
        for _ in 0..CONCURRENCY {
            workers.spawn(plan.clone().work());
        }
        Ok(Self { accepted, workers, total, failures, refusals })
    }

    /// Waits until this many orders are accepted.
    ///
    /// # Errors
    /// The workers ended before.
    pub async fn wait_accepted(&mut self, count: usize) -> anyhow::Result<()> {
        self.accepted.wait_for(|accepted| *accepted >= count).await.context("the load ended")?;
        Ok(())
    }

    /// Orders accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        *self.accepted.borrow()
    }

    /// Requests so far that had no answer or one of 5xx, and were repeated.
    #[must_use]
    pub fn failures(&self) -> Arc<AtomicUsize> {
        self.failures.clone()
    }

    /// Those among [`Self::failures`] that had an answer of 5xx.
    #[must_use]
    pub fn refusals(&self) -> Arc<AtomicUsize> {
        self.refusals.clone()
    }

    /// Waits until all are accepted, and returns their ids.
    ///
    /// # Errors
    /// One was refused, or not accepted in time.
    pub async fn finish(mut self) -> anyhow::Result<BTreeSet<Uuid>> {
        let mut orders = BTreeSet::new();
        while let Some(placed) = self.workers.join_next().await {
            orders.extend(placed??);
        }
        anyhow::ensure!(orders.len() == self.total, "{} orders of {} keys", orders.len(), self.total);
        Ok(orders)
    }
}

impl Plan {
    async fn work(self: Arc<Self>) -> anyhow::Result<Vec<Uuid>> {
        let mut placed = Vec::new();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.total {
                return Ok(placed);
            }
            let customer = &self.customers[index % self.customers.len()];
            let order = self.place(customer, index).await.with_context(|| format!("order {index}"))?;
            self.accepted.send_modify(|accepted| *accepted += 1);
            placed.push(order.order_id);
            if self.random(index, "cancel").is_multiple_of(20) {
                // Whether it comes through, and in time, is left to chance: both must be consistent.
                let _ = customer.try_cancel(order.order_id).await;
            }
        }
    }

    async fn place(&self, customer: &Customer, index: usize) -> anyhow::Result<Order> {
        let key = format!("{}-{index}", self.seed);
        let order = self.order(index);
        let end = Instant::now() + ACCEPT_DEADLINE;
        loop {
            let problem = match customer.try_order(&order, Some(&key)).await {
                // Told to wait: that is no failure.
                Ok(answer) if answer.is_overload() && Instant::now() < end => {
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
                Ok(answer) if answer.status.is_server_error() => {
                    self.refusals.fetch_add(1, Ordering::Relaxed);
                    anyhow::anyhow!("{answer}")
                }
                Ok(answer) => return answer.json(StatusCode::ACCEPTED),
                Err(error) => error,
            };
            self.failures.fetch_add(1, Ordering::Relaxed);
            if Instant::now() >= end {
                return Err(problem.context(format!("not accepted within {ACCEPT_DEADLINE:?}")));
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Most orders are good; some are declined, short of stock, or both, and a few find a gateway that fails twice.
    fn order(&self, index: usize) -> NewOrder {
        let order = match self.random(index, "items") % 20 {
            0 => NewOrder::of(&[("OUT-OF-STOCK", 1), ("MUG-RED", 2)]),
            1 => NewOrder::of(&[("LAST-TEN", 1)]),
            2..6 => NewOrder::of(&[("COFFEE-1KG", 2), ("FILTERS-100", 1), ("MUG-BLUE", 4)]),
            6..8 => NewOrder::of(&[("MUG-BLUE", 1), ("COFFEE-1KG", 1)]),
            _ => NewOrder::of(&[("TEA-250G", 1)]),
        };
        match self.random(index, "payment") % 20 {
            0 | 1 => order.paid_with("tok_declined"),
            2 => order.paid_with("tok_flaky"),
            _ => order,
        }
    }

    /// A number that depends on the seed, the order and what it is for, and on nothing else.
    fn random(&self, index: usize, purpose: &str) -> u64 {
        random(self.seed, &format!("{index} {purpose}"))
    }
}

/// A number that depends on `seed` and on what it is for: FNV-1a, mixed as in SplitMix64.
#[must_use]
pub fn random(seed: u64, purpose: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for byte in purpose.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The seed of a fault test: a new one each time, or that of `FNHOST_TEST_SEED`. Printed, so that a failure can be
/// repeated.
///
/// # Panics
/// `FNHOST_TEST_SEED` is no number.
#[must_use]
pub fn seed(test: &str) -> u64 {
    let seed = match std::env::var("FNHOST_TEST_SEED") {
        Ok(text) => text.parse().expect("FNHOST_TEST_SEED is a number"),
        Err(_) => Uuid::new_v4().as_u64_pair().0 >> 12,
    };
    println!("{test}: FNHOST_TEST_SEED={seed}");
    seed
}

//! Orders at a steady pace over all hosts, through whatever happens to them meanwhile.
//!
//! Every order has an idempotency key of its own and is asked for again, of one host after the other, until it is accepted. What it is
//! and what may become of it follow from the seed.

use super::world::{NONE, PLENTY, SCARCE};
use crate::client::{Answer, Client, request};
use crate::customer::{Customer, NewOrder, Order, PASSWORD, Status};
use crate::load::random;
use anyhow::Context as _;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use uuid::Uuid;

/// Requests under way at a time.
const CONCURRENCY: usize = 24;
/// Accounts that order.
const CUSTOMERS: usize = 4;
/// Time that a host has for an answer; then another one is asked. A stopped host gives none.
const ANSWER_DEADLINE: Duration = Duration::from_secs(4);
/// Time in which an order is accepted, through all faults.
const ACCEPT_DEADLINE: Duration = Duration::from_secs(240);
/// Pause before an order that was not accepted is asked for again.
const RETRY_PAUSE: Duration = Duration::from_millis(40);
/// Age of an order at which money is asked back: it is confirmed by then where nothing is broken.
const REFUND_AGE: Duration = Duration::from_secs(3);

/// An order that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its id.
    pub id: Uuid,
    /// The states that it may end in.
    pub ends: Vec<Status>,
}

/// What the workers share.
pub struct Load {
    clients: Vec<Client>,
    customers: Vec<RwLock<Customer>>,
    seed: u64,
    total: usize,
    /// Orders a second.
    rate: f64,
    began: Instant,
    next: AtomicUsize,
    accepted: AtomicUsize,
    /// Requests that had no answer or one of 5xx, and were repeated.
    repeated: AtomicUsize,
    refunds: AtomicUsize,
    cancels: AtomicUsize,
    orders: Mutex<Vec<Accepted>>,
    /// Read by whoever places an order; written by whoever wants none under way.
    pub gate: RwLock<()>,
}

impl Load {
    /// A load of `total` orders within `span`.
    ///
    /// # Errors
    /// The customers cannot be registered.
    pub async fn new(
        clients: &[Client],
        total: usize,
        span: Duration,
        seed: u64,
    ) -> anyhow::Result<Arc<Self>> {
        let mut customers = Vec::new();
        for _ in 0..CUSTOMERS {
            customers.push(RwLock::new(Customer::register(&clients[0]).await?));
        }
        let rate = total as f64 / span.as_secs_f64().max(1.0);
        Ok(Arc::new(Self {
            clients: clients.to_vec(),
            customers,
            seed,
            total,
            rate,
            began: Instant::now(),
            next: AtomicUsize::default(),
            accepted: AtomicUsize::default(),
            repeated: AtomicUsize::default(),
            refunds: AtomicUsize::default(),
            cancels: AtomicUsize::default(),
            orders: Mutex::default(),
            gate: RwLock::default(),
        }))
    }

    /// Places all orders.
    ///
    /// # Errors
    /// One was refused, or not accepted in time; the others are placed all the same.
    pub async fn run(self: Arc<Self>) -> anyhow::Result<()> {
        let mut workers = JoinSet::new();
        for _ in 0..CONCURRENCY {
            workers.spawn(self.clone().work());
        }
        let mut outcome = Ok(());
        while let Some(worked) = workers.join_next().await {
            outcome = outcome.and(worked?);
        }
        outcome
    }

    /// The orders that were accepted.
    pub fn take_orders(&self) -> Vec<Accepted> {
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Orders that were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Requests that were repeated, cancellations and refunds that were taken.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, usize); 3] {
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        [
            ("requests repeated", of(&self.repeated)),
            ("cancellations taken", of(&self.cancels)),
            ("refunds taken", of(&self.refunds)),
        ]
    }

    async fn work(self: Arc<Self>) -> anyhow::Result<()> {
        let mut refundable: VecDeque<(Instant, usize, Uuid)> = VecDeque::new();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.total {
                break;
            }
            let due = self.began + Duration::from_secs_f64(index as f64 / self.rate);
            sleep_until(due.into()).await;
            let _open = self.gate.read().await;
            let id = self.place(index).await.with_context(|| format!("order {index}"))?;
            self.accepted.fetch_add(1, Ordering::Relaxed);
            let mut ends = self.ends(index);
            match self.random(index, "second thoughts") % 20 {
                0 => {
                    let path = format!("/orders/{id}/cancel");
                    // Whether it comes through, and in time, is left to chance: both must be consistent.
                    if self
                        .ask((index, 0), Method::POST, &path, None, None)
                        .await
                        .is_ok_and(|a| a.status.is_success())
                    {
                        self.cancels.fetch_add(1, Ordering::Relaxed);
                    }
                    ends.push(Status::Cancelled);
                }
                1 | 2 => refundable.push_back((Instant::now(), index, id)),
                _ => {}
            }
            self.orders.lock().unwrap_or_else(PoisonError::into_inner).push(Accepted { id, ends });
            while refundable.front().is_some_and(|(since, ..)| since.elapsed() > REFUND_AGE) {
                self.refund(refundable.pop_front()).await;
            }
        }
        while let Some((since, index, id)) = refundable.pop_front() {
            sleep_until((since + REFUND_AGE).into()).await;
            let _open = self.gate.read().await;
            self.refund(Some((since, index, id))).await;
        }
        Ok(())
    }

    /// Asks part of the money back, once; an order that is not confirmed yet refuses.
    async fn refund(&self, order: Option<(Instant, usize, Uuid)>) {
        let Some((_, index, id)) = order else { return };
        let sku = &self.order(index).items[0].0;
        let body = json!({ "lines": [{ "sku": sku, "quantity": 1 }], "reason": "broken" });
        let (path, key) = (format!("/orders/{id}/refund"), format!("refund-{}-{index}", self.seed));
        let answer = self.ask((index, 0), Method::POST, &path, Some(&body), Some(&key)).await;
        if answer.is_ok_and(|answer| answer.status == StatusCode::ACCEPTED) {
            self.refunds.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn place(&self, index: usize) -> anyhow::Result<Uuid> {
        let (key, body) = (format!("{}-{index}", self.seed), self.order(index).body());
        let end = Instant::now() + ACCEPT_DEADLINE;
        for attempt in 0.. {
            let answer = self.ask((index, attempt), Method::POST, "/orders", Some(&body), Some(&key)).await;
            let problem = match answer {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                    self.login_again(index, attempt).await;
                    anyhow::anyhow!("{answer}")
                }
                Ok(answer) if answer.status.is_server_error() => anyhow::anyhow!("{answer}"),
                Ok(answer) => return Ok(answer.json::<Order>(StatusCode::ACCEPTED)?.order_id),
                Err(error) => error,
            };
            self.repeated.fetch_add(1, Ordering::Relaxed);
            if Instant::now() >= end {
                return Err(problem.context(format!("not accepted within {ACCEPT_DEADLINE:?}")));
            }
            sleep(RETRY_PAUSE).await;
        }
        anyhow::bail!("no attempt")
    }

    /// Sends a request about an order as its customer, to another host at each attempt.
    async fn ask(
        &self,
        (index, attempt): (usize, usize),
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
        key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let token = self.customers[index % CUSTOMERS].read().await.token.clone();
        let mut request = request(method, path, Some(&token), body)?;
        if let Some(key) = key {
            request.headers_mut().insert("idempotency-key", key.parse()?);
        }
        let client = &self.clients[(index + attempt) % self.clients.len()];
        timeout(ANSWER_DEADLINE, client.send(request)).await.context("no answer in time")?
    }

    /// A token is good for some minutes.
    async fn login_again(&self, index: usize, attempt: usize) {
        #[derive(Deserialize)]
        struct Session {
            access_token: String,
        }
        let mut customer = self.customers[index % CUSTOMERS].write().await;
        let body = json!({ "email": customer.email, "password": PASSWORD });
        let Ok(login) = request(Method::POST, "/auth/login", None, Some(&body)) else { return };
        let client = &self.clients[(index + attempt) % self.clients.len()];
        if let Ok(Ok(answer)) = timeout(ANSWER_DEADLINE, client.send(login)).await
            && let Ok(Session { access_token }) = answer.json(StatusCode::OK)
        {
            customer.token = access_token;
        }
    }

    /// Most orders are good; some are declined, short of stock, or both, and a few find a gateway that fails twice.
    fn order(&self, index: usize) -> NewOrder {
        let pick =
            |purpose: &str, of: &[&'static str]| of[(self.random(index, purpose) % of.len() as u64) as usize];
        let (first, second) = (pick("first", &PLENTY[..4]), pick("second", &PLENTY[4..]));
        let order = match self.random(index, "items") % 20 {
            0 => NewOrder::of(&[(NONE, 1), (first, 2)]),
            1 => NewOrder::of(&[(pick("scarce", &SCARCE), 1)]),
            2..8 => NewOrder::of(&[(first, 2), (second, 1)]),
            _ => NewOrder::of(&[(first, 1)]),
        };
        match self.random(index, "payment") % 20 {
            0 | 1 => order.paid_with("tok_declined"),
            2 => order.paid_with("tok_flaky"),
            _ => order,
        }
    }

    /// What may become of it, where nobody cancels.
    fn ends(&self, index: usize) -> Vec<Status> {
        let order = self.order(index);
        let has = |wanted: &[&str]| order.items.iter().any(|(sku, _)| wanted.contains(&sku.as_str()));
        let declined = order.payment_token == "tok_declined";
        let mut ends = Vec::new();
        if has(&[NONE]) || has(&SCARCE) {
            ends.push(Status::Rejected);
        }
        if declined {
            ends.push(Status::PaymentFailed);
        }
        if !declined && !has(&[NONE]) {
            ends.push(Status::Confirmed);
        }
        ends
    }

    fn random(&self, index: usize, purpose: &str) -> u64 {
        random(self.seed, &format!("{index} {purpose}"))
    }
}

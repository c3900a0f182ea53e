//! The payment gateway: a service of its own that takes no money. It does over HTTP what a real one does, so that the
//! payment function is written, tested and measured against the real thing: idempotency keys, slow and failing answers,
//! outages, signed webhooks. docs/payment-gateway.md describes its interface.

mod api;
pub mod behaviour;
mod journal;
pub mod ledger;
pub mod signature;
mod webhook;

use crate::behaviour::Behaviour;
use crate::journal::{Journal, Line};
use crate::ledger::{Answer, Entry, Ledger, Operation, problem};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Time in which a request's head must arrive; a kept connection without a request ends after it too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause where the system has no more file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How it is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where it keeps what it has promised; none keeps it in memory alone.
    pub journal: Option<PathBuf>,
    /// Who is told of changes.
    pub webhook: Option<Webhook>,
}

/// Who is told of changes.
#[derive(Clone)]
pub struct Webhook {
    /// `http://host:port/path`.
    pub url: String,
    /// Signs what is sent.
    pub secret: String,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The gateway. Serve it with [`serve`].
#[derive(Debug)]
pub struct Gateway {
    state: Mutex<State>,
    requests: AtomicU64,
    changed: Notify,
    webhook: Option<Webhook>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    journal: Journal,
    behaviour: Behaviour,
    /// Keys whose requests are under way.
    under_way: BTreeSet<String>,
    /// How often the flaky token has failed, by key.
    failures: BTreeMap<String, u32>,
    /// Changes that nobody was told of yet; none are kept where there is nobody to tell.
    untold: VecDeque<Entry>,
}

impl Gateway {
    /// Opens its journal and remembers what stands there.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn open(options: Options) -> anyhow::Result<Arc<Self>> {
        let (journal, lines) = match &options.journal {
            Some(path) => Journal::open(path)?,
            None => (Journal::none(), Vec::new()),
        };
        let mut ledger = Ledger::default();
        let mut untold = VecDeque::new();
        for line in lines {
            match line {
                Line::Entry(entry) => {
                    if options.webhook.is_some() && entry.payment.is_some() {
                        untold.push_back(entry.clone());
                    }
                    ledger.apply(entry);
                }
                Line::Told(number) => untold.retain(|entry| entry.number > number),
            }
        }
        let state = State {
            ledger,
            journal,
            behaviour: Behaviour::default(),
            under_way: BTreeSet::new(),
            failures: BTreeMap::new(),
            untold,
        };
        Ok(Arc::new(Self {
            state: Mutex::new(state),
            requests: AtomicU64::new(0),
            changed: Notify::new(),
            webhook: options.webhook,
        }))
    }

    /// Changes how it behaves from now on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.lock().behaviour = behaviour;
    }

    /// Current behavior: outage, latency, error rate.
    #[must_use]
    pub fn behaviour(&self) -> Behaviour {
        self.lock().behaviour
    }

    /// The payment of a reference.
    #[must_use]
    pub fn payment(&self, reference: &str) -> Option<ledger::Payment> {
        self.lock().ledger.payment(reference).cloned()
    }

    fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Does what is asked, once for a key. It goes on where the caller has given up.
    async fn perform(self: Arc<Self>, call: api::Call) -> Answer {
        if let Some(answer) = self.begin(&call) {
            return answer;
        }
        let token = match &call.operation {
            Operation::Authorize(wanted) => wanted.token.as_str(),
            _ => "",
        };
        if token == behaviour::SLOW {
            tokio::time::sleep(behaviour::SLOW_ANSWER).await;
        }
        let answer = self.finish(&call);
        self.changed.notify_one();
        answer
    }

    /// The answer where there is one already, or where there will be none this time.
    fn begin(&self, call: &api::Call) -> Option<Answer> {
        let mut state = self.lock();
        if let Some(answer) = state.ledger.answered(&call.key, &call.fingerprint) {
            return Some(answer);
        }
        if let Operation::Authorize(wanted) = &call.operation
            // A reference that was cancelled is never tried.
            && state.ledger.payment(&wanted.reference).is_none()
        {
            if wanted.token == behaviour::DOWN {
                return Some(problem(424, "issuer_unavailable", "the bank behind the card does not answer"));
            }
            if wanted.token == behaviour::FLAKY {
                let failures = state.failures.entry(call.key.clone()).or_default();
                if *failures < behaviour::FLAKY_FAILURES {
                    *failures += 1;
                    return Some(problem(503, "try_again", "the gateway failed: try again"));
                }
                state.failures.remove(&call.key);
            }
        }
        if !state.under_way.insert(call.key.clone()) {
            return Some(problem(409, "in_progress", "a request with this idempotency key is under way"));
        }
        None
    }

    fn finish(&self, call: &api::Call) -> Answer {
        let mut state = self.lock();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let entry = state.ledger.execute(&call.key, &call.fingerprint, &call.reference, &call.operation, now);
        state.under_way.remove(&call.key);
        let answer = entry.kept.answer.clone();
        if let Err(error) = state.journal.write(&Line::Entry(entry.clone())) {
            eprintln!("payment-gateway: {error:#}");
            return problem(500, "journal", "the gateway cannot keep what it promises");
        }
        if self.webhook.is_some() && entry.payment.is_some() {
            state.untold.push_back(entry.clone());
        }
        state.ledger.apply(entry);
        answer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves on `listener`, and tells of changes, until dropped.
///
/// # Errors
/// The address is gone.
pub async fn serve(gateway: Arc<Gateway>, listener: TcpListener) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(webhook::tell(gateway.clone()));
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            },
            Some(_) = tasks.join_next() => continue,
        };
        // Small answers on kept connections would wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let gateway = gateway.clone();
        tasks.spawn(async move {
            let answer = service_fn(|request| api::answer(gateway.clone(), request));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            // A client that went away is no fault of the gateway.
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// A gateway on a free port of this machine, in this process.
///
/// # Errors
/// There is no free port, or the journal cannot be read.
pub async fn start(options: Options) -> anyhow::Result<(Arc<Gateway>, SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let gateway = Gateway::open(options)?;
    let mut task = JoinSet::new();
    let served = gateway.clone();
    task.spawn(async move {
        if let Err(error) = serve(served, listener).await {
            eprintln!("payment-gateway: {error:#}");
        }
    });
    Ok((gateway, address, task))
}

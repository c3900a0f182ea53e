//! One host as a component sends to it: places, circuit, budget and connections of its own.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::AnswerBody;
use super::breaker::{Breaker, Pass, State};
use super::budget::{self, Budget};
use super::pool::{Address, Connection, Pool};
use fnhost_manifest::outbound::OutboundSettings;
use fnhost_metrics::{OutboundMetrics, OutboundOutcome as Outcome};

/// Bytes of a request's body that are kept for another try; a larger one is sent once.
const REPEATED_BODY_BYTES: u64 = 64 * 1024;

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Timeout for opening a connection, TLS included.
    pub connect: Duration,
    /// From the request sent to the head of the answer.
    pub first_byte: Duration,
    /// Between two parts of the answer's body.
    pub between_bytes: Duration,
    /// For all up to the head of the answer.
    pub total: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Target {
    settings: OutboundSettings,
    pool: Arc<Pool>,
    breaker: Arc<Breaker>,
    budget: Budget,
    places: Arc<Semaphore>,
    /// Places to wait in.
    queue: Arc<Semaphore>,
    metrics: OutboundMetrics,
}

/// A try that brought no answer.
struct Failed {
    error: Error,
    outcome: Outcome,
    /// Whether the host cannot have begun with it.
    unsent: bool,
}

type Tried = Result<(Response<Incoming>, Connection), Failed>;

impl Target {
    /// A host that nothing was sent to yet.
    pub fn new(address: Address, settings: OutboundSettings, metrics: OutboundMetrics) -> Self {
        Self {
            settings,
            pool: Arc::new(Pool::new(address, settings.max_concurrent, metrics.clone())),
            breaker: Arc::new(Breaker::new(settings, metrics.clone(), Instant::now())),
            budget: Budget::new(settings.retry_budget_percent),
            places: Arc::new(Semaphore::new(settings.max_concurrent)),
            queue: Arc::new(Semaphore::new(settings.max_queued)),
            metrics,
        }
    }

    /// Whether it can be forgotten: nothing is under way, and nothing was learned.
    pub fn is_idle(&self) -> bool {
        self.places.available_permits() == self.settings.max_concurrent
            && self.breaker.state() == State::Closed
    }

    #[cfg(test)]
    pub fn has_no_room(&self) -> bool {
        self.queue.available_permits() == 0
    }

    /// Sends a request, again where that is safe and may help.
    ///
    /// # Errors
    /// There is no answer: refused by the open circuit (`DestinationUnavailable`) or for want of a place
    /// (`ConnectionLimitReached`), no connection, no answer in time, or a broken one.
    pub async fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        times: Times,
    ) -> Result<Response<WasiBody>, Error> {
        let under_way = self.metrics.under_way();
        let deadline = Instant::now() + times.total;
        let sent = match self.place(deadline).await {
            Ok(place) => self.send_in(request, times, deadline).await.map(|answer| (answer, place)),
            Err(failed) => Err(failed),
        };
        drop(under_way);
        match sent {
            Ok(((answer, connection), place)) => {
                self.metrics.ended(Outcome::of_status(answer.status()));
                let body = |incoming| AnswerBody::new(incoming, times.between_bytes, connection, place);
                Ok(answer.map(|incoming| body(incoming).boxed_unsync()))
            }
            Err(failed) => {
                self.metrics.ended(failed.outcome);
                Err(failed.error)
            }
        }
    }

    /// One of the host's places, waited for where there is room to wait.
    async fn place(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failed> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let full = || Failed { error: Error::ConnectionLimitReached, outcome: Outcome::Full, unsent: true };
        let _waiting = self.queue.clone().try_acquire_owned().map_err(|_| full())?;
        match timeout_at(deadline.into(), self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }

    /// All tries of one request.
    async fn send_in(&self, request: Request<WasiBody>, times: Times, deadline: Instant) -> Tried {
        let refused =
            || Failed { error: Error::DestinationUnavailable, outcome: Outcome::Refused, unsent: true };
        // Asked first, so that a refused request costs nothing.
        let mut pass = self.breaker.pass(Instant::now()).map_err(|_| refused())?;
        self.budget.earn();
        let mut source = Source::new(request, self.settings.max_retries > 0).await?;
        for attempt in 1.. {
            let request = source.request();
            let tried = self.try_once(request, pass, times, deadline).await;
            let asked = match &tried {
                Ok((answer, _)) if budget::is_transient(answer.status()) => {
                    budget::retry_after(answer.headers(), SystemTime::now())
                }
                Err(failed) if failed.unsent => None,
                _ => return tried,
            };
            if attempt > self.settings.max_retries || !source.has_another() {
                return tried;
            }
            let due = Instant::now() + budget::pause(attempt, asked);
            if due >= deadline {
                return tried;
            }
            if !self.budget.spend() {
                self.metrics.retry_denied();
                return tried;
            }
            tokio::time::sleep_until(due.into()).await;
            let Ok(next) = self.breaker.pass(Instant::now()) else { return tried };
            pass = next;
            self.metrics.retried();
        }
        Err(refused())
    }

    async fn try_once(
        &self,
        request: Request<WasiBody>,
        pass: Pass,
        times: Times,
        deadline: Instant,
    ) -> Tried {
        let began = Instant::now();
        let tried = self.exchange(request, times, deadline).await;
        let now = Instant::now();
        match &tried {
            Ok((answer, _)) if answer.status().is_server_error() => pass.failed(now),
            Ok(_) => pass.succeeded(now),
            // Time that went by before the host had its chance is not the host's failure.
            Err(failed) if failed.outcome == Outcome::Timeout && (now - began) * 2 < times.first_byte => {
                drop(pass)
            }
            Err(failed) if failed.outcome == Outcome::Request => drop(pass),
            Err(_) => pass.failed(now),
        }
        tried
    }

    /// One request on one connection, up to the head of its answer.
    async fn exchange(&self, mut request: Request<WasiBody>, times: Times, deadline: Instant) -> Tried {
        let by = |time: Duration| deadline.min(Instant::now() + time).into();
        loop {
            let kept = self.pool.kept();
            let mut connection = match kept {
                Some(connection) => connection,
                None => match timeout_at(by(times.connect), self.pool.open()).await {
                    Ok(opened) => {
                        opened.map_err(|error| Failed { error, outcome: Outcome::Connect, unsent: true })?
                    }
                    Err(_) => {
                        let error = Error::ConnectionTimeout;
                        return Err(Failed { error, outcome: Outcome::Connect, unsent: true });
                    }
                },
            };
            let kept = connection.kept;
            let exchanged = timeout_at(by(times.first_byte), async {
                // The answer before may still be on its way out of the connection's task.
                if connection.sender.ready().await.is_err() {
                    return Err((None, Some(request)));
                }
                connection.sender.try_send_request(request).await.map_err(|mut error| {
                    let request = error.take_message();
                    (Some(error.into_error()), request)
                })
            });
            match exchanged.await {
                Ok(Ok(answer)) => return Ok((answer, connection)),
                // Closed by the host before anything was sent: another connection.
                Ok(Err((_, Some(unsent)))) => request = unsent,
                Ok(Err((error, None))) => {
                    let error = error.map_or(Error::ConnectionTerminated, Error::from);
                    let outcome = match &error {
                        Error::Hyper(error) if error.is_user() => Outcome::Request,
                        _ => Outcome::Broken,
                    };
                    return Err(Failed { error, outcome, unsent: kept });
                }
                Err(_) => {
                    let error = Error::ConnectionReadTimeout;
                    return Err(Failed { error, outcome: Outcome::Timeout, unsent: false });
                }
            }
        }
    }
}

/// A request that can be made several times, where that is safe.
struct Source {
    parts: http::request::Parts,
    /// Sent with the next try; what can be sent again has its bytes.
    body: Option<WasiBody>,
    bytes: Option<Bytes>,
}

impl Source {
    async fn new(request: Request<WasiBody>, may_repeat: bool) -> Result<Self, Failed> {
        let (mut parts, body) = request.into_parts();
        // Only the path is sent, the host stands in its header.
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse::<Uri>().unwrap_or_default();
        if !may_repeat || !budget::is_repeatable(&parts.method, &parts.headers) || !is_small(&parts, &body) {
            return Ok(Self { parts, body: Some(body), bytes: None });
        }
        let broken = |error| Failed { error, outcome: Outcome::Request, unsent: true };
        let bytes = body.collect().await.map_err(broken)?.to_bytes();
        Ok(Self { parts, body: None, bytes: Some(bytes) })
    }

    fn request(&mut self) -> Request<WasiBody> {
        let body = self.body.take().unwrap_or_else(|| {
            let bytes = self.bytes.clone().unwrap_or_default();
            Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
        });
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        *request.headers_mut() = self.parts.headers.clone();
        request
    }

    fn has_another(&self) -> bool {
        self.bytes.is_some()
    }
}

/// Whether the body is known to be small enough to be kept.
fn is_small(parts: &http::request::Parts, body: &WasiBody) -> bool {
    let named = || parts.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    let length = body.size_hint().exact().or_else(named);
    body.is_end_stream() || length.is_some_and(|bytes| bytes <= REPEATED_BODY_BYTES)
}

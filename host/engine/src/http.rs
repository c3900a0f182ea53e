//! Calls of the HTTP handler: a fresh instance for each request, streamed both ways.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tracing::Instrument as _;
use wasmtime::Store;
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{WasiBody, WasiHttpView as _};

use super::call::CallState;
use super::load::HttpHandler;
use super::{CallError, LoadedComponent, http_p2};
use fnhost_metrics::{Ending, with_cpu};

pub(super) type Head = Result<http::Response<ResponseBody>, CallError>;

/// The body of a response, while the guest writes it.
pub struct ResponseBody {
    pub(super) inner: WasiBody,
    /// Set before the instance goes away where the call failed after its response had begun.
    pub(super) failed: Arc<AtomicBool>,
}

/// The call failed in the middle of its response's body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The guest failed; the call's error is in the log.
    #[error("the function failed while it wrote its response")]
    Failed,
    /// The body broke off.
    #[error("the response body broke off: {0}")]
    Broken(wasmtime_wasi_http::Error),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => Poll::Ready(Some(Err(BodyError::Broken(error)))),
            // When the instance is dropped its streams just end; only a call that went well ends a body.
            None if self.failed.load(Ordering::Acquire) => Poll::Ready(Some(Err(BodyError::Failed))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && !self.failed.load(Ordering::Acquire)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of a request as the guest reads it: the end of one that broke off never comes. To WASI 0.3 such a body looks whole
/// to a guest that does not ask for its trailers, so the call is ended in place of going on with a part for the whole.
struct Unbroken<B> {
    inner: B,
    broken: Option<oneshot::Sender<String>>,
}

impl<B> Unbroken<B> {
    /// The body, and what says that it broke off and why.
    fn new(inner: B) -> (Self, oneshot::Receiver<String>) {
        let (broken, breaks) = oneshot::channel();
        (Self { inner, broken: Some(broken) }, breaks)
    }
}

impl<B> Body for Unbroken<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.broken.is_none() {
            return Poll::Pending;
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Err(error)) => {
                if let Some(broken) = self.broken.take() {
                    // Nobody listens once the call has ended.
                    let _ = broken.send(error.into().to_string());
                }
                Poll::Pending
            }
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_some() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl LoadedComponent {
    /// Hands a request to the component in a fresh instance and waits for the head of its response.
    ///
    /// Waits for a place where the component's or the pool's are taken. The instance lives on in a task of
    /// its own until the guest has written the body and ended its other work, or until the deadline; a
    /// failure in that time breaks the body off and is logged. A request's body that breaks off ends the call.
    pub async fn call_http<B>(&self, state: CallState, request: http::Request<B>) -> Head
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let asked = Instant::now();
        let waiting = self.shared.metrics.http().waits();
        let mut places = Vec::new();
        // The narrowest first: nothing else waits for those who wait there.
        for bound in [&state.places, &self.http_places].into_iter().flatten() {
            places.push(bound.clone().acquire_owned().await);
        }
        let place = self.engine.shared.places.http().await;
        drop(waiting);
        let waited = asked.elapsed();
        let (head, response) = oneshot::channel();
        let component = self.clone();
        let call = async move {
            component.run_http(state, waited, request, head).await;
            drop((place, places));
        };
        tokio::spawn(call.in_current_span());
        // The task sends a head before it ends, unless it panics.
        response.await.unwrap_or_else(|_| Err(CallError::NoResponse("the call was dropped".to_owned())))
    }

    async fn run_http<B>(
        &self,
        state: CallState,
        waited: Duration,
        request: http::Request<B>,
        head: oneshot::Sender<Head>,
    ) where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let metrics = self.shared.metrics.http();
        let _running = metrics.runs();
        let started = Instant::now();
        let mut instantiated = Duration::ZERO;
        let failed = Arc::new(AtomicBool::new(false));
        let mut head = Some(head);
        let mut store = self.store(state);
        let (request, body) = request.into_parts();
        let (body, breaks) = Unbroken::new(body);
        let request = http::Request::from_parts(request, body);
        let call = async {
            let Some(pre) = &self.http else {
                return Err(CallError::Instantiate("it does not export the HTTP handler".to_owned()));
            };
            match pre {
                HttpHandler::P3(pre) => {
                    let service = pre
                        .instantiate_async(&mut store)
                        .await
                        .map_err(|error| store.data().instantiation_failure(&error))?;
                    instantiated = started.elapsed();
                    respond(&mut store, &service, request, &mut head, &failed).await
                }
                HttpHandler::P2(pre) => http_p2::respond(&mut store, pre, request, &mut head, &failed).await,
            }
        };
        let call = async {
            tokio::select! {
                biased;
                Ok(reason) = breaks => Err(CallError::RequestBroken(reason)),
                ended = call => ended,
            }
        };
        let (ended, cpu) = with_cpu(tokio::time::timeout(self.shared.limits.deadline, call)).await;
        let error = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(store.data().deadline_exceeded()),
        };
        let outcome = error.as_ref().map_or(Ending::Ok, CallError::ending);
        let reason = error.as_ref().map(ToString::to_string);
        if let Some(error) = error {
            failed.store(true, Ordering::Release);
            match head.take() {
                // Whoever asked may be gone, and then nobody needs the answer.
                Some(head) => drop(head.send(Err(error))),
                None if matches!(error, CallError::RequestBroken(_)) => {
                    tracing::debug!(component = self.id(), "{error}, after the response had started");
                }
                None => tracing::warn!(
                    component = self.id(),
                    version = self.version(),
                    "{error}, after the response had started"
                ),
            }
        }
        let report = store.into_data().into_report(waited, started.elapsed(), instantiated);
        metrics.ended(outcome, cpu, report.memory_peak_bytes);
        metrics.phases(report.phases());
        report.traced(reason);
    }
}

/// Runs the handler, sends the head of its response and stays until the guest has nothing left to do.
async fn respond<B>(
    store: &mut Store<CallState>,
    service: &Service,
    request: http::Request<B>,
    head: &mut Option<oneshot::Sender<Head>>,
    failed: &Arc<AtomicBool>,
) -> Result<(), CallError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    let (request, sent) = Request::from_http(store.data_mut().http().hooks, request);
    let outcome = store
        .run_concurrent(async |accessor| -> wasmtime::Result<Result<(), CallError>> {
            let response = match service.handle(accessor, request).await? {
                Ok(response) => response,
                Err(code) => return Ok(Err(CallError::NoResponse(code.to_string()))),
            };
            let response = accessor.with(|store| response.into_http(store, sent))?;
            let response = response.map(|inner| ResponseBody { inner, failed: failed.clone() });
            if let Some(head) = head.take() {
                // Without a reader the guest still ends its work: its writes report a closed stream.
                let _ = head.send(Ok(response));
            }
            poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            Ok(Ok(()))
        })
        .await
        .and_then(|outcome| outcome);
    outcome.unwrap_or_else(|error| Err(store.data().failure(&error)))
}

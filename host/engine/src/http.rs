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

impl LoadedComponent {
    /// Hands a request to the component in a fresh instance and waits for the head of its response.
    ///
    /// Waits for a place where the component's or the pool's are taken. The instance lives on in a task of
    /// its own until the guest has written the body and ended its other work, or until the deadline; a
    /// failure in that time breaks the body off and is logged.
    pub async fn call_http<B>(&self, state: CallState, request: http::Request<B>) -> Head
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let asked = Instant::now();
        let waiting = self.shared.metrics.http().waits();
        let own_place = match &self.http_places {
            Some(places) => places.clone().acquire_owned().await.ok(),
            None => None,
        };
        let place = self.engine.place().await;
        drop(waiting);
        let waited = asked.elapsed();
        let (head, response) = oneshot::channel();
        let component = self.clone();
        let call = async move {
            component.run_http(state, waited, request, head).await;
            drop((place, own_place));
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
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let metrics = self.shared.metrics.http();
        let _running = metrics.runs();
        let started = Instant::now();
        let mut instantiated = Duration::ZERO;
        let failed = Arc::new(AtomicBool::new(false));
        let mut head = Some(head);
        let mut store = self.store(state);
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

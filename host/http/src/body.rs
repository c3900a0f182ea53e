//! A request's body, handed on as it arrives: up to a number of bytes, and for as long as its client may take.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::Error;

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// Bytes at most.
    pub bytes: u64,
    /// How long it is waited for, all waits together. What the function does meanwhile does not count.
    pub wait: Duration,
}

/// Why a body was broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooLarge = 1,
    TooSlow,
}

/// What became of a body, for whoever gave it away.
pub(super) struct Fate(Arc<AtomicU8>);

impl Fate {
    /// The fault for which it was broken off.
    pub fn fault(&self) -> Option<Fault> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            fault if fault == Fault::TooLarge as u8 => Some(Fault::TooLarge),
            _ => Some(Fault::TooSlow),
        }
    }
}

/// Passes a body on and breaks it off where it is too long or too slow.
pub(super) struct LimitedBody<B> {
    inner: B,
    limits: BodyLimits,
    left: BodyLimits,
    /// Since when a part is waited for, and until when.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    fate: Arc<AtomicU8>,
}

impl<B> LimitedBody<B> {
    /// The body, and what will have become of it.
    pub fn new(inner: B, limits: BodyLimits) -> (Self, Fate) {
        let fate = Arc::new(AtomicU8::new(0));
        (Self { inner, limits, left: limits, waiting: None, fate: fate.clone() }, Fate(fate))
    }

    fn broken_off(&mut self, fault: Fault, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.fate.store(fault as u8, Ordering::Release);
        Poll::Ready(Some(Err(error)))
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if polled.is_pending() {
            let wait = self.left.wait;
            let (_, end) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(wait))));
            ready!(end.as_mut().poll(context));
            return self.broken_off(Fault::TooSlow, Error::ConnectionReadTimeout);
        }
        if let Some((since, _)) = self.waiting.take() {
            self.left.wait = self.left.wait.saturating_sub(since.elapsed());
        }
        let frame = match ready!(polled) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Some(Ok(frame)) => frame,
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left.bytes.checked_sub(length) {
            Some(left) => {
                self.left.bytes = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                let limit = self.limits.bytes;
                self.broken_off(Fault::TooLarge, Error::HttpRequestBodySize(Some(limit)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

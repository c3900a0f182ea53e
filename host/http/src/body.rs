//! A request's body: up to a number of bytes, and for as long as its client may take. A small one is read whole before the
//! function is called, a larger one is handed on as it arrives.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::Error;

/// Bytes of a body that are read before a function is called: whoever sends so little slowly, or only a part of it, holds up a
/// connection and no call.
pub const WHOLE_BODY_MAX_BYTES: usize = 64 << 10;
/// Calls at a time that still receive the rest of a larger body; further ones wait. Fewer than calls, so that slow uploads hold
/// up other uploads and nothing else.
pub const MAX_UPLOADS: usize = 32;

/// Bytes of a refused body that are read and thrown away, so that the client gets to read the answer.
const DISCARD_MAX_BYTES: usize = 16 << 20;
/// Longest time that a refused body is read for.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// Its client ended it before its end, or sent something that is no body.
    Incomplete,
}

/// What became of a body, for whoever gave it away.
pub(super) struct Fate(Arc<AtomicU8>);

impl Fate {
    /// The fault for which it was broken off.
    pub fn fault(&self) -> Option<Fault> {
        let fault = self.0.load(Ordering::Acquire);
        [Fault::TooLarge, Fault::TooSlow, Fault::Incomplete].into_iter().find(|known| *known as u8 == fault)
    }
}

/// A body of which the beginning was read, mostly all of it.
pub(super) struct Received<B> {
    read: Bytes,
    trailers: Option<HeaderMap>,
    /// What is still to come, and the place that it takes meanwhile.
    rest: Option<(B, OwnedSemaphorePermit)>,
}

impl<B> Received<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Reads up to [`WHOLE_BODY_MAX_BYTES`]; a body that is longer waits for one of the `uploads`.
    ///
    /// # Errors
    /// The body's own.
    pub async fn begin(mut body: B, uploads: &Arc<Semaphore>) -> Result<Self, B::Error> {
        // One piece of memory, whatever the pieces that it arrives in.
        let mut read = BytesMut::new();
        let mut trailers = None;
        while read.len() <= WHOLE_BODY_MAX_BYTES {
            let Some(frame) = body.frame().await.transpose()? else {
                return Ok(Self { read: read.freeze(), trailers, rest: None });
            };
            match frame.into_data() {
                Ok(data) => read.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        // The semaphore is never closed.
        let place = uploads.clone().acquire_owned().await.ok();
        Ok(Self { read: read.freeze(), trailers, rest: place.map(|place| (body, place)) })
    }
}

impl<B> Body for Received<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.read)))));
        }
        if let Some((rest, _)) = &mut self.rest {
            let polled = ready!(Pin::new(rest).poll_frame(context));
            if !matches!(polled, Some(Ok(_))) {
                self.rest = None;
            }
            return Poll::Ready(polled);
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let rest_ended = self.rest.as_ref().is_none_or(|(rest, _)| rest.is_end_stream());
        self.read.is_empty() && self.trailers.is_none() && rest_ended
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            None => SizeHint::with_exact(self.read.len() as u64),
            Some(_) => SizeHint::default(),
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
            Some(Err(error)) => return self.broken_off(Fault::Incomplete, error.into()),
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

/// Reads what a client still sends and throws it away, up to named limits: a connection that is closed with bytes unread is reset,
/// and the client would see that instead of the answer. One that asked first (`expect: 100-continue`) has not sent anything.
pub(super) async fn discard(request: Request<Incoming>) {
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return;
    }
    let mut body = request.into_body();
    let mut left = DISCARD_MAX_BYTES;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    if tokio::time::timeout(DISCARD_TIMEOUT, read).await.is_err() {
        tracing::debug!("a client sent a refused body too slowly to be read to its end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use std::convert::Infallible;
    use tokio::sync::mpsc;

    type Sent = mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>;

    /// A body that a test sends piece by piece.
    fn sent() -> (Sent, impl Body<Data = Bytes, Error = Infallible> + Unpin) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        (sender, StreamBody::new(futures::stream::poll_fn(move |context| receiver.poll_recv(context))))
    }

    fn data(bytes: usize) -> Result<Frame<Bytes>, Infallible> {
        Ok(Frame::data(vec![b'a'; bytes].into()))
    }

    #[tokio::test]
    async fn a_small_body_is_there_as_a_whole() {
        let uploads = Arc::new(Semaphore::new(0));
        let (sender, body) = sent();
        let mut begun = Box::pin(Received::begin(body, &uploads));
        for bytes in [WHOLE_BODY_MAX_BYTES - 1, 1] {
            sender.send(data(bytes)).expect("received");
            assert!(futures::poll!(&mut begun).is_pending(), "more may come");
        }
        let trailers = HeaderMap::from_iter([(header::ETAG, header::HeaderValue::from_static("x"))]);
        sender.send(Ok(Frame::trailers(trailers.clone()))).expect("received");
        drop(sender);
        let Ok(received) = begun.await;
        assert_eq!(received.size_hint().exact(), Some(WHOLE_BODY_MAX_BYTES as u64));
        let Ok(collected) = received.collect().await;
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes().len(), WHOLE_BODY_MAX_BYTES);
    }

    #[tokio::test]
    async fn larger_ones_wait_for_each_other() {
        let uploads = Arc::new(Semaphore::new(1));
        let (first_sender, first) = sent();
        let (second_sender, second) = sent();
        for sender in [&first_sender, &second_sender] {
            sender.send(data(WHOLE_BODY_MAX_BYTES + 1)).expect("received");
        }
        let Ok(first) = Received::begin(first, &uploads).await;
        let mut second = Box::pin(Received::begin(second, &uploads));
        assert!(futures::poll!(&mut second).is_pending(), "the first one is on its way");
        first_sender.send(data(1)).expect("received");
        drop(first_sender);
        let Ok(first) = first.collect().await;
        assert_eq!(first.to_bytes().len(), WHOLE_BODY_MAX_BYTES + 2);
        let Ok(second) = second.await;
        drop(second);
        assert_eq!(uploads.available_permits(), 1, "nor does one hold a permit that nobody reads");
    }
}

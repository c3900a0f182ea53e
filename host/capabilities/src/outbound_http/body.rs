//! The body of an answer, which holds its request's place and connection until it has been read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::Error;

use super::pool::Connection;

/// See the module.
pub struct AnswerBody {
    incoming: Incoming,
    /// Time between two parts, and the end of the present one.
    between: Duration,
    late: Pin<Box<Sleep>>,
    /// Until the end has been read.
    connection: Option<Connection>,
    place: Option<OwnedSemaphorePermit>,
}

impl AnswerBody {
    /// A body whose parts come within `between` of each other.
    pub fn new(
        incoming: Incoming,
        between: Duration,
        connection: Connection,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let late = Box::pin(sleep(between));
        let mut body = Self { incoming, between, late, connection: Some(connection), place: Some(place) };
        if body.incoming.is_end_stream() {
            body.ended();
        }
        body
    }

    fn ended(&mut self) {
        self.place = None;
        if let Some(connection) = self.connection.take() {
            connection.keep();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) else {
            ready!(self.late.as_mut().poll(context));
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        match &frame {
            Some(Ok(_)) => {
                let next = Instant::now() + self.between;
                self.late.as_mut().reset(next);
                if self.incoming.is_end_stream() {
                    self.ended();
                }
            }
            None => self.ended(),
            Some(Err(_)) => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

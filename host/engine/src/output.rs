//! What a guest prints: each line of its stdout and stderr becomes one log event of its call, at once or, where the call is part
//! of a transaction, once that is committed ([`Printed`]).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::guest_log::{Printed, Stream};
use fnhost_trace::Origin;

/// Bytes of a line after which it is cut into several events.
const MAX_LINE_BYTES: usize = 8 << 10;
/// Bytes at the end of stderr that an error report quotes: a panic's message.
const TAIL_BYTES: usize = 2 << 10;
/// Bytes a guest may write at once.
const WRITE_PERMIT_BYTES: usize = 64 << 10;

/// One stream of one call. Clones are the same stream.
#[derive(Clone)]
pub(super) struct Output {
    stream: Stream,
    origin: Arc<Origin>,
    buffer: Arc<Mutex<Buffer>>,
    /// Where lines are kept, if they are not written at once; shared by both streams, for their order.
    kept: Option<Arc<Mutex<Printed>>>,
}

#[derive(Default)]
struct Buffer {
    /// What was written since the last line end.
    line: Vec<u8>,
    /// The last lines, for a report.
    tail: String,
}

impl Output {
    pub fn new(stream: Stream, origin: Arc<Origin>, kept: Option<Arc<Mutex<Printed>>>) -> Self {
        Self { stream, origin, buffer: Arc::default(), kept }
    }

    /// The end of what was printed, an unfinished line included.
    pub fn tail(&self) -> String {
        let mut buffer = self.lock();
        self.end_line(&mut buffer);
        buffer.tail.trim_end().to_owned()
    }

    /// Logs a line that was not ended.
    pub fn flush_line(&self) {
        self.end_line(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, bytes: &[u8]) {
        let mut buffer = self.lock();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in part.chunks(MAX_LINE_BYTES) {
                buffer.line.extend_from_slice(piece);
                if piece.ends_with(b"\n") || buffer.line.len() >= MAX_LINE_BYTES {
                    self.end_line(&mut buffer);
                }
            }
        }
    }

    fn end_line(&self, buffer: &mut Buffer) {
        if buffer.line.is_empty() {
            return;
        }
        let line = std::mem::take(&mut buffer.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        match &self.kept {
            Some(kept) => kept.lock().unwrap_or_else(PoisonError::into_inner).keep(self.stream, text),
            None => self.stream.write(&self.origin, text),
        }
        if self.stream == Stream::Stderr {
            buffer.tail.push_str(text);
            buffer.tail.push('\n');
            let excess = buffer.tail.len().saturating_sub(TAIL_BYTES);
            let cut = buffer.tail.ceil_char_boundary(excess);
            buffer.tail.drain(..cut);
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    // The default would start a task for each stream; a log line is never waited for.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end_of_stderr() {
        let origin = Origin {
            component: "x".into(),
            version: "0".into(),
            call: 1,
            cause: std::sync::OnceLock::new(),
            hop: std::sync::OnceLock::new(),
        };
        let output = Output::new(Stream::Stderr, Arc::new(origin), None);
        output.print(b"first\nsec");
        output.print("ond \u{fc}\nthird".as_bytes());
        assert_eq!(output.tail(), "first\nsecond \u{fc}\nthird");
        output.print(&[b'a'; 3 * MAX_LINE_BYTES]);
        assert!(output.tail().len() <= TAIL_BYTES);
        assert!(output.lock().line.is_empty(), "an endless line is cut");
    }
}

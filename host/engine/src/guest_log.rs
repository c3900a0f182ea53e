//! What a call that is part of a transaction has printed: written once it is known to be committed, so that a log line stands for an
//! effect and a batch that is run again does not say it twice.

use fnhost_trace::Origin;
use std::sync::Arc;
use tracing::Level;

/// A log event of a guest, with where its call comes from.
macro_rules! guest_event {
    ($level:expr, $origin:expr, $($rest:tt)+) => {{
        let (origin, cause): (&fnhost_trace::Origin, _) = (&$origin, $origin.cause());
        tracing::event!(
            target: "fnhost::guest",
            $level,
            component = &*origin.component,
            version = &*origin.version,
            call = origin.call,
            topic = cause.topic,
            partition = cause.partition,
            first_offset = cause.first_offset,
            last_offset = cause.last_offset,
            key = cause.key,
            method = cause.method,
            route = cause.route,
            request_id = cause.request_id,
            trace_id = cause.trace_id(),
            $($rest)+
        )
    }};
}

/// Bytes of lines that are kept of one call; further lines are counted and left out.
pub const PRINTED_MAX_BYTES: usize = 64 << 10;

/// Which of a guest's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Writes a line that counts.
    pub(super) fn write(self, origin: &Origin, text: &str) {
        match self {
            Self::Stdout => guest_event!(Level::INFO, origin, "{text}"),
            Self::Stderr => guest_event!(Level::WARN, origin, "{text}"),
        }
    }
}

/// The lines of a call, in their order. Dropped without [`Printed::committed`], they are written at debug level and marked as
/// rolled back: what they tell of is not known to have happened.
#[derive(Debug, Default)]
pub struct Printed {
    /// Absent where nothing was called.
    origin: Option<Arc<Origin>>,
    lines: Vec<(Stream, String)>,
    bytes: usize,
    left_out: usize,
}

impl Printed {
    pub(super) fn of(origin: Arc<Origin>) -> Self {
        Self { origin: Some(origin), lines: Vec::new(), bytes: 0, left_out: 0 }
    }

    pub(super) fn keep(&mut self, stream: Stream, line: &str) {
        if self.bytes + line.len() > PRINTED_MAX_BYTES {
            self.left_out += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push((stream, line.to_owned()));
    }

    /// Writes the lines: the call's transaction is committed.
    pub fn committed(mut self) {
        let lines = std::mem::take(&mut self.lines);
        let Some(origin) = &self.origin else { return };
        for (stream, text) in lines {
            stream.write(origin, &text);
        }
        let left_out = self.left_out;
        if left_out > 0 {
            guest_event!(
                Level::WARN,
                origin,
                "… and {left_out} more lines: only the first {PRINTED_MAX_BYTES} bytes of a call are kept"
            );
        }
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        let Some(origin) = &self.origin else { return };
        for (_, text) in &self.lines {
            guest_event!(Level::DEBUG, origin, rolled_back = true, "{text}");
        }
    }
}

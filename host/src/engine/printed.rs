//! What a call that is part of a transaction has printed: written once it is known to be committed, so that a log line stands for an
//! effect and a batch that is run again does not say it twice.

use std::sync::Arc;

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
    pub(super) fn write(self, component: &str, call: u64, text: &str) {
        match self {
            Self::Stdout => tracing::info!(target: "fnhost::guest", component, call, "{text}"),
            Self::Stderr => tracing::warn!(target: "fnhost::guest", component, call, "{text}"),
        }
    }
}

/// The lines of a call, in their order. Dropped without [`Printed::committed`], they are written at debug level and marked as
/// rolled back: what they tell of is not known to have happened.
#[derive(Debug, Default)]
pub struct Printed {
    component: Arc<str>,
    call: u64,
    lines: Vec<(Stream, String)>,
    bytes: usize,
    left_out: usize,
}

impl Printed {
    pub(super) fn of(component: Arc<str>, call: u64) -> Self {
        Self { component, call, lines: Vec::new(), bytes: 0, left_out: 0 }
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
        for (stream, text) in std::mem::take(&mut self.lines) {
            stream.write(&self.component, self.call, &text);
        }
        if self.left_out > 0 {
            let (lines, component, call) = (self.left_out, &*self.component, self.call);
            tracing::warn!(target: "fnhost::guest", component, call, "… and {lines} lines more: a call's first {PRINTED_MAX_BYTES} bytes are kept");
        }
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        let (component, call) = (&*self.component, self.call);
        for (_, text) in &self.lines {
            tracing::debug!(target: "fnhost::guest", component, call, rolled_back = true, "{text}");
        }
    }
}

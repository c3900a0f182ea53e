//! Carries spans to the collector: a bounded queue, and one task that sends what is in it.
//!
//! Nothing that handles a record or a request ever waits for it. What the queue has no room for, and what the collector
//! does not take, is dropped and counted.

use super::collector::{Collector, Refused};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Spans that wait for the exporter; a few megabytes.
pub const QUEUE_SPANS_MAX: usize = 4096;
/// Spans of one request to the collector.
const BATCH_SPANS_MAX: usize = 512;
/// Longest time that a span waits for others to share its request.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Pauses before a request is sent again that failed in a way which may pass. After the last one its spans are dropped.
const RETRY_PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// Time that the end of the host waits for spans to be sent.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Part of the traces that begin here which is recorded, where no other is given.
pub const DEFAULT_RATIO: f64 = 0.01;

struct Tracer {
    queue: Sender<Span>,
    ratio: f64,
}

/// One for the process, as the log is.
static TRACER: OnceLock<Tracer> = OnceLock::new();

/// Whether spans are recorded at all.
pub(super) fn is_on() -> bool {
    TRACER.get().is_some()
}

/// Whether a trace that begins now is recorded: true for the part of them that was chosen.
pub fn samples() -> bool {
    // Drawn from [0, 1): a ratio of 1 takes all, and one of 0 none.
    TRACER.get().is_some_and(|tracer| fastrand::f64() < tracer.ratio)
}

/// Puts a span into the queue.
pub(super) fn offer(span: Span) {
    let Some(tracer) = TRACER.get() else { return };
    if tracer.queue.try_send(span).is_err() {
        fnhost_metrics::spans_dropped(fnhost_metrics::Dropped::Queue, 1);
    }
}

/// The running exporter.
pub struct Exporter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Records from now on: the part `ratio` of the traces that begin here, and those of others that are sampled already.
    /// Once for a process.
    pub fn start(collector: Collector, ratio: f64) -> Self {
        let (queue, spans) = mpsc::channel(QUEUE_SPANS_MAX);
        let stop = CancellationToken::new();
        tracing::info!(collector = collector.shown(), ratio, "traces are exported");
        let work = Mutex::new((Sending { collector, stop: stop.clone(), failing: false }, spans));
        let task = tokio::spawn(async move {
            let work = &work;
            let run = || async move {
                let (sending, spans) = &mut *work.lock().await;
                run(sending, spans).await;
            };
            fnhost_metrics::supervise("traces", "", run).await;
        });
        TRACER.get_or_init(|| Tracer { queue, ratio });
        Self { stop, task }
    }

    /// Sends what is left, for [`FLUSH_TIMEOUT`] at most.
    pub async fn finish(self) {
        self.stop.cancel();
        let abort = self.task.abort_handle();
        if tokio::time::timeout(FLUSH_TIMEOUT, self.task).await.is_err() {
            abort.abort();
            tracing::warn!("the collector did not accept the last spans in time; they are dropped");
        }
    }
}

async fn run(sending: &mut Sending, spans: &mut Receiver<Span>) {
    let stop = sending.stop.clone();
    let mut batch = Vec::new();
    loop {
        let first = tokio::select! {
            first = spans.recv() => first,
            () = stop.cancelled() => spans.try_recv().ok(),
        };
        // None where the host ends and nothing is left.
        let Some(first) = first else { return };
        batch.push(first);
        let until = tokio::time::Instant::now() + BATCH_INTERVAL;
        while batch.len() < BATCH_SPANS_MAX {
            let room = BATCH_SPANS_MAX - batch.len();
            tokio::select! {
                biased;
                _ = spans.recv_many(&mut batch, room) => {}
                () = tokio::time::sleep_until(until) => break,
                () = stop.cancelled() => break,
            }
        }
        sending.send(std::mem::take(&mut batch)).await;
    }
}

struct Sending {
    collector: Collector,
    stop: CancellationToken,
    /// Whether the last request failed, so that it is said once.
    failing: bool,
}

impl Sending {
    /// Sends a batch, several times where that may help.
    async fn send(&mut self, batch: Vec<Span>) {
        let count = batch.len();
        let request = self.collector.encode(batch);
        let mut pauses = RETRY_PAUSES.iter();
        let refused = loop {
            match self.collector.send(request.clone()).await {
                Ok(rejected) => {
                    self.sent(count, rejected);
                    return;
                }
                Err(refused) => {
                    self.failed(&refused);
                    match pauses.next() {
                        Some(pause) if refused.may_pass => tokio::select! {
                            () = tokio::time::sleep(*pause) => {}
                            // One more try, and the deadline of the end is on it.
                            () = self.stop.cancelled() => pauses = [].iter(),
                        },
                        _ => break refused,
                    }
                }
            }
        };
        fnhost_metrics::spans_dropped(fnhost_metrics::Dropped::Collector, count);
        tracing::debug!(spans = count, reason = refused.reason, "spans were dropped");
    }

    fn sent(&mut self, count: usize, rejected: usize) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(collector = self.collector.shown(), "the collector accepts traces again");
        }
        let rejected = rejected.min(count);
        fnhost_metrics::spans_exported(count - rejected);
        fnhost_metrics::spans_dropped(fnhost_metrics::Dropped::Collector, rejected);
    }

    fn failed(&mut self, refused: &Refused) {
        if !std::mem::replace(&mut self.failing, true) {
            let (collector, reason) = (self.collector.shown(), &refused.reason);
            tracing::warn!(
                collector,
                reason,
                "the collector does not accept traces; spans are dropped until it does, and nothing else is affected"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Hop, Kind, Span as Told};
    use std::time::{Instant, SystemTime};

    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_queue_has_no_room_for_is_dropped_at_once() {
        // Takes connections and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", silent.local_addr().unwrap());
        let collector = Collector::from_settings(Some(&base), |_| None).unwrap().unwrap();
        // Other tests of this process begin no trace by it.
        let exporter = Exporter::start(collector, 0.0);
        assert!(!samples());
        assert!(Hop::first(Context::begin(false)).is_none());
        let dropped = fnhost_metrics::dropped_spans(fnhost_metrics::Dropped::Queue);
        let began = Instant::now();
        // Twice what the queue and the one request in hand can hold.
        for _ in 0..2 * (QUEUE_SPANS_MAX + BATCH_SPANS_MAX) {
            let hop = Hop::first(Context::begin(true)).expect("a sampled hop");
            hop.ended(Told::new(Kind::Internal, "test".to_owned(), SystemTime::now()));
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(
            fnhost_metrics::dropped_spans(fnhost_metrics::Dropped::Queue) > dropped,
            "nothing was dropped"
        );
        let began = Instant::now();
        exporter.finish().await;
        assert!(began.elapsed() < 5 * FLUSH_TIMEOUT, "the end is bounded: {:?}", began.elapsed());
    }
}

//! Calls of the Kafka handler, and the types of its contract (`wit/kafka`).

use std::time::{Duration, Instant};

use super::call::{CallReport, CallState};
use super::{CallError, LoadedComponent};
use fnhost_metrics::{Ending, with_cpu};
use fnhost_trace::Cause;
pub use fnhost_types::wit::{Batch, Emit, HandlerError, Header, Message, Outcome, Reply};

impl LoadedComponent {
    /// Hands a batch to the component in a fresh instance and waits for its reply.
    ///
    /// Waits for a place where the pool is full. The instance is gone when this returns; the report gives
    /// the state back, whatever the outcome. The reply is what the function said: it is not checked here.
    pub async fn call_kafka(
        &self,
        state: CallState,
        batch: Batch,
    ) -> (Result<Result<Reply, HandlerError>, CallError>, CallReport) {
        state.caused_by(|| Cause::batch(&batch));
        let metrics = self.shared.metrics.kafka();
        let asked = Instant::now();
        let waiting = metrics.waits();
        let _place = self.engine.shared.places.kafka().await;
        drop(waiting);
        let _running = metrics.runs();
        let started = Instant::now();
        let mut instantiated = Duration::ZERO;
        let mut store = self.store(state);
        let call = async {
            let Some(pre) = &self.kafka else {
                return Err(CallError::Instantiate("it does not export the Kafka handler".to_owned()));
            };
            let instance = pre
                .instantiate_async(&mut store)
                .await
                .map_err(|error| store.data().instantiation_failure(&error))?;
            instantiated = started.elapsed();
            let handler = instance.fnhost_kafka_handler();
            store
                .run_concurrent(async |accessor| handler.call_handle(accessor, batch).await)
                .await
                .and_then(|reply| reply)
                .map_err(|error| store.data().failure(&error))
        };
        let (outcome, cpu) = with_cpu(tokio::time::timeout(self.shared.limits.deadline, call)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(store.data().deadline_exceeded()));
        let report = store.into_data().into_report(started - asked, started.elapsed(), instantiated);
        let ended = match &outcome {
            Ok(Ok(_)) => Ending::Ok,
            Ok(Err(_)) => Ending::Error,
            Err(error) => error.ending(),
        };
        metrics.ended(ended, cpu, report.memory_peak_bytes);
        (outcome, report)
    }
}

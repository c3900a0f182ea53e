//! A component as the handler of a trigger.

use super::{CallFailure, Called, FailureClass, Handler, Handlers, VersionId};
use fnhost_capabilities::postgres::{Access, CallPostgres};
use fnhost_db::session::{RolePool, SharedTransaction};
use fnhost_db::tally::{Kind, Outcome};
use fnhost_deployment::Slot;
use fnhost_deployment::slot::Picked;
use fnhost_metrics::DispatchMetrics;
use fnhost_types::wit::Batch;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;

/// The versions of a component as handlers of a trigger.
pub struct WasmHandlers {
    slot: Arc<Slot>,
    own: RolePool,
    metrics: Option<DispatchMetrics>,
}

impl WasmHandlers {
    /// Handlers that lend the guest transactions of `own`.
    pub fn new(slot: Arc<Slot>, own: RolePool) -> Self {
        Self { slot, own, metrics: None }
    }

    /// The handlers, measuring their parts of a dispatch there.
    #[must_use]
    pub fn measured(self, metrics: DispatchMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }
}

impl Handlers for WasmHandlers {
    fn pick(&self, nth: u64) -> Arc<dyn Handler> {
        let (own, metrics) = (self.own.clone(), self.metrics.clone());
        Arc::new(WasmHandler { picked: self.slot.pick_batch(nth), own, metrics })
    }

    fn withdrawals(&self) -> watch::Receiver<i64> {
        self.slot.withdrawals()
    }
}

/// Calls a version's Kafka handler, each batch in a fresh instance.
pub struct WasmHandler {
    picked: Picked,
    own: RolePool,
    metrics: Option<DispatchMetrics>,
}

impl WasmHandler {
    async fn handle(&self, batch: Batch, transaction: SharedTransaction) -> Result<Called, CallFailure> {
        let postgres = CallPostgres::new(Access::Transaction { transaction, own: self.own.clone() });
        let component = self.picked.component();
        let state = component.call_state_with(postgres.clone());
        let (outcome, report) = component.call_kafka(state, batch).await;
        let phases = report.phases();
        if let Some(metrics) = &self.metrics {
            metrics.called(phases);
        }
        self.picked.count(Kind::Kafka, Outcome::call(!matches!(outcome, Ok(Ok(_))), report.took));
        // From here on the transaction is the host's: a statement that still runs fails the call.
        postgres.close();
        let function =
            |reason: String, message| CallFailure { class: FailureClass::Function, reason, message };
        let failure = match outcome {
            Ok(Ok(_)) if postgres.in_flight() => {
                function("the function replied while one of its statements was still running".into(), None)
            }
            Ok(Ok(reply)) => return Ok(Called { reply, printed: report.printed, phases }),
            Ok(Err(error)) => function(error.reason, error.message),
            Err(error) => function(error.to_string(), None),
        };
        // Where the database failed first, the guest's failure only follows from it.
        match postgres.failure() {
            Some(sql) if sql.class() != FailureClass::Function => {
                Err(CallFailure { class: sql.class(), reason: sql.message.clone(), message: None })
            }
            Some(sql) => {
                let code = sql.code.as_deref().unwrap_or("none");
                Err(CallFailure {
                    reason: format!("{} (SQLSTATE {code}: {})", failure.reason, sql.message),
                    ..failure
                })
            }
            None => Err(failure),
        }
    }
}

impl Handler for WasmHandler {
    fn call(
        &self,
        batch: Batch,
        transaction: SharedTransaction,
    ) -> BoxFuture<'_, Result<Called, CallFailure>> {
        self.handle(batch, transaction).boxed()
    }

    fn version(&self) -> VersionId<'_> {
        VersionId { number: self.picked.number(), digest: self.picked.component().version() }
    }

    fn on_trial(&self) -> bool {
        self.picked.on_trial()
    }

    fn runs(&self) -> bool {
        self.picked.runs()
    }

    fn settled(&self, records: usize, failed: usize) {
        self.picked.count(Kind::Kafka, Outcome::settled(records, failed));
    }
}

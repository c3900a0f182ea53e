//! A component as the handler of a trigger.

use super::{CallFailure, Called, FailureClass, Handler};
use crate::capabilities::postgres::{Access, CallPostgres};
use crate::db::session::{RolePool, SharedTransaction};
use crate::engine::LoadedComponent;
use crate::engine::kafka::Batch;
use crate::metrics::DispatchMetrics;
use futures::FutureExt as _;
use futures::future::BoxFuture;

/// Calls a component's Kafka handler, each batch in a fresh instance.
pub struct WasmHandler {
    component: LoadedComponent,
    own: RolePool,
    metrics: Option<DispatchMetrics>,
}

impl WasmHandler {
    /// A handler that lends the guest transactions of `own`.
    pub fn new(component: LoadedComponent, own: RolePool) -> Self {
        Self { component, own, metrics: None }
    }

    /// The handler, measuring its parts of a dispatch there.
    #[must_use]
    pub fn measured(self, metrics: DispatchMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    async fn handle(&self, batch: Batch, transaction: SharedTransaction) -> Result<Called, CallFailure> {
        let postgres = CallPostgres::new(Access::Transaction { transaction, own: self.own.clone() });
        let state = self.component.call_state_with(postgres.clone());
        let (outcome, report) = self.component.call_kafka(state, batch).await;
        if let Some(metrics) = &self.metrics {
            metrics.called(report.phases());
        }
        // From here on the transaction is the host's: a statement that still runs fails the call.
        postgres.close();
        let function =
            |reason: String, message| CallFailure { class: FailureClass::Function, reason, message };
        let failure = match outcome {
            Ok(Ok(_)) if postgres.in_flight() => {
                function("the function replied while a statement of its still ran".into(), None)
            }
            Ok(Ok(reply)) => return Ok(Called { reply, printed: report.printed }),
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
}

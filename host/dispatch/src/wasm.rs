//! A component as the handler of a trigger.

use super::{CallFailure, Called, FailureClass, Handler, Handlers, Tried, VersionId};
use fnhost_capabilities::postgres::{Access, CallPostgres, SqlFailure};
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
        // From here on the transaction is the host's: a statement that still runs fails the call.
        postgres.close();
        let took = report.took;
        let reply = match outcome {
            Ok(Ok(_)) if postgres.in_flight() => {
                Err(("the function replied while one of its statements was still running".to_owned(), None))
            }
            Ok(Ok(reply)) => Ok(Called { reply, printed: report.printed, phases }),
            Ok(Err(error)) => Err((error.reason, error.message)),
            Err(error) => Err((error.to_string(), None)),
        };
        let called = judged(reply, postgres.failure());
        // What the database cannot do at the moment, no version could.
        let failed = called.as_ref().is_err_and(|failure| !failure.class.is_database());
        self.picked.count(Kind::Kafka, Outcome::call(failed, took));
        called
    }
}

/// Who is to blame for what a call came to, whose first failure in the database was this. Where that is the database itself, what
/// the function makes of it only follows, be it a trap or a reply.
fn judged(
    reply: Result<Called, (String, Option<u32>)>,
    sql: Option<SqlFailure>,
) -> Result<Called, CallFailure> {
    if let Some(sql) = sql.as_ref().filter(|sql| sql.class() == FailureClass::Infrastructure) {
        return Err(CallFailure { class: sql.class(), reason: sql.message.clone(), message: None });
    }
    reply.map_err(|(reason, message)| match sql {
        Some(sql) if matches!(sql.class(), FailureClass::Conflict | FailureClass::Unclear) => {
            CallFailure { class: sql.class(), reason: sql.message, message: None }
        }
        Some(sql) => {
            let code = sql.code.as_deref().unwrap_or("none");
            let reason = format!("{reason} (SQLSTATE {code}: {})", sql.message);
            CallFailure { class: FailureClass::Function, reason, message }
        }
        None => CallFailure { class: FailureClass::Function, reason, message },
    })
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

    fn settled(&self, Tried { records, failed, postponed }: Tried) {
        // A slow moment of a service meets both versions of a canary alike. Where there is nothing beside it to compare with, only
        // what is put off again says something about the code.
        let unclear = if self.picked.is_compared() { 0 } else { postponed };
        self.picked.count(Kind::Kafka, Outcome::settled(records - unclear, failed - unclear));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_types::wit::{Outcome as Said, Reply};

    #[test]
    fn an_outage_of_the_database_is_nobodys_failure_whatever_the_function_makes_of_it() {
        let lost = || Some(SqlFailure::from_sqlx(&sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
        let own = || Some(SqlFailure::from_sqlx(&sqlx::Error::RowNotFound));
        let replied = || {
            let outcomes = vec![Said::Retry("no database".to_owned())];
            Ok(Called::from(Reply { outcomes, emits: vec![] }))
        };
        let trapped = || Err(("unreachable".to_owned(), None));
        let class = |called: Result<Called, CallFailure>| called.err().map(|failure| failure.class);
        assert_eq!(class(judged(replied(), lost())), Some(FailureClass::Infrastructure));
        assert_eq!(class(judged(trapped(), lost())), Some(FailureClass::Infrastructure));
        assert_eq!(class(judged(trapped(), own())), Some(FailureClass::Function));
        assert_eq!(class(judged(trapped(), None)), Some(FailureClass::Function));
        assert_eq!(class(judged(replied(), own())), None, "a function may make something of an error");
    }
}

//! Turns a batch of records into one Postgres transaction: effects exactly once.
//!
//! [`worker`] owns one partition and settles its batches, [`plan`] judges a reply, [`parking`] holds what waits,
//! [`subscription`] ties a trigger's group to its workers,
//! [`changes`] wakes them when an operator changed something, and [`status`] and [`backlog`] are what the admin address shows of them.

pub mod backlog;
mod carried;
pub mod changes;
pub mod commit;
mod commit_log;
mod leader;
pub mod operator;
mod pace;
pub mod parking;
pub mod plan;
pub mod relay;
pub mod schedule;
pub mod status;
mod stream;
pub mod subscription;
pub mod wasm;
pub mod worker;

use fnhost_db::session::SharedTransaction;
use fnhost_engine::guest_log::Printed;
pub use fnhost_types::failure::FailureClass;
use fnhost_types::wit::{Batch, Reply};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Reruns of a batch that Postgres asked for (SQLSTATE 40001, 40P01) before its partition backs off.
pub const CONFLICT_RERUNS_MAX: u32 = 10;
/// First pause of a partition after a failure that is not the function's; doubles to [`BACK_OFF_MAX`].
pub const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
/// Longest pause of a partition after a failure that is not the function's: at the end of an outage it is what records wait for, and a
/// try a second for each partition is no burden.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// How often a record may be in hand while the host or its database session ends before it is a dead letter.
pub const KILLS_MAX: i32 = 5;

/// What a trigger runs on a batch: a version of a component, or native code in a benchmark, which has no versions.
pub trait Handler: Send + Sync + 'static {
    /// Handles `batch` with SQL on `transaction` alone. Neither commits it nor keeps it.
    fn call(
        &self,
        batch: Batch,
        transaction: SharedTransaction,
    ) -> BoxFuture<'_, Result<Called, CallFailure>>;

    /// Which version this is.
    fn version(&self) -> VersionId<'_> {
        VersionId { number: 0, digest: "" }
    }

    /// Whether it has still to prove itself: no record dies of it meanwhile.
    fn on_trial(&self) -> bool {
        false
    }

    /// Whether it is among the versions that run.
    fn runs(&self) -> bool {
        true
    }

    /// Hears what became of records.
    fn settled(&self, _tried: Tried) {}
}

/// What attempts at records came to.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// Records that were tried.
    pub records: usize,
    /// Those of them that failed.
    pub failed: usize,
    /// Those of the failed that the function put off at their first attempt (`retry`): it may be a service that is slow for a
    /// moment, and no fault of the code.
    pub postponed: usize,
}

/// What a call gave.
pub struct Called {
    /// What became of the records, and what to emit.
    pub reply: Reply,
    /// What to write to the log once the call's transaction is committed.
    pub printed: Printed,
    /// Time in its parts, as in [`fnhost_engine::CallReport::phases`]; zero where there was none to measure.
    pub phases: [Duration; 4],
}

impl From<Reply> for Called {
    fn from(reply: Reply) -> Self {
        Self { reply, printed: Printed::default(), phases: [Duration::ZERO; 4] }
    }
}

/// A version, for the database and for people.
#[derive(Clone, Copy, Debug)]
pub struct VersionId<'a> {
    /// Row of `fnhost.version`, or 0.
    pub number: i64,
    /// The first digits of its digest, or nothing.
    pub digest: &'a str,
}

/// Where batches get their handler: one place for each trigger, so that the code behind it can change.
pub trait Handlers: Send + Sync + 'static {
    /// The handler of a partition's batch, the `nth` that this host handles of it.
    fn pick(&self, nth: u64) -> Arc<dyn Handler>;

    /// Changes when a version was rolled back: what its attempts were charged is to be given back.
    fn withdrawals(&self) -> watch::Receiver<i64>;
}

/// Always the same handler.
pub struct Fixed {
    handler: Arc<dyn Handler>,
    withdrawals: watch::Sender<i64>,
}

impl Fixed {
    /// Always hands out this handler.
    pub fn new(handler: impl Handler) -> Self {
        Self { handler: Arc::new(handler), withdrawals: watch::Sender::new(0) }
    }
}

impl From<Arc<dyn Handler>> for Fixed {
    fn from(handler: Arc<dyn Handler>) -> Self {
        Self { handler, withdrawals: watch::Sender::new(0) }
    }
}

impl Handlers for Fixed {
    fn pick(&self, _nth: u64) -> Arc<dyn Handler> {
        self.handler.clone()
    }

    fn withdrawals(&self) -> watch::Receiver<i64> {
        self.withdrawals.subscribe()
    }
}

/// Why a call gave no reply; all it wrote is to be rolled back.
#[derive(Clone, Debug)]
pub struct CallFailure {
    /// Who is to blame.
    pub class: FailureClass,
    /// Description of the failure, for logs and dead letters.
    pub reason: String,
    /// Index in the batch of the message at fault, where known.
    pub message: Option<u32>,
}

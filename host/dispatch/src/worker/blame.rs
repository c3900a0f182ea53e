//! What follows from a failure: who is to blame for it, and what becomes of the record.

use super::neighbours::Blame;
use super::settle::{Effects, Settled};
use super::work::Work;
use super::{Care, Exit, Worker};
use crate::CallFailure;
use crate::plan::{self, Verdict};

impl Worker<'_> {
    /// A session broke under these items, and one of them may be what broke it: if the database serves others, they are handed out with
    /// more care from now on. If it does not, it is nobody's fault.
    pub(super) async fn suspect(&mut self, work: &Work) {
        if self.subscription.database_serves().await {
            if self.memory.care == Care::None {
                self.memory.care = Care::Batch;
            }
        } else {
            self.memory.excused = work.items.first().map(|item| item.record.offset);
        }
    }

    /// What becomes of the one item of `work` after a failure that may be the database's.
    pub(super) async fn ask_neighbours(
        &mut self,
        work: &Work,
        failure: &CallFailure,
    ) -> Result<Settled, Exit> {
        let item = &work.items[0];
        let set_aside = match self.memory.neighbours.failed(item.record.offset) {
            Blame::Record => return self.charge(work, failure).await,
            Blame::Database => return Err(Exit::BackOff(failure.reason.clone())),
            Blame::Unknown(set_aside) => set_aside,
        };
        let reason = failure.reason.clone();
        let verdict = Verdict::SetAside { times: set_aside, reason };
        self.store_verdict(work, verdict).await
    }

    /// Charges a failed attempt to the one item of `work`.
    pub(super) async fn charge(&mut self, work: &Work, failure: &CallFailure) -> Result<Settled, Exit> {
        let verdict = plan::failed(&work.items[0], &failure.reason, &work.config(&self.subscription.config));
        self.store_verdict(work, verdict).await
    }

    /// Stores what became of the one item of `work` without the function's transaction.
    async fn store_verdict(&mut self, work: &Work, verdict: Verdict) -> Result<Settled, Exit> {
        match self
            .store_verdicts(work, &[(0, verdict)], Effects::default(), self.subscription.transaction())
            .await?
        {
            Ok(()) => Ok(Settled::Yes),
            Err(failure) => Err(Exit::BackOff(failure.reason)),
        }
    }
}

//! The end of a dispatch: the store at the end of the function's transaction, COMMIT, and the judgement of one that got no
//! answer.

use super::{CallFailure, FailureClass};
use fnhost_capabilities::postgres::SqlFailure;
use fnhost_db::OwnerPool;
use fnhost_db::ownership::{self, Judgement, Ownership};
use fnhost_db::session::{CommitError, Transaction};
use fnhost_db::store::{self, Changes};
use fnhost_types::causes::chain;

/// What became of a dispatch's transaction.
pub enum Ended {
    /// It is committed, and the ownership is this from now on.
    Committed(Ownership),
    /// All of it is rolled back.
    Failed(CallFailure),
    /// The partition is another owner's, or an operator changed it: nothing may be concluded from memory any more.
    Fenced(&'static str),
}

/// Runs the store at the end of `transaction` and commits.
///
/// # Errors
/// The database did not answer to the question what became of a COMMIT without an answer.
pub async fn commit(
    owner: &OwnerPool,
    mut transaction: Transaction,
    ownership: &Ownership,
    changes: &Changes<'_>,
) -> Result<Ended, fnhost_db::Error> {
    let connection = match transaction.connection().await {
        Ok(connection) => connection,
        Err(error) => {
            let reason = chain(&error);
            let class = FailureClass::Infrastructure;
            return Ok(Ended::Failed(CallFailure { class, reason, message: None }));
        }
    };
    let after = match store::store(connection, ownership, changes).await {
        Ok(after) => after,
        Err(error) => {
            transaction.rollback().await;
            if ownership::sqlstate(&error).as_deref() == Some(store::FENCED) {
                return Ok(Ended::Fenced("another owner or an operator changed the partition"));
            }
            return Ok(Ended::Failed(failure_of(&error)));
        }
    };
    Ok(match transaction.commit().await {
        Ok(()) => Ended::Committed(after),
        Err(CommitError::Refused(error)) => Ended::Failed(failure_of(&error)),
        Err(CommitError::Unknown(error)) => {
            let judgement = ownership::judge_commit(owner, ownership).await?;
            tracing::warn!(topic = ownership.tp.topic, partition = ownership.tp.partition, ?judgement, %error, "a COMMIT got no answer");
            match judgement {
                Judgement::Committed => Ended::Committed(after),
                Judgement::NotCommitted => Ended::Failed(failure_of(&error)),
                Judgement::Fenced => Ended::Fenced("another owner took over during a COMMIT"),
            }
        }
    })
}

fn failure_of(error: &sqlx::Error) -> CallFailure {
    let failure = SqlFailure::from_sqlx(error);
    CallFailure { class: failure.class(), reason: failure.message, message: None }
}

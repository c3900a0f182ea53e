//! Ends orders that have waited for stock or money for too long, when the manifest's schedule says so.

use crate::domain::Step;
use crate::kafka::announcement;
use crate::sql::{self, Changes, Entry};
use fnhost_sdk::Sql;
use fnhost_sdk::kafka::{Failure, Reply, Tick};

/// The schedule's id in the manifest.
pub const SCHEDULE: &str = "expire";
/// Orders that one tick ends at most; the next one goes on.
pub const ORDERS_MAX: i64 = 2_000;

/// Handles the ticks of a batch in two statements.
///
/// # Errors
/// What the database refused; nothing is kept then.
pub async fn handle<S: Sql>(db: &S, ticks: Vec<Tick>, mut reply: Reply) -> Result<Reply, Failure> {
    for tick in &ticks {
        if tick.schedule != SCHEDULE {
            reply.reject(tick, format!("order has no schedule {:?}", tick.schedule));
        }
    }
    // One search serves all of them: the latest time is the one that counts.
    let Some(tick) = ticks.iter().filter(|tick| tick.schedule == SCHEDULE).max_by(|a, b| a.due.cmp(&b.due))
    else {
        return Ok(reply);
    };
    let mut known = sql::lock_overdue(db, &tick.due, ORDERS_MAX).await?;
    let mut changes = Changes::default();
    for (order_id, known) in &mut known {
        if let Some(transition) = known.order.take(Step::Expire) {
            for event in announcement(*order_id, known.user_id, &transition) {
                reply.emit(tick, &event);
            }
            changes.add_entry(Entry::of_transition(*order_id, &transition));
            changes.add_order(*order_id);
            known.reason = transition.reason;
        }
    }
    changes.store(db, &known).await?;
    Ok(reply)
}

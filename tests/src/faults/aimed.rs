//! Faults at one exact place of the protocol: a host is stopped in a COMMIT, and what becomes of it is decided when another host takes
//! the partition over.

use super::strike::{CATCH_DEADLINE, ENDED, Striker};
use crate::wait::{Look, until};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The role whose COMMITs are aimed at.
const ROLE: &str = "fn_ledger";
/// Time in which others take over from a host that was stopped.
const TAKE_OVER_DEADLINE: Duration = Duration::from_secs(20);
/// How long the next owner works before the stopped one goes on.
const HEAD_START: Duration = Duration::from_millis(500);

/// A take-over that waits for the row which the stopped host's session has locked.
const WAITS: &str = "
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'WITH before AS MATERIALIZED%')";
/// Rows of the ledger's triggers, and those of them that nobody has locked.
const ROWS: &str = "SELECT topic || '/' || partition, epoch, stores FROM fnhost.partition JOIN fnhost.trigger t USING (trigger) WHERE t.id IN ('ledger', 'receipts')";
const FREE_ROWS: &str = "SELECT topic || '/' || partition FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger) WHERE t.id IN ('ledger', 'receipts') FOR UPDATE OF p SKIP LOCKED";

/// Epoch and stores of each row.
type Rows = BTreeMap<String, (i64, i64)>;

impl Striker {
    pub(super) async fn commit_in_take_over(&self, host: usize) -> anyhow::Result<String> {
        let _one = self.aim.lock().await;
        let proxy = &self.world.databases[host];
        let caught = timeout(CATCH_DEADLINE, proxy.snare(ROLE)).await;
        let Ok(Ok(caught)) = caught else {
            proxy.disarm();
            return Ok("no COMMIT came".to_owned());
        };
        let stopped = self.world.hosts[host].lock().await;
        if stopped.freeze().is_err() {
            return Ok(ENDED.to_owned());
        }
        let waits = until("a take-over that waits", TAKE_OVER_DEADLINE, async || {
            let waits = sqlx::query_scalar(WAITS).fetch_one(&self.world.db.pool).await;
            Ok(Look::from_bool(waits.unwrap_or(false), "none"))
        });
        let waits = waits.await;
        caught.decide(true, HEAD_START);
        sleep(HEAD_START).await;
        stopped.thaw()?;
        Ok(if waits.is_ok() { "it happened in a take-over" } else { "nobody took over" }.to_owned())
    }

    pub(super) async fn judge_after_take_over(&self, host: usize) -> anyhow::Result<String> {
        let _one = self.aim.lock().await;
        let proxy = &self.world.databases[host];
        let caught = timeout(CATCH_DEADLINE, proxy.snare(ROLE)).await;
        let Ok(Ok(caught)) = caught else {
            proxy.disarm();
            return Ok("no COMMIT came".to_owned());
        };
        let stopped = self.world.hosts[host].lock().await;
        if stopped.freeze().is_err() {
            return Ok(ENDED.to_owned());
        }
        let moved = async {
            let before = self.rows().await?;
            let free = self.free_rows().await?;
            let held: Rows = before.into_iter().filter(|(row, _)| !free.contains(row)).collect();
            anyhow::ensure!(!held.is_empty(), "no row is locked");
            until("the next owner's first store", TAKE_OVER_DEADLINE, async || {
                let now = self.rows().await.unwrap_or_default();
                let moved = held.iter().filter(|(row, before)| {
                    now.get(*row).is_some_and(|now| now.0 > before.0 && now.1 > before.1)
                });
                Ok(Look::from_bool(moved.count() > 0, format!("{held:?}")))
            })
            .await
        };
        let moved = moved.await;
        // Its connection ends. The others stay: by one of them the host asks what became of the COMMIT.
        drop(caught);
        stopped.thaw()?;
        Ok(if moved.is_ok() { "the next owner has committed" } else { "nobody took over" }.to_owned())
    }

    async fn rows(&self) -> anyhow::Result<Rows> {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(ROWS).fetch_all(&self.world.db.pool).await?;
        Ok(rows.into_iter().map(|(row, epoch, stores)| (row, (epoch, stores))).collect())
    }

    async fn free_rows(&self) -> anyhow::Result<Vec<String>> {
        Ok(sqlx::query_scalar(FREE_ROWS).fetch_all(&self.world.db.pool).await?)
    }
}

//! Makes this host run what the database says, tells the database what calls came to, and judges versions on trial.

use super::judge::{Judgement, judge};
use super::{Deployment, LEASE, Slot};
use fnhost_db::deployment::Trial;
use fnhost_db::deployment::{self as sql, StoredRunning};
use fnhost_db::tally;
use fnhost_engine::short_digest;
use fnhost_metrics::Swap;
use fnhost_types::causes::chain;
use futures::future::BoxFuture;
use sqlx::postgres::PgListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often counts are added and versions judged while one is on trial.
const TRIAL_INTERVAL: Duration = Duration::from_millis(500);
/// How often a host looks by itself: the backstop of a lost notification.
const POLL_INTERVAL: Duration = Duration::from_secs(3);
/// Pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Deployment {
    /// Follows the running set and renews the lease until `stop`.
    pub fn follow(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        // Boxed, so that it is compiled here and not in the crate that awaits it.
        Box::pin(async move {
            // Apart: loading a version may take longer than a lease.
            tokio::join!(self.follow_running_set(&stop), self.keep_lease(&stop), self.keep_up(&stop));
        })
    }

    async fn keep_lease(&self, stop: &CancellationToken) {
        let mut applied = self.shared.applied.subscribe();
        while !stop.is_cancelled() {
            if let Err(error) = self.renew_lease().await {
                tracing::warn!(error = chain(&error), "cannot renew the lease in the registry");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LEASE / 3) => {}
                // Others wait to see that this host has switched. Its sender lives as long as this deployment.
                _ = applied.changed() => {}
            }
        }
    }

    async fn follow_running_set(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.follow_until(stop).await {
                tracing::warn!(error = chain(&error), "cannot read the running set; trying again");
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        if let Err(error) = self.add_counts().await {
            tracing::debug!(error = chain(&error), "the last counts are lost");
        }
    }

    async fn follow_until(&self, stop: &CancellationToken) -> Result<(), super::Error> {
        let owner = &self.shared.owner;
        let mut listener = owner.listen(sql::CHANGE_CHANNEL).await.map_err(fnhost_db::Error::from)?;
        let mut counted = Instant::now();
        while !stop.is_cancelled() {
            // Listening began before this read, so no change is missed.
            let (revision, rows) = sql::running(owner, self.id()).await?;
            self.apply(revision, &rows).await;
            let on_trial = rows.iter().any(|row| row.trial.is_some());
            if on_trial || counted.elapsed() >= POLL_INTERVAL {
                self.add_counts().await?;
                counted = Instant::now();
            }
            for row in &rows {
                self.judge(row).await?;
            }
            let pause = if on_trial { TRIAL_INTERVAL } else { POLL_INTERVAL };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                heard = self.heard(&mut listener) => heard?,
            }
        }
        Ok(())
    }

    /// Waits for a notification that is about this deployment.
    async fn heard(&self, listener: &mut PgListener) -> Result<(), super::Error> {
        loop {
            let notification = listener.recv().await.map_err(fnhost_db::Error::from)?;
            if notification.payload() == self.id() {
                return Ok(());
            }
        }
    }

    /// Switches what differs. What cannot be loaded stays as it is and is tried again.
    async fn apply(&self, revision: i64, rows: &[StoredRunning]) {
        let mut complete = true;
        for row in rows {
            let Some(slot) = self.shared.slots.get(&row.component) else { continue };
            let former = slot.running();
            if former.revision == row.revision {
                continue;
            }
            match self.shared.loader.running(&self.shared.owner, row, None, Some(&former)).await {
                Ok(running) => {
                    slot.switch(running, row.withdrawals);
                    say(slot, row);
                }
                Err(error) => {
                    complete = false;
                    let (component, version) = (&row.component, short_digest(&row.current.digest));
                    tracing::error!(
                        component,
                        version,
                        error = chain(&error),
                        "this host cannot run a version of the running set"
                    );
                }
            }
        }
        if complete {
            self.shared.applied.send_if_modified(|applied| std::mem::replace(applied, revision) != revision);
        }
    }

    async fn add_counts(&self) -> Result<(), fnhost_db::Error> {
        let counted: Vec<_> = self.shared.slots.values().flat_map(|slot| slot.take_counts()).collect();
        if counted.is_empty() {
            return Ok(());
        }
        tally::add(&self.shared.owner, &counted).await
    }

    /// Judges a version that is on trial by what its calls came to on all hosts. Whichever host is first acts.
    async fn judge(&self, row: &StoredRunning) -> Result<(), super::Error> {
        let Some((trial, over)) = row.trial else { return Ok(()) };
        let owner = &self.shared.owner;
        let (tried, other) = match (&row.candidate, trial) {
            (Some((candidate, _)), Trial::Canary) => {
                let tried = tally::total(owner, candidate.number, Some(row.revision)).await?;
                (tried, tally::total(owner, row.current.number, Some(row.revision)).await?)
            }
            _ => {
                let tried = tally::total(owner, row.current.number, Some(row.revision)).await?;
                let other = match row.fallback {
                    Some(fallback) => tally::total(owner, fallback, None).await?,
                    None => Default::default(),
                };
                (tried, other)
            }
        };
        let kinds: Vec<_> = tried.into_iter().zip(other).collect();
        let (name, component, revision, by) =
            (self.id(), &row.component, row.revision, self.by_itself("trial"));
        match judge(trial, over, &kinds) {
            Judgement::Wait => {}
            Judgement::Accept => {
                sql::accept(owner, name, component, revision, self.shared.probation, by).await?;
            }
            Judgement::Withdraw(reason) => {
                if sql::withdraw(owner, name, component, Some(revision), &reason, Some(by)).await?.is_some() {
                    let tried = row.candidate.as_ref().map_or(&row.current, |(candidate, _)| candidate);
                    let version = short_digest(&tried.digest);
                    tracing::error!(component, version, reason, "rolled back");
                    fnhost_metrics::swap(component, Swap::RolledBack);
                }
            }
        }
        Ok(())
    }
}

fn say(slot: &Arc<Slot>, row: &StoredRunning) {
    let running = slot.running();
    let version = running.current.version.component.version();
    let component = &row.component;
    match &running.candidate {
        Some(candidate) => {
            let (canary, percent) = (candidate.lane.version.component.version(), candidate.percent);
            tracing::info!(component, version, canary, percent, "a canary has started");
        }
        None => {
            tracing::info!(component, version, on_trial = running.on_trial, "this version runs from now on")
        }
    }
}

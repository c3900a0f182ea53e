//! The long-running tasks of the host: one that panics is said, counted, shown by `/readyz`, and started again.
//!
//! A task that is gone leaves no trace of its own: its partition stays owned and is never served again. So every task that is meant
//! to run for as long as the host does is [`supervise`]d.

use super::{family, names};
use futures::FutureExt as _;
use prometheus::IntCounterVec;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pause before a task that panicked is started again; doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// Longest pause before a task that panicked is started again.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A task that has run for so long since its last panic is well again.
const WELL_AFTER: Duration = Duration::from_secs(10);

static PANICS: LazyLock<IntCounterVec> = LazyLock::new(|| family::int_counter(&names::TASK_PANICS));
static AILING: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Runs a task to its end, and again where it ended by a panic. `kind` is its label in metrics, `name` tells it from others of its kind.
pub async fn supervise<F>(kind: &'static str, name: &str, mut task: impl FnMut() -> F)
where
    F: Future<Output = ()>,
{
    let name = if name.is_empty() { kind.to_owned() } else { format!("{kind} {name}") };
    let _well = WellAtLast(&name);
    // Shown before the first one.
    PANICS.with_label_values(&[kind]);
    let mut pause = PAUSE_FIRST;
    loop {
        let mut running = Box::pin(AssertUnwindSafe(task()).catch_unwind());
        let early = tokio::time::timeout(WELL_AFTER, &mut running).await;
        let ended = match early {
            Ok(ended) => ended,
            Err(_) => {
                pause = PAUSE_FIRST;
                ailing().remove(&name);
                running.await
            }
        };
        let Err(panic) = ended else { return };
        ended_by_panic(kind, &name, &*panic);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// As [`supervise`], for what runs on a thread of its own: runs `task` once, and answers false where it panicked.
pub fn survives(kind: &'static str, name: &str, task: impl FnOnce()) -> bool {
    let name = format!("{kind} {name}");
    // It runs again; whether its work is done is for others to say.
    ailing().remove(&name);
    match std::panic::catch_unwind(AssertUnwindSafe(task)) {
        Ok(()) => true,
        Err(panic) => {
            ended_by_panic(kind, &name, &*panic);
            false
        }
    }
}

/// Says of a task that it cannot do its work, until it [`recovers`].
pub fn ails(kind: &str, name: &str, reason: String) {
    ailing().insert(format!("{kind} {name}"), reason);
}

/// Says of a task that it does its work again.
pub fn recovers(kind: &str, name: &str) {
    ailing().remove(&format!("{kind} {name}"));
}

/// Tasks that cannot do their work, or panicked a short while ago, for people.
pub fn ailing_tasks() -> Vec<String> {
    ailing().iter().map(|(name, reason)| format!("{name}: {reason}")).collect()
}

fn ended_by_panic(kind: &str, name: &str, panic: &(dyn Any + Send)) {
    let reason = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let reason =
        reason.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".to_owned());
    PANICS.with_label_values(&[kind]).inc();
    tracing::error!(
        task = name,
        reason,
        "a task of the host ended by a panic, which is a fault of fnhost; it is started again"
    );
    ailing().insert(name.to_owned(), format!("ended by a panic and was started again: {reason}"));
}

/// A task that is over, or is not wanted any more, ails no longer.
struct WellAtLast<'a>(&'a str);

impl Drop for WellAtLast<'_> {
    fn drop(&mut self) {
        ailing().remove(self.0);
    }
}

fn ailing() -> MutexGuard<'static, BTreeMap<String, String>> {
    AILING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_and_is_well_at_its_end() {
        let (starts, seen) = (Cell::new(0), Cell::new(false));
        let task = || {
            starts.set(starts.get() + 1);
            let start = starts.get();
            let seen = &seen;
            async move {
                assert!(start > 2, "the first two fail");
                seen.set(
                    ailing_tasks()
                        .iter()
                        .any(|line| line.contains("test one: ended") && line.contains("first two")),
                );
            }
        };
        supervise("test", "one", task).await;
        assert_eq!(starts.get(), 3);
        assert!(seen.get(), "it was shown");
        assert!(!ailing_tasks().iter().any(|line| line.contains("test one")), "well again");
    }

    #[test]
    fn a_thread_that_panics_is_noticed() {
        assert!(survives("test", "two", || {}));
        assert!(!survives("test", "two", || panic!("no")));
        assert!(
            ailing_tasks().iter().any(|line| line.starts_with("test two: ended") && line.ends_with("no"))
        );
        assert!(survives("test", "two", || {}));
        assert!(!ailing_tasks().iter().any(|line| line.contains("test two")));
    }
}

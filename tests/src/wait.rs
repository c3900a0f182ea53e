//! Waiting for a condition, never for a time.

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Pause between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(15);

/// Looks until there is a value, and returns it; `what` is awaited names the condition in the error.
///
/// # Errors
/// The condition did not hold within `deadline` (with what the last look said), or a look failed.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Look<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match look().await? {
            Look::Found(value) => return Ok(value),
            Look::NotYet(seen) if Instant::now() >= end => {
                anyhow::bail!("waited {deadline:?} for {what}; at last: {seen}")
            }
            Look::NotYet(_) => sleep(INTERVAL).await,
        }
    }
}

/// What a look at a condition shows.
#[derive(Debug)]
pub enum Look<T> {
    /// The condition holds; waiting ends with this value.
    Found(T),
    /// It does not hold; what is there instead, for the error.
    NotYet(String),
}

impl<T> Look<T> {
    /// `Found` where there is a value.
    pub fn from_option(value: Option<T>, seen: impl Into<String>) -> Self {
        value.map_or_else(|| Self::NotYet(seen.into()), Self::Found)
    }
}

impl Look<()> {
    /// `Found` where it `holds`.
    pub fn from_bool(holds: bool, seen: impl Into<String>) -> Self {
        Self::from_option(holds.then_some(()), seen)
    }
}

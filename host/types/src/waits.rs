//! How long there is to wait for what comes after.

use std::time::Duration;

/// For so long a record is on its way from the request that makes it to a worker: as long as a relay and a worker rest on a busy host. Then
/// it is counted where it waits.
pub const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// How long records wait for some triggers of a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// How long the oldest that is worked on has waited, or had when it was taken since this was asked last.
    pub oldest: Duration,
    /// How long one that comes now will wait for the work on what is before it, where all triggers handle it one after another.
    pub ahead: Duration,
}

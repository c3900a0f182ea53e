//! What whoever runs the system sees of it: metrics, health, and how it ends.

mod admin;
mod commands;
mod cut;
mod deploy;
mod drain;
mod explain;
mod health;
mod logs;
mod metrics;
mod traces;
mod watch;

use tests::system::{Shared, Sharing};

/// The fnhost that the tests of this folder share.
async fn shared() -> anyhow::Result<Shared> {
    static SHARING: Sharing = Sharing::new();
    SHARING.fnhost().await
}

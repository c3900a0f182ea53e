//! Key-value stores, and the cache of orders and payments that is kept in one: in memory and in a real Redis.

mod outage;
mod races;
mod secured;
mod store;

use tests::system::{Shared, Sharing};

/// The fnhost that the tests of this folder share.
async fn shared() -> anyhow::Result<Shared> {
    static SHARING: Sharing = Sharing::new();
    SHARING.fnhost().await
}

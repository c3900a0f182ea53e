//! Whole orders, as readable stories over HTTP, and what is refused on the way.

mod attacks;
mod gateway;
mod keys;
mod live;
mod outage;
mod overload;
mod records;
mod refunds;
mod refusals;
mod routes;
mod stories;
mod viewers;

use tests::system::{Shared, Sharing};

/// The fnhost that the tests of this folder share.
async fn shared() -> anyhow::Result<Shared> {
    static SHARING: Sharing = Sharing::new();
    SHARING.fnhost().await
}

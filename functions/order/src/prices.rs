//! What products cost: remembered from the last time it was read, and held against the database by the statement that makes an order.

use crate::domain::Line;
use crate::sql;
use contract::event::Money;
use fnhost_sdk::cache::Cache;
use fnhost_sdk::{Sql, SqlError};
use std::collections::BTreeMap;

/// Lines of an order whose prices are looked for one after the other; those of a longer one are read in one statement.
const REMEMBERED_MAX: usize = 4;

/// By SKU.
pub type Prices = BTreeMap<String, Money>;

/// The prices of all lines as they were read last, which may be long ago; `None` where one is not remembered.
pub async fn remembered(cache: &impl Cache, lines: &[Line]) -> Option<Prices> {
    if lines.len() > REMEMBERED_MAX {
        return None;
    }
    let mut prices = Prices::new();
    for Line { sku, .. } in lines {
        let kept = cache.get(&key(sku)).await?;
        prices.insert(sku.clone(), serde_json::from_slice(&kept).ok()?);
    }
    Some(prices)
}

/// The prices of the lines, as far as there are any. They are remembered.
///
/// # Errors
/// What the database refused.
pub async fn read(host: &(impl Sql + Cache), lines: &[Line]) -> Result<Prices, SqlError> {
    let prices = sql::prices(host, lines.iter().map(|line| line.sku.clone())).await?;
    for (sku, price) in &prices {
        if let Ok(price) = serde_json::to_vec(price) {
            host.set(&key(sku), price).await;
        }
    }
    Ok(prices)
}

/// Under which a price is kept.
fn key(sku: &str) -> String {
    format!("price/{sku}")
}

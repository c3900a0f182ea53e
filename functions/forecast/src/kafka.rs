//! Demand and stock from the events of order and inventory.

use crate::domain::{Change, Day, Ledger, Lines, Placed, day_of, day_of_seconds};
use crate::{schedule, sql};
use contract::event::{Batch, Event, Item, Record, StockLevel};
use fnhost_sdk::Sql;
use fnhost_sdk::event::CloudEvent as _;
use fnhost_sdk::kafka::{Failure, Reply};
use fnhost_sdk::time::unix_seconds;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
enum Meaning<'a> {
    /// Something happened to an order.
    Order(i64, Change),
    /// These products were wanted and not there.
    Short(Vec<&'a str>),
    /// So much is there, at this time in milliseconds since 1970.
    Stock(&'a [StockLevel], i64),
}

/// Handles a batch of `order-events` or `inventory-events` in two or three statements however many records it has, or the ticks
/// of the schedule.
///
/// # Errors
/// What the database refused; nothing of the batch is kept then.
pub async fn handle<S: Sql>(db: &S, batch: Batch) -> Result<Reply, Failure> {
    let Batch { records, ticks, mut reply } = batch;
    if !ticks.is_empty() {
        return schedule::handle(db, ticks, reply).await;
    }
    let today = day_of_seconds(unix_seconds());
    let mut tasks = Vec::with_capacity(records.len());
    for record in &records {
        match meaning(record, today) {
            Ok(meaning) => tasks.push((record.event.order_id(), meaning)),
            Err(reason) => reply.reject(record, reason),
        }
    }
    let changed = tasks.iter().filter(|(_, meaning)| matches!(meaning, Meaning::Order(..)));
    let order_ids: BTreeSet<Uuid> = changed.map(|(order_id, _)| *order_id).collect();
    let mut ledger = Ledger::new(sql::lock_orders(db, &order_ids).await?);
    let mut stock: BTreeMap<&str, (&StockLevel, i64)> = BTreeMap::new();
    for (order_id, meaning) in tasks {
        match meaning {
            Meaning::Order(version, change) => ledger.apply(order_id, version, change),
            Meaning::Short(skus) => {
                skus.into_iter().for_each(|sku| ledger.note_shortage(sku, day_of(order_id, today)));
            }
            Meaning::Stock(levels, as_of) => {
                for level in levels {
                    let newest = stock.entry(&level.sku).or_insert((level, as_of));
                    if as_of >= newest.1 {
                        *newest = (level, as_of);
                    }
                }
            }
        }
    }
    sql::write(db, &ledger).await?;
    sql::write_stock(db, &stock).await?;
    Ok(reply)
}

/// What a record says; the error is the dead letter's reason.
fn meaning(record: &Record, today: Day) -> Result<Meaning<'_>, String> {
    let (version, change) = match &record.event {
        Event::OrderCreated(order) => {
            let placed = Placed {
                day: day_of(order.order_id, today),
                lines: lines(&order.items)?,
                total: order.total.amount,
            };
            (order.version, Change::Created(placed))
        }
        Event::OrderConfirmed(order) => (order.version, Change::Confirmed),
        Event::OrderRefunded(order) => (order.version, Change::Refunded(order.refunded.amount)),
        Event::OrderRejected(order) | Event::OrderCancelled(order) | Event::OrderExpired(order) => {
            (order.version, Change::Ended)
        }
        Event::InventoryRejected(rejected) => {
            return Ok(Meaning::Short(rejected.shortages.iter().map(|short| short.sku.as_str()).collect()));
        }
        Event::InventoryReserved(told) => return Ok(Meaning::Stock(&told.stock, sent_at(record))),
        Event::InventoryCommitted(told) | Event::InventoryReleased(told) => {
            return Ok(Meaning::Stock(&told.stock, sent_at(record)));
        }
        other => return Err(format!("forecast does not handle {}", other.event_type())),
    };
    if version < 1 {
        return Err(format!("version is {version}, and an order's first is 1"));
    }
    Ok(Meaning::Order(version, change))
}

/// When the event was sent: its id is a UUIDv7. One that is none is the oldest, so that it undoes nothing.
fn sent_at(record: &Record) -> i64 {
    let id = record.event_id.as_deref().and_then(|id| id.parse::<Uuid>().ok());
    let (seconds, nanos) =
        id.and_then(|id| id.get_timestamp()).map_or((0, 0), |timestamp| timestamp.to_unix());
    i64::try_from(seconds).unwrap_or_default() * 1000 + i64::from(nanos / 1_000_000)
}

/// The units of each product, lines of the same one added up.
fn lines(items: &[Item]) -> Result<Lines, String> {
    let mut lines = Lines::new();
    for (index, item) in items.iter().enumerate() {
        if item.quantity < 1 {
            return Err(format!("items[{index}].quantity is {}, and at least 1 is needed", item.quantity));
        }
        *lines.entry(item.sku.clone()).or_default() += i64::from(item.quantity);
    }
    Ok(lines)
}

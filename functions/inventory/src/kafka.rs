//! Inventory's side of the saga: order events in, what became of the stock out.

use crate::domain::{Change, Effect, Ledger, Lines, Stock};
use crate::sql;
use contract::event::{Batch, Record};
use contract::event::{Event, InventoryRejected, InventoryReserved, InventorySettled, Item, StockLevel};
use fnhost_sdk::Sql;
use fnhost_sdk::event::CloudEvent as _;
use fnhost_sdk::kafka::{Failure, Reply};
use std::collections::BTreeSet;
use uuid::Uuid;

/// An event that is to be applied.
struct Task<'a> {
    record: &'a Record,
    order_id: Uuid,
    version: i64,
    change: Change,
}

/// Handles a batch of `order-events`, in three statements however many records it has.
///
/// The stock is locked late and by SKU: batches of other partitions that want the same product wait from here until
/// this batch is committed, and never for each other in a circle.
///
/// # Errors
/// What the database refused; nothing of the batch is kept then.
pub async fn handle<S: Sql>(db: &S, batch: Batch) -> Result<Reply, Failure> {
    let Batch { records, mut reply, .. } = batch;
    let mut tasks = Vec::with_capacity(records.len());
    for record in &records {
        match task(record) {
            Ok(task) => tasks.push(task),
            Err(reason) => reply.reject(record, reason),
        }
    }
    let order_ids: BTreeSet<Uuid> = tasks.iter().map(|task| task.order_id).collect();
    let mut ledger = Ledger::new(sql::lock_reservations(db, &order_ids).await?);
    let skus: BTreeSet<&str> =
        tasks.iter().flat_map(|task| ledger.products(task.order_id, &task.change)).collect();
    let stock = sql::lock_stock(db, &skus).await?;
    ledger.set_stock(stock);
    for task in &tasks {
        match ledger.apply(task.order_id, task.version, &task.change) {
            Ok(effect) => {
                if let Some(event) = event(task, effect, &ledger) {
                    reply.emit(task.record, &event);
                }
            }
            Err(contradiction) => reply.reject(task.record, contradiction.0),
        }
    }
    sql::write(db, &ledger).await?;
    Ok(reply)
}

/// What a record asks for; the error is the dead letter's reason.
fn task(record: &Record) -> Result<Task<'_>, String> {
    let (version, change) = match &record.event {
        Event::OrderCreated(order) => (order.version, Change::Created(lines(&order.items)?)),
        Event::OrderConfirmed(order) => (order.version, Change::Confirmed),
        // Only a confirmed order is refunded, so this may stand for a confirmation that comes later. The goods stay sold.
        Event::OrderRefunded(order) => (order.version, Change::Confirmed),
        Event::OrderRejected(order) | Event::OrderCancelled(order) | Event::OrderExpired(order) => {
            (order.version, Change::Ended)
        }
        other => return Err(format!("inventory does not handle {}", other.event_type())),
    };
    if version < 1 {
        return Err(format!("version is {version}, and an order's first is 1"));
    }
    Ok(Task { record, order_id: record.event.order_id(), version, change })
}

/// The units of each product, lines of the same one added up.
fn lines(items: &[Item]) -> Result<Lines, String> {
    if items.is_empty() {
        return Err("items is empty".to_owned());
    }
    let mut lines = Lines::new();
    for (index, item) in items.iter().enumerate() {
        if item.quantity < 1 {
            return Err(format!("items[{index}].quantity is {}, and at least 1 is needed", item.quantity));
        }
        *lines.entry(item.sku.clone()).or_default() += i64::from(item.quantity);
    }
    Ok(lines)
}

/// What is told to the others, where there is anything to tell, with the stock as it is then.
fn event(task: &Task<'_>, effect: Effect, ledger: &Ledger) -> Option<Event> {
    let Task { order_id, version, .. } = *task;
    let stock = || ledger.levels(order_id).map(level).collect();
    Some(match effect {
        Effect::None => return None,
        Effect::Reserved => Event::InventoryReserved(InventoryReserved { order_id, version, stock: stock() }),
        Effect::Rejected { reason, shortages } => {
            Event::InventoryRejected(InventoryRejected { order_id, version, reason, shortages })
        }
        Effect::Committed => Event::InventoryCommitted(InventorySettled { order_id, stock: stock() }),
        Effect::Released => Event::InventoryReleased(InventorySettled { order_id, stock: stock() }),
    })
}

fn level((sku, stock): (&str, Stock)) -> StockLevel {
    StockLevel { sku: sku.to_owned(), on_hand: stock.on_hand, reserved: stock.reserved }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::event::{Money, OrderCreated};

    fn record(event: Event) -> Record {
        Record { index: 0, event, event_id: None, traceparent: None, attempt: 1, last_attempt: false }
    }

    fn created(version: i64, items: &[(&str, i32)]) -> Record {
        let item = |(sku, quantity): &(&str, i32)| Item {
            sku: (*sku).to_owned(),
            quantity: *quantity,
            unit_price: 1,
        };
        record(Event::OrderCreated(OrderCreated {
            order_id: Uuid::from_u128(1),
            user_id: Uuid::from_u128(2),
            version,
            items: items.iter().map(item).collect(),
            total: Money { amount: 1, currency: "EUR".to_owned() },
            payment_token: String::new(),
        }))
    }

    #[test]
    fn lines_of_the_same_product_are_added_up() {
        let record = created(1, &[("B", 2), ("A", 1), ("B", i32::MAX)]);
        let lines = [("A".to_owned(), 1), ("B".to_owned(), 2 + i64::from(i32::MAX))];
        assert_eq!(task(&record).unwrap().change, Change::Created(Lines::from(lines)));
    }

    #[test]
    fn what_no_order_can_ask_for_is_a_dead_letter() {
        let settled =
            Event::InventoryCommitted(InventorySettled { order_id: Uuid::from_u128(1), stock: vec![] });
        for (record, expected) in [
            (created(1, &[]), "items is empty"),
            (created(1, &[("A", 1), ("B", 0)]), "items[1].quantity is 0, and at least 1 is needed"),
            (created(1, &[("A", -5)]), "items[0].quantity is -5, and at least 1 is needed"),
            (created(0, &[("A", 1)]), "version is 0, and an order's first is 1"),
            (record(settled), "inventory does not handle inventory.committed"),
        ] {
            assert_eq!(task(&record).err().as_deref(), Some(expected));
        }
    }
}

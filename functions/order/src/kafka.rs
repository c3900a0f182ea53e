//! The order's side of the saga: what inventory and payment answered.

use crate::domain::{self, Step, Transition};
use crate::expiry;
use crate::sql::{self, Changes, Entry, Known};
use contract::event::{Batch, Record};
use contract::event::{Event, Money, Notice, NotificationRequested, OrderChanged, OrderStatus};
use fnhost_sdk::Sql;
use fnhost_sdk::event::CloudEvent as _;
use fnhost_sdk::kafka::{Failure, Reply};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Handles a batch of inventory-events or payment-events in two statements: one reads and locks, one writes.
///
/// # Errors
/// What the database refused.
pub async fn handle<S: Sql>(db: &S, batch: Batch) -> Result<Reply, Failure> {
    let Batch { records, ticks, mut reply } = batch;
    if !ticks.is_empty() {
        return expiry::handle(db, ticks, reply).await;
    }
    let meanings: Vec<_> = records.iter().map(|record| Meaning::of(&record.event)).collect();
    let ids = |deciding: bool| -> BTreeSet<Uuid> {
        let of_kind = |meaning: &Meaning| {
            matches!(meaning, Meaning::Step(_)) == deciding && *meaning != Meaning::NotOurs
        };
        let chosen = records.iter().zip(&meanings).filter(|(_, meaning)| of_kind(meaning));
        chosen.map(|(record, _)| record.event.order_id()).collect()
    };
    let deciding = ids(true);
    let noted = ids(false).difference(&deciding).copied().collect();
    let mut known = sql::read_and_lock(db, &deciding, &noted).await?;

    let mut changes = Changes::default();
    for (record, meaning) in records.iter().zip(meanings) {
        let order_id = record.event.order_id();
        if meaning == Meaning::NotOurs {
            reply.reject(record, format!("order does not handle {}", record.event.event_type()));
            continue;
        }
        let Some(order) = known.get_mut(&order_id) else {
            reply.reject(record, format!("there is no order {order_id}"));
            continue;
        };
        changes.add_entry(Entry::new(&record.event));
        match meaning {
            Meaning::Step(step) => {
                let before = order.order.clone();
                if let Some(transition) = order.order.take(step) {
                    announce(&mut reply, record, order, &transition);
                    changes.add_entry(Entry::of_transition(order_id, &transition));
                    order.reason = transition.reason;
                }
                if order.order != before {
                    changes.add_order(order_id);
                }
            }
            Meaning::Refund(amount) => {
                reply.emit(record, &notification(order, Notice::Refunded, Some(amount.to_string())));
            }
            Meaning::Note | Meaning::NotOurs => {}
        }
    }
    changes.store(db, &known).await?;
    Ok(reply)
}

/// The events that tell of a change of status: to the other functions, and to the customer.
#[must_use]
pub fn announcement(order_id: Uuid, user_id: Uuid, transition: &Transition) -> Vec<Event> {
    let Transition { status, version, reason } = transition.clone();
    let changed = OrderChanged { order_id, user_id, version, status, reason: reason.clone() };
    let event = match status {
        OrderStatus::Pending => return Vec::new(),
        OrderStatus::Confirmed => Event::OrderConfirmed(changed),
        OrderStatus::Rejected | OrderStatus::PaymentFailed => Event::OrderRejected(changed),
        OrderStatus::Cancelled => Event::OrderCancelled(changed),
        OrderStatus::Expired => Event::OrderExpired(changed),
    };
    let notification = domain::notice(status).map(|status| {
        Event::NotificationRequested(NotificationRequested { order_id, user_id, status, reason })
    });
    [event].into_iter().chain(notification).collect()
}

/// What an event is to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    /// It may change it.
    Step(Step),
    /// It only belongs to its history.
    Note,
    /// So much money went back: it belongs to its history, and the customer is told.
    Refund(Money),
    /// It was not meant for us.
    NotOurs,
}

impl Meaning {
    fn of(event: &Event) -> Self {
        match event {
            Event::InventoryReserved(_) => Self::Step(Step::Reserved),
            Event::InventoryRejected(rejected) => Self::Step(Step::OutOfStock(rejected.reason.clone())),
            Event::PaymentAuthorized(_) => Self::Step(Step::Authorized),
            Event::PaymentDeclined(declined) => Self::Step(Step::Declined(declined.reason.clone())),
            Event::PaymentRefunded(refunded) => Self::Refund(refunded.amount.clone()),
            Event::InventoryCommitted(_)
            | Event::InventoryReleased(_)
            | Event::PaymentCaptured(_)
            | Event::PaymentVoided(_) => Self::Note,
            Event::OrderCreated(_)
            | Event::OrderConfirmed(_)
            | Event::OrderRejected(_)
            | Event::OrderCancelled(_)
            | Event::OrderExpired(_)
            | Event::OrderRefunded(_)
            | Event::NotificationRequested(_)
            | Event::MailRequested(_) => Self::NotOurs,
        }
    }
}

fn announce(reply: &mut Reply, cause: &Record, order: &Known, transition: &Transition) {
    for event in announcement(cause.event.order_id(), order.user_id, transition) {
        reply.emit(cause, &event);
    }
}

fn notification(order: &Known, status: Notice, reason: Option<String>) -> Event {
    let Known { order_id, user_id, .. } = *order;
    Event::NotificationRequested(NotificationRequested { order_id, user_id, status, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Order;
    use contract::event::InventorySettled;
    use fnhost_sdk::kafka::{Header, Message, Outcome};
    use fnhost_sdk::{Row, SqlError, Value};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    struct NoDatabase;

    impl Sql for NoDatabase {
        async fn query(&self, statement: &'static str, _: Vec<Value>) -> Result<Vec<Row>, SqlError> {
            Err(SqlError::new(None, statement))
        }

        async fn execute(&self, statement: &'static str, _: Vec<Value>) -> Result<u64, SqlError> {
            Err(SqlError::new(None, statement))
        }
    }

    fn message(event: &Event) -> Message {
        Message {
            key: Some(event.order_id().to_string().into_bytes()),
            value: Some(event.to_json()),
            headers: vec![Header { name: "ce_type".to_owned(), value: event.event_type().into() }],
            attempt: 1,
            last_attempt: false,
        }
    }

    fn answer(messages: Vec<Message>) -> Result<Reply, Failure> {
        let call = pin!(handle(&NoDatabase, Batch::decode(messages)));
        let Poll::Ready(answer) = call.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it waits")
        };
        answer
    }

    fn changed(status: OrderStatus) -> Transition {
        Transition { status, version: 2, reason: None }
    }

    #[test]
    fn a_batch_of_what_is_not_ours_is_rejected_without_a_statement() {
        let events = announcement(Uuid::from_u128(1), Uuid::from_u128(2), &changed(OrderStatus::Confirmed));
        let broken = Message { value: None, ..message(&events[0]) };
        let reply = answer(vec![message(&events[0]), broken, message(&events[1])]).unwrap();
        let expected = [
            "order does not handle order.confirmed",
            "a tombstone is no event",
            "order does not handle notification.requested",
        ];
        assert_eq!(reply.outcomes, expected.map(|reason| Outcome::Reject(reason.to_owned())));
        assert!(reply.emits.is_empty());
    }

    #[test]
    fn what_the_database_refuses_fails_the_batch() {
        let released =
            Event::InventoryReleased(InventorySettled { order_id: Uuid::from_u128(1), stock: vec![] });
        let failure = answer(vec![message(&released)]).unwrap_err();
        assert_eq!(failure, Failure { reason: sql::READ_AND_LOCK.to_owned(), message: None });
    }

    #[test]
    fn every_final_status_is_announced_and_told_once() {
        let (order_id, user_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for (status, expected) in [
            (OrderStatus::Confirmed, "order.confirmed"),
            (OrderStatus::Rejected, "order.rejected"),
            (OrderStatus::PaymentFailed, "order.rejected"),
            (OrderStatus::Cancelled, "order.cancelled"),
            (OrderStatus::Expired, "order.expired"),
        ] {
            let events = announcement(order_id, user_id, &changed(status));
            let types: Vec<_> = events.iter().map(Event::event_type).collect();
            assert_eq!(types, [expected, "notification.requested"]);
            assert_eq!(sql::entry_event(status), expected, "the timeline names the event");
        }
        assert!(announcement(order_id, user_id, &changed(Order::new().status)).is_empty());
    }
}

//! Payment's side of the saga: order events in, what became of the money out.

use crate::domain::{self, Change, Decision, Effect, Payment, Subject};
use crate::gateway::{Answer, Gateway, Request};
use crate::sql;
use contract::event::{Batch, Record};
use contract::event::{
    Event, Money, OrderChanged, OrderCreated, OrderRefunded, PaymentAuthorized, PaymentDeclined,
    PaymentSettled,
};
use fnhost_sdk::Host;
use fnhost_sdk::client::Client;
use fnhost_sdk::event::CloudEvent as _;
use fnhost_sdk::kafka::{Failure, Reply};
use fnhost_sdk::time::Ids;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The variable that says where the gateway is.
const GATEWAY_URL: &str = "gateway_url";
/// The variable that says for how many milliseconds an answer of the gateway is waited for.
const GATEWAY_WAIT_MS: &str = "gateway_wait_ms";

/// An event that is to be decided on.
struct Task<'a> {
    record: &'a Record,
    user_id: Uuid,
    version: i64,
    /// None where an earlier event of the order has no answer yet.
    change: Option<Change>,
}

/// Handles a batch of `order-events`: asks the gateway, then reads and writes in two statements however many records
/// there are.
///
/// # Errors
/// What the database refused, or a variable that is missing; nothing of the batch is kept then. What the gateway was asked
/// it was asked under keys, and says the same again.
pub async fn handle<H: Host + Client>(host: &H, batch: Batch) -> Result<Reply, Failure> {
    let Batch { records, mut reply, .. } = batch;
    let url = host.variable(GATEWAY_URL).await?;
    let wait_ms = host.variable(GATEWAY_WAIT_MS).await?;
    let wait_ms = wait_ms
        .parse()
        .map_err(|_| format!("{GATEWAY_WAIT_MS} = {wait_ms:?} is no number of milliseconds"))?;
    // Before the first statement, so that no lock and no connection waits for the gateway.
    let tasks = tasks(&Gateway::new(host, &url, wait_ms), &records, &mut reply).await;
    let order_ids: BTreeSet<Uuid> = tasks.iter().map(|task| task.record.event.order_id()).collect();
    let mut payments = sql::lock_payments(host, &order_ids).await?;
    let mut changed = BTreeSet::new();
    let mut waiting = BTreeSet::new();
    let mut ids = Ids::new();
    for Task { record, user_id, version, change } in tasks {
        let order_id = record.event.order_id();
        let Some(change) = change.filter(|_| !waiting.contains(&order_id)) else {
            reply.retry(record, "an earlier event of this order waits for the payment gateway");
            continue;
        };
        let subject = Subject { user_id, version, new_payment_id: ids.next() };
        match domain::decide(payments.get(&order_id), subject, &change) {
            Decision::Stale => {}
            Decision::Write(payment, effects) => {
                for event in effects.into_iter().filter_map(|effect| event(order_id, &payment, effect)) {
                    reply.emit(record, &event);
                }
                payments.insert(order_id, payment);
                changed.insert(order_id);
            }
            Decision::Retry(reason) => {
                reply.retry(record, reason);
                waiting.insert(order_id);
            }
            Decision::Contradiction(reason) => reply.reject(record, reason),
        }
    }
    payments.retain(|order_id, _| changed.contains(order_id));
    sql::write(host, &payments).await?;
    Ok(reply)
}

/// What the records ask for, with the gateway's answers, in their order; what is no event for payment is rejected.
async fn tasks<'a, C: Client>(
    gateway: &Gateway<'_, C>,
    records: &'a [Record],
    reply: &mut Reply,
) -> Vec<Task<'a>> {
    let mut accepted: Vec<(&Record, usize)> = Vec::with_capacity(records.len());
    // By order: what follows on a request without an answer is not asked.
    let mut orders: Vec<(Uuid, Vec<Request<'_>>)> = Vec::new();
    let mut places: BTreeMap<Uuid, usize> = BTreeMap::new();
    for record in records {
        if let Err(reason) = check(&record.event) {
            reply.reject(record, reason);
            continue;
        }
        let Some(request) = request(&record.event) else { continue };
        let order_id = record.event.order_id();
        let place = *places.entry(order_id).or_insert(orders.len());
        if place == orders.len() {
            orders.push((order_id, Vec::new()));
        }
        orders[place].1.push(request);
        accepted.push((record, place));
    }
    let answers = gateway.ask_all(&orders).await;
    let mut answers: Vec<_> = answers.into_iter().map(Vec::into_iter).collect();
    let mut tasks = Vec::with_capacity(accepted.len());
    for (record, place) in accepted {
        let answer = answers[place].next().flatten();
        tasks.extend(task(gateway, record, answer).await);
    }
    tasks
}

/// What an event asks of the gateway.
fn request(event: &Event) -> Option<Request<'_>> {
    Some(match event {
        Event::OrderCreated(OrderCreated { total, payment_token, .. }) => {
            Request::Authorize { amount: total, token: payment_token }
        }
        Event::OrderConfirmed(_) => Request::Capture,
        Event::OrderRefunded(OrderRefunded { refunded, .. }) => Request::Refund(refunded.amount),
        Event::OrderRejected(_) | Event::OrderCancelled(_) | Event::OrderExpired(_) => Request::Cancel,
        _ => return None,
    })
}

/// A record with its answer, where it was asked for one.
async fn task<'a, C: Client>(
    gateway: &Gateway<'_, C>,
    record: &'a Record,
    answer: Option<Answer>,
) -> Option<Task<'a>> {
    let (user_id, version, change) = match &record.event {
        Event::OrderCreated(OrderCreated { order_id, user_id, version, total, .. }) => {
            let gives_up = |answer: &Answer| domain::gives_up(answer, record.attempt, record.last_attempt);
            if answer.as_ref().is_some_and(gives_up) {
                // It may be held all the same. Where this has no answer either, the order's end asks again.
                gateway.ask(*order_id, &Request::Cancel).await;
            }
            let created = |answer: Answer| {
                let gives_up = gives_up(&answer);
                Change::Created { amount: total.clone(), answer, gives_up }
            };
            (*user_id, *version, answer.map(created))
        }
        Event::OrderConfirmed(OrderChanged { user_id, version, .. }) => {
            (*user_id, *version, answer.map(Change::Confirmed))
        }
        Event::OrderRefunded(OrderRefunded { user_id, version, refunded, .. }) => {
            (*user_id, *version, answer.map(|answer| Change::Refunded(refunded.amount, answer)))
        }
        Event::OrderRejected(OrderChanged { user_id, version, .. })
        | Event::OrderCancelled(OrderChanged { user_id, version, .. })
        | Event::OrderExpired(OrderChanged { user_id, version, .. }) => {
            (*user_id, *version, answer.map(Change::Ended))
        }
        _ => return None,
    };
    Some(Task { record, user_id, version, change })
}

/// Refuses what payment does not handle or no order can ask for; the error is the dead letter's reason.
fn check(event: &Event) -> Result<(), String> {
    let version = match event {
        Event::OrderCreated(order) => {
            let Money { amount, currency } = &order.total;
            if *amount < 0 {
                return Err(format!("total.amount is {amount}, and nothing less than 0 can be paid"));
            }
            if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return Err(format!("total.currency is {currency:?}, which is no ISO 4217 code"));
            }
            if order.items.is_empty() {
                return Err("items is empty".to_owned());
            }
            if let Some(index) = order.items.iter().position(|item| item.quantity < 1) {
                return Err(format!("items[{index}].quantity is less than 1"));
            }
            order.version
        }
        Event::OrderConfirmed(order)
        | Event::OrderRejected(order)
        | Event::OrderCancelled(order)
        | Event::OrderExpired(order) => order.version,
        Event::OrderRefunded(order) => {
            let Money { amount, .. } = order.refunded;
            if amount < 0 {
                return Err(format!("refunded.amount is {amount}, and nothing less than 0 goes back"));
            }
            order.version
        }
        other => return Err(format!("payment does not handle {}", other.event_type())),
    };
    if version < 1 {
        return Err(format!("version is {version}, and an order's first is 1"));
    }
    Ok(())
}

/// What is told to the others, where there is anything to tell.
fn event(order_id: Uuid, payment: &Payment, effect: Effect) -> Option<Event> {
    let payment_id = payment.payment_id;
    if effect == Effect::Declined {
        let reason = payment.reason.clone().unwrap_or_default();
        return Some(Event::PaymentDeclined(PaymentDeclined { order_id, reason }));
    }
    // Money that was held has an amount.
    let amount = payment.amount.clone()?;
    let money = |minor_units| Money { amount: minor_units, currency: amount.currency.clone() };
    let settled = PaymentSettled { order_id, payment_id, amount: amount.clone(), refunded: None };
    Some(match effect {
        Effect::Declined => return None,
        Effect::Authorized => Event::PaymentAuthorized(PaymentAuthorized { order_id, payment_id, amount }),
        Effect::Captured => Event::PaymentCaptured(settled),
        Effect::Voided => Event::PaymentVoided(settled),
        Effect::Refunded(now) => Event::PaymentRefunded(PaymentSettled {
            amount: money(now),
            refunded: Some(money(payment.refunded)),
            ..settled
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::event::{InventorySettled, Item, OrderStatus};

    const ORDER: Uuid = Uuid::from_u128(1);
    const USER: Uuid = Uuid::from_u128(2);

    fn created(change: impl FnOnce(&mut OrderCreated)) -> Event {
        let mut order = OrderCreated {
            order_id: ORDER,
            user_id: USER,
            version: 1,
            items: vec![Item { sku: "A".to_owned(), quantity: 1, unit_price: 5 }],
            total: Money { amount: 5, currency: "EUR".to_owned() },
            payment_token: "tok_ok".to_owned(),
        };
        change(&mut order);
        Event::OrderCreated(order)
    }

    #[test]
    fn what_no_order_can_ask_for_is_a_dead_letter() {
        let status = OrderStatus::Cancelled;
        let end = OrderChanged { order_id: ORDER, user_id: USER, version: 0, status, reason: None };
        let settled = Event::InventoryCommitted(InventorySettled { order_id: ORDER, stock: vec![] });
        for (event, expected) in [
            (created(|_| {}), None),
            (created(|order| order.total.amount = 0), None),
            (
                created(|order| order.total.amount = -1),
                Some("total.amount is -1, and nothing less than 0 can be paid"),
            ),
            (
                created(|order| order.total.currency = "eur".to_owned()),
                Some("total.currency is \"eur\", which is no ISO 4217 code"),
            ),
            (created(|order| order.items.clear()), Some("items is empty")),
            (created(|order| order.items[0].quantity = 0), Some("items[0].quantity is less than 1")),
            (created(|order| order.version = 0), Some("version is 0, and an order's first is 1")),
            (Event::OrderCancelled(end), Some("version is 0, and an order's first is 1")),
            (settled, Some("payment does not handle inventory.committed")),
        ] {
            assert_eq!(check(&event).err().as_deref(), expected, "{event:?}");
        }
    }

    #[test]
    fn only_money_that_was_held_is_told_of() {
        let held = Payment {
            payment_id: Uuid::from_u128(3),
            user_id: USER,
            amount: Some(Money { amount: 5, currency: "EUR".to_owned() }),
            state: domain::State::Declined,
            refunded: 4,
            reason: Some("no".to_owned()),
            version: 1,
        };
        let told = |effect| event(ORDER, &held, effect).map(|event| event.event_type());
        assert_eq!(told(Effect::Authorized), Some("payment.authorized"));
        assert_eq!(told(Effect::Declined), Some("payment.declined"));
        assert_eq!(told(Effect::Captured), Some("payment.captured"));
        assert_eq!(told(Effect::Voided), Some("payment.voided"));
        let Some(Event::PaymentRefunded(refunded)) = event(ORDER, &held, Effect::Refunded(3)) else {
            panic!("a refund is told")
        };
        assert_eq!((refunded.amount.amount, refunded.refunded.map(|money| money.amount)), (3, Some(4)));
        let unknown = Payment { amount: None, ..held };
        assert_eq!(event(ORDER, &unknown, Effect::Voided), None);
    }
}

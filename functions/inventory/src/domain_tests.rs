//! Tables of cases: every pair of events in both orders, and orders competing inside one batch.

use super::*;

const ORDER: Uuid = Uuid::from_u128(1);
const ON_HAND: i64 = 10;

fn lines(lines: &[(&str, i64)]) -> Lines {
    lines.iter().map(|(sku, quantity)| ((*sku).to_owned(), *quantity)).collect()
}

fn created(quantity: i64) -> (i64, Change) {
    (1, Change::Created(lines(&[("A", quantity)])))
}

fn confirmed() -> (i64, Change) {
    (2, Change::Confirmed)
}

fn rejected() -> (i64, Change) {
    (2, Change::Ended)
}

fn cancelled() -> (i64, Change) {
    (3, Change::Ended)
}

/// As `order.refunded` is to inventory: a confirmation of a higher version.
fn refunded() -> (i64, Change) {
    (3, Change::Confirmed)
}

fn expired() -> (i64, Change) {
    (2, Change::Ended)
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.set_stock(BTreeMap::from([("A".to_owned(), Stock { on_hand: ON_HAND, reserved: 0 })]));
    ledger
}

/// What an effect is called in the tables below; `-` is none and `!` a contradiction.
fn name(effect: &Result<Effect, Contradiction>) -> &'static str {
    match effect {
        Ok(Effect::None) => "-",
        Ok(Effect::Reserved) => "reserved",
        Ok(Effect::Rejected { .. }) => "rejected",
        Ok(Effect::Committed) => "committed",
        Ok(Effect::Released) => "released",
        Err(_) => "!",
    }
}

/// Applies events of one order and compares effects, final state, on hand and reserved.
fn check(events: &[(i64, Change)], effects: &[&str], state: State, stock: (i64, i64)) {
    let mut ledger = ledger();
    let found: Vec<_> =
        events.iter().map(|(version, change)| name(&ledger.apply(ORDER, *version, change))).collect();
    assert_eq!(found, effects, "effects of {events:?}");
    let accepted =
        events.iter().zip(effects).filter(|(_, effect)| **effect != "!").map(|(event, _)| event.0).max();
    let reservation = &ledger.reservations[&ORDER];
    assert_eq!((reservation.state, Some(reservation.version)), (state, accepted), "state after {events:?}");
    let (on_hand, reserved) = stock;
    assert_eq!(ledger.stock["A"], Stock { on_hand, reserved }, "stock after {events:?}");
}

#[rustfmt::skip] // a table: one case a line
#[test]
fn every_pair_of_events_in_both_orders() {
    use State::{Committed, Rejected, Released, Reserved};
    let few = || created(3);
    let many = || created(ON_HAND + 1);
    check(&[few(), few()], &["reserved", "-"], Reserved, (10, 3));
    check(&[few(), confirmed()], &["reserved", "committed"], Committed, (7, 0));
    check(&[few(), rejected()], &["reserved", "released"], Released, (10, 0));
    check(&[few(), cancelled()], &["reserved", "released"], Released, (10, 0));
    check(&[many(), many()], &["rejected", "-"], Rejected, (10, 0));
    check(&[many(), confirmed()], &["rejected", "!"], Rejected, (10, 0));
    check(&[many(), rejected()], &["rejected", "-"], Rejected, (10, 0));
    check(&[many(), cancelled()], &["rejected", "-"], Rejected, (10, 0));
    check(&[confirmed(), few()], &["!", "reserved"], Reserved, (10, 3));
    check(&[rejected(), few()], &["-", "-"], Released, (10, 0));
    check(&[cancelled(), few()], &["-", "-"], Released, (10, 0));
    check(&[rejected(), cancelled()], &["-", "-"], Released, (10, 0));
    check(&[cancelled(), rejected()], &["-", "-"], Released, (10, 0));
    check(&[confirmed(), rejected()], &["!", "-"], Released, (10, 0));
    check(&[rejected(), confirmed()], &["-", "-"], Released, (10, 0));
    check(&[confirmed(), cancelled()], &["!", "-"], Released, (10, 0));
    check(&[cancelled(), confirmed()], &["-", "-"], Released, (10, 0));
    check(&[few(), expired()], &["reserved", "released"], Released, (10, 0));
    check(&[expired(), few()], &["-", "-"], Released, (10, 0));
    check(&[many(), expired()], &["rejected", "-"], Rejected, (10, 0));
    check(&[expired(), cancelled()], &["-", "-"], Released, (10, 0));
    check(&[few(), refunded()], &["reserved", "committed"], Committed, (7, 0));
    check(&[refunded(), few()], &["!", "reserved"], Reserved, (10, 3));
    check(&[many(), refunded()], &["rejected", "!"], Rejected, (10, 0));
    check(&[refunded(), cancelled()], &["!", "-"], Released, (10, 0));
    check(&[cancelled(), refunded()], &["-", "-"], Released, (10, 0));
}

#[rustfmt::skip] // a table: one case a line
#[test]
fn every_pair_after_the_creation_in_both_orders() {
    use State::{Committed, Released};
    check(&[created(3), confirmed(), confirmed()], &["reserved", "committed", "-"], Committed, (7, 0));
    check(&[created(3), confirmed(), cancelled()], &["reserved", "committed", "released"], Released, (10, 0));
    check(&[created(3), cancelled(), confirmed()], &["reserved", "released", "-"], Released, (10, 0));
    check(&[created(3), rejected(), cancelled()], &["reserved", "released", "-"], Released, (10, 0));
    check(&[created(3), cancelled(), rejected()], &["reserved", "released", "-"], Released, (10, 0));
    check(&[created(3), confirmed(), created(3)], &["reserved", "committed", "-"], Committed, (7, 0));
    check(&[created(3), cancelled(), cancelled()], &["reserved", "released", "-"], Released, (10, 0));
    // A refund before its confirmation stands for it, and after it moves nothing; a cancellation after it brings goods back.
    check(&[created(3), refunded(), confirmed()], &["reserved", "committed", "-"], Committed, (7, 0));
    check(&[created(3), confirmed(), refunded()], &["reserved", "committed", "-"], Committed, (7, 0));
    check(&[created(3), refunded(), (4, Change::Ended)], &["reserved", "committed", "released"], Released, (10, 0));
    check(&[created(3), (4, Change::Ended), refunded()], &["reserved", "released", "-"], Released, (10, 0));
    check(&[created(3), expired(), refunded()], &["reserved", "released", "!"], Released, (10, 0));
    // A confirmation that is newer than the end of the order contradicts it.
    check(&[created(3), rejected(), (4, Change::Confirmed)], &["reserved", "released", "!"], Released, (10, 0));
    // A newer confirmation of what is committed moves nothing again.
    check(&[created(3), confirmed(), (4, Change::Confirmed)], &["reserved", "committed", "-"], Committed, (7, 0));
}

#[test]
fn orders_of_one_batch_compete_in_its_order_all_or_nothing() {
    let mut ledger = Ledger::default();
    let level = |on_hand, reserved| Stock { on_hand, reserved };
    ledger.set_stock(BTreeMap::from([("A".to_owned(), level(5, 1)), ("B".to_owned(), level(2, 0))]));
    let mut place = |order: u128, wanted: &[(&str, i64)]| {
        name(&ledger.apply(Uuid::from_u128(order), 1, &Change::Created(lines(wanted))))
    };
    assert_eq!(place(1, &[("A", 2), ("B", 1)]), "reserved");
    assert_eq!(place(2, &[("A", 1), ("B", 2)]), "rejected", "B has one left, and A must stay whole");
    assert_eq!(place(3, &[("A", 3)]), "rejected", "A has two left");
    assert_eq!(place(4, &[("A", 2), ("B", 1)]), "reserved", "a later and smaller order still fits");
    assert_eq!(place(5, &[("A", 1)]), "rejected", "nothing is left");
    assert_eq!(place(6, &[("C", 1)]), "rejected", "a product that does not exist");
    let moved: Vec<_> = ledger.moved().collect();
    assert_eq!(moved, [("A", level(0, 4)), ("B", level(0, 2))]);
    let new_lines: Vec<_> =
        ledger.new_lines().map(|(id, sku, quantity)| (id.as_u128(), sku, quantity)).collect();
    assert_eq!(new_lines, [(1, "A", 2), (1, "B", 1), (4, "A", 2), (4, "B", 1)]);
    assert_eq!(ledger.written().count(), 6);
}

#[test]
fn a_rejection_names_each_short_product() {
    let mut ledger = ledger();
    let effect = ledger.apply(ORDER, 1, &Change::Created(lines(&[("A", 12), ("GONE", 1)]))).unwrap();
    let shortage = |sku: &str, requested, available| Shortage { sku: sku.to_owned(), requested, available };
    let expected = Effect::Rejected {
        reason: "A has 10 of 12 left, GONE is out of stock".to_owned(),
        shortages: vec![shortage("A", 12, 10), shortage("GONE", 1, 0)],
    };
    assert_eq!(effect, expected);
}

#[test]
fn what_returns_in_a_batch_is_available_to_its_next_order() {
    let mut ledger = ledger();
    let other = Uuid::from_u128(2);
    let all = Change::Created(lines(&[("A", ON_HAND)]));
    assert_eq!(ledger.apply(ORDER, 1, &all), Ok(Effect::Reserved));
    assert_eq!(ledger.apply(ORDER, 2, &Change::Ended), Ok(Effect::Released));
    assert_eq!(ledger.apply(other, 1, &all), Ok(Effect::Reserved));
    assert_eq!(ledger.moved().collect::<Vec<_>>(), [("A", Stock { on_hand: 0, reserved: ON_HAND })]);
}

#[test]
fn only_products_that_can_move_are_locked() {
    let held =
        Reservation { state: State::Reserved, reason: None, version: 1, lines: lines(&[("A", 1), ("B", 1)]) };
    let ledger = Ledger::new(BTreeMap::from([(ORDER, held)]));
    let new = Change::Created(lines(&[("C", 1)]));
    let skus =
        |order_id, change: &Change| ledger.products(order_id, change).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(skus(ORDER, &Change::Confirmed), ["A", "B"]);
    assert_eq!(skus(ORDER, &new), [""; 0], "a creation that is known already");
    assert_eq!(skus(Uuid::from_u128(2), &new), ["C"]);
    assert_eq!(skus(Uuid::from_u128(2), &Change::Ended), [""; 0]);
}

#[test]
fn state_names_survive() {
    for state in State::ALL {
        assert_eq!(State::from_name(state.as_str()), Some(state));
    }
    assert_eq!(State::from_name("reserved"), None);
}

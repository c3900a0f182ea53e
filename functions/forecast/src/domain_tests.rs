//! Tables of cases: every pair of events in both orders.

use super::*;

const ORDER: Uuid = Uuid::from_u128(1);
const DAY: Day = 20_000;
const TOTAL: i64 = 900;

fn created() -> (i64, Change) {
    (1, Change::Created(Placed { day: DAY, lines: Lines::from([("A".to_owned(), 3)]), total: TOTAL }))
}

/// The units of the day after these events, in one batch and each in a batch of its own.
fn units(events: &[(i64, Change)]) -> i64 {
    let mut once = Ledger::default();
    let mut known = BTreeMap::new();
    let mut apart = 0;
    for (version, change) in events {
        once.apply(ORDER, *version, change.clone());
        let mut ledger = Ledger::new(known);
        ledger.apply(ORDER, *version, change.clone());
        apart += ledger.added().map(|(_, _, added)| added.units).sum::<i64>();
        known = ledger.orders;
    }
    let together = once.added().map(|(_, _, added)| added.units).sum();
    assert_eq!(apart, together, "batches make no difference: {events:?}");
    together
}

#[rustfmt::skip] // a table: one case a line
#[test]
fn every_pair_of_events_in_both_orders() {
    let confirmed = || (2, Change::Confirmed);
    let rejected = || (2, Change::Ended);
    let cancelled = || (3, Change::Ended);
    let part = || (3, Change::Refunded(TOTAL - 1));
    let all = || (3, Change::Refunded(TOTAL));
    for (events, expected) in [
        (vec![created()], 0),
        (vec![created(), created()], 0),
        (vec![created(), confirmed()], 3),
        (vec![confirmed(), created()], 3),
        (vec![created(), rejected()], 0),
        (vec![rejected(), created()], 0),
        (vec![created(), part()], 3),
        (vec![part(), created()], 3),
        (vec![created(), all()], 0),
        (vec![all(), created()], 0),
        (vec![created(), confirmed(), created()], 3),
        (vec![created(), confirmed(), confirmed()], 3),
        (vec![created(), confirmed(), cancelled()], 0),
        (vec![created(), cancelled(), confirmed()], 0),
        (vec![confirmed(), cancelled(), created()], 0),
        (vec![created(), confirmed(), part()], 3),
        (vec![created(), part(), confirmed()], 3),
        (vec![created(), confirmed(), all()], 0),
        (vec![created(), all(), confirmed()], 0),
        (vec![created(), confirmed(), all(), (4, Change::Ended)], 0),
        // Two refunds that change places come to the same.
        (vec![created(), confirmed(), (4, Change::Refunded(TOTAL)), part()], 0),
        (vec![created(), (4, Change::Refunded(5)), all()], 0),
    ] {
        assert_eq!(units(&events), expected, "{events:?}");
    }
}

#[test]
fn what_comes_again_changes_nothing() {
    let mut ledger = Ledger::default();
    ledger.apply(ORDER, 1, created().1);
    ledger.apply(ORDER, 2, Change::Confirmed);
    let mut again = Ledger::new(ledger.orders.clone());
    again.apply(ORDER, 1, created().1);
    again.apply(ORDER, 2, Change::Confirmed);
    assert_eq!((again.orders().count(), again.added().count()), (0, 0));
}

#[test]
fn a_shortage_marks_the_day_and_adds_no_units() {
    let mut ledger = Ledger::default();
    ledger.note_shortage("A", DAY);
    ledger.note_shortage("A", DAY);
    assert_eq!(ledger.added().collect::<Vec<_>>(), [("A", DAY, Added { units: 0, short: true })]);
}

#[test]
fn the_day_is_in_the_order_id() {
    let today = day_of_seconds(1_800_000_000);
    let at = |seconds: u64| Uuid::from_u128((u128::from(seconds) * 1000) << 80 | 0x7000_8000_0000_0000_0000);
    assert_eq!(day_of(at(20_000 * DAY_SECONDS + 86_399), today), 20_000);
    assert_eq!(day_of(at(20_001 * DAY_SECONDS), today), 20_001);
    assert_eq!(day_of(at(1_900_000_000), today), today, "no demand of the future");
    assert_eq!(day_of(Uuid::from_u128(1), today), today);
}

#[test]
fn stage_names_survive() {
    for stage in Stage::ALL {
        assert_eq!(Stage::from_name(stage.as_str()), Some(stage));
    }
}

//! Tables of cases for the order's state machine and for what an order may contain.

use super::*;
use OrderStatus::{Cancelled, Confirmed, Expired, PaymentFailed, Pending, Rejected};

const STEPS: [fn() -> Step; 6] = [
    || Step::Reserved,
    || Step::OutOfStock("short".to_owned()),
    || Step::Authorized,
    || Step::Declined("no funds".to_owned()),
    || Step::Cancel,
    || Step::Expire,
];

/// Every pair of steps in both orders: rows are the first step, columns the second, as in `STEPS`.
const AFTER_TWO: [[OrderStatus; 6]; 6] = [
    [Pending, Rejected, Confirmed, PaymentFailed, Cancelled, Expired],
    [Rejected; 6],
    [Confirmed, Rejected, Pending, PaymentFailed, Cancelled, Expired],
    [PaymentFailed; 6],
    [Cancelled; 6],
    [Expired; 6],
];

#[test]
fn every_pair_of_steps_in_both_orders() {
    for (i, first) in STEPS.iter().enumerate() {
        for (j, second) in STEPS.iter().enumerate() {
            let mut order = Order::new();
            let transitions: Vec<_> =
                [first(), second()].map(|step| order.take(step)).into_iter().flatten().collect();
            assert_eq!(order.status, AFTER_TWO[i][j], "{:?} then {:?}", first(), second());
            assert_eq!(order.version, FIRST_VERSION + i64::try_from(transitions.len()).unwrap());
            let last = transitions.last().map_or(Pending, |transition| transition.status);
            assert_eq!(last, order.status, "the last transition is where it stands");
        }
    }
}

#[test]
fn every_sequence_of_four_steps_decides_at_most_once_and_only_a_confirmed_order_is_cancelled_after() {
    let mut sequences = vec![vec![]];
    for _ in 0..4 {
        sequences = sequences
            .iter()
            .flat_map(|head| (0..STEPS.len()).map(|next| [&head[..], &[next]].concat()))
            .collect();
    }
    for sequence in sequences {
        let mut order = Order::new();
        let path: Vec<_> = sequence.iter().filter_map(|i| order.take(STEPS[*i]())).collect();
        let statuses: Vec<_> = path.iter().map(|transition| transition.status).collect();
        let legal = matches!(
            statuses[..],
            [] | [Confirmed | Rejected | PaymentFailed | Cancelled | Expired] | [Confirmed, Cancelled]
        );
        assert!(legal, "{sequence:?}: {statuses:?}");
        if statuses.contains(&Confirmed) {
            assert!(order.reserved && order.authorized, "{sequence:?}: confirmed without stock and money");
        }
        let versions: Vec<_> = path.iter().map(|transition| transition.version).collect();
        assert!(versions.iter().zip(FIRST_VERSION + 1..).all(|(found, expected)| *found == expected));
    }
}

#[test]
fn what_ends_an_order_says_why_and_what_confirms_it_does_not() {
    let reason = |steps: &[fn() -> Step]| {
        let mut order = Order::new();
        steps.iter().filter_map(|step| order.take(step())).last().and_then(|transition| transition.reason)
    };
    let [reserved, out_of_stock, authorized, declined, cancel, expire] = STEPS;
    assert_eq!(reason(&[reserved, authorized]), None);
    assert_eq!(reason(&[out_of_stock]).as_deref(), Some("short"));
    assert_eq!(reason(&[reserved, declined]).as_deref(), Some("no funds"));
    assert_eq!(reason(&[cancel]).as_deref(), Some("cancelled by the customer"));
    assert_eq!(reason(&[reserved, expire]).as_deref(), Some("stock or payment did not answer in time"));
}

#[test]
fn every_status_but_pending_is_told() {
    for status in OrderStatus::ALL {
        assert_eq!(notice(status).map(Notice::as_str), (status != Pending).then(|| status.as_str()));
    }
}

fn line(sku: &str, quantity: i64) -> Line {
    Line { sku: sku.to_owned(), quantity }
}

#[test]
fn an_order_that_is_not_acceptable_names_the_field() {
    let numbered = |count: usize| (0..count).map(|i| line(&i.to_string(), 1)).collect::<Vec<_>>();
    let long = "x".repeat(SKU_BYTES_MAX + 1);
    let cases: [(Vec<Line>, &str, Result<(), &str>); 13] = [
        (vec![line("a", 1)], "tok_ok", Ok(())),
        (numbered(LINES_MAX), "tok_ok", Ok(())),
        (numbered(LINES_MAX + 1), "tok_ok", Err("items")),
        (vec![], "tok_ok", Err("items")),
        (vec![line("a", QUANTITY_MAX)], "tok_ok", Ok(())),
        (vec![line("a", QUANTITY_MAX + 1)], "tok_ok", Err("items[0].quantity")),
        (vec![line("a", 1), line("b", 0)], "tok_ok", Err("items[1].quantity")),
        (vec![line("a", -1)], "tok_ok", Err("items[0].quantity")),
        (vec![line("a", i64::MAX)], "tok_ok", Err("items[0].quantity")),
        (vec![line("", 1)], "tok_ok", Err("items[0].sku")),
        (vec![line(&long, 1)], "tok_ok", Err("items[0].sku")),
        (vec![line("a", 1), line("a", 2)], "tok_ok", Err("items[1].sku")),
        (vec![line("a", 1)], "", Err("payment_token")),
    ];
    for (lines, token, expected) in cases {
        let found = check(&lines, token);
        assert_eq!(found.as_ref().map_err(|invalid| invalid.field.as_str()).copied(), expected, "{lines:?}");
    }
    assert!(check(&[line("a", 1)], &"x".repeat(PAYMENT_TOKEN_BYTES_MAX + 1)).is_err());
}

#[test]
fn prices_are_copied_and_added_up() {
    let money = |amount, currency: &str| Money { amount, currency: currency.to_owned() };
    let prices = BTreeMap::from([
        ("mug".to_owned(), money(990, "EUR")),
        ("tea".to_owned(), money(1250, "EUR")),
        ("cap".to_owned(), money(500, "USD")),
        ("moon".to_owned(), money(900_000_000_000_000_000, "EUR")),
    ]);
    let (items, total) = price(&[line("tea", 2), line("mug", 1)], &prices).unwrap();
    assert_eq!(total, money(3490, "EUR"));
    assert_eq!(items[0], Item { sku: "tea".to_owned(), quantity: 2, unit_price: 1250 });

    let cases = [
        (vec![line("mug", 1), line("pen", 1)], "items[1].sku"),
        (vec![line("mug", 1), line("cap", 1)], "items[1].sku"),
        (vec![line("moon", 11)], "items"),
        (vec![line("moon", 10), line("moon", 1)], "items"),
        (vec![line("mug", i64::MAX)], "items[0].quantity"),
        (vec![], "items"),
    ];
    for (lines, field) in cases {
        assert_eq!(price(&lines, &prices).unwrap_err().field, field, "{lines:?}");
    }
}

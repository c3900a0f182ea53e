//! Tables of cases: every pair of events in both orders, for each answer of the gateway.

use super::*;

fn created(answer: Answer) -> (i64, Change) {
    let amount = Money { amount: 4_990, currency: "EUR".to_owned() };
    (1, Change::Created { amount, answer, gives_up: false })
}

fn confirmed() -> (i64, Change) {
    (2, Change::Confirmed(Answer::Agreed))
}

fn rejected() -> (i64, Change) {
    (2, Change::Ended(Answer::Agreed))
}

fn cancelled() -> (i64, Change) {
    (3, Change::Ended(Answer::Agreed))
}

fn expired() -> (i64, Change) {
    (2, Change::Ended(Answer::Agreed))
}

/// A refund of a part: 1,000 of 4,990.
fn refunded() -> (i64, Change) {
    (3, Change::Refunded(1_000, Answer::Agreed))
}

/// A second one, with which 1,500 have gone back in all.
fn refunded_again() -> (i64, Change) {
    (4, Change::Refunded(1_500, Answer::Agreed))
}

/// All that is left.
fn refunded_wholly() -> (i64, Change) {
    (5, Change::Refunded(4_990, Answer::Agreed))
}

fn subject(version: i64) -> Subject {
    let id = u128::try_from(version).unwrap();
    Subject { user_id: Uuid::from_u128(7), version, new_payment_id: Uuid::from_u128(id) }
}

/// Applies events of one order and compares what each did (`-` is old news or nothing to tell, `~` a retry, `!` a
/// contradiction) and the state in the end.
fn check(events: &[(i64, Change)], effects: &[&str], state: Option<State>) {
    let mut payment: Option<Payment> = None;
    let mut found = Vec::new();
    for (version, change) in events {
        found.push(match decide(payment.as_ref(), subject(*version), change) {
            Decision::Stale => "-".to_owned(),
            Decision::Retry(_) => "~".to_owned(),
            Decision::Contradiction(_) => "!".to_owned(),
            Decision::Write(written, effects) => {
                assert_eq!(written.version, *version, "after {events:?}");
                if let Some(before) = &payment {
                    assert_eq!(written.payment_id, before.payment_id, "a payment keeps its id");
                }
                payment = Some(written);
                let names: Vec<_> = effects.iter().map(name).collect();
                if names.is_empty() { "-".to_owned() } else { names.join("+") }
            }
        });
    }
    assert_eq!(found, effects, "effects of {events:?}");
    assert_eq!(payment.as_ref().map(|payment| payment.state), state, "state after {events:?}");
    let Some(Payment { refunded, amount, state, .. }) = payment else { return };
    let captured = amount.map_or(0, |money| money.amount);
    assert!((0..=captured).contains(&refunded), "{refunded} of {captured} after {events:?}");
    assert_eq!(refunded == captured && captured > 0, state == State::Refunded, "after {events:?}");
}

fn name(effect: &Effect) -> String {
    match effect {
        Effect::Authorized => "authorized".to_owned(),
        Effect::Declined => "declined".to_owned(),
        Effect::Captured => "captured".to_owned(),
        Effect::Voided => "voided".to_owned(),
        Effect::Refunded(amount) => format!("refunded {amount}"),
    }
}

#[rustfmt::skip] // a table: one case a line
#[test]
fn every_pair_of_events_in_both_orders() {
    use State::{Authorized, Captured, Declined, Voided};
    let paid = || created(Answer::Agreed);
    let refused = || created(Answer::Refused("no".to_owned()));
    check(&[paid(), paid()], &["authorized", "-"], Some(Authorized));
    check(&[paid(), confirmed()], &["authorized", "captured"], Some(Captured));
    check(&[paid(), rejected()], &["authorized", "voided"], Some(Voided));
    check(&[paid(), cancelled()], &["authorized", "voided"], Some(Voided));
    check(&[refused(), refused()], &["declined", "-"], Some(Declined));
    check(&[refused(), confirmed()], &["declined", "!"], Some(Declined));
    check(&[refused(), rejected()], &["declined", "-"], Some(Declined));
    check(&[refused(), cancelled()], &["declined", "-"], Some(Declined));
    check(&[confirmed(), paid()], &["!", "authorized"], Some(Authorized));
    check(&[rejected(), paid()], &["-", "-"], Some(Voided));
    check(&[cancelled(), paid()], &["-", "-"], Some(Voided));
    check(&[rejected(), refused()], &["-", "-"], Some(Voided));
    check(&[cancelled(), refused()], &["-", "-"], Some(Voided));
    check(&[rejected(), cancelled()], &["-", "-"], Some(Voided));
    check(&[cancelled(), rejected()], &["-", "-"], Some(Voided));
    check(&[rejected(), confirmed()], &["-", "-"], Some(Voided));
    check(&[confirmed(), rejected()], &["!", "-"], Some(Voided));
    check(&[cancelled(), confirmed()], &["-", "-"], Some(Voided));
    check(&[confirmed(), cancelled()], &["!", "-"], Some(Voided));
    check(&[paid(), expired()], &["authorized", "voided"], Some(Voided));
    check(&[refused(), expired()], &["declined", "-"], Some(Declined));
    check(&[expired(), paid()], &["-", "-"], Some(Voided));
    check(&[expired(), refused()], &["-", "-"], Some(Voided));
    check(&[expired(), cancelled()], &["-", "-"], Some(Voided));
    check(&[refused(), refunded()], &["declined", "!"], Some(Declined));
    check(&[refunded(), paid()], &["!", "authorized"], Some(Authorized));
    check(&[refunded(), refused()], &["!", "declined"], Some(Declined));
    check(&[refunded(), confirmed()], &["!", "!"], None);
    check(&[confirmed(), refunded()], &["!", "!"], None);
    check(&[refunded(), cancelled()], &["!", "-"], Some(Voided));
    check(&[cancelled(), refunded()], &["-", "-"], Some(Voided));
}

/// Refunds carry what has gone back in all, and stand for a confirmation: in any order they come to the same.
#[rustfmt::skip] // a table: one case a line
#[test]
fn refunds_in_every_order_give_back_the_same_and_never_more_than_was_taken() {
    use State::{Captured, Refunded, Voided};
    let paid = || created(Answer::Agreed);
    check(&[paid(), confirmed(), refunded()], &["authorized", "captured", "refunded 1000"], Some(Captured));
    check(&[paid(), refunded(), confirmed()], &["authorized", "captured+refunded 1000", "-"], Some(Captured));
    check(&[paid(), confirmed(), refunded(), refunded()], &["authorized", "captured", "refunded 1000", "-"], Some(Captured));
    check(&[paid(), confirmed(), refunded(), refunded_again()], &["authorized", "captured", "refunded 1000", "refunded 500"], Some(Captured));
    check(&[paid(), confirmed(), refunded_again(), refunded()], &["authorized", "captured", "refunded 1500", "-"], Some(Captured));
    check(&[paid(), refunded_again(), confirmed(), refunded()], &["authorized", "captured+refunded 1500", "-", "-"], Some(Captured));
    check(&[paid(), refunded_wholly(), confirmed()], &["authorized", "captured+refunded 4990", "-"], Some(Refunded));
    check(&[paid(), confirmed(), refunded(), refunded_wholly()], &["authorized", "captured", "refunded 1000", "refunded 3990"], Some(Refunded));
    check(&[paid(), confirmed(), refunded_wholly(), refunded()], &["authorized", "captured", "refunded 4990", "-"], Some(Refunded));
    // A cancellation gives back the rest, and nothing where nothing is left.
    let withdrawn = || (6, Change::Ended(Answer::Agreed));
    check(&[paid(), confirmed(), refunded(), withdrawn()], &["authorized", "captured", "refunded 1000", "refunded 3990"], Some(Refunded));
    check(&[paid(), confirmed(), withdrawn(), refunded()], &["authorized", "captured", "refunded 4990", "-"], Some(Refunded));
    check(&[paid(), confirmed(), refunded_wholly(), withdrawn()], &["authorized", "captured", "refunded 4990", "-"], Some(Refunded));
    check(&[paid(), withdrawn(), refunded()], &["authorized", "voided", "-"], Some(Voided));
    // What contradicts: a refund newer than an end without money, and one of more than was taken is cut.
    check(&[paid(), rejected(), refunded()], &["authorized", "voided", "!"], Some(Voided));
    check(&[paid(), expired(), refunded()], &["authorized", "voided", "!"], Some(Voided));
    check(&[paid(), confirmed(), (3, Change::Refunded(9_999, Answer::Agreed))], &["authorized", "captured", "refunded 4990"], Some(Refunded));
    check(&[paid(), confirmed(), refunded(), (4, Change::Refunded(10, Answer::Agreed))], &["authorized", "captured", "refunded 1000", "-"], Some(Captured));
    check(&[paid(), confirmed(), refunded_wholly(), (6, Change::Confirmed(Answer::Agreed))], &["authorized", "captured", "refunded 4990", "!"], Some(Refunded));
}

#[rustfmt::skip] // a table: one case a line
#[test]
fn every_pair_after_the_creation_in_both_orders() {
    use State::{Captured, Refunded, Voided};
    let paid = || created(Answer::Agreed);
    check(&[paid(), confirmed(), confirmed()], &["authorized", "captured", "-"], Some(Captured));
    check(&[paid(), confirmed(), cancelled()], &["authorized", "captured", "refunded 4990"], Some(Refunded));
    check(&[paid(), cancelled(), confirmed()], &["authorized", "voided", "-"], Some(Voided));
    check(&[paid(), rejected(), cancelled()], &["authorized", "voided", "-"], Some(Voided));
    check(&[paid(), cancelled(), rejected()], &["authorized", "voided", "-"], Some(Voided));
    check(&[paid(), confirmed(), paid()], &["authorized", "captured", "-"], Some(Captured));
    check(&[paid(), cancelled(), cancelled()], &["authorized", "voided", "-"], Some(Voided));
    // A confirmation that is newer than the end of the order contradicts it.
    check(&[paid(), rejected(), (4, Change::Confirmed(Answer::Agreed))], &["authorized", "voided", "!"], Some(Voided));
    // A newer confirmation captures nothing again, and a newer end refunds nothing again.
    check(&[paid(), confirmed(), (4, Change::Confirmed(Answer::Agreed))], &["authorized", "captured", "-"], Some(Captured));
    let ends = [paid(), confirmed(), cancelled(), (4, Change::Ended(Answer::Agreed))];
    check(&ends, &["authorized", "captured", "refunded 4990", "-"], Some(Refunded));
}

#[test]
fn a_gateway_without_an_answer_is_asked_again_until_the_last_attempt() {
    let silent = || created(Answer::Silent("busy".to_owned()));
    check(&[silent()], &["~"], None);
    check(&[silent(), silent(), created(Answer::Agreed)], &["~", "~", "authorized"], Some(State::Authorized));
    check(&[cancelled(), silent()], &["-", "-"], Some(State::Voided));
    let amount = Money { amount: 1, currency: "EUR".to_owned() };
    let last = Change::Created { amount, answer: Answer::Silent("busy".to_owned()), gives_up: true };
    let Decision::Write(payment, effects) = decide(None, subject(1), &last) else {
        panic!("the last attempt decides")
    };
    assert_eq!((payment.state, effects), (State::Declined, vec![Effect::Declined]));
    assert_eq!(payment.reason.as_deref(), Some(GATEWAY_UNAVAILABLE));
}

/// Whatever an event wants of the gateway: without its word nothing is written, and old news ask for nothing.
#[rustfmt::skip] // a table: one case a line
#[test]
fn nothing_is_written_that_the_gateway_has_not_agreed_to() {
    use State::{Authorized, Captured, Declined};
    let paid = || created(Answer::Agreed);
    for (answer, told) in [
        (Answer::Silent("busy".to_owned()), "~"),
        (Answer::Failing("busy".to_owned()), "~"),
        (Answer::Refused("no".to_owned()), "!"),
    ] {
        check(&[paid(), (2, Change::Confirmed(answer.clone()))], &["authorized", told], Some(Authorized));
        check(&[paid(), (2, Change::Ended(answer.clone()))], &["authorized", told], Some(Authorized));
        check(&[paid(), confirmed(), (3, Change::Ended(answer.clone()))], &["authorized", "captured", told], Some(Captured));
        check(&[paid(), confirmed(), (3, Change::Refunded(1, answer.clone()))], &["authorized", "captured", told], Some(Captured));
        check(&[(2, Change::Ended(answer.clone()))], &[told], None);
        // It may have been held before it was given up, so its end waits for the gateway too.
        let given_up = || (1, Change::Created { amount: Money { amount: 1, currency: "EUR".to_owned() }, answer: Answer::Silent("busy".to_owned()), gives_up: true });
        check(&[given_up(), (2, Change::Ended(answer.clone()))], &["declined", told], Some(Declined));
        check(&[paid(), confirmed(), (2, Change::Ended(answer.clone()))], &["authorized", "captured", "-"], Some(Captured));
    }
}

#[test]
fn an_outage_gives_nothing_up_and_a_bank_that_does_not_answer_does() {
    let (failing, silent) = (Answer::Failing("busy".to_owned()), Answer::Silent("busy".to_owned()));
    for (answer, attempt, last, expected) in [
        (&failing, 1, false, false),
        (&failing, FAILING_ATTEMPTS_MAX - 1, false, false),
        (&failing, FAILING_ATTEMPTS_MAX, false, true),
        (&failing, 1, true, true),
        (&silent, FAILING_ATTEMPTS_MAX * 10, false, false),
        (&silent, 2, true, true),
        (&Answer::Agreed, 9, true, false),
        (&Answer::Refused("no".to_owned()), 9, true, false),
    ] {
        assert_eq!(gives_up(answer, attempt, last), expected, "{answer:?} {attempt} {last}");
    }
}

#[test]
fn an_order_that_ended_first_is_known_without_its_amount() {
    let Decision::Write(payment, _) = decide(None, subject(3), &Change::Ended(Answer::Agreed)) else {
        panic!("a row is left")
    };
    assert_eq!((payment.user_id, payment.amount, payment.version), (Uuid::from_u128(7), None, 3));
}

#[test]
fn state_names_survive() {
    for state in State::ALL {
        assert_eq!(State::from_name(state.as_str()), Some(state));
    }
    assert_eq!(State::from_name("authorized"), None);
}

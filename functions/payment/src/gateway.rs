//! The payment gateway, simulated: it answers by the payment token, the way a real one would over HTTP.
//!
//! A real gateway is an outbound call with an idempotency key (the order id) and a time-out, made where
//! [`ask`] is made: before the function's first SQL, so that no lock and no connection waits for it. Asked again with
//! the same key it goes on with the payment it has begun, and so does this one. It needs no memory of its own for that:
//! how often it was asked is the record's attempt, and when the payment began stands in the key, a UUIDv7. A table
//! would have to be written for records that are not done, which the contract with the host rules out.
//!
//! Capture, void and refund succeed at once. A real gateway would also be told to void, by the same key, when the
//! function gives up on an answer or has no use for it any more; this one holds nothing that was not kept.

use std::time::Duration;
use uuid::Uuid;

/// How long the function waits for the gateway, in milliseconds. All calls of a batch are under way together, so this
/// is the most that one slow payment delays the others.
pub const TIMEOUT_MS: u64 = 50;

/// How long the gateway thinks about [`SLOW`], in milliseconds from the order's creation.
pub const SLOW_ANSWER_MS: u64 = 2_000;

/// How often the gateway fails for [`FLAKY`] before it answers.
pub const FLAKY_FAILURES: u32 = 2;

/// Authorizes.
pub const OK: &str = "tok_ok";
/// Declines.
pub const DECLINED: &str = "tok_declined";
/// Authorizes after [`SLOW_ANSWER_MS`].
pub const SLOW: &str = "tok_slow";
/// Authorizes after [`FLAKY_FAILURES`].
pub const FLAKY: &str = "tok_flaky";
/// Never answers.
pub const DOWN: &str = "tok_down";

/// What the gateway says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The money is held.
    Authorized,
    /// It will not be, for this reason.
    Declined(&'static str),
    /// No answer, for this reason: ask again with the same key.
    Unavailable(&'static str),
}

/// One question to the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The idempotency key.
    pub order_id: Uuid,
    /// What the money is taken from.
    pub token: &'a str,
    /// 1 for the first time.
    pub attempt: u32,
}

/// Time, as the component or a native program has it.
#[allow(
    async_fn_in_trait,
    reason = "always dispatched statically; a caller that needs Send has the concrete type"
)]
pub trait Clock {
    /// Milliseconds since 1970-01-01T00:00Z.
    fn now_ms(&self) -> u64;

    /// Returns after `duration`, without holding up anything else.
    async fn sleep(&self, duration: Duration);
}

/// Asks the gateway all questions at once and returns its answers in their order, after [`TIMEOUT_MS`] at the latest.
pub async fn ask(clock: &impl Clock, questions: &[Question<'_>]) -> Vec<Answer> {
    // Asked for the first time, a slow gateway leaves its caller waiting until the time-out; asked again, it says at
    // once that it has not finished.
    if questions.iter().any(|question| question.token == SLOW && question.attempt == 1) {
        clock.sleep(Duration::from_millis(TIMEOUT_MS)).await;
    }
    let now_ms = clock.now_ms();
    questions.iter().map(|question| answer(question, now_ms)).collect()
}

fn answer(question: &Question<'_>, now_ms: u64) -> Answer {
    match question.token {
        OK => Answer::Authorized,
        DECLINED => Answer::Declined("the card was declined"),
        SLOW if question.attempt == 1 => Answer::Unavailable("the gateway did not answer in time"),
        SLOW if now_ms < begun_ms(question.order_id) + SLOW_ANSWER_MS => {
            Answer::Unavailable("the gateway has not finished")
        }
        FLAKY if question.attempt <= FLAKY_FAILURES => Answer::Unavailable("the gateway failed: try again"),
        SLOW | FLAKY => Answer::Authorized,
        DOWN => Answer::Unavailable("the gateway cannot be reached"),
        _ => Answer::Declined("the payment token is unknown"),
    }
}

/// When the order was created, in milliseconds since 1970-01-01T00:00Z; 0, so long ago, for an id that does not say.
fn begun_ms(order_id: Uuid) -> u64 {
    const UUID_V7: usize = 7;
    // RFC 9562: the first 48 of 128 bits.
    const RANDOM_BITS: u32 = 80;
    let is_v7 = order_id.get_version_num() == UUID_V7;
    u64::try_from(order_id.as_u128() >> RANDOM_BITS).ok().filter(|_| is_v7).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use uuid::{NoContext, Timestamp};

    const BEGUN_MS: u64 = 1_700_000_000_123;

    /// A clock that stands still but for what is slept.
    struct Stopped(Cell<u64>);

    impl Clock for Stopped {
        fn now_ms(&self) -> u64 {
            self.0.get()
        }

        async fn sleep(&self, duration: Duration) {
            self.0.set(self.0.get() + u64::try_from(duration.as_millis()).unwrap());
        }
    }

    fn ask_at(now_ms: u64, questions: &[Question<'_>]) -> (Vec<Answer>, u64) {
        let clock = Stopped(Cell::new(now_ms));
        let answers = pin!(ask(&clock, questions)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(answers) = answers else { panic!("the stopped clock never waits") };
        (answers, clock.now_ms() - now_ms)
    }

    fn order_id() -> Uuid {
        let (seconds, millis) = (BEGUN_MS / 1_000, BEGUN_MS % 1_000);
        Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, u32::try_from(millis).unwrap() * 1_000_000))
    }

    #[rustfmt::skip] // a table: one case a line
    #[test]
    fn each_token_by_attempt_and_age() {
        use Answer::{Authorized, Declined, Unavailable};
        let late = Unavailable("the gateway did not answer in time");
        let busy = Unavailable("the gateway has not finished");
        let failed = Unavailable("the gateway failed: try again");
        let down = Unavailable("the gateway cannot be reached");
        for (token, attempt, age_ms, expected, waited_ms) in [
            (OK, 1, 0, Authorized, 0),
            (OK, 3, 9_000, Authorized, 0),
            (DECLINED, 1, 0, Declined("the card was declined"), 0),
            ("tok_", 1, 0, Declined("the payment token is unknown"), 0),
            ("", 1, 0, Declined("the payment token is unknown"), 0),
            (SLOW, 1, 0, late.clone(), TIMEOUT_MS),
            (SLOW, 1, 9_000, late, TIMEOUT_MS),
            (SLOW, 2, 1_999, busy, 0),
            (SLOW, 2, 2_000, Authorized, 0),
            (FLAKY, 1, 9_000, failed.clone(), 0),
            (FLAKY, 2, 9_000, failed, 0),
            (FLAKY, 3, 0, Authorized, 0),
            (DOWN, 1, 0, down.clone(), 0),
            (DOWN, 99, 9_000_000, down, 0),
        ] {
            let question = Question {
                order_id: order_id(),
                token,
                attempt,
            };
            let found = ask_at(BEGUN_MS + age_ms, &[question]);
            assert_eq!(
                found,
                (vec![expected], waited_ms),
                "{token} at attempt {attempt}, {age_ms} ms"
            );
        }
    }

    #[test]
    fn slow_payments_wait_together() {
        let slow = Question { order_id: order_id(), token: SLOW, attempt: 1 };
        let (answers, waited_ms) = ask_at(BEGUN_MS, &[slow; 100]);
        assert_eq!((answers.len(), waited_ms), (100, TIMEOUT_MS));
    }

    #[test]
    fn an_id_without_time_counts_as_old() {
        let question = Question { order_id: Uuid::from_u128(7), token: SLOW, attempt: 2 };
        assert_eq!(ask_at(BEGUN_MS, &[question]).0, [Answer::Authorized]);
    }
}

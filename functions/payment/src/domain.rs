//! What an order event does to the order's payment. Pure: state, event and the gateway's answer in, decision out.

use crate::gateway::Answer;
use contract::event::Money;
use uuid::Uuid;

/// Why a payment is declined whose gateway failed until the last attempt.
pub const GATEWAY_UNAVAILABLE: &str = "gateway unavailable";

/// Attempts after which a payment is given up that the gateway says it cannot do at present. While the gateway itself does
/// not answer nothing is given up before the record's last attempt: an outage is no customer's fault.
pub const FAILING_ATTEMPTS_MAX: u32 = 6;

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The money is held for the order.
    Authorized,
    /// Final: the gateway refused, or never answered.
    Declined,
    /// The money was taken.
    Captured,
    /// Final: nothing is held, or ever will be.
    Voided,
    /// Final: all the money that was taken went back.
    Refunded,
}

impl State {
    /// Every state, in the order of a payment's life.
    pub const ALL: [Self; 5] =
        [Self::Authorized, Self::Declined, Self::Captured, Self::Voided, Self::Refunded];

    /// The name used in SQL and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorized => "AUTHORIZED",
            Self::Declined => "DECLINED",
            Self::Captured => "CAPTURED",
            Self::Voided => "VOIDED",
            Self::Refunded => "REFUNDED",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// The payment of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Its own id, which others quote.
    pub payment_id: Uuid,
    /// Whose order it is.
    pub user_id: Uuid,
    /// What the order costs; absent where the order ended before its creation was heard of.
    pub amount: Option<Money>,
    /// Current state of the payment.
    pub state: State,
    /// What of the captured money went back, in minor units; never more than was captured.
    pub refunded: i64,
    /// Why it was declined.
    pub reason: Option<String>,
    /// The highest order version seen.
    pub version: i64,
}

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The order was placed.
    Created {
        /// Total of the order.
        amount: Money,
        /// What the gateway says about holding that.
        answer: Answer,
        /// Whether an answer that is still missing will stay missing.
        gives_up: bool,
    },
    /// It has stock and money.
    Confirmed(Answer),
    /// So much of its money is to have gone back in all, in minor units. Only a confirmed order is refunded, so it also
    /// stands for a confirmation that comes later.
    Refunded(i64, Answer),
    /// It was rejected or cancelled, or has expired.
    Ended(Answer),
}

impl Change {
    /// What the gateway says about it.
    fn answer(&self) -> &Answer {
        match self {
            Self::Created { answer, .. }
            | Self::Confirmed(answer)
            | Self::Refunded(_, answer)
            | Self::Ended(answer) => answer,
        }
    }
}

/// Whether a payment without an answer is given up at this attempt.
#[must_use]
pub fn gives_up(answer: &Answer, attempt: u32, last_attempt: bool) -> bool {
    match answer {
        Answer::Agreed | Answer::Refused(_) => false,
        Answer::Failing(_) => last_attempt || attempt >= FAILING_ATTEMPTS_MAX,
        Answer::Silent(_) => last_attempt,
    }
}

/// What came of an event, for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the event of its name")]
pub enum Effect {
    Authorized,
    Declined,
    Captured,
    Voided,
    /// So much went back this time, in minor units.
    Refunded(i64),
}

/// What to do with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing changes; the event is old news.
    Stale,
    /// The payment becomes this; no effect where no money was held.
    Write(Payment, Vec<Effect>),
    /// The gateway has no answer yet: ask again later.
    Retry(String),
    /// The event contradicts what payment itself decided: a dead letter for an operator to look at.
    Contradiction(String),
}

/// Whose order an event is about, and which of its changes it is.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Id of the customer who placed the order.
    pub user_id: Uuid,
    /// The order's version after the event.
    pub version: i64,
    /// The id of the payment, should this event begin it.
    pub new_payment_id: Uuid,
}

/// Decides on one event of an order whose payment is `payment`, where it has one.
#[must_use]
pub fn decide(payment: Option<&Payment>, subject: Subject, change: &Change) -> Decision {
    let Some(payment) = payment else {
        return begin(subject, change);
    };
    // The creation is an order's first event, so whatever is known already is newer. That includes the end of the
    // order: a gateway's answer that comes after it is not kept.
    if subject.version <= payment.version || matches!(change, Change::Created { .. }) {
        return Decision::Stale;
    }
    let mut payment = Payment { version: subject.version, ..payment.clone() };
    let mut effects = Vec::new();
    match (payment.state, change) {
        (State::Authorized | State::Captured, Change::Confirmed(_) | Change::Refunded(..))
        | (State::Refunded, Change::Refunded(..)) => {
            if let Some(decision) = undone(change.answer()) {
                return decision;
            }
            if payment.state == State::Authorized {
                payment.state = State::Captured;
                effects.push(Effect::Captured);
            }
            if let Change::Refunded(in_all, _) = change {
                effects.extend(payment.refund(*in_all));
            }
        }
        (state, Change::Confirmed(_) | Change::Refunded(..)) => {
            let state = state.as_str();
            return Decision::Contradiction(format!("the order is confirmed, but its payment is {state}"));
        }
        // Whatever the state: one that was given up may be held at the gateway all the same.
        (_, change) if undone(change.answer()).is_some() => {
            return undone(change.answer()).unwrap_or(Decision::Stale);
        }
        (State::Authorized, _) => {
            payment.state = State::Voided;
            effects.push(Effect::Voided);
        }
        (State::Captured, _) => effects.extend(payment.refund(i64::MAX)),
        (State::Declined | State::Voided | State::Refunded, _) => {}
    }
    Decision::Write(payment, effects)
}

impl Payment {
    /// Gives back what is missing until `in_all` has gone back, or until all has.
    fn refund(&mut self, in_all: i64) -> Option<Effect> {
        let captured = self.amount.as_ref().map_or(0, |money| money.amount);
        let missing = in_all.min(captured) - self.refunded;
        if missing > 0 {
            self.refunded += missing;
        }
        if self.refunded == captured {
            self.state = State::Refunded;
        }
        (missing > 0).then_some(Effect::Refunded(missing))
    }
}

/// What becomes of an event that the gateway has not agreed to.
fn undone(answer: &Answer) -> Option<Decision> {
    match answer {
        Answer::Agreed => None,
        Answer::Failing(reason) | Answer::Silent(reason) => Some(Decision::Retry(reason.clone())),
        Answer::Refused(reason) => Some(Decision::Contradiction(reason.clone())),
    }
}

/// The first event of an order.
fn begin(subject: Subject, change: &Change) -> Decision {
    let Subject { user_id, version, new_payment_id: payment_id } = subject;
    let (state, amount, reason, effects) = match change {
        Change::Created { amount, answer, gives_up } => {
            let (state, reason, effect) = match answer {
                Answer::Agreed => (State::Authorized, None, Effect::Authorized),
                Answer::Refused(reason) => (State::Declined, Some(reason.clone()), Effect::Declined),
                Answer::Failing(_) | Answer::Silent(_) if *gives_up => {
                    (State::Declined, Some(GATEWAY_UNAVAILABLE.to_owned()), Effect::Declined)
                }
                Answer::Failing(reason) | Answer::Silent(reason) => return Decision::Retry(reason.clone()),
            };
            (state, Some(amount.clone()), reason, vec![effect])
        }
        // The creation is still on its way: this row keeps it from taking anything.
        Change::Ended(answer) => match undone(answer) {
            Some(decision) => return decision,
            None => (State::Voided, None, None, Vec::new()),
        },
        Change::Confirmed(_) | Change::Refunded(..) => {
            return Decision::Contradiction("the order is confirmed, but was never paid for".to_owned());
        }
    };
    Decision::Write(Payment { payment_id, user_id, amount, state, refunded: 0, reason, version }, effects)
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;

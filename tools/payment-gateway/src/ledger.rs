//! What the gateway has promised: payments, and the answer that each idempotency key was given. Pure.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The money is held.
    Authorized,
    /// The payment was declined; no money is held.
    Declined,
    /// The money was captured.
    Captured,
    /// Nothing is held, or ever will be.
    Voided,
    /// All that was taken went back.
    Refunded,
}

/// The payment of one reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The caller's own name for it; one payment has it at most.
    pub reference: String,
    /// Current status of the payment.
    pub status: Status,
    /// Minor units held or taken; 0 where it was cancelled before it was authorized.
    pub amount: i64,
    /// ISO 4217; empty where it was cancelled before it was authorized.
    pub currency: String,
    /// What of it went back.
    #[serde(default)]
    pub refunded: i64,
    /// Why it was declined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Times that money was held for it: never more than 1.
    #[serde(default)]
    pub authorizations: u32,
    /// Times that money was taken for it: never more than 1.
    #[serde(default)]
    pub captures: u32,
}

/// A request, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Hold money.
    Authorize(Authorization),
    /// Take what is held.
    Capture,
    /// Give back until so much has gone back in all, in minor units.
    Refund {
        /// What has gone back afterwards, at least.
        total: i64,
    },
    /// Release what is held, give back what was taken, and never hold anything for this reference.
    Cancel,
}

/// What is to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// The caller's own name for the payment.
    pub reference: String,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// What the money is taken from.
    pub token: String,
}

/// An answer as it is given and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// JSON.
    pub body: serde_json::Value,
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The request that it was used for.
    pub fingerprint: String,
    /// Answer to the first request with this key.
    pub answer: Answer,
}

/// What an operation changed: one line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counted from 1.
    pub number: u64,
    /// The idempotency key.
    pub key: String,
    /// What it stands for from now on.
    pub kept: Kept,
    /// The payment afterwards, where it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<Payment>,
    /// Seconds since 1970.
    pub at: u64,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Ledger {
    keys: BTreeMap<String, Kept>,
    payments: BTreeMap<String, Payment>,
    entries: u64,
}

/// Error bodies: a code for programs, a sentence for people.
pub fn problem(status: u16, code: &str, detail: &str) -> Answer {
    Answer { status, body: serde_json::json!({ "code": code, "detail": detail }) }
}

impl Ledger {
    /// The answer that this key was given, or a refusal where it stands for another request.
    #[must_use]
    pub fn answered(&self, key: &str, fingerprint: &str) -> Option<Answer> {
        let kept = self.keys.get(key)?;
        Some(if kept.fingerprint == fingerprint {
            kept.answer.clone()
        } else {
            problem(422, "key_reused", "the idempotency key was used for another request")
        })
    }

    /// Does it. The entry takes effect with [`Ledger::apply`], once it is kept.
    #[must_use]
    pub fn execute(&self, key: &str, fingerprint: &str, reference: &str, op: &Operation, at: u64) -> Entry {
        let (answer, payment) = self.decide(reference, op);
        let kept = Kept { fingerprint: fingerprint.to_owned(), answer };
        Entry { number: self.entries + 1, key: key.to_owned(), kept, payment, at }
    }

    /// Remembers an entry.
    pub fn apply(&mut self, entry: Entry) {
        self.entries = entry.number;
        if let Some(payment) = entry.payment {
            self.payments.insert(payment.reference.clone(), payment);
        }
        self.keys.insert(entry.key, entry.kept);
    }

    /// The payment of a reference.
    #[must_use]
    pub fn payment(&self, reference: &str) -> Option<&Payment> {
        self.payments.get(reference)
    }

    /// All payments, by reference.
    pub fn payments(&self) -> impl Iterator<Item = &Payment> {
        self.payments.values()
    }

    fn decide(&self, reference: &str, op: &Operation) -> (Answer, Option<Payment>) {
        let known = self.payments.get(reference);
        let changed = match (known, op) {
            (None, Operation::Authorize(wanted)) => begin(wanted),
            (Some(payment), Operation::Authorize(_))
                if payment.authorizations == 0 && payment.amount == 0 =>
            {
                let reason = Some("the payment was cancelled before it was authorized".to_owned());
                Payment { status: Status::Voided, reason, ..payment.clone() }
            }
            (Some(_), Operation::Authorize(_)) => {
                return (problem(409, "reference_used", "there is a payment with this reference"), None);
            }
            // Whatever comes later for this reference is refused.
            (None, Operation::Cancel) => Payment {
                reference: reference.to_owned(),
                status: Status::Voided,
                amount: 0,
                currency: String::new(),
                refunded: 0,
                reason: None,
                authorizations: 0,
                captures: 0,
            },
            (None, _) => return (problem(404, "unknown", "there is no payment with this reference"), None),
            (Some(payment), op) => match payment.after(op) {
                Ok(payment) => payment,
                Err(answer) => return (answer, None),
            },
        };
        let status = if matches!(op, Operation::Authorize(_)) { 201 } else { 200 };
        let body = serde_json::to_value(&changed).unwrap_or_default();
        let changed = (known != Some(&changed)).then_some(changed);
        (Answer { status, body }, changed)
    }
}

/// The first that is heard of a payment.
fn begin(wanted: &Authorization) -> Payment {
    use crate::behaviour::{DECLINED, is_known};
    let reason = match wanted.token.as_str() {
        DECLINED => Some("the card was declined"),
        token if !is_known(token) => Some("the payment token is unknown"),
        _ => None,
    };
    Payment {
        reference: wanted.reference.clone(),
        status: if reason.is_some() { Status::Declined } else { Status::Authorized },
        amount: wanted.amount,
        currency: wanted.currency.clone(),
        refunded: 0,
        authorizations: u32::from(reason.is_none()),
        reason: reason.map(str::to_owned),
        captures: 0,
    }
}

impl Payment {
    fn after(&self, op: &Operation) -> Result<Self, Answer> {
        let mut payment = self.clone();
        match (self.status, op) {
            (Status::Authorized, Operation::Capture) => {
                payment.status = Status::Captured;
                payment.captures += 1;
            }
            (Status::Captured | Status::Refunded, Operation::Capture)
            | (Status::Declined | Status::Voided | Status::Refunded, Operation::Cancel) => {}
            (Status::Captured | Status::Refunded, Operation::Refund { total }) => payment.give_back(*total),
            (Status::Captured, Operation::Cancel) => payment.give_back(self.amount),
            (Status::Authorized, Operation::Cancel) => payment.status = Status::Voided,
            (_, Operation::Capture) => {
                return Err(problem(409, "nothing_held", "nothing is held for this payment"));
            }
            (_, Operation::Refund { .. }) => {
                return Err(problem(409, "nothing_taken", "nothing was taken for this payment"));
            }
            (_, Operation::Authorize(_)) => {
                return Err(problem(409, "reference_used", "there is a payment with this reference"));
            }
        }
        Ok(payment)
    }

    fn give_back(&mut self, total: i64) {
        self.refunded = self.refunded.max(total.min(self.amount));
        if self.refunded == self.amount {
            self.status = Status::Refunded;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorize(token: &str) -> Operation {
        let (reference, currency, token) = ("order".to_owned(), "EUR".to_owned(), token.to_owned());
        Operation::Authorize(Authorization { reference, amount: 4_990, currency, token })
    }

    fn run(ledger: &mut Ledger, key: &str, op: &Operation) -> (u16, String) {
        let entry = ledger.execute(key, "fingerprint", "order", op, 0);
        let answer = entry.kept.answer.clone();
        ledger.apply(entry);
        let word = answer.body.get("status").or(answer.body.get("code"));
        (answer.status, word.and_then(|word| word.as_str()).unwrap_or_default().to_owned())
    }

    #[rustfmt::skip] // a table: one case a line
    #[test]
    fn money_is_held_and_taken_once_and_never_more_goes_back() {
        use Operation::{Cancel, Capture, Refund};
        let paid = || authorize("tok_ok");
        for (ops, answers, refunded) in [
            (vec![paid(), Capture, Capture], vec!["authorized", "captured", "captured"], 0),
            (vec![paid(), paid()], vec!["authorized", "reference_used"], 0),
            (vec![authorize("tok_declined"), Capture, Cancel], vec!["declined", "nothing_held", "declined"], 0),
            (vec![authorize("tok_other")], vec!["declined"], 0),
            (vec![paid(), Cancel, Capture], vec!["authorized", "voided", "nothing_held"], 0),
            (vec![paid(), Capture, Cancel, Cancel], vec!["authorized", "captured", "refunded", "refunded"], 4_990),
            (vec![paid(), Capture, Refund { total: 1_000 }, Refund { total: 500 }], vec!["authorized", "captured", "captured", "captured"], 1_000),
            (vec![paid(), Capture, Refund { total: 9_999 }], vec!["authorized", "captured", "refunded"], 4_990),
            (vec![paid(), Refund { total: 1 }], vec!["authorized", "nothing_taken"], 0),
            (vec![Cancel, paid(), Capture], vec!["voided", "voided", "nothing_held"], 0),
            (vec![Capture, Refund { total: 1 }], vec!["unknown", "unknown"], -1),
        ] {
            let mut ledger = Ledger::default();
            let found: Vec<_> = ops.iter().enumerate().map(|(n, op)| run(&mut ledger, &n.to_string(), op).1).collect();
            assert_eq!(found, answers, "{ops:?}");
            let payment = ledger.payment("order");
            assert_eq!(payment.map_or(-1, |payment| payment.refunded), refunded, "{ops:?}");
            assert!(payment.is_none_or(|payment| payment.authorizations <= 1 && payment.captures <= 1), "{ops:?}");
        }
    }

    #[test]
    fn a_key_stands_for_one_request() {
        let mut ledger = Ledger::default();
        assert_eq!(run(&mut ledger, "key", &authorize("tok_ok")), (201, "authorized".to_owned()));
        assert_eq!(ledger.answered("key", "fingerprint").unwrap().status, 201);
        assert_eq!(ledger.answered("key", "another").unwrap().status, 422);
        assert_eq!(ledger.answered("other", "fingerprint"), None);
    }
}

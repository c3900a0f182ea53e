//! The payment gateway, as its callers see it: what is asked, under which key, and what an answer means.
//!
//! It is asked before the function's first SQL, so that no lock and no connection waits for it. Every request has an
//! idempotency key made of the order and the operation: one that was asked before, by a call whose transaction was rolled
//! back or whose host died, gets the answer of then, and moves no money a second time.

use contract::event::Money;
use fnhost_sdk::client::Client;
use futures::stream::{self, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

/// Orders of a batch that are asked about at a time.
pub const CONCURRENT_MAX: usize = 32;

/// What the gateway says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done, now or before.
    Agreed,
    /// It will not be, for this reason.
    Refused(String),
    /// The gateway works, but not this payment at present: ask again with the same key.
    Failing(String),
    /// There is no answer, and what was asked may have been done: ask again with the same key.
    Silent(String),
}

/// A call to the payment gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Hold this much.
    Authorize {
        /// Amount to hold.
        amount: &'a Money,
        /// What it is taken from.
        token: &'a str,
    },
    /// Take what is held.
    Capture,
    /// Give back until so much has gone back in all, in minor units; takes what is held before.
    Refund(i64),
    /// Release what is held, give back what was taken, and hold nothing later.
    Cancel,
}

/// The gateway at an address.
#[derive(Debug)]
pub struct Gateway<'a, C> {
    client: &'a C,
    url: &'a str,
    wait_ms: u32,
}

/// The part of an answer that matters.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    status: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    detail: String,
}

impl<'a, C: Client> Gateway<'a, C> {
    /// The gateway at `https://host:port`. An answer is waited for `wait_ms` milliseconds, tries and pauses included. Requests of a
    /// batch are under way together, so this is about the most that one slow payment delays the others; who is slower is asked again.
    pub fn new(client: &'a C, url: &'a str, wait_ms: u32) -> Self {
        Self { client, url: url.trim_end_matches('/'), wait_ms }
    }

    /// Asks for several orders at the same time, for each order one request after the other: what follows on one
    /// without an answer is not asked. Answers in the order of the questions; none where it was not asked.
    pub async fn ask_all(&self, orders: &[(Uuid, Vec<Request<'_>>)]) -> Vec<Vec<Option<Answer>>> {
        // A list and no closure, whose lifetimes would keep native callers from sending this between threads.
        let mut asked = Vec::with_capacity(orders.len());
        for (order_id, requests) in orders {
            asked.push(self.ask_in_turn(*order_id, requests));
        }
        stream::iter(asked).buffered(CONCURRENT_MAX).collect().await
    }

    async fn ask_in_turn(&self, order_id: Uuid, requests: &[Request<'_>]) -> Vec<Option<Answer>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut silent = false;
        for request in requests {
            let answer = if silent { None } else { Some(self.ask(order_id, request).await) };
            silent |= matches!(answer, Some(Answer::Failing(_) | Answer::Silent(_)));
            answers.push(answer);
        }
        answers
    }

    /// Asks one question.
    pub async fn ask(&self, order_id: Uuid, request: &Request<'_>) -> Answer {
        match request {
            Request::Authorize { amount: Money { amount, currency }, token } => {
                let body = json!({
                    "reference": order_id, "amount": amount, "currency": currency, "token": token
                });
                self.post(order_id, "", "authorize", body).await
            }
            Request::Capture => self.post(order_id, "/capture", "capture", json!({})).await,
            Request::Cancel => self.post(order_id, "/cancel", "cancel", json!({})).await,
            Request::Refund(total) => {
                // A refund stands for a confirmation that comes later.
                let captured = self.post(order_id, "/capture", "capture", json!({})).await;
                if captured != Answer::Agreed || *total == 0 {
                    return captured;
                }
                let key = format!("refund:{total}");
                self.post(order_id, "/refund", &key, json!({ "total": total })).await
            }
        }
    }

    async fn post(&self, order_id: Uuid, path: &str, operation: &str, body: serde_json::Value) -> Answer {
        let url = match path {
            "" => format!("{}/v1/payments", self.url),
            path => format!("{}/v1/payments/{order_id}{path}", self.url),
        };
        let key = format!("{order_id}:{operation}");
        match self.client.post(&url, &key, body.to_string().into_bytes(), self.wait_ms).await {
            Ok(answer) => understand(answer.status, &answer.body),
            Err(reason) => Answer::Silent(format!("the payment gateway did not answer: {reason}")),
        }
    }
}

/// What an answer means.
fn understand(status: u16, body: &[u8]) -> Answer {
    let unreadable =
        || Body { status: String::new(), code: String::new(), reason: None, detail: String::new() };
    let body: Body = serde_json::from_slice(body).unwrap_or_else(|_| unreadable());
    match status {
        200 | 201 if matches!(body.status.as_str(), "declined" | "voided") && status == 201 => {
            Answer::Refused(body.reason.unwrap_or_else(|| body.status.clone()))
        }
        200 | 201 if !body.status.is_empty() => Answer::Agreed,
        424 => Answer::Failing(body.detail),
        409 if body.code == "in_progress" => {
            Answer::Silent("the payment gateway has not finished".to_owned())
        }
        // Those of a gateway that is in trouble, or does not want so many at a time.
        408 | 429 | 500..=599 => {
            Answer::Silent(format!("the payment gateway failed: {status} {}", body.detail))
        }
        _ => Answer::Refused(format!("the payment gateway refused: {status} {} {}", body.code, body.detail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_sdk::client;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[rustfmt::skip] // a table: one case a line
    #[test]
    fn what_an_answer_means() {
        use Answer::{Agreed, Failing, Refused, Silent};
        let refused = |text: &str| Refused(text.to_owned());
        let silent = |text: &str| Silent(text.to_owned());
        for (status, body, expected) in [
            (201, r#"{"status":"authorized"}"#, Agreed),
            (201, r#"{"status":"declined","reason":"the card was declined"}"#, refused("the card was declined")),
            (201, r#"{"status":"voided"}"#, refused("voided")),
            (200, r#"{"status":"captured"}"#, Agreed),
            (200, r#"{"status":"voided"}"#, Agreed),
            (424, r#"{"code":"issuer_unavailable","detail":"the bank"}"#, Failing("the bank".to_owned())),
            (409, r#"{"code":"in_progress"}"#, silent("the payment gateway has not finished")),
            (409, r#"{"code":"nothing_held","detail":"no"}"#, refused("the payment gateway refused: 409 nothing_held no")),
            (503, r#"{"detail":"later"}"#, silent("the payment gateway failed: 503 later")),
            (429, "", silent("the payment gateway failed: 429 ")),
            (404, "<html>", refused("the payment gateway refused: 404  ")),
            (200, "<html>", refused("the payment gateway refused: 200  ")),
        ] {
            assert_eq!(understand(status, body.as_bytes()), expected, "{status} {body}");
        }
    }

    /// Answers by the key, and notes what was asked.
    #[derive(Default)]
    struct Scripted {
        answers: BTreeMap<String, u16>,
        asked: RefCell<Vec<String>>,
    }

    impl Client for Scripted {
        async fn get(&self, _: &str, _: u32) -> Result<client::Answer, String> {
            Err("nothing is read".to_owned())
        }

        async fn post(&self, url: &str, key: &str, json: Vec<u8>, _: u32) -> Result<client::Answer, String> {
            let path = url.strip_prefix("http://gateway").unwrap();
            self.asked.borrow_mut().push(format!("{path} {key} {}", String::from_utf8(json).unwrap()));
            let status = self.answers.get(key.split_once(':').unwrap().1).copied().ok_or("no answer")?;
            Ok(client::Answer { status, body: br#"{"status":"fine"}"#.to_vec() })
        }
    }

    #[test]
    fn keys_are_of_order_and_operation_and_nothing_follows_on_silence() {
        let order_id = Uuid::from_u128(1);
        let amount = Money { amount: 5, currency: "EUR".to_owned() };
        let authorize = Request::Authorize { amount: &amount, token: "tok" };
        let answers = [("authorize", 201), ("capture", 200), ("refund:3", 503)];
        let answers = answers.map(|(key, status)| (key.to_owned(), status)).into();
        let client = Scripted { answers, ..Scripted::default() };
        let gateway = Gateway::new(&client, "http://gateway/", 1);
        let orders = [(order_id, vec![authorize, Request::Refund(3), Request::Cancel])];
        let asked = pin!(gateway.ask_all(&orders)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(answers) = asked else { panic!("the script answers at once") };
        let silent = Answer::Silent("the payment gateway failed: 503 ".to_owned());
        assert_eq!(answers, [vec![Some(Answer::Agreed), Some(silent), None]]);
        let of = |path: &str, key: &str, json: &str| format!("/v1/payments{path} {order_id}:{key} {json}");
        let authorized = format!(r#"{{"amount":5,"currency":"EUR","reference":"{order_id}","token":"tok"}}"#);
        assert_eq!(
            *client.asked.borrow(),
            [
                of("", "authorize", &authorized),
                of(&format!("/{order_id}/capture"), "capture", "{}"),
                of(&format!("/{order_id}/refund"), "refund:3", r#"{"total":3}"#),
            ]
        );
    }
}

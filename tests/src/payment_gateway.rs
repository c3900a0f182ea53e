//! The payment gateway behind a system: how it behaves, and whether its books are ours. It is another process with a journal
//! of its own, so what it says is the truth about who was charged, and how often.

use crate::client::Client;
use crate::database::Database;
use crate::system::Fnhost;
use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::Row as _;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug)]
pub struct PaymentGateway(Client);

/// A payment as the gateway has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the gateway's own words")]
pub struct AtGateway {
    pub reference: String,
    pub status: String,
    pub amount: i64,
    pub refunded: i64,
    pub authorizations: u32,
    pub captures: u32,
}

impl PaymentGateway {
    /// That of this fnhost, or of the one whose servers it uses.
    ///
    /// # Errors
    /// It has none.
    pub fn of(fnhost: &Fnhost) -> anyhow::Result<Self> {
        Ok(Self(Client::new(&fnhost.payment_gateway()?)?))
    }

    /// The one that listens there.
    ///
    /// # Errors
    /// That is no address.
    pub fn at(url: &str) -> anyhow::Result<Self> {
        Ok(Self(Client::new(url)?))
    }

    /// Sets how it behaves from now on.
    ///
    /// # Errors
    /// It does not run, or refuses.
    pub async fn behave(&self, behaviour: &Value) -> anyhow::Result<()> {
        let request = Request::builder().method(Method::PUT).uri("/admin/behaviour");
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let answer = self.0.send(request.body(Full::new(Bytes::from(behaviour.to_string())))?).await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "{answer}");
        Ok(())
    }

    /// Begins an outage of this kind, or ends it: `none`, `errors`, `closed`, `silence`.
    ///
    /// # Errors
    /// As [`PaymentGateway::behave`].
    pub async fn outage(&self, kind: &str) -> anyhow::Result<()> {
        self.behave(&json!({ "outage": kind })).await
    }

    /// All payments, by reference.
    ///
    /// # Errors
    /// It does not run.
    pub async fn payments(&self) -> anyhow::Result<BTreeMap<String, AtGateway>> {
        #[derive(Deserialize)]
        struct Payments {
            payments: Vec<AtGateway>,
        }
        let Payments { payments } = self.0.get("/admin/payments").await?.json(StatusCode::OK)?;
        Ok(payments.into_iter().map(|payment| (payment.reference.clone(), payment)).collect())
    }

    /// Holds its books against ours: nobody was charged twice, and nothing is held or taken that we do not know of.
    ///
    /// # Errors
    /// They cannot be read, or differ; the error names the payments.
    pub async fn check_agrees(&self, db: &Database) -> anyhow::Result<()> {
        let theirs = self.payments().await.context("the payment gateway's books")?;
        let rows =
            sqlx::query("SELECT order_id::text, state, coalesce(amount, 0), refunded FROM payment.payment");
        let mut ours = BTreeMap::new();
        for row in rows.fetch_all(&db.pool).await? {
            let (order_id, state): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let (amount, refunded): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
            ours.insert(order_id, (state, amount, refunded));
        }
        let mut differ: Vec<String> = theirs
            .values()
            .filter(|theirs| !ours.get(&theirs.reference).is_some_and(|ours| agrees(ours, theirs)))
            .map(|theirs| format!("{theirs:?}, and here {:?}", ours.get(&theirs.reference)))
            .collect();
        differ.extend(
            ours.keys().filter(|id| !theirs.contains_key(*id)).map(|id| format!("{id} is not known there")),
        );
        anyhow::ensure!(
            differ.is_empty(),
            "the payment gateway's books are not ours:\n{}",
            differ.join("\n")
        );
        Ok(())
    }
}

fn agrees((state, amount, refunded): &(String, i64, i64), theirs: &AtGateway) -> bool {
    let AtGateway { status, authorizations, captures, .. } = theirs;
    let times = (*authorizations, *captures);
    let money = (theirs.amount, theirs.refunded) == (*amount, *refunded);
    match (state.as_str(), status.as_str()) {
        ("CAPTURED", "captured") | ("REFUNDED", "refunded") => times == (1, 1) && money,
        ("VOIDED", "voided") => *authorizations <= 1 && *captures == 0,
        // One that was given up may have been held meanwhile, and is cancelled.
        ("DECLINED", "declined" | "voided") => *authorizations <= 1 && *captures == 0,
        _ => false,
    }
}

//! Adds to each purchase what a customer service knows of its buyer, and sends the whole to another topic.
//!
//! The service is asked before any SQL, so nothing is locked meanwhile; a customer without an answer in time is a retry,
//! which parks that customer's purchases alone, and one whom the service does not know makes a dead letter.

use fnhost_sdk::client::Client;
use fnhost_sdk::kafka::{Batch, Failure, Json, Reply};
use fnhost_sdk::{Host, Sql};
use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Time that the service has for an answer, in milliseconds.
const TIMEOUT_MS: u32 = 2_000;
const TOPIC: &str = "purchases-enriched";

/// A record's value.
#[derive(Deserialize)]
pub struct Purchase {
    customer: u64,
    amount: i64,
}

/// Why a customer is not known now.
#[derive(Clone)]
enum Unknown {
    /// Perhaps later.
    NoAnswer(String),
    /// Never.
    NoSuchCustomer,
}

/// Handles a batch.
///
/// # Errors
/// A variable is missing.
pub async fn handle<H: Host + Sql + Client>(
    host: &H,
    batch: Batch<Json<Purchase>>,
) -> Result<Reply, Failure> {
    let service = host.variable("customers_url").await?;
    let Batch { records, mut reply, .. } = batch;
    // Each customer once, all at the same time.
    let wanted: BTreeSet<u64> = records.iter().map(|record| record.event.value.customer).collect();
    let answers = join_all(wanted.iter().map(|id| ask(host, &service, *id))).await;
    let customers: BTreeMap<u64, Result<Value, Unknown>> = wanted.into_iter().zip(answers).collect();
    for record in &records {
        let Purchase { customer, amount } = record.event.value;
        match &customers[&customer] {
            Ok(known) => {
                let enriched = json!({"amount": amount, "customer": known});
                reply.send(record, TOPIC, customer.to_string(), enriched.to_string());
            }
            Err(Unknown::NoAnswer(reason)) => reply.retry(record, reason),
            Err(Unknown::NoSuchCustomer) => reply.reject(record, format!("there is no customer {customer}")),
        }
    }
    Ok(reply)
}

async fn ask(host: &impl Client, service: &str, customer: u64) -> Result<Value, Unknown> {
    let url = format!("{service}/customers/{customer}");
    let answer = host.get(&url, TIMEOUT_MS).await.map_err(Unknown::NoAnswer)?;
    match answer.status {
        200 => serde_json::from_slice(&answer.body)
            .map_err(|error| Unknown::NoAnswer(format!("{url}: no JSON: {error}"))),
        404 => Err(Unknown::NoSuchCustomer),
        status => Err(Unknown::NoAnswer(format!("{url}: status {status}"))),
    }
}

fnhost_sdk::export_kafka!(crate::handle);

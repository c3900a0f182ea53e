//! Counts the words of sentences: one statement for a batch, exact through crashes, with no table of what was seen.

use fnhost_sdk::kafka::{Batch, Failure, Reply, Text};
use fnhost_sdk::{Sql, unnest};
use std::collections::BTreeMap;

/// In the words' order, so that two partitions with the same words wait for each other in one direction only.
const COUNT: &str = "
    INSERT INTO word AS w (word, count)
    SELECT word, count FROM unnest($1::text[], $2::int8[]) AS new (word, count) ORDER BY word
    ON CONFLICT (word) DO UPDATE SET count = w.count + excluded.count";

/// Handles a batch.
///
/// # Errors
/// What the database refused; nothing of the batch is kept then.
pub async fn handle<S: Sql>(db: &S, batch: Batch<Text>) -> Result<Reply, Failure> {
    let Batch { records, reply, .. } = batch;
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for record in &records {
        for word in record.event.value.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    db.execute(COUNT, unnest(counts)).await?;
    Ok(reply)
}

fnhost_sdk::export_kafka!(crate::handle);

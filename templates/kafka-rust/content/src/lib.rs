//! Counts the visits of each page. A starting point: replace the record, the statement and the table by your own.

use fnhost_sdk::{Sql, unnest};
use fnhost_sdk::kafka::{Batch, Failure, Json, Reply};
use serde::Deserialize;

/// A record's value: `{"page":"/start","seconds":3}`. One that is something else becomes a dead letter by itself.
#[derive(Deserialize)]
pub struct Visit {
    page: String,
    seconds: i64,
}

/// In key order, so that two partitions with the same pages wait for each other in one direction only.
const COUNT: &str = "
    INSERT INTO visit AS v (page, visits, seconds)
    SELECT page, count(*), sum(seconds)::int8 FROM unnest($1::text[], $2::int8[]) AS new (page, seconds)
    GROUP BY page ORDER BY page
    ON CONFLICT (page) DO UPDATE SET visits = v.visits + excluded.visits, seconds = v.seconds + excluded.seconds";

/// Handles a batch in one statement, however many records it has. What it writes, the messages it sends with
/// `reply.send` and the position in the topic are committed together or not at all, so it can count with `+`.
///
/// # Errors
/// What the database refused; nothing of the batch is kept then.
pub async fn handle<S: Sql>(db: &S, batch: Batch<Json<Visit>>) -> Result<Reply, Failure> {
    let Batch { records, mut reply, .. } = batch;
    let mut visits = Vec::new();
    for record in &records {
        let Visit { page, seconds } = &record.event.value;
        if *seconds < 0 {
            reply.reject(record, format!("a visit of {seconds} seconds"));
            continue;
        }
        println!("{page} was visited for {seconds} seconds");
        visits.push((page, *seconds));
    }
    db.execute(COUNT, unnest(visits)).await?;
    Ok(reply)
}

fnhost_sdk::export_kafka!(crate::handle);

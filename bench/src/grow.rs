//! A large number of orders: whether what one costs rises with what is stored, and how large every table gets.

use crate::cpu::Cpu;
use crate::report::CpuPerOrder;
use crate::system::{Base, Process, Runner, Stage};
use crate::{Plan, orders, report, saga, say};
use serde::Serialize;
use sqlx::PgPool;
use std::time::{Duration, Instant};

/// Parts of the orders that are looked at by themselves.
const PARTS: usize = 4;
/// How often the end of a part is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Longest time without an order more.
const STALL: Duration = Duration::from_secs(120);

/// What the report has of it.
#[derive(Serialize, Debug)]
struct Growth {
    orders: usize,
    parts: Vec<Part>,
    tables: Vec<Table>,
}

/// One part of the orders, by order of their end.
#[derive(Serialize, Debug)]
struct Part {
    orders_per_s: f64,
    cpu_us_per_order: CpuPerOrder,
}

/// A table once all are settled.
#[derive(Serialize, Debug)]
struct Table {
    name: String,
    rows: i64,
    table_bytes: i64,
    index_bytes: i64,
}

/// Measures, and writes `grow.json`.
///
/// # Errors
/// Not every order was confirmed, or nothing happened for a while.
pub async fn run(base: &Base, plan: &Plan) -> anyhow::Result<()> {
    let count = plan.grow_orders;
    say(&format!("{count} orders, in {PARTS} parts"));
    let staged = saga::prepare(base, Runner::Wasm, &[], count, "grow").await?;
    let saga::Prepared { stage, owner, mut process, gateway: _gateway } = staged;
    let parts = parts(&stage, &owner, &mut process, count).await?;
    let growth = Growth { orders: count, parts, tables: tables(&owner).await? };
    process.stop().await?;
    owner.close().await;
    stage.end().await?;
    for (number, part) in (1..).zip(&growth.parts) {
        let CpuPerOrder { fnhost, postgres, kafka, .. } = part.cpu_us_per_order;
        println!(
            "part {number} of {PARTS}  {:6.0} orders/s settled; CPU us per order: host {fnhost:.0}, Postgres {postgres:.0}, Kafka {kafka:.0}",
            part.orders_per_s
        );
    }
    println!("{:40} {:>10} {:>12} {:>12} {:>10}", "table", "rows", "MB", "indexes, MB", "bytes/order");
    for Table { name, rows, table_bytes, index_bytes } in &growth.tables {
        let megabytes = |bytes: &i64| *bytes as f64 / 1e6;
        println!(
            "{name:40} {rows:10} {:12.1} {:12.1} {:10.0}",
            megabytes(table_bytes),
            megabytes(index_bytes),
            (table_bytes + index_bytes) as f64 / count as f64
        );
    }
    report::write("grow", &growth)
}

async fn parts(
    stage: &Stage,
    owner: &PgPool,
    process: &mut Process,
    count: usize,
) -> anyhow::Result<Vec<Part>> {
    let pids = stage.pids(process)?;
    let (mut cpu, mut began, mut done) = (Cpu::read(pids)?, Instant::now(), 0);
    let (mut moved, mut last) = (Instant::now(), 0);
    let mut parts = Vec::new();
    while parts.len() < PARTS {
        process.check()?;
        tokio::time::sleep(LOOK_INTERVAL).await;
        let settled = orders::told(owner).await?.min(count);
        if settled > last {
            (moved, last) = (Instant::now(), settled);
        }
        anyhow::ensure!(
            moved.elapsed() < STALL,
            "{settled} of {count} orders were settled, and no more for {STALL:?}"
        );
        if settled == 0 {
            // Starting is not what is measured here.
            (cpu, began) = (Cpu::read(pids)?, Instant::now());
        }
        let end = count * (parts.len() + 1) / PARTS;
        // The last part takes what is left to do for orders whose customer has been told.
        if settled < end || (end == count && !orders::are_settled(owner, count).await?) {
            continue;
        }
        let now = Cpu::read(pids)?;
        let orders = settled - done;
        parts.push(Part {
            orders_per_s: orders as f64 / began.elapsed().as_secs_f64(),
            cpu_us_per_order: CpuPerOrder::new(now.since(cpu), orders),
        });
        (cpu, began, done) = (now, Instant::now(), settled);
    }
    Ok(parts)
}

/// Every table with rows in it, the largest first.
async fn tables(owner: &PgPool) -> anyhow::Result<Vec<Table>> {
    sqlx::raw_sql("VACUUM (ANALYZE)").execute(owner).await?;
    let tables: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT schemaname || '.' || relname AS name, n_live_tup AS rows, pg_table_size(relid) AS table_bytes,
                pg_indexes_size(relid) AS index_bytes
           FROM pg_stat_user_tables WHERE n_live_tup > 0 OR pg_table_size(relid) > 1048576
          ORDER BY pg_total_relation_size(relid) DESC",
    )
    .fetch_all(owner)
    .await?;
    let table = |(name, rows, table_bytes, index_bytes)| Table { name, rows, table_bytes, index_bytes };
    Ok(tables.into_iter().map(table).collect())
}

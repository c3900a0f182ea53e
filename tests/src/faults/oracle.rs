//! Judges a run from outside, once all faults are over: what was accepted, what the topics hold, what the ledger counted and what the
//! order system's own tables say must agree to the last record.

use super::audit::Audit;
use super::load::Accepted;
use super::odd::{LEDGER, Odd, TOPICS};
use super::report::Findings;
use super::world::World;
use crate::consistency::{lag, violations};
use crate::customer::Status;
use crate::database::Database;
use crate::wait::{Look, until};
use futures::TryStreamExt as _;
use http::StatusCode;
use sqlx::Row as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use uuid::Uuid;

/// Time in which everything is settled after the last fault: take-overs, back-off, a version's trial.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(180);
/// All topics with messages of the deployment.
const ALL_TOPICS: [&str; 5] =
    ["order-events", "inventory-events", "payment-events", "notification-events", "ledger-events"];
/// The rule that holds where no record is odd; here the dead letters are held against the odd records.
const NO_RECORD_DIED: &str = "no record died";

/// Rows that wait, of any kind, and what keeps a partition from going on.
const WAITING: &str = "
    SELECT (SELECT count(*) FROM fnhost.parked) + (SELECT count(*) FROM fnhost.outbox) + (SELECT count(*) FROM fnhost.refused)
         + (SELECT count(*) FROM orders.outgoing_event) + (SELECT count(*) FROM auth.outgoing_event)
         + (SELECT count(*) FROM fnhost.partition WHERE stopped IS NOT NULL)
         + (SELECT count(*) FROM orders.orders WHERE status = 'PENDING')";

/// Waits until nothing is under way: no row waits, no record is unread, and all hosts are ready.
///
/// # Errors
/// Something still is after `deadline`; the error says what.
pub async fn settle(world: &World, deadline: Duration) -> anyhow::Result<()> {
    until("everything to be settled", deadline, async || {
        // What cannot be asked yet is asked again: brokers and hosts may still be on their way back.
        let waits = unsettled(world).await.unwrap_or_else(|error| Some(format!("{error:#}")));
        match waits {
            None => Ok(Look::Found(())),
            Some(waits) => {
                tokio::time::sleep(LOOK_PAUSE).await;
                Ok(Look::NotYet(waits))
            }
        }
    })
    .await
}

/// What is under way; none where all is settled.
async fn unsettled(world: &World) -> anyhow::Result<Option<String>> {
    let waiting = world.db.count(WAITING).await?;
    if waiting > 0 {
        return Ok(Some(format!("{waiting} rows wait: {}", stuck(&world.db).await?)));
    }
    let lag = lag(&world.brokers.cluster(), &world.db).await?;
    if lag != 0 {
        return Ok(Some(format!("{lag} records are unread")));
    }
    for (host, admin) in world.admins.iter().enumerate() {
        let answer = admin.get("/readyz").await?;
        if answer.status != StatusCode::OK {
            return Ok(Some(format!("host {host} is not ready: {answer}")));
        }
    }
    Ok(None)
}

/// Pause after a look at a database that has much to do.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Which triggers have rows that wait, for the message.
async fn stuck(db: &Database) -> anyhow::Result<String> {
    let sql = "SELECT concat_ws('; ',
        (SELECT 'parked: ' || string_agg(format('%s %s/%s@%s %s', t.id, topic, partition, \"offset\", reason), ', ') FROM (SELECT * FROM fnhost.parked LIMIT 3) p JOIN fnhost.trigger t USING (trigger)),
        (SELECT 'unsent: ' || string_agg(DISTINCT format('%s %s/%s', t.id, topic, partition), ', ') FROM fnhost.outbox JOIN fnhost.trigger t USING (trigger)),
        (SELECT 'stopped: ' || string_agg(format('%s %s/%s: %s', t.id, topic, partition, stopped), ', ') FROM fnhost.partition JOIN fnhost.trigger t USING (trigger) WHERE stopped IS NOT NULL),
        (SELECT 'refused streams: ' || count(*) FROM fnhost.refused HAVING count(*) > 0),
        (SELECT 'pending orders: ' || count(*) FROM orders.orders WHERE status = 'PENDING' HAVING count(*) > 0))";
    Ok(sqlx::query_scalar(sql).fetch_one(&db.pool).await?)
}

/// The keys that messages are signed with.
///
/// # Errors
/// The database did not answer.
pub async fn audit(db: &Database) -> anyhow::Result<Audit> {
    let keys = sqlx::query_as("SELECT id, secret FROM fnhost.stream_key").fetch_all(&db.pool).await?;
    Ok(Audit::new(keys))
}

/// Judges everything that can be judged; what is wrong is in the findings.
///
/// # Errors
/// A question got no answer.
pub async fn judge(
    world: &World,
    orders: &[Accepted],
    odd: &[Odd],
    mut audit: Audit,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let cluster = world.brokers.cluster();
    let read = {
        let odd = odd.to_vec();
        tokio::task::spawn_blocking(move || -> anyhow::Result<Audit> {
            for topic in ALL_TOPICS {
                audit.read(&cluster, topic, &odd)?;
            }
            for (topic, _) in TOPICS {
                // Made when the first record dies.
                if !odd.is_empty() {
                    audit.read(&cluster, &format!("{topic}.dlq"), &[])?;
                }
            }
            Ok(audit)
        })
    };
    let mut audit = read.await??;
    audit.check_streams(&numbered(&world.db).await?);
    check_orders(&world.db, orders, findings).await?;
    check_ledger(&world.db, &mut audit, odd, findings).await?;
    check_dead(&world.db, odd, findings).await?;
    findings.count("messages in the topics", audit.distinct() as u64);
    findings.count("copies that consumers refused", audit.copies());
    findings.count("incarnations of the database", audit.incarnations() as u64);
    findings.count("odd records", audit.odd as u64);
    if audit.odd != odd.len() {
        findings.fault(format!("{} odd records were sent, and {} are in the topics", odd.len(), audit.odd));
    }
    for (kind, (count, shown)) in &audit.faults {
        findings.fault(format!("{kind}: {count} times, for example {}", shown.join("; ")));
    }
    let mut connection = world.db.pool.acquire().await?;
    for (rule, report) in violations(&mut connection).await? {
        if rule != NO_RECORD_DIED {
            findings.fault(report);
        }
    }
    if let Err(error) = world.gateway.check_agrees(&world.db).await {
        findings.fault(format!("{error:#}"));
    }
    Ok(())
}

/// How many messages were numbered on each stream, whose names are without their incarnation.
async fn numbered(db: &Database) -> anyhow::Result<BTreeMap<String, i64>> {
    let sql = "SELECT format('%s/%s', t.deployment, t.id || CASE WHEN p.topic = '' THEN '' ELSE format('/%s/%s', p.topic, p.partition) END), emitted
                 FROM fnhost.partition p JOIN fnhost.trigger t USING (trigger) WHERE emitted > 0";
    let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&db.pool).await?;
    Ok(rows.into_iter().collect())
}

/// Every accepted order is there once, and ended as it may.
async fn check_orders(db: &Database, orders: &[Accepted], findings: &mut Findings) -> anyhow::Result<()> {
    let rows: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT id, status FROM orders.orders").fetch_all(&db.pool).await?;
    let mut stored: HashMap<Uuid, String> = rows.into_iter().collect();
    let mut by_status: BTreeMap<String, u64> = BTreeMap::new();
    let (mut lost, mut wrong) = (0, 0);
    for order in orders {
        let Some(status) = stored.remove(&order.id) else {
            lost += 1;
            findings.fault(format!("order {} was accepted and is lost", order.id));
            continue;
        };
        let ends = order.ends.iter().map(name).collect::<Vec<_>>();
        if !ends.contains(&status.as_str()) {
            wrong += 1;
            findings.fault(format!("order {} is {status}, and can only be {}", order.id, ends.join(" or ")));
        }
        *by_status.entry(status).or_default() += 1;
    }
    for (status, count) in by_status {
        findings.count(format!("orders {status}"), count);
    }
    findings.count("orders lost", lost);
    findings.count("orders doubled", stored.len() as u64);
    findings.count("orders in a state that they cannot have", wrong);
    if !stored.is_empty() {
        findings.fault(format!("{} orders are there that no client knows of", stored.len()));
    }
    let sql = "SELECT coalesce(sum(greatest(-on_hand, 0) + greatest(reserved - on_hand, 0)), 0)::bigint FROM inventory.product";
    let oversold = db.count(sql).await?;
    findings.count("units oversold", oversold.unsigned_abs());
    if oversold > 0 {
        findings.fault(format!("{oversold} units are oversold"));
    }
    Ok(())
}

fn name(status: &Status) -> &'static str {
    match status {
        Status::Pending => "PENDING",
        Status::Confirmed => "CONFIRMED",
        Status::Rejected => "REJECTED",
        Status::PaymentFailed => "PAYMENT_FAILED",
        Status::Cancelled => "CANCELLED",
        Status::Expired => "EXPIRED",
    }
}

/// What the ledger has entered, beside what the topics have.
#[derive(Default)]
struct Entered {
    /// How often it has each number of a stream.
    times: HashMap<String, BTreeMap<i64, u32>>,
    /// How often it has each odd record, by its mark.
    marks: BTreeMap<String, u32>,
    doubled: u64,
    /// Entries of records that are in no topic.
    foreign: u64,
    disordered: u64,
}

impl Entered {
    async fn read(db: &Database, audit: &Audit) -> anyhow::Result<Self> {
        let mut found = Self::default();
        let mut last: HashMap<(u32, i32, String), i64> = HashMap::new();
        let mut rows =
            sqlx::query("SELECT stream, seq, mark, coalesce(key, '') FROM ledger.entry ORDER BY id")
                .fetch(&db.pool);
        while let Some(row) = rows.try_next().await? {
            let (stream, seq): (Option<String>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
            let (mark, key): (Option<String>, String) = (row.try_get(2)?, row.try_get(3)?);
            if let Some(mark) = mark {
                *found.marks.entry(mark).or_default() += 1;
                continue;
            }
            let seen = stream
                .as_deref()
                .zip(seq)
                .and_then(|(stream, seq)| audit.streams.get(stream)?.get(&seq).copied());
            let (Some(stream), Some(seq), Some(seen)) = (stream, seq, seen) else {
                found.foreign += 1;
                continue;
            };
            let times = found.times.entry(stream).or_default().entry(seq).or_default();
            *times += 1;
            found.doubled += u64::from(*times > 1);
            let last = last.entry((seen.place.0, seen.place.1, key)).or_insert(-1);
            found.disordered += u64::from(*times == 1 && seen.offset < *last);
            *last = seen.offset.max(*last);
        }
        Ok(found)
    }

    /// How many messages the ledger's topics have, how many of them it lacks, and the first of those.
    fn lost(&self, audit: &Audit) -> (i64, u64, Option<String>) {
        let topic = |place: u32| audit.topics[place as usize].as_str();
        let (mut all, mut lost, mut first) = (0, 0, None);
        for (stream, messages) in &audit.streams {
            for (seq, seen) in messages {
                let topic = topic(seen.place.0);
                if !TOPICS.iter().any(|(read, _)| *read == topic) {
                    continue;
                }
                all += 1;
                if !self.times.get(stream).is_some_and(|times| times.contains_key(seq)) {
                    lost += 1;
                    first.get_or_insert_with(|| {
                        format!("{stream} #{seq} at {topic}/{}@{}", seen.place.1, seen.offset)
                    });
                }
            }
        }
        (all, lost, first)
    }
}

/// The ledger has each message of its topics once, in the order of its key, and each odd record that does not die in it; the topic that it
/// sends to tells of each entry once.
async fn check_ledger(
    db: &Database,
    audit: &mut Audit,
    odd: &[Odd],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let entered = Entered::read(db, audit).await?;
    let (events, lost, first_lost) = entered.lost(audit);
    let Entered { marks, doubled, foreign, disordered, .. } = entered;
    let expected: BTreeSet<&str> =
        odd.iter().filter(|odd| odd.counts()).map(|odd| odd.mark.as_str()).collect();
    let marked_wrong = expected.iter().filter(|mark| marks.get(**mark) != Some(&1)).count()
        + marks.keys().filter(|mark| !expected.contains(mark.as_str())).count();
    let (n, receipts): (i64, i64) =
        sqlx::query_as("SELECT n, receipts FROM ledger.counter").fetch_one(&db.pool).await?;
    let all = events + expected.len() as i64;
    let unmatched = db.count("SELECT count(*) FROM (SELECT nonce FROM ledger.entry) e FULL JOIN (SELECT nonce, count(*) AS times FROM ledger.receipt GROUP BY nonce) r
         USING (nonce) WHERE r.times IS DISTINCT FROM 1 OR e.nonce IS NULL").await?;
    for (what, count) in [
        ("records that the ledger never got", lost),
        ("records that the ledger got twice", doubled),
        ("records that the ledger got out of order", disordered),
        ("records of the ledger that are in no topic", foreign),
        ("odd records that the ledger did not get once", marked_wrong as u64),
        ("messages of the ledger that were lost, doubled or never committed", unmatched.unsigned_abs()),
    ] {
        findings.count(what, count);
        if count > 0 {
            findings.fault(format!("{what}: {count}; {}", first_lost.as_deref().unwrap_or_default()));
        }
    }
    findings.count("records counted by the ledger", n.unsigned_abs());
    if (n, receipts) != (all, all) {
        findings.fault(format!(
            "the ledger counted {n} records and {receipts} messages about them, and there are {all}"
        ));
    }
    Ok(())
}

/// The dead letters are the odd records, in each trigger that they die in, once.
async fn check_dead(db: &Database, odd: &[Odd], findings: &mut Findings) -> anyhow::Result<()> {
    type Place = (String, String, i32, i64);
    let sql =
        "SELECT t.id, topic, partition, \"offset\" FROM fnhost.dead JOIN fnhost.trigger t USING (trigger)";
    let dead: Vec<Place> = sqlx::query_as(sql).fetch_all(&db.pool).await?;
    let place =
        |odd: &Odd, trigger: &str| (trigger.to_owned(), odd.topic.to_owned(), odd.partition, odd.offset);
    let expected: BTreeSet<Place> =
        odd.iter().flat_map(|odd| odd.dies_in.iter().map(move |trigger| place(odd, trigger))).collect();
    let found: BTreeSet<Place> = dead.iter().cloned().collect();
    findings.count("dead letters", dead.len() as u64);
    if dead.len() != found.len() {
        findings.fault(format!("{} dead letters are of {} records", dead.len(), found.len()));
    }
    let show =
        |(trigger, topic, partition, offset): &Place| format!("{trigger}: {topic}/{partition}@{offset}");
    for one in found.difference(&expected) {
        findings.fault(format!("a record died that should not: {}", show(one)));
    }
    for one in expected.difference(&found) {
        findings.fault(format!(
            "an odd record did not die: {}{}",
            show(one),
            if one.0 == LEDGER { " (poison)" } else { "" }
        ));
    }
    Ok(())
}

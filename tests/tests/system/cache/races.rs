//! Readers and writers of the same orders at the same time: how old an answer may be, and to whom it may go.

use super::shared;
use http::{Method, StatusCode};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::customer::{Customer, NewOrder, Order};
use tests::database::Database;
use tests::keys::tampered;
use tests::outcome::Outcome;
use tests::redis::Redis;
use tests::scrape::Scrape;
use tests::system::{Fnhost, Setup};
use tests::wait::{Look, until};
use uuid::Uuid;

/// An answer may be older than a commit that it missed by so much.
const STALE_MAX: Duration = Duration::from_secs(1);
/// Orders that are read and written at the same time.
const ORDERS: usize = 2;
/// Readers of each.
const READERS: usize = 2;
/// Changes of each in each of two ways, one after the other: every one is a version.
const CHANGES: usize = 5;
/// Time between them.
const PAUSE: Duration = Duration::from_millis(200);
/// Time for everything to happen in, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(180);

/// What readers were told, and since when each version is known to be committed.
#[derive(Debug, Default)]
struct Story {
    /// When it was asked, and the version in the answer.
    answers: Vec<(Uuid, Instant, i64)>,
    /// When a look at the database found it: it was committed before.
    committed: BTreeMap<(Uuid, i64), Instant>,
}

impl Story {
    /// An answer of a version that was replaced for longer than it may be.
    fn too_old(&self) -> Option<String> {
        self.answers.iter().find_map(|(id, asked, version)| {
            let later = self.committed.range((*id, version + 1)..=(*id, i64::MAX));
            let missed = later.map(|(_, since)| asked.saturating_duration_since(*since)).max()?;
            (missed > STALE_MAX)
                .then(|| format!("order {id}: version {version}, {missed:?} after the next one"))
        })
    }

    /// Answers that had missed a commit, which a cache that is never used would not give.
    fn stale(&self) -> usize {
        let is_stale = |(id, asked, version): &&(Uuid, Instant, i64)| {
            self.committed.range((*id, version + 1)..=(*id, i64::MAX)).any(|(_, since)| since < asked)
        };
        self.answers.iter().filter(is_stale).count()
    }
}

async fn reader(
    customer: Customer,
    id: Uuid,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Vec<(Uuid, Instant, i64)>> {
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = customer.ask(Method::GET, &format!("/orders/{id}"), None).await?;
        answers.push((id, asked, answer.json::<Order>(StatusCode::OK)?.version));
        // Leaves the processors to those who write.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    Ok(answers)
}

/// Looks at the database all the time, so that it sees also what no reader is told.
async fn watch(
    db: Database,
    ids: Vec<Uuid>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<BTreeMap<(Uuid, i64), Instant>> {
    let mut committed = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let sql = "SELECT id, version FROM orders.orders WHERE id = ANY ($1)";
        let rows: Vec<(Uuid, i64)> = sqlx::query_as(sql).bind(&ids).fetch_all(&db.pool).await?;
        let now = Instant::now();
        for row in rows {
            committed.entry(row).or_insert(now);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(committed)
}

/// Orders that go through the saga and are then changed again and again, all of it being read meanwhile.
async fn tell(fnhost: &Fnhost) -> anyhow::Result<Story> {
    let client = fnhost.client()?;
    let db = fnhost.database().await?;
    let sku = format!("TEST-{}", Uuid::new_v4().simple());
    db.add_product(&sku, 1_000).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (mut readers, mut writers, mut ids) = (tokio::task::JoinSet::new(), Vec::new(), Vec::new());
    for _ in 0..ORDERS {
        let customer = Customer::register(&client).await?;
        let id = customer.order(&NewOrder::of(&[(&sku, 20)])).await?.order_id;
        ids.push(id);
        for _ in 0..READERS {
            readers.spawn(reader(customer.clone(), id, stop.clone()));
        }
        let sku = sku.clone();
        let db = db.clone();
        writers.push(async move {
            customer.wait_final(id).await?;
            for _ in 0..CHANGES {
                // Over HTTP, and as a batch of records does it, after which no function is called.
                customer.refund(id, &json!({ "lines": [{ "sku": sku, "quantity": 1 }] })).await?;
                tokio::time::sleep(PAUSE).await;
                let batch = "UPDATE orders.orders SET version = version + 1 WHERE id = $1";
                sqlx::query(batch).bind(id).execute(&db.pool).await?;
                tokio::time::sleep(PAUSE).await;
            }
            // The last version is read for longer than any answer lives.
            tokio::time::sleep(STALE_MAX).await;
            anyhow::Ok(())
        });
    }
    let watcher = tokio::spawn(watch(db, ids, stop.clone()));
    tokio::time::timeout(DEADLINE, futures::future::try_join_all(writers)).await??;
    stop.store(true, Ordering::Relaxed);
    let mut story = Story { committed: watcher.await??, ..Story::default() };
    while let Some(answers) = readers.join_next().await {
        story.answers.extend(answers??);
    }
    Ok(story)
}

async fn assert_never_too_old(fnhost: &Fnhost) -> Outcome {
    let story = tell(fnhost).await?;
    assert_eq!(story.too_old(), None);
    let cached = Scrape::of(&fnhost.admin()?)
        .await?
        .sum("fnhost_key_value_reads_total", &[("component", "order"), ("outcome", "hit")]);
    assert!(cached > 0.0, "nothing was read from the cache");
    assert!(
        story.stale() > 0,
        "no answer of {} had missed a commit: they prove nothing",
        story.answers.len()
    );
    Ok(())
}

#[tokio::test]
async fn no_answer_from_memory_is_older_than_a_second() -> Outcome {
    assert_never_too_old(&*shared().await?).await
}

#[tokio::test]
async fn no_answer_from_redis_is_older_than_a_second() -> Outcome {
    let Some(redis) = Redis::start().await? else { return Ok(()) };
    let arguments = vec!["--runtime-config-file".to_owned(), redis.runtime_config()?.display().to_string()];
    assert_never_too_old(&Fnhost::start(Setup { arguments, ..Setup::default() }).await?).await
}

#[tokio::test]
async fn whoever_changes_an_order_reads_the_change() -> Outcome {
    let fnhost = shared().await?;
    let customer = Customer::register(&fnhost.client()?).await?;
    let order = customer.order_to_end(&NewOrder::of(&[("TEA-250G", 5)])).await?;
    let path = format!("/orders/{}", order.order_id);
    let version = async || {
        let answer = customer.ask(Method::GET, &path, None).await?;
        anyhow::Ok(answer.json::<Order>(StatusCode::OK)?.version)
    };
    for _ in 0..4 {
        version().await?;
        let lines = json!({ "lines": [{ "sku": "TEA-250G", "quantity": 1 }] });
        let refunded = customer.refund(order.order_id, &lines).await?;
        assert_eq!(version().await?, refunded.version);
    }
    let cancelled = customer.cancel(order.order_id).await?;
    assert_eq!(version().await?, cancelled.version);
    Ok(())
}

#[tokio::test]
async fn what_is_kept_answers_nobody_else() -> Outcome {
    let fnhost = shared().await?;
    let (client, admin) = (fnhost.client()?, fnhost.admin()?);
    let (ada, eve) = (Customer::register(&client).await?, Customer::register(&client).await?);
    let order = ada.order_to_end(&NewOrder::of(&[("TEA-250G", 1)])).await?;
    ada.wait_payment(order.order_id, "CAPTURED").await?;
    let tampered = Customer { token: tampered(&ada.token), ..ada.clone() };
    let nobody = Customer { token: String::new(), ..ada.clone() };
    for component in ["order", "payment"] {
        let path = format!("/{component}s/{}", order.order_id);
        let hits = async || {
            let labels = [("component", component), ("store", "default"), ("outcome", "hit")];
            anyhow::Ok(Scrape::of(&admin).await?.sum("fnhost_key_value_reads_total", &labels))
        };
        let before = hits().await?;
        until("an answer from the cache", DEADLINE, async || {
            let own = ada.ask(Method::GET, &path, None).await?;
            anyhow::ensure!(own.status == StatusCode::OK, "{own}");
            // While it is kept for its owner.
            for (who, expected) in [
                (&eve, StatusCode::NOT_FOUND),
                (&tampered, StatusCode::UNAUTHORIZED),
                (&nobody, StatusCode::UNAUTHORIZED),
            ] {
                let answer = who.ask(Method::GET, &path, None).await?;
                anyhow::ensure!(answer.status == expected, "{answer}");
            }
            let again = ada.ask(Method::GET, &path, None).await?;
            anyhow::ensure!(again.body == own.body, "{again}");
            Ok(Look::from_bool(hits().await? > before, "none yet"))
        })
        .await?;
    }
    Ok(())
}

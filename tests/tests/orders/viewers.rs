//! Many live viewers of one host: what they cost the database, and what becomes of those who do not read.

use crate::shared;
use anyhow::Context as _;
use futures::future::try_join_all;
use std::time::Duration;
use tests::customer::{Customer, NewOrder};
use tests::kafka::{Record, produce};
use tests::live::{Live, Transport};
use tests::outcome::Outcome;
use tests::scrape::Scrape;
use tests::system::{Fnhost, Setup};
use tests::wait::{Look, until};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use uuid::Uuid;

/// Viewers by each transport.
const VIEWERS: usize = 100;
/// Records of that size that clients who do not read are sent: far more than the kernel keeps for them.
const UNREAD: (usize, usize) = (40, 800_000);
/// Time in which a client that takes nothing is left: the host's 30 s, on a busy machine.
const LEFT_DEADLINE: Duration = Duration::from_secs(150);

/// A pushed topic that no function reads; no schedule looks at orders meanwhile.
fn with_news(manifest: String) -> String {
    let pushed = r#"topics = ["order-events", "inventory-events", "payment-events"]"#;
    manifest
        .replace("topics = { ", r#"topics = { "news" = { partitions = 1 }, "#)
        .replace(&format!("{pushed}\nfields"), &format!("{}, \"news\"]\nfields", &pushed[..pushed.len() - 1]))
        .replace("every_s = 60", "every_s = 86400")
        // All of them are one customer's.
        .replace(
            "max_viewers_per_user = { default = \"20\" }",
            "max_viewers_per_user = { default = \"300\" }",
        )
}

/// A client that asks for a stream and reads nothing, not even the answer's head.
async fn never_reads(ada: &Customer, order_id: Uuid, upgrade: &str) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4 << 10)?;
    let mut stream = socket.connect(ada.client.address().parse()?).await?;
    let head = format!(
        "GET /orders/{order_id}/events HTTP/1.1\r\nhost: it\r\nauthorization: Bearer {}\r\n{upgrade}\r\n",
        ada.token
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

async fn viewers(fnhost: &Fnhost) -> anyhow::Result<[f64; 2]> {
    let scrape = Scrape::of(&fnhost.admin()?).await?;
    Ok(["events", "websocket"]
        .map(|transport| scrape.sum("fnhost_push_viewers", &[("transport", transport)])))
}

async fn until_viewers(fnhost: &Fnhost, wanted: usize) -> anyhow::Result<()> {
    until(&format!("{wanted} viewers by each transport"), LEFT_DEADLINE, async || {
        let found = viewers(fnhost).await?;
        Ok(Look::from_bool(found == [wanted as f64; 2], format!("{found:?}")))
    })
    .await
}

async fn news(fnhost: &Fnhost, order_id: Uuid, reason: &str) -> anyhow::Result<()> {
    let value = serde_json::json!({"reason": reason}).to_string().into_bytes();
    let record = Record { key: Some(order_id.to_string()), value: Some(value), headers: vec![] };
    produce(&fnhost.kafka()?, "news", 0, &record).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_ask_the_database_nothing_and_who_does_not_read_is_left() -> Outcome {
    let fnhost = Fnhost::start(Setup { manifest: Some(with_news), ..Setup::default() }).await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let watched = ada.order_to_end(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?.order_id;
    let unread = ada.order_to_end(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?.order_id;
    let admin = fnhost.admin()?;
    let calls = async || -> anyhow::Result<f64> {
        let handled = [("component", "order"), ("handler", "http")];
        Ok(Scrape::of(&admin).await?.sum("fnhost_calls_total", &handled))
    };
    let before = calls().await?;
    let mut live = Vec::new();
    for transport in Transport::ALL {
        let watch = (0..VIEWERS).map(|_| Live::watch(transport, &ada, watched, None));
        live.extend(try_join_all(watch).await?);
    }
    for viewer in &mut live {
        assert_eq!(viewer.next().await?.event, "snapshot");
    }
    let _unread = [never_reads(&ada, unread, "").await?, never_reads(&ada, unread, UPGRADE).await?];
    until_viewers(&fnhost, VIEWERS + 1).await?;
    let (count, bytes) = UNREAD;
    for _ in 0..count {
        news(&fnhost, unread, &"x".repeat(bytes)).await?;
    }

    // From here on nobody can read an order: whoever tries waits, and is seen.
    let db = fnhost.database().await?;
    let mut lock = db.pool.begin().await?;
    sqlx::raw_sql("LOCK TABLE orders.orders, orders.timeline IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *lock)
        .await?;
    try_join_all(live.iter_mut().map(Live::heartbeat)).await?;
    news(&fnhost, watched, "seen by all").await?;
    let seen = try_join_all(live.iter_mut().map(|viewer| async {
        loop {
            let event = viewer.next().await?;
            if event.data["topic"] == "news" {
                return anyhow::Ok(event);
            }
        }
    }));
    for event in seen.await? {
        assert_eq!(event.data["data"]["reason"], "seen by all");
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert_eq!(db.count(waiting).await?, 0, "somebody asked for an order");
    let asked = calls().await? - before;
    // A call is counted after its answer is out: the last ones from before may be among them.
    let snapshots = (2 * VIEWERS + 2) as f64;
    assert!(
        (snapshots..snapshots + 10.0).contains(&asked),
        "{asked} calls: one is for each viewer's snapshot"
    );
    lock.rollback().await.context("give the tables back")?;

    until_viewers(&fnhost, VIEWERS).await?;
    drop(live);
    until_viewers(&fnhost, 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_user_has_so_many_streams_and_takes_nobody_elses_place() -> Outcome {
    /// As the manifest has it.
    const STREAMS: usize = 20;
    let fnhost = shared().await?;
    let (ada, bob) =
        (Customer::register(&fnhost.client()?).await?, Customer::register(&fnhost.client()?).await?);
    let order = NewOrder::of(&[("COFFEE-1KG", 1)]);
    let (hers, his) = (ada.order_to_end(&order).await?.order_id, bob.order_to_end(&order).await?.order_id);
    let mut open = Vec::new();
    for (_, transport) in (0..STREAMS).zip(Transport::ALL.into_iter().cycle()) {
        open.push(Live::watch(transport, &ada, hers, None).await?);
    }
    for transport in Transport::ALL {
        let refused = Live::watch(transport, &ada, hers, None).await.err().context("it is one too many")?;
        assert!(format!("{refused:#}").contains("429"), "{refused:#}");
        Live::watch(transport, &bob, his, None).await?;
    }
    open.pop();
    until("a place that was given back", LEFT_DEADLINE, async || {
        Ok(match Live::watch(Transport::ALL[0], &ada, hers, None).await {
            Ok(live) => Look::Found(live),
            Err(refused) => Look::NotYet(format!("{refused:#}")),
        })
    })
    .await?;
    Ok(())
}

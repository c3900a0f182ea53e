//! Records that no one expects, and infrastructure that fails: nothing gets stuck, nothing is taken for something else, and no record
//! dies of what is nobody's fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fnhost_db::session::SharedTransaction;
use fnhost_dispatch::{CallFailure, Called, Fixed, Handler};
use fnhost_types::record::{MAC_HEADER, SEQ_HEADER, STREAM_HEADER};
use fnhost_types::stream_keys::Claim;
use fnhost_types::wit::{Batch, Outcome, Reply};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::world::{PATIENCE, World};

async fn send(world: &World, producer: &FutureProducer, headers: OwnedHeaders) {
    let record = FutureRecord::to(&world.topics[0]).key("k").payload("write").headers(headers);
    producer.send(record, PATIENCE).await.expect("sent");
}

fn text<'a>(name: &'a str, value: &'a str) -> Header<'a, &'a [u8]> {
    Header { key: name, value: Some(value.as_bytes()) }
}

/// Bytes as a name, which rdkafka wants to be text and hands on as they are.
#[allow(unsafe_code, reason = "what is not UTF-8 cannot be had otherwise")]
pub fn no_text(name: &[u8]) -> &str {
    // SAFETY: it is not looked at, only copied.
    unsafe { std::str::from_utf8_unchecked(name) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_any_bytes_is_handled_like_any_other() {
    let world = World::new(&["odd"]).await;
    let long: String = (0..4_000).map(|n| char::from(b'a' + (n * 7 % 26) as u8)).collect();
    let any = || OwnedHeaders::new();
    let odd = [
        any().insert(text(no_text(b"\xe9v\xe9"), "v")),
        any().insert(text(STREAM_HEADER, &long)).insert(text(SEQ_HEADER, "1")),
        any().insert(text(STREAM_HEADER, "with\0nul")).insert(text(SEQ_HEADER, "1")),
        any().insert(Header { key: STREAM_HEADER, value: Some(&b"\xff\xfe"[..]) }),
        any().insert(Header { key: "traceparent", value: Some(&b"\xff\0\xfe"[..]) }),
        any().insert(Header::<&[u8]> { key: "ce_id", value: None }),
        any().insert(text("", "")),
    ];
    let count = odd.len() as i64;
    for headers in odd {
        send(&world, &world.producer, headers).await;
    }
    // A codec that librdkafka has only where it was asked for.
    let zstd: FutureProducer = world.client().set("compression.type", "zstd").create().expect("a producer");
    send(&world, &zstd, OwnedHeaders::new()).await;
    let host = world.host("one", 2).await;
    world.until_position(0, count + 1).await;
    assert_eq!(world.effects(0).await, (0..=count).collect::<Vec<_>>());
    assert_eq!(world.dead(0).await, []);
    host.ready().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_counts_only_if_this_deployment_gave_it() {
    let world = World::new(&["forged"]).await;
    let numbered = |seq: i64, mac: Option<String>| {
        let headers = OwnedHeaders::new().insert(text(STREAM_HEADER, "test/x/source"));
        let headers = headers.insert(Header { key: SEQ_HEADER, value: Some(&seq.to_string()) });
        match mac {
            Some(mac) => headers.insert(Header { key: MAC_HEADER, value: Some(&mac) }),
            None => headers,
        }
    };
    let mac = |seq: i64, partition: i32| {
        world.keys.sign(Claim { stream: "test/x/source", seq, topic: &world.topics[0], partition })
    };
    send(&world, &world.producer, numbered(i64::MAX, None)).await;
    send(&world, &world.producer, numbered(i64::MAX, mac(1, 0))).await;
    send(&world, &world.producer, numbered(i64::MAX, mac(i64::MAX, 1))).await;
    send(&world, &world.producer, numbered(1, mac(1, 0))).await;
    send(&world, &world.producer, numbered(1, mac(1, 0))).await;
    send(&world, &world.producer, numbered(2, mac(2, 0))).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 6).await;
    assert_eq!(world.effects(0).await, [0, 1, 2, 3, 5], "4 is the copy of 3, and no forged number counts");
    assert_eq!(world.value::<i64>("SELECT max(seq) FROM fnhost.watermark").await, 2);
    host.stop().await;
}

/// Panics as native code of the host would, once.
struct PanicsOnce(AtomicBool, AtomicUsize);

impl Handler for PanicsOnce {
    fn call(&self, batch: Batch, _: SharedTransaction) -> BoxFuture<'_, Result<Called, CallFailure>> {
        async move {
            assert!(self.0.swap(true, Ordering::AcqRel), "a fault of the host, for this test");
            self.1.fetch_add(batch.messages.len(), Ordering::AcqRel);
            let outcomes = batch.messages.iter().map(|_| Outcome::Done).collect();
            Ok(Called::from(Reply { outcomes, emits: vec![] }))
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_panics_is_started_again() {
    let world = World::new(&["panic"]).await;
    world.send(0, &[("a", "x"), ("b", "x"), ("c", "x")]).await;
    let handler = Arc::new(PanicsOnce(AtomicBool::new(false), AtomicUsize::new(0)));
    let handlers = Arc::new(Fixed::from(handler.clone() as Arc<dyn Handler>));
    let host = world.host_with(|_| handlers, "one", 2).await;
    world.until_position(0, 3).await;
    assert_eq!(handler.1.load(Ordering::Acquire), 3);
    assert_eq!(world.dead(0).await, []);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_cannot_log_in_buries_nothing() {
    let world = World::new(&["locked-out"]).await;
    let host = world.host("one", 2).await;
    world.send(0, &[("a", "write")]).await;
    world.until_position(0, 1).await;
    let role = &world.role;
    world.run(&format!("ALTER ROLE {role} CONNECTION LIMIT 0")).await;
    world
        .run(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"))
        .await;
    world.send(0, &[("b", "write"), ("c", "write"), ("b", "write")]).await;
    // More take-overs than a record may be in hand of.
    world.until("SELECT epoch > 9 FROM fnhost.partition").await;
    world.run(&format!("ALTER ROLE {role} CONNECTION LIMIT -1")).await;
    world.until_position(0, 4).await;
    assert_eq!(world.effects(0).await, [0, 1, 2, 3]);
    assert_eq!(world.dead(0).await, []);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_record_fails_of_kills_none() {
    let world = World::new(&["read-only"]).await;
    let host = world.host("one", 1).await;
    world.send(0, &[("a", "write")]).await;
    world.until_position(0, 1).await;
    // As a full disk would, and unlike one the store is not refused: only what the function writes.
    world
        .run(
            "CREATE FUNCTION own.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
             CREATE TRIGGER full_disk BEFORE INSERT ON own.effect FOR EACH ROW EXECUTE FUNCTION own.full()",
        )
        .await;
    world.send(0, &[("b", "write"), ("c", "write"), ("d", "write"), ("e", "write")]).await;
    world.until("SELECT epoch > 6 FROM fnhost.partition").await;
    assert!(
        world.value::<i64>("SELECT count(*) FROM fnhost.parked").await <= 1,
        "one was set aside, to ask the others"
    );
    world.run("DROP TRIGGER full_disk ON own.effect").await;
    world.until_position(0, 5).await;
    assert_eq!(world.effects(0).await, [0, 1, 2, 3, 4]);
    assert_eq!(world.dead(0).await, []);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_record_fails_of_alone_is_its_own_fault() {
    let world = World::new(&["alone"]).await;
    world
        .run(
            "CREATE FUNCTION own.broken() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'index is corrupted' USING ERRCODE = 'XX002'; END $$",
        )
        .await;
    world
        .send(0, &[("a", "write"), ("bad", "sql SELECT own.broken()"), ("b", "write"), ("c", "write")])
        .await;
    let host = world.host("one", 1).await;
    world.until("SELECT position = 4 FROM fnhost.partition").await;
    // Others succeed again and again, which is what tells.
    while world.dead(0).await.is_empty() {
        world.send(0, &[("d", "done")]).await;
        tokio::task::yield_now().await;
    }
    let dead = world.dead(0).await;
    assert_eq!((dead.len(), dead[0].0), (1, 1), "{dead:?}");
    assert!(dead[0].2.contains("index is corrupted"), "{dead:?}");
    assert_eq!(world.effects(0).await, [0, 2, 3]);
    host.stop().await;
}

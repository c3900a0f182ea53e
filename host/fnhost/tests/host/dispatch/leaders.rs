//! Relays and schedules, whose leader is elected by a lease.

use std::time::Duration;

use fnhost_db::OwnerPool;
use fnhost_db::relay as sql;
use fnhost_db::schema::{self, FunctionSchema, Passwords};
use fnhost_dispatch::relay;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::world::{PATIENCE, World};
use crate::support::holds;

/// Makes the table of events.
async fn with_events(world: &World) {
    let function = FunctionSchema {
        schema: "own",
        role: &world.role,
        password: "",
        migrations: None,
        events: Some("outgoing_event"),
    };
    let passwords = Passwords { secret: "unused", rotate: false };
    schema::migrate(&world.owner().await, &[function], &passwords).await.expect("migrated");
}

/// The session of a leader that is stopped (SIGSTOP) keeps its locks. It is left alone until the lease has passed.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_inside_its_transaction_is_replaced() {
    const LEASE: Duration = Duration::from_secs(1);
    let world = World::new(&["stopped"]).await;
    with_events(&world).await;
    let owner = world.owner().await;
    let (trigger, _) = relay::register(&owner, "test", "own").await.expect("registered");
    let (stopped, other) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(sql::take_lease(&owner, trigger, stopped, LEASE).await.expect("the database"));
    world.run("INSERT INTO own.outgoing_event (topic) VALUES ('t')").await;
    // What the relay's own statement locks, in a session that has no limit of its own.
    let mut held = world.database.begin().await.expect("a transaction");
    let lock = "SELECT FROM fnhost.partition WHERE topic = '' FOR UPDATE; DELETE FROM own.outgoing_event";
    sqlx::raw_sql(lock).execute(&mut *held).await.expect("locked");
    assert!(!sql::take_lease(&owner, trigger, other, LEASE).await.expect("not waited for"));

    let led = holds(async || sql::take_lease(&owner, trigger, other, LEASE).await.expect("the row"));
    tokio::time::timeout(PATIENCE / 4, led).await.expect("the other one leads");
    let ended = held.commit().await;
    assert!(ended.is_err(), "it was holding the row until then, and its session was ended");
    let ownership = sql::load(&owner, trigger, other).await.expect("it leads");
    let mut next = owner.begin().await.expect("a transaction");
    let taken =
        sql::take_events(&mut next, &ownership, "own", "outgoing_event", 10, 1).await.expect("events");
    assert_eq!(taken.len(), 1, "nothing is lost, and nothing of it is still locked");
}

/// A process that was killed leaves no session, and nobody waits for its lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_gone_is_replaced_before_its_lease_has_passed() {
    const LEASE: Duration = Duration::from_secs(3600);
    let world = World::new(&["gone"]).await;
    with_events(&world).await;
    let (trigger, _) = {
        let owner = world.owner().await;
        let registered = relay::register(&owner, "test", "own").await.expect("registered");
        owner.close().await;
        registered
    };
    let connect =
        async |host| OwnerPool::of_host(world.login("postgres"), host, 2).await.expect("the owner's login");
    let (gone, next) = (Uuid::new_v4(), Uuid::new_v4());
    let (pool_of_gone, pool_of_next) = (connect(gone).await, connect(next).await);
    assert!(sql::take_lease(&pool_of_gone, trigger, gone, LEASE).await.expect("the database"));
    assert!(
        !sql::take_lease(&pool_of_next, trigger, next, LEASE).await.expect("the database"),
        "it is there"
    );
    let late = sql::load(&pool_of_gone, trigger, gone).await.expect("it leads");
    pool_of_gone.close().await;
    let led = holds(async || sql::take_lease(&pool_of_next, trigger, next, LEASE).await.expect("the row"));
    tokio::time::timeout(PATIENCE, led).await.expect("the next one leads");
    // It was there all the same: only its sessions were cut.
    let back = connect(gone).await;
    let mut transaction = back.begin().await.expect("a transaction");
    let renewed = sql::renew_lease(&mut transaction, &late, LEASE).await;
    assert!(matches!(renewed, Err(fnhost_db::Error::Fenced { .. })), "{renewed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_events_are_taken_few_at_a_time_and_one_that_is_too_large_is_refused_at_its_insert() {
    let world = World::new(&["large"]).await;
    with_events(&world).await;
    let owner = world.owner().await;
    let (trigger, _) = relay::register(&owner, "test", "own").await.expect("registered");
    let host = Uuid::new_v4();
    assert!(sql::take_lease(&owner, trigger, host, PATIENCE).await.expect("the database"));
    let ownership = sql::load(&owner, trigger, host).await.expect("it leads");
    let insert =
        "INSERT INTO own.outgoing_event (topic, value) SELECT 't', decode(repeat('ab', 2000000), 'hex')";
    world.run(&format!("{insert} FROM generate_series(1, 7)")).await;
    let mut sizes = Vec::new();
    for _ in 0..4 {
        let mut round = owner.begin().await.expect("a transaction");
        let (max, bytes) = (relay::EVENTS_MAX, relay::EVENTS_BYTES_MAX);
        let taken = sql::take_events(&mut round, &ownership, "own", "outgoing_event", max, bytes).await;
        sizes.push(taken.expect("events").len());
        round.commit().await.expect("committed");
    }
    assert_eq!(sizes, [3, 3, 1, 0], "4 MiB are reached by the third");
    let too_large =
        "INSERT INTO own.outgoing_event (topic, value) SELECT 't', decode(repeat('ab', 17000000), 'hex')";
    let refused = sqlx::raw_sql(too_large).execute(&world.database).await.expect_err("too large");
    assert!(refused.to_string().contains("event_size"), "{refused}");
}

/// A host with more relays than the owner role has connections.
#[tokio::test(flavor = "multi_thread")]
async fn many_relays_share_the_connections_of_their_host() {
    const RELAYS: usize = 12;
    let world = World::new(&["shared"]).await;
    with_events(&world).await;
    let owner = world.owner().await;
    let stop = CancellationToken::new();
    let mut running = tokio::task::JoinSet::new();
    for number in 0..RELAYS {
        let relay = world.relay(&format!("own{number}"), owner.clone()).await;
        running.spawn(relay.run(stop.clone()));
    }
    world
        .until(&format!(
            "SELECT count(*) = {RELAYS} FROM fnhost.partition WHERE topic = '' AND lease_until > clock_timestamp()"
        ))
        .await;
    let output = world.output(0);
    world.run(&format!("INSERT INTO own.outgoing_event (topic, value) VALUES ('{output}', 'x')")).await;
    world.until("SELECT count(*) = 0 FROM own.outgoing_event").await;
    assert_eq!(world.messages(0, 1).await.len(), 1);
    stop.cancel();
    while running.join_next().await.is_some() {}
}

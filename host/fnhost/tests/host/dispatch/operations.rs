//! What people do with records while hosts run: put dead ones back, run a range again, pause.

use std::sync::Arc;

use fnhost_db::dead::{self, DeadFilter, Redriven};
use fnhost_db::parked::{self, ParkedFilter};
use fnhost_db::{positions, refused};
use fnhost_dispatch::operator::{Operator, Part, Place, Replay};
use fnhost_dispatch::status::State;
use fnhost_manifest::{BackOff, KafkaTrigger, OnExhausted, Start, TriggerConfig};
use fnhost_types::record::TopicPartition;
use rdkafka::producer::FutureRecord;
use std::time::Duration;

use super::refusals::{limit, refuse};
use super::world::{Host, PATIENCE, World};
use crate::support::holds;

/// A world in which a record fails for as long as `own.mood` says 0, and writes its number to `own.line` in the order of their effects
/// otherwise. One record is a batch: of several the guest does what the first one asks.
pub async fn moody(topics: &[&str]) -> World {
    let mut world = World::new(topics).await;
    world.config = TriggerConfig { max_batch: 1, ..world.config };
    world.run("CREATE TABLE own.mood (n int NOT NULL); INSERT INTO own.mood VALUES (0)").await;
    world.run("CREATE TABLE own.line (at bigserial, record int NOT NULL)").await;
    world
}

/// The value of such a record.
pub fn mood(record: i64) -> String {
    format!("sql INSERT INTO line (record) SELECT {record} + 0 / n FROM mood")
}

pub async fn good_mood(world: &World) {
    world.run("UPDATE own.mood SET n = 1").await;
}

pub async fn line(world: &World) -> Vec<i32> {
    world.value("SELECT coalesce(array_agg(record ORDER BY at), '{}') FROM own.line").await
}

pub async fn redrive(world: &World, filter: &DeadFilter) -> Redriven {
    let owner = world.owner().await;
    let redriven = dead::redrive(&owner, "test", filter).await.expect("the database");
    owner.close().await;
    redriven
}

/// Waits until a partition of the host is in a state.
async fn until_state(host: &Host, wanted: impl Fn(&State) -> bool) {
    let states = || host.registry.triggers().into_iter().flat_map(|trigger| trigger.partitions());
    let found = holds(async || states().any(|partition| wanted(&partition.state())));
    tokio::time::timeout(PATIENCE, found).await.expect("such a state");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_record_runs_once_behind_what_waits_of_its_key_and_before_what_comes() {
    let mut world = moody(&["redriven"]).await;
    // What fails twice dies at once; what fails later waits for long.
    world.config.back_off = BackOff { initial: Duration::from_millis(1), factor: 1, ..BackOff::default() };
    world.send(0, &[("a", &mood(0)), ("b", "write")]).await;
    let host = world.host("one", 2).await;
    world.until("SELECT EXISTS (SELECT FROM fnhost.dead)").await;
    host.stop().await;
    world.config.back_off =
        BackOff { initial: Duration::from_secs(600), ..BackOff::default() }.up_to(Duration::from_secs(600));
    let host = world.host("one", 3).await;
    world.send(0, &[("a", &mood(2)), ("a", &mood(3))]).await;
    world.until("SELECT count(*) = 2 FROM fnhost.parked").await;

    // Two people do it at once: one of them finds nothing to do.
    let everything = DeadFilter::default();
    let (one, other) = tokio::join!(redrive(&world, &everything), redrive(&world, &everything));
    assert_eq!(one.records + other.records, 1, "{one:?} {other:?}");
    assert_eq!(world.dead(0).await, []);
    world.send(0, &[("a", &mood(4))]).await;
    world.until("SELECT count(*) = 4 FROM fnhost.parked").await;
    assert!(line(&world).await.is_empty(), "the key waits behind its head");
    good_mood(&world).await;
    let owner = world.owner().await;
    let head = ParkedFilter { offset: Some(2), ..ParkedFilter::default() };
    assert_eq!(parked::retry(&owner, "test", &head).await.expect("the database"), 1);
    world.until_position(0, 5).await;
    assert_eq!(line(&world).await, [2, 3, 0, 4]);
    assert_eq!(world.effects(0).await, [1], "others are not touched");
    assert_eq!(redrive(&world, &everything).await, Redriven::default());
    owner.close().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_still_to_be_read_is_not_redriven() {
    let world = moody(&["reread"]).await;
    world.send(0, &[("a", "reject"), ("b", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 2).await;
    host.stop().await;
    world.move_position(0, 0).await;
    let redriven = redrive(&world, &DeadFilter::default()).await;
    assert_eq!(redriven, Redriven { waits_already: 1, ..Redriven::default() });
    let host = world.host("one", 2).await;
    world.until_position(0, 2).await;
    // Twice dead by now; put back once.
    assert_eq!(world.dead(0).await.len(), 2);
    let redriven = redrive(&world, &DeadFilter::default()).await;
    assert_eq!(redriven, Redriven { records: 1, waits_already: 1, ..Redriven::default() });
    world.until("SELECT count(*) = 2 FROM fnhost.dead").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_that_was_given_up_is_sent_by_its_redrive_under_a_new_number() {
    let world = World::new(&["message", "beside"]).await;
    let host = world.host("one", 3).await;
    host.ready().await;
    let tp = refuse(&world).await;
    let owner = world.owner().await;
    assert_eq!(refused::give_up(&owner, "test", "trigger", &tp).await.expect("the database"), Some(1));
    world.until("SELECT EXISTS (SELECT FROM fnhost.dead)").await;
    limit(&world, "1048588").await;
    let redriven = redrive(&world, &DeadFilter::default()).await;
    assert_eq!(redriven, Redriven { messages: 1, ..Redriven::default() });
    assert_eq!(world.emitted(0, 1).await, [2]);
    world.until("SELECT NOT EXISTS (SELECT FROM fnhost.outbox)").await;
    assert_eq!(world.effects(0).await, [0], "its cause does not run again");
    owner.close().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_grouped_by_fault_found_by_what_is_known_of_them_and_discarded() {
    let world = moody(&["grouped", "beside"]).await;
    world.send(0, &[("a", "sql SELECT 'x1'::int"), ("b", "sql SELECT 'y22'::int"), ("c", "reject")]).await;
    world.send(1, &[("d", "reject")]).await;
    let host = world.host("one", 1).await;
    world.until("SELECT count(*) = 4 FROM fnhost.dead").await;
    let owner = world.owner().await;
    let all = DeadFilter::default();
    let groups = dead::groups(&owner, "test", &all, 10).await.expect("the database");
    let counts: Vec<i64> = groups.iter().map(|group| group.count).collect();
    assert_eq!(counts, [2, 2], "{groups:?}");
    let texts = groups.iter().find(|group| group.fingerprint.contains("<text>")).expect("without the texts");
    assert!(texts.first_reason.contains("x1") && texts.last_reason.contains("y22"), "{texts:?}");
    assert!(!texts.digests.is_empty(), "the version that failed: {texts:?}");
    let of = async |filter: DeadFilter| dead::count(&owner, "test", &filter).await.expect("the database");
    assert_eq!(of(DeadFilter { group: Some(texts.group.clone()), ..all.clone() }).await, 2);
    assert_eq!(of(DeadFilter { topic: Some(world.topics[1].clone()), ..all.clone() }).await, 1);
    assert_eq!(of(DeadFilter { reason: Some("NEVER".into()), ..all.clone() }).await, 2);
    assert_eq!(of(DeadFilter { trigger: Some("other".into()), ..all.clone() }).await, 0);
    assert_eq!(of(DeadFilter { until_ms: Some(0), ..all.clone() }).await, 0);
    assert_eq!(of(DeadFilter { since_ms: Some(0), ..all.clone() }).await, 4);
    let gone =
        dead::discard(&owner, "test", &DeadFilter { reason: Some("never".into()), ..all.clone() }).await;
    assert_eq!(gone.expect("the database"), 2);
    let left = dead::list(&owner, "test", &all, 10).await.expect("the database");
    let offsets: Vec<i64> = left.iter().map(|letter| letter.record.offset).collect();
    assert_eq!(offsets, [1, 0], "the newest first");
    owner.close().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_trigger_handles_nothing_also_after_a_restart_until_it_is_resumed() {
    let world = World::new(&["paused", "beside"]).await;
    world.send(0, &[("a", "write")]).await;
    let host = world.host("one", 3).await;
    world.until_position(0, 1).await;
    let owner = world.owner().await;
    let first = TopicPartition::new(&world.topics[0], 0);
    assert!(!positions::pause(&owner, "test", "other", None, "why").await.expect("the database"));
    assert!(
        positions::pause(&owner, "test", "trigger", Some(&first), "the bank is down")
            .await
            .expect("the database")
    );
    until_state(&host, |state| *state == State::Paused { reason: "the bank is down".into() }).await;
    assert!(host.registry.not_ready().is_empty(), "that is what somebody wants");
    world.send(0, &[("a", "write")]).await;
    world.send(1, &[("b", "write")]).await;
    world.until_position(1, 1).await;
    host.stop().await;
    let host = world.host("one", 3).await;
    until_state(&host, |state| matches!(state, State::Paused { .. })).await;
    // The whole trigger, whose resume is that of its partitions too.
    assert!(positions::pause(&owner, "test", "trigger", None, "all of it").await.expect("the database"));
    assert!(!positions::resume(&owner, "test", "trigger", Some(&first)).await.expect("the database"));
    let both = holds(async || {
        let trigger = &host.registry.triggers()[0];
        trigger.partitions().iter().all(|partition| matches!(partition.state(), State::Paused { .. }))
    });
    tokio::time::timeout(PATIENCE, both).await.expect("both are paused");
    assert_eq!(world.effects(0).await, [0]);
    assert!(positions::resume(&owner, "test", "trigger", None).await.expect("the database"));
    world.until_position(0, 2).await;
    assert_eq!(world.effects(0).await, [0, 1]);
    owner.close().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_record_pauses_its_partition_where_that_is_asked_for() {
    let mut world = moody(&["exhausted"]).await;
    world.config.on_exhausted = OnExhausted::Pause;
    world.config.back_off = BackOff { initial: Duration::from_millis(1), ..BackOff::default() };
    world.send(0, &[("a", &mood(0)), ("a", &mood(1))]).await;
    let host = world.host("one", 2).await;
    until_state(&host, |state| matches!(state, State::Paused { reason } if reason.contains("offset 0")))
        .await;
    world.send(0, &[("b", &mood(2))]).await;
    good_mood(&world).await;
    let attempts = "SELECT attempts FROM fnhost.parked WHERE \"offset\" = 0";
    assert_eq!((world.value::<i32>(attempts).await, world.dead(0).await.len()), (2, 0));
    assert!(line(&world).await.is_empty());
    let owner = world.owner().await;
    assert!(positions::resume(&owner, "test", "trigger", None).await.expect("the database"));
    world.until_position(0, 3).await;
    let done = line(&world).await;
    assert_eq!(done.iter().copied().filter(|record| *record < 2).collect::<Vec<_>>(), [0, 1], "{done:?}");
    assert_eq!(done.len(), 3);
    owner.close().await;
    host.stop().await;
}

/// The operator's view of the world.
pub async fn operator(world: &World) -> Operator {
    let trigger = KafkaTrigger {
        id: "trigger".into(),
        component: "guest".into(),
        group: "any".into(),
        topics: world.topics.clone(),
        emits: Vec::new(),
        start: Start::Earliest,
        config: world.config.clone(),
        filter: world.filter.clone(),
        dead_letter_topic: None,
    };
    Operator {
        deployment: "test".into(),
        owner: world.owner().await,
        cluster: world.cluster(),
        access: world.access(),
        triggers: Arc::new([trigger]),
    }
}

async fn run_again(operator: &Operator, replay: &Replay, tp: &TopicPartition) -> Vec<Part> {
    let mut parts = operator.plan_replay(replay, Some(tp)).await.expect("a plan");
    for part in &mut parts {
        while !part.is_done() {
            operator.replay_next(replay, part).await.expect("put before its trigger");
        }
    }
    parts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_range_has_its_effects_again_and_sends_only_where_that_is_asked_for() {
    let world = World::new(&["replayed"]).await;
    world.send(0, &[("a", "write"), ("b", "write"), ("c", "write")]).await;
    let host = world.host("one", 3).await;
    world.until_position(0, 3).await;
    assert_eq!(world.emitted(0, 3).await, [1, 2, 3]);
    let operator = operator(&world).await;
    let tp = TopicPartition::new(&world.topics[0], 0);
    let silent =
        Replay { trigger: "trigger".into(), from: Place::Offset(1), to: Some(Place::Offset(3)), emit: false };
    let parts = run_again(&operator, &silent, &tp).await;
    assert_eq!((parts.len(), parts[0].records), (1, 2));
    world.until_position(0, 3).await;
    assert_eq!(world.effects(0).await, [0, 1, 1, 2, 2]);
    let loud = Replay { from: Place::Offset(2), to: None, emit: true, ..silent.clone() };
    run_again(&operator, &loud, &tp).await;
    world.until_position(0, 3).await;
    assert_eq!(world.effects(0).await, [0, 1, 1, 2, 2, 2]);
    // The silent run has taken no number.
    assert_eq!(world.emitted(0, 4).await, [1, 2, 3, 4]);
    let everywhere = operator.plan_replay(&silent, None).await.expect_err("an offset of which partition?");
    assert!(everywhere.to_string().contains("one partition only"), "{everywhere}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_silent_run_fails_on_stays_silent_through_its_death_and_redrive() {
    let mut world = World::new(&["silent"]).await;
    world.config.back_off = BackOff { initial: Duration::from_millis(1), ..BackOff::default() };
    world
        .run("CREATE TABLE own.gate (x int); ALTER TABLE own.effect ADD CONSTRAINT open CHECK (record >= 0)")
        .await;
    world.send(0, &[("a", "write")]).await;
    let host = world.host("one", 2).await;
    world.until_position(0, 1).await;
    assert_eq!(world.emitted(0, 1).await, [1]);
    // From now on the record fails.
    world.run("ALTER TABLE own.effect ADD CONSTRAINT shut CHECK (record > 0) NOT VALID").await;
    let operator = operator(&world).await;
    let tp = TopicPartition::new(&world.topics[0], 0);
    let replay = Replay { trigger: "trigger".into(), from: Place::Offset(0), to: None, emit: false };
    run_again(&operator, &replay, &tp).await;
    world.until("SELECT count(*) = 1 FROM fnhost.dead WHERE silent").await;
    world.run("ALTER TABLE own.effect DROP CONSTRAINT shut").await;
    assert_eq!(redrive(&world, &DeadFilter::default()).await.records, 1);
    world.until_position(0, 1).await;
    assert_eq!(world.effects(0).await, [0, 0]);
    world.send(0, &[("a", "write")]).await;
    assert_eq!(
        world.emitted(0, 2).await,
        [1, 2],
        "nothing was sent in between, not even a dead letter's copy"
    );
    host.stop().await;
}

/// Sends a record whose timestamp is so long ago.
async fn send_old(world: &World, age: Duration) {
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970") - age;
    let record = FutureRecord::to(&world.topics[0]).key("d").payload("write");
    let record = record.timestamp(i64::try_from(at.as_millis()).expect("milliseconds"));
    world.producer.send(record, PATIENCE).await.expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_shown_and_moved_for_all_partitions_or_only_as_if() {
    let world = World::new(&["shown", "beside"]).await;
    world.send(0, &[("a", "write"), ("b", "reject"), ("c", "write")]).await;
    let host = world.host("one", 3).await;
    world.until_position(0, 3).await;
    let operator = operator(&world).await;
    host.stop().await;
    send_old(&world, Duration::from_secs(3600)).await;
    let lags = operator.lag(None).await.expect("both answer");
    let [first, second] = &lags[..] else { panic!("two partitions: {lags:?}") };
    let (behind, level) = if first.row.topic == world.topics[0] { (first, second) } else { (second, first) };
    assert_eq!((behind.row.position, behind.log_end, behind.lag, behind.row.dead), (3, Some(4), Some(1), 1));
    assert_eq!((level.lag, level.row.host.as_deref()), (Some(0), None));
    let age_s = behind.oldest_age_s.expect("a record that waits has an age");
    assert!((3600.0..3600.0 + PATIENCE.as_secs_f64()).contains(&age_s), "{age_s}");
    assert_eq!(level.oldest_age_s, None, "nothing waits there");
    let earliest = Place::Start(Start::Earliest);
    let as_if = operator.move_position("trigger", None, earliest, true).await.expect("both answer");
    assert_eq!(as_if.len(), 2);
    assert_eq!(world.value::<i64>("SELECT max(position) FROM fnhost.partition").await, 3);
    operator.move_position("trigger", None, earliest, false).await.expect("both answer");
    assert_eq!(world.value::<i64>("SELECT max(position) FROM fnhost.partition").await, 0);
    let tp = TopicPartition::new(&world.topics[1], 0);
    let outside = operator.move_position("trigger", Some(&tp), Place::Offset(9), false).await;
    assert!(outside.expect_err("beyond the end").to_string().contains("outside"));
    operator.owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_filter_does_not_want_never_reaches_the_function() {
    let mut world = World::new(&["filtered"]).await;
    world.filter = super::names::filter("[{ path = \"/kind\", equals = [\"wanted\", 7] }]");
    let kind = |kind: &str| format!("{{\"kind\":{kind}}}");
    // What is wanted is no behaviour that the guest knows, and so is done without an effect; the other one would trap.
    world.send(0, &[("a", "panic"), ("b", &kind("\"wanted\"")), ("c", "loop"), ("d", &kind("7"))]).await;
    let host = world.host("one", 1).await;
    world.until_position(0, 4).await;
    assert_eq!(world.dead(0).await, []);
    let counts = host.registry.triggers()[0].counts()[0].1.clone();
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((read(&counts.unwanted), read(&counts.records)), (2, 2));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_records_are_listed_and_discarded_and_what_is_behind_them_goes_on() {
    let mut world = moody(&["waiting"]).await;
    world.config.back_off =
        BackOff { initial: Duration::from_secs(600), ..BackOff::default() }.up_to(Duration::from_secs(600));
    world.send(0, &[("a", &mood(0)), ("a", "write"), ("b", &mood(2))]).await;
    let host = world.host("one", 3).await;
    world.until("SELECT count(*) = 3 FROM fnhost.parked").await;
    let owner = world.owner().await;
    let of_a = ParkedFilter { key: Some("a".into()), ..ParkedFilter::default() };
    assert_eq!(parked::count(&owner, "test", &of_a).await.expect("the database"), 2);
    let listed = parked::list(&owner, "test", &ParkedFilter::default(), 10).await.expect("the database");
    assert_eq!((listed.len(), listed[0].offset, listed[0].attempts), (3, 1, 0), "the next due first");
    let head = ParkedFilter { reason: Some("DIVISION".into()), offset: Some(0), ..of_a };
    assert_eq!(parked::discard(&owner, "test", &head).await.expect("the database"), 1);
    world.until("SELECT count(*) = 1 FROM fnhost.parked").await;
    assert_eq!(world.effects(0).await, [1]);
    owner.close().await;
    host.stop().await;
}

//! The running set on a real Postgres: what runs after which start, what a swap refuses, two hosts that agree, and what
//! stays in memory.

mod noted;
mod signed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Scratch, engine, guest, holds, spec};
use bytes::Bytes;
use fnhost_db::OwnerPool;
use fnhost_db::hosts::HostEntry;
use fnhost_db::schema::{self, Passwords};
use fnhost_db::tally::{Kind, Outcome};
use fnhost_deployment::offer::{Offer, Refused};
use fnhost_deployment::signed::Signers;
use fnhost_deployment::slot::Picked;
use fnhost_deployment::{Deployment, Setup, Slot};
use fnhost_engine::{Engine, EngineOptions};
use fnhost_test_postgres::TestPostgres;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Bound of everything that is awaited here.
const PATIENCE: Duration = Duration::from_secs(30);
/// A trial that no test waits for.
const LONG: Duration = Duration::from_secs(3600);
/// A component without exports, as bytes.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A database, and files of the guest that differ in their digests alone.
struct World {
    postgres: Arc<TestPostgres>,
    place: String,
    database: PgPool,
    scratch: Arc<Scratch>,
}

/// A host's part of the deployment, and what follows it.
struct Host {
    deployment: Deployment,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new(name: &str) -> Self {
        let postgres = TestPostgres::shared();
        let (place, _) = postgres.new_database().await;
        let login = postgres.login("postgres", &place);
        let owner = OwnerPool::connect(login.clone()).await.expect("the owner's login");
        schema::migrate(&owner, &[], &Passwords { secret: "unused", rotate: false })
            .await
            .expect("migrations");
        owner.close().await;
        let database = PgPoolOptions::new().connect_with(login).await.expect("a login");
        Self { postgres, place, database, scratch: Scratch::new(name) }
    }

    /// The guest's file with a digest of its own.
    fn file(&self, variant: &str) -> PathBuf {
        let path = self.scratch.path().join(format!("{variant}.wasm"));
        std::fs::write(&path, variant_of(variant)).expect("written");
        path
    }

    async fn host(&self, instance: &str, file: &Path) -> Host {
        self.host_with(instance, file, LONG, engine().clone()).await
    }

    async fn host_with(&self, instance: &str, file: &Path, probation: Duration, engine: Engine) -> Host {
        match self.start(instance, file, probation, engine, Signers::default()).await {
            Ok(host) => host,
            Err(error) => panic!("{:#}", anyhow::Error::from(error)),
        }
    }

    async fn start(
        &self,
        instance: &str,
        file: &Path,
        probation: Duration,
        engine: Engine,
        signers: Signers,
    ) -> Result<Host, fnhost_deployment::Error> {
        let mut spec = spec();
        spec.source = file.to_owned();
        let owner = OwnerPool::connect(self.postgres.login("postgres", &self.place)).await.expect("a login");
        let entry = HostEntry {
            deployment: "test".to_owned(),
            instance: instance.to_owned(),
            host: Uuid::new_v4(),
            name: "machine".to_owned(),
            http: None,
            admin: format!("{instance}:3001"),
            fnhost: "0".to_owned(),
        };
        let roles = BTreeMap::new();
        let setup = Setup { entry, owner, engine, specs: vec![spec], roles, probation, signers };
        let deployment = Deployment::start(setup).await?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(deployment.clone().follow(stop.clone()));
        Ok(Host { deployment, stop, task })
    }

    async fn value<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let value = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&self.database).await;
        value.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn until(&self, question: &str) {
        let asked = holds(async || self.value::<bool>(question).await);
        assert!(tokio::time::timeout(PATIENCE, asked).await.is_ok(), "it does not come to: {question}");
    }
}

impl Host {
    fn slot(&self) -> &Arc<Slot> {
        &self.deployment.slots()["guest"]
    }

    /// The variant that runs.
    fn runs(&self) -> String {
        let digest = self.slot().running().current.version.component.digest().to_owned();
        let known =
            ["a", "b", "c", "d"].into_iter().find(|v| fnhost_engine::digest_of(&variant_of(v)) == digest);
        known.unwrap_or("another").to_owned()
    }

    async fn until_runs(&self, variant: &str) {
        let runs = holds(async || self.runs() == variant);
        assert!(tokio::time::timeout(PATIENCE, runs).await.is_ok(), "{} runs, not {variant}", self.runs());
    }

    async fn swap(&self, variant: &str, change: impl FnOnce(&mut Offer)) -> Result<(), Refused> {
        let mut offer = Offer { wasm: variant_of(variant), origin: variant.to_owned(), ..Offer::default() };
        change(&mut offer);
        self.deployment.offer("guest", offer).await.map(drop)
    }

    /// What the guest answers to a request for a variable, by the version that gets the next request.
    async fn variable(&self, name: &str) -> String {
        let picked = self.slot().pick_request();
        let component = picked.component();
        let request = Request::get(format!("http://test/variable/{name}")).body(empty()).expect("a request");
        let response = component.call_http(component.call_state(), request).await.expect("an answer");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8_lossy(&body).into_owned()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic");
        self.deployment.leave().await;
    }

    /// As after `kill -9`: the registry hears nothing.
    async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn empty() -> impl http_body::Body<Data = Bytes, Error = wasmtime_wasi_http::Error> + Send + 'static {
    Empty::<Bytes>::new().map_err(|never| match never {})
}

/// The guest with another digest: a custom section changes nothing that runs.
fn variant_of(variant: &str) -> Vec<u8> {
    let mut wasm = std::fs::read(guest()).expect("the guest");
    let name = variant.as_bytes();
    wasm.extend([0, 1 + name.len() as u8, name.len() as u8]);
    wasm.extend(name);
    wasm
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deployed_last_runs_after_a_start() {
    let world = World::new("starts").await;
    let [a, b, c] = ["a", "b", "c"].map(|variant| world.file(variant));
    let host = world.host("one", &a).await;
    assert_eq!(host.runs(), "a", "the first file");
    host.swap("d", |_| {}).await.expect("taken");
    assert_eq!(host.runs(), "d");
    host.stop().await;
    let host = world.host("one", &a).await;
    assert_eq!(host.runs(), "d", "the file is as it was when another version took its place");
    host.stop().await;
    let host = world.host("one", &b).await;
    assert_eq!(host.runs(), "b", "a new file is a deployment");

    // A host that joins takes what runs, also if its file is an older one; a file that is new to all is a deployment.
    let other = world.host("two", &a).await;
    assert_eq!(other.runs(), "b", "an older file does not take the place of what others run");
    other.stop().await;
    let other = world.host("two", &c).await;
    assert_eq!(other.runs(), "c");
    host.until_runs("c").await;
    assert!(host.slot().running().on_trial, "it replaces what others ran, so it has to prove itself");
    // The next restart of the first, in a rolling deployment, with its file not replaced yet.
    host.die().await;
    let host = world.host("one", &b).await;
    assert_eq!(host.runs(), "c");
    other.stop().await;
    host.stop().await;
    let host = world.host("one", &a).await;
    assert_eq!(host.runs(), "a", "alone, an older file is somebody's decision");
    assert!(!host.slot().running().on_trial);

    // Built and swapped in from the manifest's own file, then rolled back: the file is no news at the next start.
    std::fs::write(&a, variant_of("d")).expect("written");
    host.swap("d", |_| {}).await.expect("taken");
    host.deployment.roll_back("guest", "test").await.expect("rolled back");
    host.stop().await;
    let host = world.host("one", &a).await;
    assert_eq!(host.runs(), "a");
    // Nor is one that runs already when a start finds it.
    host.swap("c", |_| {}).await.expect("taken");
    host.stop().await;
    let host = world.host("one", &c).await;
    host.swap("b", |_| {}).await.expect("taken");
    host.stop().await;
    let host = world.host("one", &c).await;
    assert_eq!(host.runs(), "b");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_agree_and_see_each_other() {
    let world = World::new("agree").await;
    let a = world.file("a");
    let (one, two) = (world.host("one", &a).await, world.host("two", &a).await);
    assert_eq!(one.variable("greeting").await, "hello");
    one.swap("b", |offer| drop(offer.variables.insert("greeting".to_owned(), "bonjour".to_owned())))
        .await
        .expect("taken");
    // An answered swap runs on all hosts.
    assert_eq!((one.runs(), two.runs()), ("b".to_owned(), "b".to_owned()));
    assert_eq!(two.variable("greeting").await, "bonjour", "variables change with the code");
    two.swap("c", |_| {}).await.expect("taken");
    assert_eq!(one.variable("greeting").await, "bonjour", "and stay with the next version");
    two.swap("d", |offer| offer.clear_variables = true).await.expect("taken");
    assert_eq!(one.variable("greeting").await, "hello");

    let changed = one.deployment.roll_back("guest", "test").await.expect("rolled back");
    assert_eq!(
        (one.runs(), two.runs()),
        ("a".to_owned(), "a".to_owned()),
        "b and c had not passed their trial"
    );
    assert!(changed.behind.is_empty(), "{changed:?}");
    let again = one.deployment.roll_back("guest", "test").await;
    assert!(matches!(again, Err(Refused::NoFallback(_))), "{again:?}");

    let states = "SELECT string_agg(instance || ' ' || (lease_until > clock_timestamp())::text, ', ' ORDER BY instance) FROM fnhost.host";
    assert_eq!(world.value::<String>(states).await, "one true, two true");
    two.stop().await;
    assert_eq!(world.value::<String>(states).await, "one true", "a clean end leaves the registry");
    one.die().await;
    sqlx::query("UPDATE fnhost.host SET lease_until = clock_timestamp()")
        .execute(&world.database)
        .await
        .expect("set");
    let one = world.host("one", &a).await;
    assert_eq!(world.value::<String>(states).await, "one true", "a restarted host takes its former place");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_and_nothing_changes() {
    let world = World::new("refused").await;
    let host = world.host("one", &world.file("a")).await;
    let before: i64 = world.value("SELECT revision FROM fnhost.running_set").await;
    let name = || "bad name".to_owned();
    type Change = Box<dyn FnOnce(&mut Offer)>;
    let cases: Vec<(Change, &str)> = vec![
        (Box::new(|offer| offer.wasm = b"text".to_vec()), "not a WebAssembly file"),
        (Box::new(|offer| offer.wasm = b"\0asm\x01\0\0\0".to_vec()), "its exports: none"),
        (Box::new(|offer| offer.wasm = EMPTY_COMPONENT.to_vec()), "neither"),
        (Box::new(|offer| offer.wasm.truncate(10_000)), "compile"),
        (Box::new(|offer| offer.sha256 = Some("0".repeat(64))), "the SHA-256 of the code is"),
        (Box::new(|offer| offer.canary = Some((100, LONG))), "give 1 to 99"),
        (Box::new(|offer| offer.canary = Some((10, Duration::ZERO))), "seconds"),
        (
            Box::new(move |offer| drop(offer.variables.insert(name(), String::new()))),
            "not a valid variable name",
        ),
    ];
    for (change, expected) in cases {
        let refused = host.swap("b", change).await.expect_err(expected);
        let said = fnhost_types::causes::chain(&refused);
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let unknown = host.deployment.offer("nobody", Offer::default()).await.expect_err("refused");
    assert!(unknown.to_string().contains("the deployment has guest"), "{unknown}");
    assert_eq!(world.value::<i64>("SELECT revision FROM fnhost.running_set").await, before);
    assert_eq!(host.runs(), "a");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_leaves_memory_with_its_last_call() {
    let world = World::new("memory").await;
    let options = EngineOptions {
        cache_dir: Some(world.scratch.path().join("images")),
        max_calls: 8,
        ..EngineOptions::default()
    };
    let engine = Engine::new(options).expect("an engine");
    let host = world.host_with("one", &world.file("a"), LONG, engine).await;
    assert_eq!(host.deployment.resident(), 1);
    let call = host.slot().pick_request();
    let former = Arc::downgrade(&host.slot().running().current.version);
    host.swap("b", |_| {}).await.expect("taken");
    assert!(former.upgrade().is_some() && host.deployment.resident() == 2, "a call holds it");
    assert!(!call.runs());
    drop(call);
    assert!(former.upgrade().is_none(), "nothing holds it");
    for round in 0..20 {
        host.swap(if round % 2 == 0 { "a" } else { "b" }, |_| {}).await.expect("taken");
    }
    assert_eq!(host.deployment.resident(), 1, "of 21 swaps");
    let kept: i64 = world.value("SELECT count(*) FROM fnhost.version").await;
    assert!(kept <= fnhost_db::retention::VERSIONS_KEPT + 2, "{kept} versions are kept");
    host.stop().await;
}

fn answer(picked: &Picked, ok: bool) {
    let outcome = Outcome::call(false, Duration::from_millis(1));
    picked.count(Kind::Http, outcome.plus(Outcome::settled(1, (!ok).into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_promoted_or_dropped_by_what_its_requests_come_to() {
    let world = World::new("canary").await;
    let host = world.host_with("one", &world.file("a"), Duration::from_secs(1), engine().clone()).await;
    host.swap("b", |offer| offer.canary = Some((10, Duration::from_secs(1)))).await.expect("taken");
    let digest = |variant: &str| fnhost_engine::digest_of(&variant_of(variant));
    let asked: Vec<bool> = (0..100)
        .map(|_| {
            let picked = host.slot().pick_request();
            answer(&picked, true);
            picked.component().digest() == digest("b")
        })
        .collect();
    assert_eq!(asked.iter().filter(|canary| **canary).count(), 10, "every tenth request");
    assert_eq!(host.runs(), "a");
    host.until_runs("b").await;
    world.until("SELECT trial_ends_at IS NULL FROM fnhost.running").await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM fnhost.version WHERE withdrawn_at IS NULL").await, 2);

    host.swap("c", |offer| offer.canary = Some((50, LONG))).await.expect("taken");
    for _ in 0..100 {
        let picked = host.slot().pick_request();
        answer(&picked, picked.component().digest() == digest("b"));
    }
    world.until("SELECT candidate IS NULL AND withdrawals = 1 FROM fnhost.running").await;
    let reason = "SELECT withdrawn_reason FROM fnhost.version WHERE withdrawn_at IS NOT NULL";
    assert!(world.value::<String>(reason).await.starts_with("50 of 50 failed"));
    host.until_runs("b").await;
    let counts = "SELECT sum(handled)::bigint FROM fnhost.tally";
    assert_eq!(world.value::<i64>(counts).await, 200, "every request is counted once");
    host.stop().await;
}

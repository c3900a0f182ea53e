//! What hosts change without being asked is in the audit: with the change, or neither.

use super::{LONG, PATIENCE, World, answer, variant_of};
use crate::support::engine;
use fnhost_db::OwnerPool;
use fnhost_db::audit::{self, AuditFilter, DONE};
use fnhost_deployment::watch;
use fnhost_engine::digest_of;
use fnhost_manifest::Manifest;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

impl World {
    /// The audit's entries, oldest first: action, digest and reason.
    async fn noted(&self) -> Vec<(String, String, String)> {
        let owner = OwnerPool::connect(self.postgres.login("postgres", &self.place)).await.expect("a login");
        let mut entries = audit::list(&owner, "test", &AuditFilter::default(), 100).await.expect("a list");
        owner.close().await;
        entries.reverse();
        let noted = entries.into_iter().map(|entry| {
            assert_eq!((entry.who.as_str(), entry.source.as_str()), (audit::HOST, "machine"), "{entry:?}");
            assert_eq!(entry.outcome.as_deref(), Some(DONE), "{entry:?}");
            assert!(entry.details["version"].as_i64() > Some(0), "{entry:?}");
            let detail = |name: &str| entry.details[name].as_str().unwrap_or_default().to_owned();
            (entry.action.clone(), detail("digest"), detail("reason"))
        });
        noted.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_changes_by_itself_is_noted() {
    let world = World::new("noted").await;
    let file = world.file("a");
    let host = world.host_with("one", &file, Duration::from_secs(1), engine().clone()).await;
    host.stop().await;
    let host = world.host_with("one", &file, Duration::from_secs(1), engine().clone()).await;

    // `up --watch`
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"test\"\n[component.guest]\nsource = '{}'\n\
         [[trigger.http]]\nroute = \"/...\"\ncomponent = \"guest\"\n",
        file.display()
    );
    let manifest = Manifest::parse(&world.scratch.path().join("spin.toml"), &manifest).expect("a manifest");
    let stop = CancellationToken::new();
    let watching = watch::watch(host.deployment.clone(), watch::Watched::all(&manifest), stop.clone());
    let watching = tokio::spawn(watching);
    // The first look at the files may come after the file has changed, and is then no change: it is written until it is one.
    let until = tokio::time::Instant::now() + PATIENCE;
    while host.runs() != "b" {
        assert!(tokio::time::Instant::now() < until, "{} runs", host.runs());
        std::fs::write(&file, variant_of("b")).expect("written");
        let one = tokio::time::timeout(Duration::from_secs(5), host.until_runs("b"));
        let _ = one.await;
    }
    stop.cancel();
    watching.await.expect("no panic");
    world.until("SELECT trial_ends_at IS NULL FROM fnhost.running").await;

    // A canary that is good, and one that is not; what was asked for is noted by who asked.
    host.swap("c", |offer| offer.canary = Some((50, Duration::from_secs(1)))).await.expect("taken");
    for _ in 0..100 {
        answer(&host.slot().pick_request(), true);
    }
    host.until_runs("c").await;
    world.until("SELECT trial_ends_at IS NULL FROM fnhost.running").await;
    host.swap("d", |offer| offer.canary = Some((50, LONG))).await.expect("taken");
    for _ in 0..100 {
        let picked = host.slot().pick_request();
        answer(&picked, picked.component().digest() != digest_of(&variant_of("d")));
    }
    world.until("SELECT candidate IS NULL FROM fnhost.running").await;
    host.stop().await;

    // A version on trial that got all calls.
    let host = world.host("one", &file).await;
    host.swap("a", |_| {}).await.expect("taken");
    for _ in 0..100 {
        answer(&host.slot().pick_request(), false);
    }
    host.until_runs("c").await;
    host.stop().await;

    let noted = world.noted().await;
    let expected = [
        ("start: deploy", "a", ""),
        ("watch: deploy", "b", ""),
        ("trial: promote", "c", ""),
        ("trial: roll back", "d", "failed (100.0%)"),
        ("trial: roll back", "a", "failed (100.0%)"),
    ];
    assert_eq!(noted.len(), expected.len(), "{noted:?}");
    for ((action, digest, reason), (what, variant, why)) in noted.iter().zip(expected) {
        assert_eq!(action, &format!("{what} /components/guest"), "{noted:?}");
        assert_eq!(digest, &digest_of(&variant_of(variant)), "{action}");
        assert!(reason.contains(why) && reason.is_empty() == why.is_empty(), "{action}: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_noted_is_not_changed_until_it_can() {
    let world = World::new("unnoted").await;
    let host = world.host("one", &world.file("a")).await;
    host.swap("b", |offer| offer.canary = Some((50, LONG))).await.expect("taken");
    let unnotable = "ALTER TABLE fnhost.audit ADD CONSTRAINT unnotable CHECK (action NOT LIKE 'trial:%')";
    sqlx::raw_sql(unnotable).execute(&world.database).await.expect("altered");
    // A number is taken by each entry that is tried.
    let tried = "SELECT last_value FROM fnhost.audit_id_seq";
    let before: i64 = world.value(tried).await;
    for _ in 0..100 {
        let picked = host.slot().pick_request();
        answer(&picked, picked.component().digest() == digest_of(&variant_of("a")));
    }
    world.until(&format!("SELECT last_value >= {before} + 2 FROM fnhost.audit_id_seq")).await;
    assert!(
        world.value::<bool>("SELECT candidate IS NOT NULL FROM fnhost.running").await,
        "it is rolled back"
    );
    assert_eq!(world.noted().await.len(), 1, "its start alone");
    sqlx::raw_sql("ALTER TABLE fnhost.audit DROP CONSTRAINT unnotable")
        .execute(&world.database)
        .await
        .expect("altered");
    world.until("SELECT candidate IS NULL FROM fnhost.running").await;
    assert_eq!(world.noted().await.last().expect("an entry").0, "trial: roll back /components/guest");
    host.stop().await;
}

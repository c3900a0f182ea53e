//! What is noted of changes, on a real Postgres.

use fnhost_db::audit::{self, AuditFilter, Change, DETAILS_BYTES_MAX, DONE, OUTCOME_CHARS_MAX};
use fnhost_db::retention::{self, Kept};
use fnhost_db::schema::{self, Passwords};
use fnhost_db::{Error, OwnerPool};
use fnhost_test_postgres::TestPostgres;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

fn change(action: &str, details: Value) -> Change {
    Change { who: "ci".to_owned(), source: "10.0.0.7".to_owned(), action: action.to_owned(), details }
}

#[tokio::test]
async fn a_change_is_noted_before_it_is_made_and_what_came_of_it_after() {
    let postgres = TestPostgres::shared();
    let (place, mut database) = postgres.new_database().await;
    let owner = OwnerPool::connect(postgres.login("postgres", &place)).await.expect("a login");
    schema::migrate(&owner, &[], &Passwords { secret: "unused", rotate: false }).await.expect("migrations");
    let listed = async |filter: AuditFilter| audit::list(&owner, "test", &filter, 10).await.expect("a list");

    let first = change("POST /replay", json!({ "text": "with a \0 in it" }));
    let made = audit::recorded(&owner, "test", &first, async {
        let noted = listed(AuditFilter::default()).await;
        assert_eq!((noted.len(), &noted[0].outcome), (1, &None), "it is noted while it is made");
        Ok::<_, Error>(7)
    });
    assert_eq!(made.await.expect("made"), 7);
    let second = change("fnhost pause", json!({}));
    let failed = audit::recorded(&owner, "test", &second, async {
        Err::<(), _>(Error::Unfit("x".repeat(OUTCOME_CHARS_MAX)))
    });
    failed.await.expect_err("it failed");
    let large = json!({ "ids": "1".repeat(DETAILS_BYTES_MAX) });
    audit::recorded(&owner, "test", &change("fnhost dead", large), async { Ok::<_, Error>(()) })
        .await
        .expect("made");

    let entries = listed(AuditFilter::default()).await;
    let shown: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(shown, ["fnhost dead", "fnhost pause", "POST /replay"], "the newest first");
    assert_eq!((entries[2].who.as_str(), entries[2].source.as_str()), ("ci", "10.0.0.7"));
    assert_eq!(
        (entries[2].outcome.as_deref(), &entries[2].details),
        (Some(DONE), &json!({ "text": "with a \u{fffd} in it" }))
    );
    let said = entries[1].outcome.as_deref().expect("an outcome");
    assert!(said.starts_with("failed: xxx") && said.chars().count() == OUTCOME_CHARS_MAX, "{said}");
    assert!(entries[0].details["bytes"].as_u64() > Some(DETAILS_BYTES_MAX as u64), "{}", entries[0].details);
    for (filter, found) in [
        (AuditFilter { who: Some("ci".to_owned()), ..AuditFilter::default() }, 3),
        (AuditFilter { who: Some("c".to_owned()), ..AuditFilter::default() }, 0),
        (AuditFilter { action: Some("fnhost".to_owned()), ..AuditFilter::default() }, 2),
        (AuditFilter { before: Some(entries[0].id), ..AuditFilter::default() }, 2),
        (AuditFilter { since_ms: Some(1), ..AuditFilter::default() }, 3),
        (AuditFilter { since_ms: Some(i64::from(u32::MAX) * 1000), ..AuditFilter::default() }, 0),
    ] {
        assert_eq!(listed(filter.clone()).await.len(), found, "{filter:?}");
    }
    assert_eq!(audit::list(&owner, "other", &AuditFilter::default(), 10).await.expect("a list"), []);

    // The oldest go by number and by age.
    let kept = Kept { audit_max: 2, ..Kept::default() };
    assert_eq!(retention::remove(&owner, "test", &kept).await.expect("removed").audit, 1);
    let old =
        "UPDATE fnhost.audit SET asked_at = asked_at - interval '401 days' WHERE action = 'fnhost pause'";
    sqlx::raw_sql(old).execute(&mut database).await.expect("older");
    assert_eq!(retention::remove(&owner, "test", &Kept::default()).await.expect("removed").audit, 1);
    assert_eq!(listed(AuditFilter::default()).await.len(), 1);

    // What cannot be noted is not made.
    sqlx::raw_sql("DROP TABLE fnhost.audit").execute(&mut database).await.expect("dropped");
    let made = AtomicBool::new(false);
    let refused = audit::recorded(&owner, "test", &first, async {
        made.store(true, Ordering::Release);
        Ok::<_, Error>(())
    });
    refused.await.expect_err("it cannot be noted");
    assert!(!made.load(Ordering::Acquire));
}

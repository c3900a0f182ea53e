//! What happens at a time, and in the course of time.

use super::authenticator::Authenticator;
use super::{ADA, HOME, PASSWORD, access, add, assertion, post, send, sign_in, with_both};
use serde_json::json;

#[tokio::test]
async fn a_counter_that_falls_back_refuses_a_copy_and_a_challenge_is_good_for_one_of_two() {
    let function = with_both().await;
    let access = access(&function, ADA).await;
    let mut authenticator = Authenticator::es256();
    authenticator.count = 7;
    add(&function, &access, &mut authenticator).await;
    assert_eq!(sign_in(&function, &authenticator).await.status, 401, "it was 7 when it was made");
    authenticator.count = 8;
    assert_eq!(sign_in(&function, &authenticator).await.status, 200);
    authenticator.count = 9;
    let late = assertion(&function, &authenticator).await;
    authenticator.count = 12;
    assert_eq!(sign_in(&function, &authenticator).await.status, 200);
    assert_eq!(send(&function, &late, HOME).await.status, 401);
    assert_eq!(function.value("SELECT sign_count FROM passkey").await, 12);
    // Two that are checked at a time, with the same answer of an authenticator that does not count.
    function.prepare("UPDATE passkey SET sign_count = 0").await;
    authenticator.count = 0;
    let one = assertion(&function, &authenticator).await;
    let held = function.hold("SELECT FROM account FOR UPDATE").await;
    let both = async { tokio::join!(send(&function, &one, HOME), send(&function, &one, HOME)) };
    let release = async {
        function.until_waiting(2).await;
        held.rollback().await.expect("released");
    };
    let ((first, second), ()) = tokio::join!(both, release);
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
    // And with different ones, the lower of which is written last.
    function.prepare("UPDATE passkey SET sign_count = 1").await;
    let mut answers = Vec::new();
    for count in [2, 3] {
        authenticator.count = count;
        answers.push(assertion(&function, &authenticator).await);
    }
    let held = function.hold("SELECT FROM account FOR UPDATE").await;
    let lower_last = async {
        let lower = async {
            function.until_waiting(1).await;
            send(&function, &answers[0], HOME).await
        };
        tokio::join!(send(&function, &answers[1], HOME), lower)
    };
    let release = async {
        function.until_waiting(2).await;
        held.rollback().await.expect("released");
    };
    let ((higher, lower), ()) = tokio::join!(lower_last, release);
    assert_eq!(higher.status, 200, "{higher:?}");
    assert!([200, 401].contains(&lower.status), "by whichever is first");
    assert_eq!(function.value("SELECT sign_count FROM passkey").await, 3, "it never falls");
}

#[tokio::test]
async fn used_challenges_are_forgotten_when_they_are_over() {
    let function = with_both().await;
    let access = access(&function, ADA).await;
    let mut authenticator = Authenticator::es256();
    add(&function, &access, &mut authenticator).await;
    assert_eq!(sign_in(&function, &authenticator).await.status, 200);
    let kept = "SELECT count(*) FROM used_challenge";
    assert_eq!(function.value(kept).await, 2);
    let beyond = "SELECT min(kept_until) > now() + interval '5 minutes' FROM used_challenge";
    assert_eq!(function.value(beyond).await, true, "for longer than it could be answered");
    function.prepare("UPDATE used_challenge SET kept_until = now() - interval '1 second'").await;
    assert_eq!(sign_in(&function, &authenticator).await.status, 200);
    assert_eq!(function.value(kept).await, 1, "its own");
}

#[tokio::test]
async fn a_password_set_by_a_mail_leaves_no_passkey_and_a_changed_one_leaves_all() {
    let function = with_both().await;
    let access = access(&function, ADA).await;
    let mut authenticator = Authenticator::es256();
    add(&function, &access, &mut authenticator).await;
    let body = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    assert_eq!(post(&function, "/auth/password", &access, body).await.status, 204);
    assert_eq!(sign_in(&function, &authenticator).await.status, 200);
    assert_eq!(function.post("/auth/password/forgot").json(json!({"email": ADA})).await.status, 202);
    let token =
        "SELECT convert_from(value, 'UTF8')::jsonb ->> 'token' FROM outgoing_event ORDER BY id DESC LIMIT 1";
    let body = json!({"token": function.value(token).await, "new_password": "a third horse battery"});
    // One that is checked already, and written while the password is being set.
    let late = assertion(&function, &authenticator).await;
    let held = function.hold("SELECT FROM link FOR UPDATE").await;
    let reset = function.post("/auth/password/reset").json(body);
    let release = async {
        function.until_waiting(1).await;
        held.rollback().await.expect("released");
    };
    let (reset, ()) = tokio::join!(reset, release);
    assert_eq!(reset.status, 204, "{reset:?}");
    assert_eq!(send(&function, &late, HOME).await.status, 401);
    assert_eq!(sign_in(&function, &authenticator).await.status, 401);
    let live = "SELECT count(*) FROM login JOIN account ON account.id = account_id \
                WHERE email = 'ada@example.com' AND ended_at IS NULL";
    assert_eq!(function.value(live).await, 0);
}

#[tokio::test]
async fn a_passkey_login_under_way_does_not_outlive_a_password_set_by_a_mail() {
    let function = with_both().await;
    let access = access(&function, ADA).await;
    let mut authenticator = Authenticator::es256();
    add(&function, &access, &mut authenticator).await;
    assert_eq!(function.post("/auth/password/forgot").json(json!({"email": ADA})).await.status, 202);
    let token =
        "SELECT convert_from(value, 'UTF8')::jsonb ->> 'token' FROM outgoing_event ORDER BY id DESC LIMIT 1";
    let body = json!({"token": function.value(token).await, "new_password": "a third horse battery"});
    let late = assertion(&function, &authenticator).await;
    // The login waits first and is written first; what sets the password does not see it.
    let held = function.hold("SELECT FROM account FOR NO KEY UPDATE").await;
    let reset = async {
        function.until_waiting(1).await;
        function.post("/auth/password/reset").json(body).await
    };
    let release = async {
        function.until_waiting(2).await;
        held.rollback().await.expect("released");
    };
    let (signed_in, reset, ()) = tokio::join!(send(&function, &late, HOME), reset, release);
    assert_eq!(reset.status, 204, "{reset:?}");
    assert!([200, 401].contains(&signed_in.status), "{signed_in:?}");
    let live = "SELECT count(*) FROM login JOIN account ON account.id = account_id \
                WHERE email = 'ada@example.com' AND ended_at IS NULL";
    assert_eq!(function.value(live).await, 0, "it has ended, or never began");
    assert_eq!(function.value("SELECT count(*) FROM passkey").await, 0);
}

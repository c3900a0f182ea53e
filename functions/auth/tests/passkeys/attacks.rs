//! Whoever has no right to it: adds no passkey, signs in with none, learns nothing and waits.

use super::authenticator::{Authenticator, PRESENT, encode};
use super::{
    ADA, BOB, HOME, access, activity, add, assertion, creation_options, passkeys, post, send, with_both,
};
use serde_json::{Value, json};

/// Where nobody of these lives.
const ELSEWHERE: &str = "203.0.113.7";

#[tokio::test]
async fn only_who_knows_the_password_adds_a_passkey() {
    let function = with_both().await;
    let access = access(&function, ADA).await;
    for number in 0..=auth::throttle::PAIR.free {
        let body = json!({"current_password": format!("guess {number}")});
        let answer = post(&function, "/auth/passkeys/options", &access, body).await;
        let expected = if number < auth::throttle::PAIR.free { 401 } else { 429 };
        assert_eq!(answer.status, expected, "{number}: {answer:?}");
    }
    assert_eq!(activity(&function, &access).await[..2], ["SIGN_IN_FAILED", "SIGN_IN_FAILED"]);
    function.prepare("DELETE FROM throttle; DELETE FROM activity").await;
    creation_options(&function, &access).await;
    assert!(
        activity(&function, &access).await.is_empty(),
        "the password was right, and nothing happened yet"
    );
    // Not by a challenge that everybody gets, nor by another login of the same account.
    let mut authenticator = Authenticator::es256();
    let for_signing_in = function.post("/auth/login/passkey/options").send().await.body;
    let options = json!({"challenge": for_signing_in["challenge"], "user": {"id": "AAAA"}});
    let body = json!({"credential": authenticator.create(&options)});
    let answer = post(&function, "/auth/passkeys", &access, body).await;
    assert_eq!((answer.status, &answer.body["field"]), (422, &json!("credential")), "{answer:?}");
    let own = creation_options(&function, &access).await;
    let bobs = super::access(&function, BOB).await;
    let body = json!({"credential": authenticator.create(&own)});
    assert_eq!(post(&function, "/auth/passkeys", &bobs, body.clone()).await.status, 422);
    assert_eq!(post(&function, "/auth/passkeys", &access, body.clone()).await.status, 204);
    assert_eq!(
        post(&function, "/auth/passkeys", &access, body).await.status,
        422,
        "a challenge is good once"
    );
    assert_eq!(passkeys(&function, &access).await[0]["name"], "Passkey");
}

#[tokio::test]
async fn every_refusal_of_a_passkey_is_the_same_and_none_begins_a_login() {
    let function = with_both().await;
    let (adas, bobs) = (access(&function, ADA).await, access(&function, BOB).await);
    let mut authenticator = Authenticator::es256();
    add(&function, &adas, &mut authenticator).await;
    let mut of_bob = Authenticator::eddsa();
    of_bob.id = b"another one".to_vec();
    add(&function, &bobs, &mut of_bob).await;
    let good = assertion(&function, &authenticator).await;
    let with = |field: &str, value: Value| {
        let mut changed = good.clone();
        changed["response"][field] = value;
        changed
    };
    let mut unknown = good.clone();
    unknown["id"] = json!(encode(b"nobody knows this"));
    let mut forgotten = good.clone();
    forgotten["response"].as_object_mut().expect("an object").remove("userHandle");
    let mut as_bob = assertion(&function, &of_bob).await;
    as_bob["id"] = good["id"].clone();
    let mut unverified = Authenticator::es256();
    unverified.user.clone_from(&authenticator.user);
    unverified.flags = PRESENT;
    let mut phished = Authenticator::es256();
    phished.user.clone_from(&authenticator.user);
    phished.origin = "https://evil.example".to_owned();
    let signature = encode(b"no signature");
    let mut answers = Vec::new();
    for (what, credential) in [
        ("unknown", unknown),
        ("no signature", with("signature", json!(signature))),
        ("another account", with("userHandle", json!(encode(&of_bob.user)))),
        ("no account", forgotten),
        ("Bob's under Ada's id", as_bob),
        ("an unlocked key found on the street", assertion(&function, &unverified).await),
        ("another site's", assertion(&function, &phished).await),
        ("a challenge for adding", {
            let options = creation_options(&function, &adas).await;
            authenticator.get(&options)
        }),
    ] {
        let answer = send(&function, &credential, HOME).await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        answers.push(answer);
        function.prepare("UPDATE throttle SET failures = 0, locked_until = now()").await;
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(function.value("SELECT count(*) FROM login WHERE method = 'passkey'").await, 0);
    assert_eq!(send(&function, &good, HOME).await.status, 200, "it was good all the time");
    assert_eq!(send(&function, &good, HOME).await, answers[0], "once");
}

#[tokio::test]
async fn whoever_tries_passkeys_waits_as_whoever_tries_passwords() {
    let function = with_both().await;
    let access = access(&function, ADA).await;
    let mut authenticator = Authenticator::es256();
    add(&function, &access, &mut authenticator).await;
    let good = assertion(&function, &authenticator).await;
    let mut wrong = good.clone();
    wrong["response"]["signature"] = json!(encode(b"no signature"));
    let mut unknown = wrong.clone();
    unknown["id"] = json!(encode(b"nobody knows this"));
    for number in 0..=auth::throttle::PAIR.free {
        let expected = if number < auth::throttle::PAIR.free { 401 } else { 429 };
        let (known, unknown) =
            (send(&function, &wrong, ELSEWHERE).await, send(&function, &unknown, ELSEWHERE).await);
        assert_eq!((known.status, unknown.status), (expected, expected), "{number}");
    }
    assert_eq!(send(&function, &good, ELSEWHERE).await.status, 429);
    assert_eq!(send(&function, &good, HOME).await.status, 200, "nobody else waits");
    let told = activity(&function, &access).await;
    assert_eq!(told[..2], ["SIGNED_IN_WITH_PASSKEY", "SIGN_IN_FAILED"]);
    let kept = function.value("SELECT string_agg(subject, ' ') FROM throttle").await.to_string();
    assert!(!kept.contains(&encode(b"nobody knows this")), "{kept}");
}

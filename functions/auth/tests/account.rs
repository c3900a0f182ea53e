//! The built component with a real Postgres: what an account's owner changes, sees and ends, and what nobody else can.

use contract::token::{AUDIENCE, Claims, ISSUER, JwkSet, Role, Signer};
use fnhost_manifest::Secret;
use fnhost_sdk::time::unix_seconds;
use fnhost_test_function::{Answer, Function, bearer};
use serde_json::{Value, json};
use uuid::Uuid;

const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";
const PASSWORD: &str = "correct horse battery";
const OTHER: &str = "another horse battery";
const PRIVATE_KEY: &str = include_str!("../../contract/testing/private.pem");
const PUBLIC_KEYS: &str = include_str!("../../contract/testing/public.json");

async fn register(function: &Function, email: &str) -> Answer {
    function.post("/auth/register").json(json!({"email": email, "password": PASSWORD})).await
}

async fn login(function: &Function, email: &str, password: &str) -> Answer {
    let call = function.post("/auth/login").header("user-agent", "Tests/1.0");
    let call = call.header("spin-client-addr", "192.0.2.1:4711");
    call.json(json!({"email": email, "password": password})).await
}

/// The tokens of a login: access as a header, refresh.
async fn tokens(function: &Function, email: &str, password: &str) -> (String, String) {
    let session = login(function, email, password).await;
    assert_eq!(session.status, 200, "{session:?}");
    let token = |name: &str| session.body[name].as_str().expect("a token").to_owned();
    (format!("Bearer {}", token("access_token")), token("refresh_token"))
}

async fn refresh(function: &Function, token: &str) -> u16 {
    function.post("/auth/refresh").json(json!({"refresh_token": token})).await.status
}

async fn get(function: &Function, path: &str, access: &str) -> Answer {
    function.get(path).header("authorization", access).send().await
}

async fn post(function: &Function, path: &str, access: &str, body: Value) -> Answer {
    function.post(path).header("authorization", access).json(body).await
}

async fn forgot(function: &Function, email: &str) {
    let answer = function.post("/auth/password/forgot").json(json!({"email": email})).await;
    assert_eq!((answer.status, answer.body), (202, Value::Null));
}

async fn reset(function: &Function, token: &str, password: &str) -> Answer {
    function.post("/auth/password/reset").json(json!({"token": token, "new_password": password})).await
}

async fn verify(function: &Function, token: &str) -> u16 {
    function.post("/auth/verify").json(json!({"token": token})).await.status
}

/// What notify is asked to send to an address, the oldest first.
async fn mails(function: &Function, email: &str) -> Vec<Value> {
    let rows = "SELECT convert_from(value, 'UTF8')::jsonb AS mail FROM outgoing_event ORDER BY id";
    let rows = function.rows(rows).await;
    rows.into_iter().map(|row| row["mail"].clone()).filter(|mail| mail["email"] == email).collect()
}

/// The token of the newest mail of this kind to an address.
async fn link(function: &Function, email: &str, kind: &str) -> String {
    let mails = mails(function, email).await;
    let newest = mails.iter().rfind(|mail| mail["mail"] == kind).expect("a mail");
    newest["token"].as_str().expect("a token").to_owned()
}

async fn activity(function: &Function, access: &str) -> Vec<String> {
    let answer = get(function, "/auth/activity?limit=100", access).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let entries = answer.body["entries"].as_array().expect("entries").clone();
    let told: Vec<_> = entries.iter().map(|entry| entry["what"].as_str().expect("text").to_owned()).collect();
    assert!(told.iter().all(|what| auth::domain::ACTIVITIES.contains(&what.as_str())), "{told:?}");
    told
}

/// A function where Ada and Bob are registered.
async fn with_both() -> Function {
    let function = Function::start("auth").await;
    for email in [ADA, BOB] {
        assert_eq!(register(&function, email).await.status, 202);
    }
    function
}

#[tokio::test]
async fn a_registration_tells_only_the_owner_that_the_address_is_taken() {
    let function = Function::start("auth").await;
    let fresh = register(&function, ADA).await;
    let taken = register(&function, ADA).await;
    assert_eq!((fresh.status, &fresh), (202, &taken));
    let kinds: Vec<_> = mails(&function, ADA).await.iter().map(|mail| mail["mail"].clone()).collect();
    assert_eq!(kinds, ["CONFIRM_ADDRESS", "ADDRESS_TAKEN"]);
    assert_eq!(mails(&function, ADA).await[1].get("token"), None, "who asks does not get into the account");
    let stranger = json!({"email": ADA, "password": OTHER});
    assert_eq!(function.post("/auth/register").json(stranger).await, fresh);
    assert_eq!(login(&function, ADA, OTHER).await.status, 401, "the password stays");
}

#[tokio::test]
async fn an_address_is_confirmed_once_by_its_own_link() {
    let function = with_both().await;
    let (access, _) = tokens(&function, ADA, PASSWORD).await;
    assert_eq!(get(&function, "/auth/me", &access).await.body["verified"], false);
    let first = link(&function, ADA, "CONFIRM_ADDRESS").await;
    assert_eq!(post(&function, "/auth/verify/send", &access, json!({})).await.status, 202);
    let second = link(&function, ADA, "CONFIRM_ADDRESS").await;
    assert_ne!(first, second);
    assert_eq!(verify(&function, &second).await, 204);
    assert_eq!(verify(&function, &second).await, 401, "it is good once");
    assert_eq!(get(&function, "/auth/me", &access).await.body["verified"], true);
    let verified = "SELECT array_agg(email) FROM account WHERE verified_at IS NOT NULL";
    assert_eq!(function.value(verified).await, json!([ADA]), "and nobody else's");
    // There is nothing to confirm any more.
    let before = mails(&function, ADA).await.len();
    assert_eq!(post(&function, "/auth/verify/send", &access, json!({})).await.status, 202);
    assert_eq!(mails(&function, ADA).await.len(), before);
}

#[tokio::test]
async fn where_addresses_must_be_confirmed_nobody_learns_by_logging_in_who_is_registered() {
    let function = Function::start_with("auth", |spec| {
        spec.variables.insert("require_verified_email".to_owned(), Secret::new("true".to_owned()));
    });
    let function = function.await;
    register(&function, ADA).await;
    let unconfirmed = login(&function, ADA, PASSWORD).await;
    let unknown = login(&function, "nobody@example.com", PASSWORD).await;
    assert_eq!((unconfirmed.status, &unconfirmed), (401, &unknown));
    assert_eq!(verify(&function, &link(&function, ADA, "CONFIRM_ADDRESS").await).await, 204);
    assert_eq!(login(&function, ADA, PASSWORD).await.status, 200);
    // A password that was set by a mail confirms as well.
    register(&function, BOB).await;
    forgot(&function, BOB).await;
    assert_eq!(reset(&function, &link(&function, BOB, "RESET_PASSWORD").await, OTHER).await.status, 204);
    assert_eq!(login(&function, BOB, OTHER).await.status, 200);
}

#[tokio::test]
async fn a_forgotten_password_is_set_once_by_its_own_link_and_ends_every_login() {
    let function = with_both().await;
    let (_, old) = tokens(&function, ADA, PASSWORD).await;
    let (_, bobs) = tokens(&function, BOB, PASSWORD).await;
    forgot(&function, ADA).await;
    let first = link(&function, ADA, "RESET_PASSWORD").await;
    forgot(&function, ADA).await;
    let second = link(&function, ADA, "RESET_PASSWORD").await;
    let weak = reset(&function, &second, "password1").await;
    assert_eq!(
        (weak.status, &weak.body["field"]),
        (422, &json!("new_password")),
        "the link is not spent by that"
    );
    assert_eq!(reset(&function, &second, OTHER).await.status, 204);
    for spent in [&second, &first] {
        let again = reset(&function, spent, "a third horse battery").await;
        assert_eq!((again.status, &again.body["field"]), (401, &json!("token")));
    }
    assert_eq!(refresh(&function, &old).await, 401, "who was logged in is not");
    assert_eq!(login(&function, ADA, PASSWORD).await.status, 401);
    let (access, _) = tokens(&function, ADA, OTHER).await;
    assert_eq!((login(&function, BOB, PASSWORD).await.status, refresh(&function, &bobs).await), (200, 200));
    assert_eq!(activity(&function, &access).await[..3], ["SIGNED_IN", "SIGN_IN_FAILED", "PASSWORD_RESET"]);
    assert_eq!(mails(&function, ADA).await.last().expect("a mail")["mail"], "PASSWORD_CHANGED");
    let kept = function.value("SELECT string_agg(encode(hash, 'escape'), ' ') FROM link").await.to_string();
    assert!(!kept.contains(&second), "only hashes are kept");
}

#[tokio::test]
async fn no_other_token_sets_a_password() {
    let function = with_both().await;
    forgot(&function, BOB).await;
    let bobs = link(&function, BOB, "RESET_PASSWORD").await;
    let (access, refresh_token) = tokens(&function, ADA, PASSWORD).await;
    let adas_id = function.value(&format!("SELECT id FROM account WHERE email = '{ADA}'")).await;
    let keys: JwkSet = serde_json::from_str(PUBLIC_KEYS).expect("keys");
    let signer = Signer::new(PRIVATE_KEY, &keys).expect("a key");
    let (now, sub) = (unix_seconds(), adas_id.as_str().and_then(|id| id.parse().ok()).expect("an id"));
    // Well signed, for Ada, and never given to anybody.
    let unknown =
        auth::link::Link::new(&signer, auth::link::Purpose::ResetPassword, sub).expect("a link").token;
    let access_of = |aud: &str| {
        let (iss, aud) = (ISSUER.to_owned(), aud.to_owned());
        signer
            .sign(&Claims { iss, aud, sub, role: Role::Admin, iat: now, nbf: now, exp: now + 60 })
            .expect("signed")
    };
    // Bob's, with Ada's name in it.
    let [head, _, signature] = bobs.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    let [_, adas_claims, _] = unknown.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    for (what, token) in [
        ("one that was never sent", unknown.clone()),
        ("another's with her name", format!("{head}.{adas_claims}.{signature}")),
        ("unsigned", format!("eyJhbGciOiJub25lIn0.{adas_claims}.")),
        ("an access token", access["Bearer ".len()..].to_owned()),
        ("an access token for links", access_of(auth::link::AUDIENCE)),
        ("an access token of our making", access_of(AUDIENCE)),
        ("a refresh token", refresh_token),
        ("one that confirms an address", link(&function, ADA, "CONFIRM_ADDRESS").await),
        ("nothing", String::new()),
    ] {
        let answer = reset(&function, &token, OTHER).await;
        assert_eq!((answer.status, &answer.body["field"]), (401, &json!("token")), "{what}");
        assert_eq!(login(&function, ADA, PASSWORD).await.status, 200, "{what}");
    }
    // Bob's own sets Bob's password, and not Ada's.
    assert_eq!(verify(&function, &bobs).await, 401, "and confirms nothing");
    assert_eq!(reset(&function, &bobs, OTHER).await.status, 204);
    assert_eq!(login(&function, ADA, OTHER).await.status, 401);
    assert_eq!(login(&function, BOB, OTHER).await.status, 200);
}

#[tokio::test]
async fn a_link_expires_and_of_two_at_a_time_one_sets_the_password() {
    let function = with_both().await;
    forgot(&function, ADA).await;
    let token = link(&function, ADA, "RESET_PASSWORD").await;
    function.prepare("UPDATE link SET expires_at = now() - interval '1 second'").await;
    assert_eq!(reset(&function, &token, OTHER).await.status, 401);
    forgot(&function, ADA).await;
    let token = link(&function, ADA, "RESET_PASSWORD").await;
    let held = function.hold("SELECT FROM link FOR UPDATE").await;
    let both =
        async { tokio::join!(reset(&function, &token, OTHER), reset(&function, &token, "a third horse")) };
    let release = async {
        function.until_waiting(2).await;
        held.rollback().await.expect("released");
    };
    let ((one, other), ()) = tokio::join!(both, release);
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 401]);
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_everybody_else_is_signed_out() {
    let function = with_both().await;
    let (access, mine) = tokens(&function, ADA, PASSWORD).await;
    let (_, elsewhere) = tokens(&function, ADA, PASSWORD).await;
    let (_, bobs) = tokens(&function, BOB, PASSWORD).await;
    forgot(&function, ADA).await;
    let change = async |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        let answer = post(&function, "/auth/password", &access, body).await;
        (answer.status, answer.body["field"].as_str().map(str::to_owned))
    };
    let at = |field: &str| Some(field.to_owned());
    assert_eq!(change(OTHER, "a third horse battery").await, (401, at("current_password")));
    assert_eq!(change(PASSWORD, "iloveyou1").await, (422, at("new_password")), "known from breaches");
    assert_eq!(change(PASSWORD, PASSWORD).await, (422, at("new_password")));
    assert_eq!(change(PASSWORD, OTHER).await, (204, None));
    assert_eq!(login(&function, ADA, PASSWORD).await.status, 401);
    assert_eq!(refresh(&function, &elsewhere).await, 401);
    assert_eq!((refresh(&function, &mine).await, refresh(&function, &bobs).await), (200, 200));
    let old_link = link(&function, ADA, "RESET_PASSWORD").await;
    assert_eq!(
        reset(&function, &old_link, "a third horse battery").await.status,
        401,
        "from before the change"
    );
    let told = activity(&function, &access).await;
    assert_eq!(told[..3], ["SIGN_IN_FAILED", "PASSWORD_CHANGED", "SIGN_IN_FAILED"]);
    let newest = mails(&function, ADA).await;
    assert_eq!(newest.last().expect("a mail")["mail"], "PASSWORD_CHANGED");
}

#[tokio::test]
async fn a_login_under_way_does_not_outlive_a_change_of_the_password() {
    let function = with_both().await;
    let (access, _) = tokens(&function, ADA, PASSWORD).await;
    // Both have checked the old password; the login is written first, and the change does not see it.
    let held = function.hold("SELECT FROM account FOR NO KEY UPDATE").await;
    let change = async {
        function.until_waiting(1).await;
        let body = json!({"current_password": PASSWORD, "new_password": OTHER});
        post(&function, "/auth/password", &access, body).await
    };
    let release = async {
        function.until_waiting(2).await;
        held.rollback().await.expect("released");
    };
    let (late, changed, ()) = tokio::join!(login(&function, ADA, PASSWORD), change, release);
    assert_eq!(changed.status, 204, "{changed:?}");
    assert_eq!(late.status, 200, "{late:?}");
    let token = late.body["refresh_token"].as_str().expect("a token");
    assert_eq!(refresh(&function, token).await, 401, "it has ended");
    let live = "SELECT count(*) FROM login JOIN account ON account.id = account_id \
                WHERE email = 'ada@example.com' AND ended_at IS NULL";
    assert_eq!(function.value(live).await, 1, "the one that changed it");
}

#[tokio::test]
async fn guessing_by_a_stolen_access_token_is_as_slow_as_at_a_login() {
    let function = with_both().await;
    let (access, _) = tokens(&function, ADA, PASSWORD).await;
    for number in 0..=auth::throttle::PAIR.free {
        let body = json!({"current_password": format!("guess {number}"), "new_password": OTHER});
        let expected = if number < auth::throttle::PAIR.free { 401 } else { 429 };
        assert_eq!(post(&function, "/auth/password", &access, body).await.status, expected, "{number}");
    }
}

#[tokio::test]
async fn the_owner_sees_and_ends_logins_and_nobody_elses() {
    let function = with_both().await;
    let (access, mine) = tokens(&function, ADA, PASSWORD).await;
    let (_, second) = tokens(&function, ADA, PASSWORD).await;
    let (third_access, third) = tokens(&function, ADA, PASSWORD).await;
    let (bobs_access, bobs) = tokens(&function, BOB, PASSWORD).await;
    let list = get(&function, "/auth/sessions", &access).await;
    let sessions = list.body["sessions"].as_array().expect("a list").clone();
    let current: Vec<_> = sessions.iter().map(|session| session["current"].clone()).collect();
    assert_eq!(
        (current, &sessions[0]["device"]),
        (vec![json!(true), json!(false), json!(false)], &json!("Tests/1.0"))
    );
    // Of three, the second is ended by name; Bob cannot.
    let end = |id: &Value| format!("/auth/sessions/{}/end", id.as_str().expect("an id"));
    let other = end(&sessions[2]["session_id"]);
    assert_eq!(post(&function, &other, &bobs_access, json!({})).await.status, 404);
    assert_eq!(post(&function, &other, &access, json!({})).await.status, 204);
    assert_eq!(post(&function, &other, &access, json!({})).await.status, 404);
    assert_eq!(post(&function, "/auth/sessions/x/end", &access, json!({})).await.status, 404);
    let alive = [refresh(&function, &second).await, refresh(&function, &third).await];
    assert_eq!(alive, [401, 200], "the list is by last use");
    assert_eq!(post(&function, "/auth/sessions/end-others", &access, json!({})).await.status, 204);
    // What has ended does not come back by its access token, which is still good elsewhere.
    for path in ["/auth/sessions", "/auth/activity"] {
        assert_eq!(get(&function, path, &third_access).await.status, 401, "{path}");
    }
    assert_eq!(post(&function, "/auth/sessions/end-others", &third_access, json!({})).await.status, 401);
    let body = json!({"current_password": PASSWORD, "new_password": OTHER});
    assert_eq!(post(&function, "/auth/password", &third_access, body).await.status, 401);
    assert_eq!((refresh(&function, &mine).await, refresh(&function, &bobs).await), (200, 200));
    // A token that names no login is nobody's here.
    let nameless = bearer(Uuid::now_v7(), Role::Customer);
    assert_eq!(get(&function, "/auth/sessions", &nameless).await.status, 401);
}

#[tokio::test]
async fn a_login_ends_at_an_age_however_often_it_is_refreshed() {
    let function = with_both().await;
    let (_, token) = tokens(&function, ADA, PASSWORD).await;
    let almost = "UPDATE login SET begun_at = now() - interval '180 days' + interval '1 hour'";
    function.prepare(almost).await;
    let next = function.post("/auth/refresh").json(json!({"refresh_token": token})).await;
    assert_eq!(next.status, 200);
    let left = "SELECT max(expires_at) < now() + interval '61 minutes' FROM login JOIN account ON account.id = account_id \
                WHERE email = 'ada@example.com'";
    assert_eq!(function.value(left).await, true, "not for another 30 days");
    function.prepare("UPDATE login SET begun_at = now() - interval '180 days'").await;
    assert_eq!(refresh(&function, next.body["refresh_token"].as_str().expect("a token")).await, 401);
}

#[tokio::test]
async fn what_happened_to_an_account_is_told_to_its_owner_and_forgotten_in_the_end() {
    let function = with_both().await;
    login(&function, ADA, OTHER).await;
    login(&function, "nobody@example.com", OTHER).await;
    let (access, token) = tokens(&function, ADA, PASSWORD).await;
    let page = get(&function, "/auth/activity?limit=1", &access).await.body;
    let entry = &page["entries"][0];
    assert_eq!(
        (&entry["what"], &entry["network"], &entry["device"]),
        (&json!("SIGNED_IN"), &json!("192.0.2.1"), &json!("Tests/1.0"))
    );
    let cursor = page["next_cursor"].as_str().expect("a further page");
    let page = get(&function, &format!("/auth/activity?limit=1&cursor={cursor}"), &access).await.body;
    assert_eq!((&page["entries"][0]["what"], &page["next_cursor"]), (&json!("SIGN_IN_FAILED"), &Value::Null));
    // A token in two hands is told too.
    assert_eq!((refresh(&function, &token).await, refresh(&function, &token).await), (200, 401));
    let (access, _) = tokens(&function, ADA, PASSWORD).await;
    assert_eq!(
        activity(&function, &access).await,
        ["SIGNED_IN", "TOKEN_REUSED", "SIGNED_IN", "SIGN_IN_FAILED"]
    );
    // By age and by number.
    function.prepare("UPDATE activity SET at = now() - interval '91 days' WHERE what = 'TOKEN_REUSED'").await;
    login(&function, ADA, OTHER).await;
    assert!(!activity(&function, &access).await.contains(&"TOKEN_REUSED".to_owned()));
    let many = "INSERT INTO activity (account_id, what, network, device) \
                SELECT account_id, what, network, device FROM activity, generate_series(1, 100)";
    function.prepare(many).await;
    login(&function, ADA, OTHER).await;
    let kept = function.value("SELECT count(*) FROM activity").await.as_i64().expect("a number");
    assert!(kept <= auth::domain::ACTIVITY_ROWS_MAX + 1, "{kept}");
}

//! The built component with a real Postgres: registering, logging in, and the life of a login.

use contract::token::{JwkSet, Role, verify};
use fnhost_test_function::{Answer, Function, bearer};
use serde_json::{Value, json};
use uuid::Uuid;

const PASSWORD: &str = "correct horse battery";

async fn register(function: &Function, email: &str) -> Answer {
    function.post("/auth/register").json(json!({"email": email, "password": PASSWORD, "name": "Ada"})).await
}

async fn login(function: &Function, email: &str, password: &str) -> Answer {
    function.post("/auth/login").json(json!({"email": email, "password": password})).await
}

async fn refresh(function: &Function, token: &Value) -> Answer {
    function.post("/auth/refresh").json(json!({"refresh_token": token})).await
}

async fn logout(function: &Function, token: &Value) -> u16 {
    function.post("/auth/logout").json(json!({"refresh_token": token})).await.status
}

async fn me(function: &Function, session: &Answer) -> Answer {
    let token = session.body["access_token"].as_str().expect("an access token");
    function.get("/auth/me").header("authorization", &format!("Bearer {token}")).send().await
}

#[tokio::test]
async fn whoever_registers_can_log_in_and_is_known() {
    let function = Function::start("auth").await;
    let registered = register(&function, " Ada@Example.com ").await;
    assert_eq!((registered.status, &registered.body), (202, &json!({"email": "ada@example.com"})));
    let session = login(&function, "ADA@example.com", PASSWORD).await;
    assert_eq!((session.status, &session.body["token_type"]), (200, &json!("Bearer")));
    let known = me(&function, &session).await;
    let user_id = function.value("SELECT id FROM account").await;
    let expected = json!({"user_id": user_id, "email": "ada@example.com", "name": "Ada", "role": "customer", "verified": false});
    assert_eq!((known.status, known.body), (200, expected));
}

#[tokio::test]
async fn tokens_are_signed_with_the_published_key() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    let user_id = function.value("SELECT id FROM account").await;
    let session = login(&function, "ada@example.com", PASSWORD).await;
    let published = function.get("/.well-known/jwks.json").send().await;
    let keys: JwkSet = serde_json::from_value(published.body).expect("a key set");
    let caller = verify(session.body["access_token"].as_str().expect("a token"), &keys).expect("accepted");
    assert_eq!((json!(caller.user_id), caller.role), (user_id, Role::Customer));
}

#[tokio::test]
async fn the_admin_role_comes_from_the_database_at_the_next_login() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    function.prepare("UPDATE account SET role = 'admin'").await;
    let session = login(&function, "ada@example.com", PASSWORD).await;
    assert_eq!(me(&function, &session).await.body["role"], "admin");
}

#[tokio::test]
async fn an_address_is_taken_once_however_it_is_written() {
    let function = Function::start("auth").await;
    let both = tokio::join!(register(&function, "ada@example.com"), register(&function, "Ada@Example.com"));
    assert_eq!(both.0, both.1, "neither is told");
    assert_eq!(register(&function, "\u{ff21}da@example.com").await, both.0);
    assert_eq!(function.value("SELECT count(*) FROM account").await, 1);
}

#[tokio::test]
async fn a_password_is_the_same_however_its_letters_are_encoded() {
    let function = Function::start("auth").await;
    let registered = json!({"email": "ada@example.com", "password": "pa\u{308}sswo\u{308}rter"});
    assert_eq!(function.post("/auth/register").json(registered).await.status, 202);
    assert_eq!(login(&function, "ada@example.com", "p\u{e4}ssw\u{f6}rter").await.status, 200);
    assert_eq!(login(&function, "ada@example.com", "passworter").await.status, 401);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_get_the_same_answer() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    let wrong = login(&function, "ada@example.com", "wrong horse battery").await;
    let unknown = login(&function, "bob@example.com", PASSWORD).await;
    assert_eq!((wrong.status, &wrong), (401, &unknown));
}

#[tokio::test]
async fn passwords_are_kept_as_argon2id_and_tokens_as_hashes() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    let session = login(&function, "ada@example.com", PASSWORD).await;
    let hash = function.value("SELECT password_hash FROM account").await;
    assert!(hash.as_str().is_some_and(|hash| hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$")), "{hash}");
    let kept = function.value("SELECT encode(hash, 'hex') FROM refresh_token").await;
    let token = session.body["refresh_token"].as_str().expect("a refresh token");
    assert_eq!(kept.as_str().map(str::len), Some(64), "SHA-256");
    assert!(!kept.to_string().contains(token));
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_second_use_ends_the_login() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    let first = login(&function, "ada@example.com", PASSWORD).await;
    let elsewhere = login(&function, "ada@example.com", PASSWORD).await;
    let second = refresh(&function, &first.body["refresh_token"]).await;
    assert_eq!(second.status, 200);
    assert_ne!(second.body["refresh_token"], first.body["refresh_token"]);
    assert_eq!(me(&function, &second).await.status, 200);
    // Somebody else has a copy of the first one.
    let reused = refresh(&function, &first.body["refresh_token"]).await;
    assert_eq!((reused.status, &reused.body["field"]), (401, &json!("refresh_token")));
    assert_eq!(refresh(&function, &second.body["refresh_token"]).await.status, 401, "its descendants end");
    assert_eq!(refresh(&function, &elsewhere.body["refresh_token"]).await.status, 200, "other logins go on");
}

#[tokio::test]
async fn a_token_of_any_age_that_comes_again_ends_the_login() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    let first = login(&function, "ada@example.com", PASSWORD).await.body["refresh_token"].clone();
    let mut newest = first.clone();
    for _ in 0..3 {
        newest = refresh(&function, &newest).await.body["refresh_token"].clone();
    }
    assert_eq!(refresh(&function, &first).await.status, 401);
    assert_eq!(refresh(&function, &newest).await.status, 401, "the newest ends too");
}

#[tokio::test]
async fn an_exchange_under_way_does_not_outlive_the_end_of_its_login() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    let old = login(&function, "ada@example.com", PASSWORD).await.body["refresh_token"].clone();
    let newest = refresh(&function, &old).await.body["refresh_token"].clone();
    // The replay has ended the login and not committed yet when the newest token is exchanged.
    let ending = function.hold("UPDATE login SET ended_at = now()").await;
    let commit = async {
        function.until_waiting(1).await;
        ending.commit().await.expect("committed");
    };
    let (exchanged, ()) = tokio::join!(refresh(&function, &newest), commit);
    assert_eq!(exchanged.status, 401);
    assert_eq!(function.value("SELECT count(*) FROM refresh_token").await, 2, "and nothing new was made");
}

#[tokio::test]
async fn logging_out_ends_the_login_and_no_other_and_can_be_repeated() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    let old = login(&function, "ada@example.com", PASSWORD).await.body["refresh_token"].clone();
    let elsewhere = login(&function, "ada@example.com", PASSWORD).await.body["refresh_token"].clone();
    let newest = refresh(&function, &old).await.body["refresh_token"].clone();
    for token in [&newest, &newest, &old, &json!("nobody's")] {
        assert_eq!(logout(&function, token).await, 204);
    }
    assert_eq!(refresh(&function, &newest).await.status, 401);
    assert_eq!(refresh(&function, &elsewhere).await.status, 200);
}

#[tokio::test]
async fn a_hash_of_old_parameters_is_replaced_at_the_next_login() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    // Of the same password, made with half the memory and one pass.
    let weak = argon2_of(PASSWORD, 9728, 1);
    let put = format!("UPDATE account SET password_hash = '{weak}'");
    function.prepare(&put).await;
    assert_eq!(login(&function, "ada@example.com", "wrong horse battery").await.status, 401);
    let hash = "SELECT password_hash FROM account";
    assert_eq!(function.value(hash).await, json!(weak), "not by a failure");
    assert_eq!(login(&function, "ada@example.com", PASSWORD).await.status, 200);
    let replaced = function.value(hash).await;
    assert!(replaced.as_str().is_some_and(auth::password::is_current), "{replaced}");
    assert_eq!(login(&function, "ada@example.com", PASSWORD).await.status, 200);
    assert_eq!(function.value(hash).await, replaced, "once");
}

fn argon2_of(password: &str, memory_kib: u32, passes: u32) -> String {
    use argon2::password_hash::PasswordHasher as _;
    let params = argon2::Params::new(memory_kib, passes, 1, None).expect("parameters");
    let hash = argon2::Argon2::from(params).hash_password_with_salt(password.as_bytes(), b"a salt of 16 b..");
    hash.expect("a hash").to_string()
}

#[tokio::test]
async fn of_two_exchanges_at_a_time_one_succeeds() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    let token = login(&function, "ada@example.com", PASSWORD).await.body["refresh_token"].clone();
    let held = function.hold("SELECT FROM refresh_token FOR UPDATE").await;
    let both = async { tokio::join!(refresh(&function, &token), refresh(&function, &token)) };
    let release = async {
        function.until_waiting(2).await;
        held.rollback().await.expect("released");
    };
    let ((one, other), ()) = tokio::join!(both, release);
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
}

#[tokio::test]
async fn an_expired_refresh_token_is_refused() {
    let function = Function::start("auth").await;
    register(&function, "ada@example.com").await;
    let session = login(&function, "ada@example.com", PASSWORD).await;
    function.prepare("UPDATE refresh_token SET expires_at = now() - interval '1 second'").await;
    assert_eq!(refresh(&function, &session.body["refresh_token"]).await.status, 401);
    assert_eq!(refresh(&function, &json!("nonsense")).await.status, 401);
}

#[tokio::test]
async fn a_hash_fits_the_memory_limit_of_a_call_and_not_half_of_it() {
    // The manifest's limit is what every other test here runs with.
    let input = json!({"email": "ada@example.com", "password": PASSWORD});
    let small = Function::start_with("auth", |spec| spec.limits.memory_bytes = 16 << 20).await;
    let failed = small.post("/auth/register").try_json(input.clone()).await;
    // A hash without memory is an error of the function, or the host ends the call.
    assert!(failed.map_or(500, |answer| answer.status) >= 500);
    assert_eq!(small.value("SELECT count(*) FROM account").await, 0);
    let enough = Function::start_with("auth", |spec| spec.limits.memory_bytes = 32 << 20).await;
    assert_eq!(enough.post("/auth/register").json(input).await.status, 202);
}

#[tokio::test]
async fn a_token_of_somebody_who_is_gone_is_refused() {
    let function = Function::start("auth").await;
    let token = bearer(Uuid::now_v7(), Role::Admin);
    assert_eq!(function.get("/auth/me").header("authorization", &token).send().await.status, 401);
    // The first letter after the last dot: of the last one, some bits are not part of the signature.
    let at = token.rfind('.').expect("a signature") + 1;
    let other = if token[at..].starts_with('A') { "B" } else { "A" };
    let forged = format!("{}{other}{}", &token[..at], &token[at + 1..]);
    assert_eq!(function.get("/auth/me").header("authorization", &forged).send().await.status, 401);
    assert_eq!(function.get("/auth/me").send().await.status, 401);
}

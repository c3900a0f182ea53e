//! The built component with a real Postgres: passkeys of an authenticator in software, added, used, removed, and forged.

mod attacks;
#[allow(dead_code, reason = "what the unit tests use")]
mod authenticator;
mod races;

use authenticator::{Authenticator, encode};
use fnhost_manifest::Secret;
use fnhost_test_function::{Answer, Function};
use serde_json::{Value, json};

const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";
const PASSWORD: &str = "correct horse battery";
const HOME: &str = "192.0.2.1";

/// A function where Ada and Bob are registered.
async fn with_both() -> Function {
    let function = Function::start("auth").await;
    for email in [ADA, BOB] {
        let body = json!({"email": email, "password": PASSWORD});
        assert_eq!(function.post("/auth/register").json(body).await.status, 202);
    }
    function
}

/// The access token of a login by password, as a header.
async fn access(function: &Function, email: &str) -> String {
    let body = json!({"email": email, "password": PASSWORD});
    let session = function.post("/auth/login").json(body).await;
    assert_eq!(session.status, 200, "{session:?}");
    header(&session)
}

fn header(session: &Answer) -> String {
    format!("Bearer {}", session.body["access_token"].as_str().expect("a token"))
}

async fn get(function: &Function, path: &str, access: &str) -> Answer {
    function.get(path).header("authorization", access).send().await
}

async fn post(function: &Function, path: &str, access: &str, body: Value) -> Answer {
    let call = function.post(path).header("authorization", access).header("user-agent", "Tests/1.0");
    call.header("spin-client-addr", &format!("{HOME}:4711")).json(body).await
}

async fn creation_options(function: &Function, access: &str) -> Value {
    let body = json!({"current_password": PASSWORD});
    let options = post(function, "/auth/passkeys/options", access, body).await;
    assert_eq!(options.status, 200, "{options:?}");
    options.body
}

/// Adds a passkey to the account of this token, which it has to accept.
async fn add(function: &Function, access: &str, authenticator: &mut Authenticator) {
    let credential = authenticator.create(&creation_options(function, access).await);
    let body = json!({"name": "Telephone", "credential": credential});
    let added = post(function, "/auth/passkeys", access, body).await;
    assert_eq!((added.status, &added.body), (204, &Value::Null), "{added:?}");
}

/// What answers a fresh challenge.
async fn assertion(function: &Function, authenticator: &Authenticator) -> Value {
    let options = function.post("/auth/login/passkey/options").send().await;
    assert_eq!(options.status, 200, "{options:?}");
    authenticator.get(&options.body)
}

async fn send(function: &Function, credential: &Value, from: &str) -> Answer {
    let call = function.post("/auth/login/passkey").header("user-agent", "Tests/1.0");
    call.header("spin-client-addr", &format!("{from}:4711")).json(json!({"credential": credential})).await
}

async fn sign_in(function: &Function, authenticator: &Authenticator) -> Answer {
    send(function, &assertion(function, authenticator).await, HOME).await
}

async fn passkeys(function: &Function, access: &str) -> Vec<Value> {
    let list = get(function, "/auth/passkeys", access).await;
    assert_eq!((list.status, &list.body["rp_id"]), (200, &json!("localhost")), "{list:?}");
    list.body["passkeys"].as_array().expect("a list").clone()
}

async fn activity(function: &Function, access: &str) -> Vec<String> {
    let answer = get(function, "/auth/activity", access).await;
    let entries = answer.body["entries"].as_array().expect("entries").clone();
    let told: Vec<_> = entries.iter().map(|entry| entry["what"].as_str().expect("text").to_owned()).collect();
    assert!(told.iter().all(|what| auth::domain::ACTIVITIES.contains(&what.as_str())), "{told:?}");
    told
}

#[tokio::test]
async fn a_passkey_of_each_algorithm_signs_its_owner_in_as_a_password_does() {
    for mut authenticator in [Authenticator::eddsa(), Authenticator::es256(), Authenticator::rs256()] {
        let function = with_both().await;
        let by_password = access(&function, ADA).await;
        add(&function, &by_password, &mut authenticator).await;
        let session = sign_in(&function, &authenticator).await;
        assert_eq!((session.status, &session.body["token_type"]), (200, &json!("Bearer")), "{session:?}");
        let by_passkey = header(&session);
        assert_eq!(get(&function, "/auth/me", &by_passkey).await.body["email"], ADA);
        let exchanged = json!({"refresh_token": session.body["refresh_token"]});
        assert_eq!(function.post("/auth/refresh").json(exchanged).await.status, 200);
        let list = get(&function, "/auth/sessions", &by_passkey).await.body;
        let methods: Vec<_> =
            list["sessions"].as_array().expect("a list").iter().map(|one| &one["method"]).collect();
        assert_eq!(methods, ["passkey", "password"], "the caller's first");
        assert_eq!(
            activity(&function, &by_passkey).await,
            ["SIGNED_IN_WITH_PASSKEY", "PASSKEY_ADDED", "SIGNED_IN"]
        );
        let shown = passkeys(&function, &by_passkey).await;
        assert_eq!((shown.len(), &shown[0]["name"]), (1, &json!("Telephone")));
        assert!(shown[0]["used_at"].is_string(), "{shown:?}");
        assert_eq!(
            shown[0].as_object().expect("an object").len(),
            4,
            "nothing else of it is told: {shown:?}"
        );
        // Nothing is counted of what was right.
        let counted = "SELECT sum(failures) FROM throttle";
        let before = function.value(counted).await;
        assert_eq!(sign_in(&function, &authenticator).await.status, 200);
        assert_eq!(function.value(counted).await, before);
    }
}

#[tokio::test]
async fn a_credential_belongs_to_one_account_and_an_account_has_so_many() {
    let function = with_both().await;
    let (adas, bobs) = (access(&function, ADA).await, access(&function, BOB).await);
    let mut authenticator = Authenticator::es256();
    add(&function, &adas, &mut authenticator).await;
    let excluded = creation_options(&function, &adas).await["excludeCredentials"].clone();
    assert_eq!(excluded, json!([{"type": "public-key", "id": encode(&authenticator.id)}]));
    let credential = authenticator.create(&creation_options(&function, &bobs).await);
    let body = json!({"credential": credential});
    assert_eq!(post(&function, "/auth/passkeys", &bobs, body).await.status, 409);
    assert!(passkeys(&function, &bobs).await.is_empty());
    let spare = authenticator.create(&creation_options(&function, &adas).await);
    function
        .prepare(
            "INSERT INTO passkey (id, account_id, credential_id, public_key, sign_count, backup_eligible, name) \
             SELECT gen_random_uuid(), account_id, int4send(number), public_key, 0, false, name \
             FROM passkey, generate_series(2, 20) AS number",
        )
        .await;
    assert_eq!(i64::try_from(passkeys(&function, &adas).await.len()), Ok(auth::sql::passkey::PASSKEYS_MAX));
    assert_eq!(post(&function, "/auth/passkeys", &adas, json!({"credential": spare})).await.status, 409);
    let body = json!({"current_password": PASSWORD});
    assert_eq!(post(&function, "/auth/passkeys/options", &adas, body).await.status, 409);
}

#[tokio::test]
async fn only_its_owner_sees_and_removes_a_passkey_and_then_it_signs_nobody_in() {
    let function = with_both().await;
    let (adas, bobs) = (access(&function, ADA).await, access(&function, BOB).await);
    let mut authenticator = Authenticator::es256();
    add(&function, &adas, &mut authenticator).await;
    let id = passkeys(&function, &adas).await[0]["passkey_id"].as_str().expect("an id").to_owned();
    let remove = format!("/auth/passkeys/{id}/remove");
    assert!(passkeys(&function, &bobs).await.is_empty());
    assert_eq!(post(&function, &remove, &bobs, json!({})).await.status, 404);
    assert_eq!(post(&function, "/auth/passkeys/x/remove", &adas, json!({})).await.status, 404);
    let session = sign_in(&function, &authenticator).await;
    assert_eq!(session.status, 200, "Bob removed nothing");
    assert_eq!(post(&function, &remove, &adas, json!({})).await.status, 204);
    assert_eq!(post(&function, &remove, &adas, json!({})).await.status, 404);
    assert_eq!(activity(&function, &adas).await[0], "PASSKEY_REMOVED");
    let refused = sign_in(&function, &authenticator).await;
    assert_eq!((refused.status, &refused.body["field"]), (401, &json!("credential")));
    // What has ended does nothing here either, although its access token is good elsewhere.
    assert_eq!(post(&function, "/auth/sessions/end-others", &adas, json!({})).await.status, 204);
    let ended = header(&session);
    assert_eq!(get(&function, "/auth/passkeys", &ended).await.status, 401);
    assert_eq!(post(&function, &remove, &ended, json!({})).await.status, 401);
    let body = json!({"current_password": PASSWORD});
    assert_eq!(post(&function, "/auth/passkeys/options", &ended, body).await.status, 401);
}

#[tokio::test]
async fn where_addresses_must_be_confirmed_a_passkey_does_not_stand_for_that() {
    let function = Function::start_with("auth", |spec| {
        spec.variables.insert("require_verified_email".to_owned(), Secret::new("true".to_owned()));
    });
    let function = function.await;
    let body = json!({"email": ADA, "password": PASSWORD});
    assert_eq!(function.post("/auth/register").json(body).await.status, 202);
    function.prepare("UPDATE account SET verified_at = now()").await;
    let access = access(&function, ADA).await;
    let mut authenticator = Authenticator::es256();
    add(&function, &access, &mut authenticator).await;
    function.prepare("UPDATE account SET verified_at = NULL").await;
    assert_eq!(sign_in(&function, &authenticator).await.status, 401);
    function.prepare("UPDATE account SET verified_at = now()").await;
    assert_eq!(sign_in(&function, &authenticator).await.status, 200);
}

#[tokio::test]
async fn passkeys_are_for_the_addresses_that_the_variables_name() {
    let function = Function::start_with("auth", |spec| {
        spec.variables.insert("passkey_rp_id".to_owned(), Secret::new("shop.example".to_owned()));
        spec.variables.insert("passkey_origins".to_owned(), Secret::new("https://shop.example".to_owned()));
    });
    let function = function.await;
    let body = json!({"email": ADA, "password": PASSWORD});
    assert_eq!(function.post("/auth/register").json(body).await.status, 202);
    let access = access(&function, ADA).await;
    let mut authenticator = Authenticator::es256();
    let credential = authenticator.create(&creation_options(&function, &access).await);
    let refused = post(&function, "/auth/passkeys", &access, json!({"credential": credential})).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.body["detail"].as_str().expect("text").contains("passkey_origins"), "{refused:?}");
    authenticator.origin = "https://shop.example".to_owned();
    authenticator.rp_id = "shop.example".to_owned();
    let options = creation_options(&function, &access).await;
    assert_eq!(options["rp"]["id"], "shop.example");
    let body = json!({"credential": authenticator.create(&options)});
    assert_eq!(post(&function, "/auth/passkeys", &access, body).await.status, 204);
    assert_eq!(sign_in(&function, &authenticator).await.status, 200);
}

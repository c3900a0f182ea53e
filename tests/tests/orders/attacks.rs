//! What an attacker tries with tokens, refresh tokens, passwords, and other people's things: each attempt at every address
//! that it could open.

use crate::shared;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{SystemTime, UNIX_EPOCH};
use tests::client::{Answer, Client, request};
use tests::customer::{Customer, NewOrder, PASSWORD};
use tests::keys::{keys, tampered};
use tests::outcome::Outcome;
use tests::system::{Fnhost, Setup};

/// Seconds that clocks may differ by, as the functions have it.
const CLOCK_LEEWAY_SECONDS: u64 = 5;
/// Failures of an account from one network that are free, as auth has it.
const FREE_FAILURES: usize = 5;

/// Attempts whose fault is no other application's business: the gateway lets them through to the function.
const ONLY_THE_FUNCTION_KNOWS: [&str; 3] =
    ["a subject that is nobody's id", "a role that does not exist", "roles in place of a role"];

/// The manifest with a gateway that looks at no token.
fn without_the_gateways_tokens(manifest: String) -> String {
    let changed = manifest.replace("token = \"required\"", "").replace("token = \"optional\"", "");
    assert_ne!(changed, manifest, "the manifest asks for tokens");
    changed
}

/// A token of this header and these claims, signed by `sign`.
fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn ed25519(key: &SigningKey) -> impl Fn(&[u8]) -> Vec<u8> {
    |message| key.sign(message).to_bytes().to_vec()
}

fn hs256(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    |message| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes any key");
        mac.update(message);
        mac.finalize().into_bytes().to_vec()
    }
}

/// The parts of a token.
fn parts(token: &str) -> Result<[&str; 3]> {
    token.split('.').collect::<Vec<_>>().try_into().ok().context("a token has three parts")
}

/// The JSON of a token's part.
fn decoded(part: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?)
}

/// The claims with one of them changed; null takes it away.
fn with(claims: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut changed = claims.clone();
    changed[name] = value.into();
    if let Some(claims) = changed.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    changed
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// Tokens under other algorithms, other keys' names, or with other keys: by name.
fn forged(good: &str, ours: &SigningKey) -> Result<Vec<(String, String)>> {
    let [head, payload, signature] = parts(good)?;
    let (header, claims) = (decoded(head)?, decoded(payload)?);
    let kid = &header["kid"];
    let admin = with(&claims, "role", "admin");
    let mallory = SigningKey::from_bytes(&[8; 32]);
    let raw_key = ours.verifying_key().to_bytes();
    let x = URL_SAFE_NO_PAD.encode(raw_key);
    let unsigned = |_: &[u8]| Vec::new();
    let alg = |alg: &str| json!({ "alg": alg, "typ": "JWT", "kid": kid });
    let mut tokens = vec![
        ("alg none".to_owned(), token(&alg("none"), &admin, unsigned)),
        ("alg none in capitals".to_owned(), token(&alg("NONE"), &admin, unsigned)),
        ("alg none with our signature".to_owned(), token(&alg("none"), &claims, ed25519(ours))),
        ("alg EdDSA, unsigned".to_owned(), token(&header, &admin, unsigned)),
        ("HS256 with the public key".to_owned(), token(&alg("HS256"), &admin, hs256(x.as_bytes()))),
        ("HS256 with the public key's bytes".to_owned(), token(&alg("HS256"), &admin, hs256(&raw_key))),
        (
            "HS256 with the published set".to_owned(),
            token(&alg("HS256"), &admin, hs256(keys().public_jwks.as_bytes())),
        ),
        ("HS256 with nothing".to_owned(), token(&alg("HS256"), &admin, hs256(b""))),
        ("another key under our name".to_owned(), token(&header, &admin, ed25519(&mallory))),
        (
            "a key of its own in the header".to_owned(),
            token(
                &json!({ "alg": "EdDSA", "kid": kid, "jwk": {
                    "kty": "OKP", "crv": "Ed25519", "kid": kid,
                    "x": URL_SAFE_NO_PAD.encode(mallory.verifying_key().to_bytes()),
                }}),
                &admin,
                ed25519(&mallory),
            ),
        ),
        (
            "an address of its own in the header".to_owned(),
            token(
                &json!({ "alg": "EdDSA", "kid": kid, "jku": "http://127.0.0.1:1/jwks.json" }),
                &admin,
                ed25519(&mallory),
            ),
        ),
        ("no kid".to_owned(), token(&json!({ "alg": "EdDSA" }), &claims, ed25519(ours))),
        ("crit".to_owned(), token(&with(&header, "crit", json!(["exp"])), &claims, ed25519(ours))),
        (
            "tampered payload".to_owned(),
            format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(admin.to_string())),
        ),
        ("tampered signature".to_owned(), tampered(good)),
        ("no signature".to_owned(), format!("{head}.{payload}.")),
        ("two parts".to_owned(), format!("{head}.{payload}")),
    ];
    // Neither a path, nor SQL, nor an address, nor anything that looks like our key is one.
    for kid in [
        "unknown",
        "",
        "../../../../dev/null",
        "tests' OR '1'='1",
        "http://127.0.0.1:1/jwks.json",
        "tests\u{0}",
    ] {
        for (whose, key) in [("our", ours), ("another", &mallory)] {
            let token = token(&with(&header, "kid", kid), &admin, ed25519(key));
            tokens.push((format!("kid {kid:?} and {whose} key"), token));
        }
    }
    Ok(tokens)
}

/// Tokens that are well signed with our key and do not hold here and now.
fn misplaced(good: &str, ours: &SigningKey) -> Result<Vec<(String, String)>> {
    let [head, payload, _] = parts(good)?;
    let (header, claims, now) = (decoded(head)?, decoded(payload)?, now()?);
    let changes = [
        ("expired", "exp", json!(now - CLOCK_LEEWAY_SECONDS - 1)),
        ("not yet valid", "nbf", json!(now + 600)),
        ("foreign issuer", "iss", json!("https://elsewhere.example")),
        ("foreign audience", "aud", json!("elsewhere")),
        ("several audiences, ours among them", "aud", json!(["elsewhere", claims["aud"]])),
        ("no expiry", "exp", Value::Null),
        ("no start", "nbf", Value::Null),
        ("no issuer", "iss", Value::Null),
        ("no audience", "aud", Value::Null),
        ("no subject", "sub", Value::Null),
        ("a subject that is nobody's id", "sub", json!("admin")),
        ("a role that does not exist", "role", json!("root")),
        ("roles in place of a role", "role", json!(["admin"])),
    ];
    let signed = |(name, claim, value): (&str, &str, Value)| {
        (name.to_owned(), token(&header, &with(&claims, claim, value), ed25519(ours)))
    };
    Ok(changes.map(signed).to_vec())
}

/// Every address that asks for a token, one for each function and role at least.
fn doors() -> [(Method, &'static str, Option<Value>); 13] {
    let change = json!({ "current_password": PASSWORD, "new_password": "another horse battery" });
    [
        (Method::GET, "/auth/me", None),
        (Method::POST, "/auth/password", Some(change)),
        (Method::GET, "/auth/sessions", None),
        (Method::POST, "/auth/sessions/end-others", Some(json!({}))),
        (Method::GET, "/auth/activity", None),
        (Method::GET, "/orders", None),
        (Method::POST, "/orders", Some(NewOrder::of(&[("TEA-250G", 1)]).body())),
        (Method::GET, "/orders/01890000-0000-7000-8000-000000000000", None),
        (Method::POST, "/orders/01890000-0000-7000-8000-000000000000/cancel", None),
        (Method::POST, "/orders/01890000-0000-7000-8000-000000000000/refund", Some(json!({}))),
        (Method::GET, "/payments/01890000-0000-7000-8000-000000000000", None),
        (Method::GET, "/notifications", None),
        (Method::PUT, "/inventory/TEA-250G", Some(json!({ "on_hand": 1 }))),
    ]
}

#[tokio::test]
async fn no_other_token_than_ours_opens_any_door() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let ours = SigningKey::from_pkcs8_pem(&keys().private_pem)?;
    // Made in the same way and right in everything: what is refused below is refused for its own fault.
    let [head, payload, _] = parts(&ada.token)?;
    let (header, claims) = (decoded(head)?, decoded(payload)?);
    for good in [
        token(&header, &claims, ed25519(&ours)),
        token(&header, &with(&claims, "nbf", now()? + CLOCK_LEEWAY_SECONDS - 2), ed25519(&ours)),
    ] {
        let me: Value = Customer { token: good, ..ada.clone() }
            .ask(Method::GET, "/auth/me", None)
            .await?
            .json(StatusCode::OK)?;
        assert_eq!(me["user_id"], json!(ada.user_id));
    }
    let mut attempts = forged(&ada.token, &ours)?;
    attempts.extend(misplaced(&ada.token, &ours)?);
    // Without the gateway the functions stand alone, as under Spin.
    let open = Setup { arguments: vec!["--only".into(), "http".into()], ..fnhost.setup_of_joining()? };
    let mut alone = Fnhost::new(Setup { manifest: Some(without_the_gateways_tokens), ..open })?;
    alone.restart().await?;
    let without = alone.client()?;
    for (name, forged) in attempts {
        let mallory = Customer { token: forged, ..ada.clone() };
        let at_the_function = Customer { client: without.clone(), ..mallory.clone() };
        for (method, path, body) in doors() {
            let answer = mallory.ask(method.clone(), path, body.as_ref()).await?;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name} at {method} {path}: {answer}");
            let by_gateway = answer.header("www-authenticate") == "Bearer error=\"invalid_token\"";
            assert_eq!(
                by_gateway,
                !ONLY_THE_FUNCTION_KNOWS.contains(&name.as_str()),
                "{name} at {method} {path}"
            );
            let answer = at_the_function.ask(method.clone(), path, body.as_ref()).await?;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name} at {method} {path}: {answer}");
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{name} at {method} {path}");
        }
    }
    alone.interrupt().await?;
    let page: Value = ada.ask(Method::GET, "/orders", None).await?.json(StatusCode::OK)?;
    assert_eq!(page["orders"], json!([]), "none of them ordered");
    Ok(())
}

/// Posts JSON without a token.
async fn post(client: &Client, path: &str, body: Value) -> Result<Answer> {
    client.send(request(Method::POST, path, None, Some(&body))?).await
}

async fn refresh(client: &Client, token: &Value) -> Result<Answer> {
    post(client, "/auth/refresh", json!({ "refresh_token": token })).await
}

async fn login(client: &Client, email: &str) -> Result<Value> {
    post(client, "/auth/login", json!({ "email": email, "password": PASSWORD })).await?.json(StatusCode::OK)
}

#[tokio::test]
async fn a_refresh_token_in_two_hands_is_good_in_none() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    let ada = Customer::register(&client).await?;
    // Mallory copies it, and either of them is first.
    for thief_first in [true, false] {
        let stolen = login(&client, &ada.email).await?["refresh_token"].clone();
        let first: Value = refresh(&client, &stolen).await?.json(StatusCode::OK)?;
        assert_eq!(refresh(&client, &stolen).await?.status, StatusCode::UNAUTHORIZED, "{thief_first}");
        let next = refresh(&client, &first["refresh_token"]).await?;
        assert_eq!(next.status, StatusCode::UNAUTHORIZED, "what the first hand got is ended: {next}");
    }
    // Neither an access token nor a token of somebody who has logged out is exchanged.
    assert_eq!(refresh(&client, &json!(ada.token)).await?.status, StatusCode::UNAUTHORIZED);
    let left = login(&client, &ada.email).await?["refresh_token"].clone();
    for _ in 0..2 {
        let answer = post(&client, "/auth/logout", json!({ "refresh_token": left })).await?;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer}");
    }
    assert_eq!(refresh(&client, &left).await?.status, StatusCode::UNAUTHORIZED);
    // And none of that is a token for any door.
    let mallory = Customer { token: left.as_str().unwrap_or_default().to_owned(), ..ada };
    assert_eq!(mallory.ask(Method::GET, "/auth/me", None).await?.status, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn a_guesser_is_stopped_whatever_address_it_claims_and_alone() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    let ada = Customer::register(&client).await?;
    let nobody = "nobody-at-all@example.com".to_owned();
    let mut answers: Vec<Vec<(StatusCode, String)>> = Vec::new();
    for email in [&ada.email, &nobody] {
        let mut seen = Vec::new();
        for number in 0..=FREE_FAILURES {
            let body = json!({ "email": email, "password": "wrong horse battery" });
            let mut attempt = request(Method::POST, "/auth/login", None, Some(&body))?;
            for header in ["spin-client-addr", "x-forwarded-for", "x-real-ip", "forwarded"] {
                attempt.headers_mut().insert(header, format!("198.51.100.{number}:80").parse()?);
            }
            let answer = client.send(attempt).await?;
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                let seconds: u64 = answer.header("retry-after").parse()?;
                assert!((1..=60).contains(&seconds), "{answer}");
            }
            seen.push((answer.status, String::from_utf8_lossy(&answer.body).into_owned()));
        }
        assert_eq!(seen[FREE_FAILURES].0, StatusCode::TOO_MANY_REQUESTS, "{email}: {seen:?}");
        assert!(seen[..FREE_FAILURES].iter().all(|(status, _)| *status == StatusCode::UNAUTHORIZED));
        answers.push(seen);
    }
    assert_eq!(answers[0], answers[1], "an account that does not exist is not told from one that does");
    // Others on the same network go on, and so does who is logged in.
    Customer::register(&client).await?;
    assert_eq!(ada.ask(Method::GET, "/auth/me", None).await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn what_is_an_admins_or_anothers_is_closed_to_a_customer() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    let (ada, mallory) = (Customer::register(&client).await?, Customer::register(&client).await?);
    let id = ada.order(&NewOrder::of(&[("TEA-250G", 1)])).await?.order_id;
    for (method, path, body, expected) in [
        (Method::PUT, "/inventory/TEA-250G".to_owned(), Some(json!({ "on_hand": 1 })), StatusCode::FORBIDDEN),
        (Method::GET, format!("/orders/{id}"), None, StatusCode::NOT_FOUND),
        (Method::GET, format!("/orders/{id}/timeline"), None, StatusCode::NOT_FOUND),
        (Method::POST, format!("/orders/{id}/cancel"), None, StatusCode::NOT_FOUND),
        (Method::POST, format!("/orders/{id}/refund"), Some(json!({})), StatusCode::NOT_FOUND),
        (Method::GET, format!("/payments/{id}"), None, StatusCode::NOT_FOUND),
    ] {
        let answer = mallory.ask(method.clone(), &path, body.as_ref()).await?;
        assert_eq!(answer.status, expected, "{method} {path}: {answer}");
    }
    assert_eq!(ada.wait_final(id).await?.order_id, id, "it went on undisturbed");
    Ok(())
}

#[tokio::test]
async fn after_a_rotation_old_tokens_are_good_until_the_overlap_ends() -> Outcome {
    let mut fnhost = Fnhost::new(Setup::default())?;
    let folder = fnhost.data_dir();
    let key_folder = folder.join("keys");
    std::fs::create_dir_all(&key_folder)?;
    std::fs::write(key_folder.join("private.pem"), &keys().private_pem)?;
    std::fs::write(key_folder.join("public.json"), &keys().public_jwks)?;
    fnhost.restart().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let kid = |token: &str| -> Result<Value> { Ok(decoded(parts(token)?[0])?["kid"].clone()) };
    let mut tokens = vec![ada.token.clone()];
    for _ in 0..2 {
        fnhost.rotate_keys(&["--now"])?;
        fnhost.interrupt().await?;
        fnhost.restart().await?;
        let client = fnhost.client()?;
        tokens.push(Customer::login(&client, &ada.email).await?.token);
        let published: Value = client.get("/.well-known/jwks.json").await?.json(StatusCode::OK)?;
        let published: Vec<&Value> =
            published["keys"].as_array().context("keys")?.iter().map(|key| &key["kid"]).collect();
        let [.., previous, newest] = &tokens[..] else { panic!("two tokens at least") };
        assert_eq!(
            published,
            [&kid(newest)?, &kid(previous)?],
            "the newest signs, the one before it is kept"
        );
    }
    let mut statuses = Vec::new();
    for token in tokens {
        let client = fnhost.client()?;
        let answer = Customer { token, client, ..ada.clone() }.ask(Method::GET, "/orders", None).await?;
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses, [401, 200, 200], "the key of two rotations ago is gone");
    let refused = fnhost.rotate_keys(&[]).expect_err("an hour has to lie between two rotations");
    assert!(format!("{refused:#}").contains("less than an hour"), "{refused:#}");
    Ok(())
}

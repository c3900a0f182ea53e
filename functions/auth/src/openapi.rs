//! The interface of `auth`, described.

use crate::domain::{EMAIL_BYTES_MAX, NAME_CHARS_MAX, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
use crate::http::{Exchanged, Login, Me, Registered, Registration, wrong_credentials};
use crate::session::{ACCESS_SECONDS, Session};
use fnhost_sdk::openapi::{Api, Call, HttpMethod, ToSchema};
use fnhost_sdk::problem::Problem;
use serde_json::{Value, json};

/// The public part of a signing key (RFC 8037).
#[derive(ToSchema)]
#[allow(dead_code, reason = "stands for a type of the token library, which describes nothing")]
struct Jwk {
    #[schema(pattern = "^OKP$")]
    kty: String,
    #[schema(pattern = "^Ed25519$")]
    crv: String,
    /// The key itself, 32 bytes in base64url.
    #[schema(pattern = "^[A-Za-z0-9_-]{43}$")]
    x: String,
    /// What a token names its key by.
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
}

/// Keys by which tokens are checked; the newest signs.
#[derive(ToSchema)]
#[schema(as = Keys)]
#[allow(dead_code, reason = "stands for a type of the token library, which describes nothing")]
struct Keys {
    keys: Vec<Jwk>,
}

/// The calls of `auth`.
#[must_use]
pub fn api() -> Api {
    let password =
        json!({ "minLength": PASSWORD_CHARS_MIN, "maxLength": PASSWORD_BYTES_MAX, "format": "password" });
    let email = json!({ "maxLength": EMAIL_BYTES_MAX, "format": "email" });
    contract::openapi::api("auth", "Accounts, logins and the keys that tokens are checked with")
        .call(HttpMethod::Post, "/auth/register", register())
        .call(HttpMethod::Post, "/auth/login", login())
        .call(HttpMethod::Post, "/auth/refresh", refresh())
        .call(HttpMethod::Post, "/auth/logout", logout())
        .call(HttpMethod::Get, "/auth/me", me())
        .call(HttpMethod::Get, "/.well-known/jwks.json", keys())
        .limit::<Registration>("password", password)
        .limit::<Registration>("email", email)
        .limit::<Registration>("name", json!({ "maxLength": NAME_CHARS_MAX }))
        .limit::<Login>("password", json!({ "format": "password" }))
        .limit::<Session>("token_type", json!({ "const": "Bearer" }))
        .limit::<Session>("expires_in", json!({ "const": ACCESS_SECONDS }))
        .never_null::<Jwk>(&["kid", "alg", "use"])
}

fn credentials() -> Value {
    json!({ "email": "ada@example.com", "password": "correct horse" })
}

fn session() -> Value {
    json!({
        "access_token": "eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSIsImtpZCI6InQifQ.eyJzdWIiOiIwMTk5In0.c2lnbmF0dXJl",
        "token_type": "Bearer",
        "expires_in": ACCESS_SECONDS,
        "refresh_token": "3q2-7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs",
    })
}

fn register() -> Call {
    let mut input = credentials();
    input["name"] = "Ada".into();
    let registered = json!({ "user_id": "01890a5d-ac96-774b-bcce-b302099a8057", "email": "ada@example.com" });
    let weak = Problem::invalid("password", format!("at least {PASSWORD_CHARS_MIN} characters"));
    let taken = Problem::conflict("there is an account with this address").with_field("email");
    Call::new("register", "Register an account")
        .body::<Registration>(input)
        .answers::<Registered>(201, "The account; log in next", &registered)
        .refuses("The address is taken", &taken)
        .refuses("An input is malformed, or the password too weak", &weak)
        .refuses(
            "Too many registrations from this network found their address taken",
            &Problem::too_many_requests(8),
        )
}

fn login() -> Call {
    let wrong = wrong_credentials("password", "there is no account with this address and password");
    Call::new("login", "Log in")
        .about("Failures count for the account and for the network; see the guide for how long is waited.")
        .body::<Login>(credentials())
        .answers_with::<Session>(200, "A pair of tokens", &session(), &[NO_STORE])
        .refuses("There is no account with this address and password", &wrong)
        .refuses("An input is missing or no text", &Problem::invalid("password", "missing field `password`"))
        .refuses("Too many attempts failed", &Problem::too_many_requests(8))
}

/// Tokens are kept by nobody on the way.
const NO_STORE: (&str, &str) = ("cache-control", "`no-store`");

fn refresh() -> Call {
    Call::new("refresh", "Exchange a refresh token for the next pair")
        .about("A refresh token is good once. One that comes a second time ends its login, with every token that descends from it.")
        .body::<Exchanged>(token())
        .answers_with::<Session>(200, "The next pair of tokens", &session(), &[NO_STORE])
        .refuses("The token is not good any more", &wrong_credentials("refresh_token", "log in again"))
        .refuses("The token is missing or no text", &missing_token())
}

fn logout() -> Call {
    Call::new("logout", "End a login")
        .body::<Exchanged>(token())
        .answers_nothing(204, "Done, also where the login had ended or never was")
        .refuses("The token is missing or no text", &missing_token())
}

fn token() -> Value {
    json!({ "refresh_token": session()["refresh_token"] })
}

fn missing_token() -> Problem {
    Problem::invalid("refresh_token", "missing field `refresh_token`")
}

fn me() -> Call {
    let account = json!({
        "user_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "email": "ada@example.com",
        "name": "Ada",
        "role": "customer",
    });
    Call::new("me", "The caller's account").signed_in().answers::<Me>(200, "The account", &account)
}

fn keys() -> Call {
    let keys = json!({ "keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "alg": "EdDSA", "use": "sig",
    }] });
    Call::new("keys", "The public keys")
        .about("Access tokens are JSON Web Tokens signed with Ed25519; each names its key by `kid`.")
        .answers_with::<Keys>(
            200,
            "A JSON Web Key Set",
            &keys,
            &[("cache-control", "For how long the keys may be kept")],
        )
}

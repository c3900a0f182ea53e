//! The interface of `auth`, described.

mod passkey;

use crate::domain::{
    ACTIVITIES, DEVICE_CHARS_MAX, EMAIL_BYTES_MAX, METHODS, NAME_CHARS_MAX, PASSWORD_BYTES_MAX,
    PASSWORD_CHARS_MIN,
};
use crate::http::{
    ACTIVITY_DEFAULT, ACTIVITY_MAX, Activities, Change, Exchanged, Follow, Forgot, Login, Me, Registered,
    Registration, Reset, SESSIONS_MAX, Sessions, wrong_credentials,
};
use crate::session::{ACCESS_SECONDS, Session, ended};
use crate::sql::account;
use fnhost_sdk::openapi::{Api, Call, HttpMethod, ToSchema, id, page, text, time};
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
    let api = contract::openapi::api("auth", "Accounts, logins and the keys that tokens are checked with")
        .call(HttpMethod::Post, "/auth/register", register())
        .call(HttpMethod::Post, "/auth/login", login())
        .call(HttpMethod::Post, "/auth/refresh", refresh())
        .call(HttpMethod::Post, "/auth/logout", logout())
        .call(HttpMethod::Get, "/auth/me", me())
        .call(HttpMethod::Post, "/auth/verify", verify())
        .call(HttpMethod::Post, "/auth/verify/send", send_confirmation())
        .call(HttpMethod::Post, "/auth/password", change_password())
        .call(HttpMethod::Post, "/auth/password/forgot", forgot())
        .call(HttpMethod::Post, "/auth/password/reset", reset())
        .call(HttpMethod::Get, "/auth/sessions", sessions())
        .call(HttpMethod::Post, "/auth/sessions/end-others", end_others())
        .call(HttpMethod::Post, "/auth/sessions/{session_id}/end", end_session())
        .call(HttpMethod::Get, "/auth/activity", activity())
        .call(HttpMethod::Get, "/.well-known/jwks.json", keys())
        .limit::<Registration>("password", password.clone())
        .limit::<Change>("new_password", password.clone())
        .limit::<Reset>("new_password", password)
        .limit::<Registration>("email", email.clone())
        .limit::<Forgot>("email", email)
        .limit::<Change>("current_password", json!({ "format": "password" }))
        .limit::<Sessions>("sessions", json!({ "minItems": 1, "maxItems": SESSIONS_MAX }))
        .limit::<account::Session>("session_id", id())
        .limit::<account::Session>("begun_at", time())
        .limit::<account::Session>("used_at", time())
        .limit::<account::Session>("expires_at", time())
        .limit::<account::Session>("device", json!({ "maxLength": DEVICE_CHARS_MAX }))
        .limit::<account::Entry>("what", json!({ "enum": ACTIVITIES }))
        .limit::<account::Entry>("at", time())
        .limit::<account::Entry>("device", json!({ "maxLength": DEVICE_CHARS_MAX }))
        .limit::<Registration>("name", json!({ "maxLength": NAME_CHARS_MAX }))
        .limit::<Login>("password", json!({ "format": "password" }))
        .limit::<Session>("token_type", json!({ "const": "Bearer" }))
        .limit::<Session>("expires_in", json!({ "const": ACCESS_SECONDS }))
        .limit::<account::Session>("method", json!({ "enum": METHODS }))
        .never_null::<Jwk>(&["kid", "alg", "use"]);
    passkey::add_to(api)
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
    let registered = json!({ "email": "ada@example.com" });
    let weak = Problem::invalid("password", format!("at least {PASSWORD_CHARS_MIN} characters"));
    Call::new("register", "Register an account")
        .about("The answer is the same where the address is taken: only a mail to it tells.")
        .body::<Registration>(input)
        .answers::<Registered>(202, "A mail goes to this address; log in next", &registered)
        .refuses("An input is malformed, or the password too weak", &weak)
        .refuses(TOO_MANY_MAILS, &Problem::too_many_requests(8))
}

const TOO_MANY_MAILS: &str =
    "Too many mails to this address, or too many requests from this network, made no account";

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
        "verified": true,
    });
    Call::new("me", "The caller's account").signed_in().answers::<Me>(200, "The account", &account)
}

/// What a link in a mail carries.
const LINK: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSIsImtpZCI6InQifQ.eyJwdXJwb3NlIjoiIn0.c2lnbmF0dXJl";

fn stale() -> Problem {
    wrong_credentials("token", "this link is not good any more; ask for another one")
}

fn verify() -> Call {
    Call::new("verifyAddress", "Confirm an address")
        .body::<Follow>(json!({ "token": LINK }))
        .answers_nothing(204, "The address is confirmed")
        .refuses("The link is forged, used or expired", &stale())
        .refuses("The token is missing or no text", &Problem::invalid("token", "missing field `token`"))
}

fn send_confirmation() -> Call {
    Call::new("sendConfirmation", "Send the link that confirms the caller's address once more")
        .signed_in()
        .answers_nothing(202, "It is sent, unless the address is confirmed")
        .refuses("Too many mails to this address", &Problem::too_many_requests(8))
}

fn change_password() -> Call {
    let wrong = wrong_credentials("current_password", "this is not the account's password");
    let weak = Problem::invalid("new_password", "one that is not known from a breach");
    Call::new("changePassword", "Replace the password")
        .about("Ends every other login of the account, and links that would set its password.")
        .signed_in()
        .body::<Change>(json!({ "current_password": "correct horse", "new_password": "another horse" }))
        .answers_nothing(204, "The password is another one")
        .refuses("The current password is wrong, or the login has ended", &wrong)
        .refuses("An input is missing, or the password too weak", &weak)
        .refuses("Too many attempts failed", &Problem::too_many_requests(8))
}

fn forgot() -> Call {
    let invalid = Problem::invalid("email", "an address of the form name@example.com");
    Call::new("forgotPassword", "Send a link that sets the password")
        .about("The answer is the same where the address has no account.")
        .body::<Forgot>(json!({ "email": "ada@example.com" }))
        .answers_nothing(202, "It is sent, if there is an account; good once, for 30 minutes")
        .refuses("The address is missing or malformed", &invalid)
        .refuses(TOO_MANY_MAILS, &Problem::too_many_requests(8))
}

fn reset() -> Call {
    let weak = Problem::invalid("new_password", format!("at least {PASSWORD_CHARS_MIN} characters"));
    Call::new("resetPassword", "Set the password by a link")
        .about("Ends every login of the account, and confirms its address.")
        .body::<Reset>(json!({ "token": LINK, "new_password": "another horse" }))
        .answers_nothing(204, "The password is set; log in next")
        .refuses("The link is forged, used or expired", &stale())
        .refuses("An input is missing, or the password too weak", &weak)
}

fn sessions() -> Call {
    let one = json!({ "sessions": [{
        "session_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "current": true,
        "begun_at": "2026-01-31T08:00:00.250Z",
        "used_at": "2026-02-03T18:20:00.000Z",
        "expires_at": "2026-03-05T18:20:00.000Z",
        "device": "Mozilla/5.0 (X11; Linux x86_64)",
        "method": "password",
    }] });
    Call::new("sessions", "The caller's logins")
        .signed_in()
        .answers_with::<Sessions>(200, "Those that go on, the caller's first", &one, &[NO_STORE])
        .refuses("The login has ended", &ended())
}

fn end_others() -> Call {
    Call::new("endOtherSessions", "End every login but the caller's")
        .about("Access tokens of theirs stay good for other calls until they expire.")
        .signed_in()
        .answers_nothing(204, "They have ended")
        .refuses("The login has ended", &ended())
}

fn end_session() -> Call {
    Call::new("endSession", "End one of the caller's logins")
        .signed_in()
        .path("session_id", "As the list of logins has it", id())
        .answers_nothing(204, "It has ended")
        .refuses("The login has ended", &ended())
        .refuses(
            "There is no such login of the caller's",
            &Problem::not_found("you have no such login that goes on"),
        )
}

fn activity() -> Call {
    let page_of_one = json!({
        "entries": [{
            "id": 7,
            "what": "SIGNED_IN",
            "at": "2026-01-31T08:00:00.250Z",
            "network": "192.0.2.1",
            "device": "Mozilla/5.0 (X11; Linux x86_64)",
        }],
        "next_cursor": null,
    });
    Call::new("activity", "What happened to the caller's account, newest first")
        .signed_in()
        .query("limit", "Entries in the answer at most", page(ACTIVITY_DEFAULT, ACTIVITY_MAX))
        .query("cursor", "The `next_cursor` of the page before", text())
        .answers_with::<Activities>(200, "A page of entries", &page_of_one, &[NO_STORE])
        .refuses("The login has ended", &ended())
        .refuses("A parameter is out of range", &Problem::invalid("limit", format!("1 to {ACTIVITY_MAX}")))
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

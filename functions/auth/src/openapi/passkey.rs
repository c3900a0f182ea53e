//! The calls for passkeys, described.

use super::{NO_STORE, credentials, session};
use crate::domain::NAME_CHARS_MAX;
use crate::http::{
    Addition, AssertionResponse, AttestationResponse, BASE64URL, Confirmation, CreationOptions, Passkeys,
    RequestOptions, SignIn, SignedCredential, not_accepted, wrong_credentials,
};
use crate::session::{Session, ended};
use crate::sql::passkey::{PASSKEYS_MAX, Passkey};
use fnhost_sdk::openapi::{Api, Call, HttpMethod, id, time};
use fnhost_sdk::problem::Problem;
use serde_json::{Value, json};

/// What authenticators call passkeys, what they are asked, and what they answer, as examples.
const CREDENTIAL: &str = "SGFsZi1Nb29uLXBhc3NrZXk";
const CHALLENGE: &str = "ZXlKMGVYQWlPaUpLVjFRaUxDSmhiR2NpT2lKRlpFUlRRU0o5";
const USER: &str = "AYkKXayWd0u8zrMCCZqAVw";

/// Adds them to the calls of `auth`.
pub(super) fn add_to(api: Api) -> Api {
    let bytes = json!({ "pattern": BASE64URL });
    api.call(HttpMethod::Get, "/auth/passkeys", list())
        .call(HttpMethod::Post, "/auth/passkeys/options", options())
        .call(HttpMethod::Post, "/auth/passkeys", add())
        .call(HttpMethod::Post, "/auth/passkeys/{passkey_id}/remove", remove())
        .call(HttpMethod::Post, "/auth/login/passkey/options", sign_in_options())
        .call(HttpMethod::Post, "/auth/login/passkey", sign_in())
        .limit::<Confirmation>("current_password", json!({ "format": "password" }))
        .limit::<Addition>("name", json!({ "maxLength": NAME_CHARS_MAX }))
        .limit::<AttestationResponse>("clientDataJSON", bytes.clone())
        .limit::<AttestationResponse>("attestationObject", bytes.clone())
        .limit::<AssertionResponse>("clientDataJSON", bytes.clone())
        .limit::<AssertionResponse>("authenticatorData", bytes.clone())
        .limit::<AssertionResponse>("signature", bytes.clone())
        .limit::<AssertionResponse>("userHandle", bytes.clone())
        .limit::<SignedCredential>("id", bytes.clone())
        .limit::<CreationOptions>("challenge", bytes.clone())
        .limit::<CreationOptions>("attestation", json!({ "const": "none" }))
        .limit::<RequestOptions>("challenge", bytes)
        .limit::<RequestOptions>("userVerification", json!({ "const": "required" }))
        .limit::<Passkeys>("passkeys", json!({ "maxItems": PASSKEYS_MAX }))
        .limit::<Passkey>("passkey_id", id())
        .limit::<Passkey>("created_at", time())
        .limit::<Passkey>("used_at", json!({ "format": "date-time" }))
}

fn list() -> Call {
    let one = json!({ "rp_id": "shop.example", "passkeys": [{
        "passkey_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "name": "Telephone",
        "created_at": "2026-01-31T08:00:00.250Z",
        "used_at": null,
    }] });
    Call::new("passkeys", "The caller's passkeys")
        .signed_in()
        .answers_with::<Passkeys>(200, "The oldest first", &one, &[NO_STORE])
        .refuses("The login has ended", &ended())
}

fn options() -> Call {
    let wrong = wrong_credentials("current_password", "this is not the account's password");
    let example = json!({
        "rp": { "id": "shop.example", "name": "Half Moon" },
        "user": { "id": USER, "name": "ada@example.com", "displayName": "Ada" },
        "challenge": CHALLENGE,
        "pubKeyCredParams": [{ "type": "public-key", "alg": -8 }, { "type": "public-key", "alg": -7 }],
        "timeout": 300_000,
        "excludeCredentials": [{ "type": "public-key", "id": CREDENTIAL }],
        "authenticatorSelection":
            { "residentKey": "required", "requireResidentKey": true, "userVerification": "required" },
        "attestation": "none",
    });
    Call::new("passkeyOptions", "What a browser makes a passkey by")
        .about("For `navigator.credentials.create()`, as `PublicKeyCredentialCreationOptionsJSON`; good for five minutes and once.")
        .signed_in()
        .body::<Confirmation>(json!({ "current_password": credentials()["password"] }))
        .answers_with::<CreationOptions>(200, "The options", &example, &[NO_STORE])
        .refuses("The password is wrong, or the login has ended", &wrong)
        .refuses("An input is missing", &Problem::invalid("current_password", "missing field `current_password`"))
        .refuses("There are as many passkeys as there may be", &too_many())
        .refuses("Too many attempts failed", &Problem::too_many_requests(8))
}

fn too_many() -> Problem {
    Problem::conflict(format!("there are {PASSKEYS_MAX} passkeys, which is as many as there may be"))
}

fn add() -> Call {
    let made = json!({
        "name": "Telephone",
        "credential": { "response": {
            "clientDataJSON": client_data("webauthn.create"),
            "attestationObject": "o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YQ",
        } },
    });
    Call::new("addPasskey", "Add a passkey")
        .about("The credential is what `navigator.credentials.create()` gave, as `RegistrationResponseJSON`; what else it has is not looked at.")
        .signed_in()
        .body::<Addition>(made)
        .answers_nothing(204, "It is added, and signs in from now on")
        .refuses("The login has ended", &ended())
        .refuses("It is not accepted; the text says why", &Problem::invalid("credential", "the signature is wrong"))
        .refuses("It is there already, or there are too many", &too_many())
}

fn remove() -> Call {
    Call::new("removePasskey", "Remove one of the caller's passkeys")
        .about("Logins that it began go on.")
        .signed_in()
        .path("passkey_id", "As the list of passkeys has it", id())
        .answers_nothing(204, "It is removed")
        .refuses("The login has ended", &ended())
        .refuses("There is no such passkey of the caller's", &Problem::not_found("you have no such passkey"))
}

fn sign_in_options() -> Call {
    let example = json!({
        "challenge": CHALLENGE, "timeout": 300_000, "rpId": "shop.example", "userVerification": "required",
    });
    Call::new("passkeyLoginOptions", "What a browser asks for a passkey by")
        .about("For `navigator.credentials.get()`, as `PublicKeyCredentialRequestOptionsJSON`; good for five minutes and once. The same for everybody: it names no account.")
        .answers_with::<RequestOptions>(200, "The options", &example, &[NO_STORE])
}

fn sign_in() -> Call {
    let signed = json!({ "credential": { "id": CREDENTIAL, "response": {
        "clientDataJSON": client_data("webauthn.get"),
        "authenticatorData": "SZYN5YgOjGh0NBcPZHZgW4_krrmihjLHmVzzuoMdl2MFAAAAAQ",
        "signature": "MAYCAQECAQE",
        "userHandle": USER,
    } } });
    Call::new("passkeyLogin", "Log in with a passkey")
        .about("The credential is what `navigator.credentials.get()` gave, as `AuthenticationResponseJSON`. Failures count as those of a login with a password.")
        .body::<SignIn>(signed)
        .answers_with::<Session>(200, "A pair of tokens", &session(), &[NO_STORE])
        .refuses("The passkey is not accepted, whatever is wrong with it", &not_accepted())
        .refuses("An input is missing or no base64url", &Problem::invalid("credential.id", "missing field `id`"))
        .refuses("Too many attempts failed", &Problem::too_many_requests(8))
}

/// `{"type":"…","challenge":"…","origin":"…"}` in base64url.
fn client_data(kind: &str) -> Value {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let told = json!({ "type": kind, "challenge": CHALLENGE, "origin": "https://shop.example" });
    Base64UrlUnpadded::encode_string(told.to_string().as_bytes()).into()
}

//! What an authenticator signs beside its own data: a challenge, which is a token of ours, good once, for one purpose, and for
//! minutes.
//!
//! Asking for one writes no row, so nobody fills the database by asking: the signature says that it is ours, and the row that makes
//! it good once is written by the statement that uses it. It has an audience of its own, so it is no access token and no link.

use crate::session::Owner;
use base64ct::{Base64UrlUnpadded, Encoding};
use contract::token::{ISSUER, JwkSet, Signer};
use fnhost_sdk::problem::Problem;
use fnhost_sdk::time::unix_seconds;
use fnhost_sdk::token::Expected;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The `aud` of these tokens. Nobody else's check accepts it.
pub const AUDIENCE: &str = "orders-passkeys";
/// How long a challenge can be answered, in seconds: time to find the key and the finger.
pub const SECONDS: u64 = 5 * 60;
/// How long a used one is remembered beyond its end, in seconds: more than clocks differ.
const REMEMBERED_SECONDS: u64 = 60;
/// Random bytes by which two challenges differ, as many as the standard asks for at least.
const ID_BYTES: usize = 16;

const OURS: Expected = Expected { issuer: ISSUER, audience: AUDIENCE };

/// What a challenge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Adds a passkey to the account of this login, which has just shown the password.
    Add(Owner),
    /// Signs in whoever's passkey answers it.
    SignIn,
}

/// How the token names it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Name {
    AddPasskey,
    SignIn,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The account that a passkey is added to; nobody's where somebody signs in.
    sub: Uuid,
    /// The login that adds it.
    sid: Uuid,
    purpose: Name,
    jti: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// A challenge that came back, and is ours, for this purpose and in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// SHA-256 of the token, by which its use is kept.
    pub hash: Vec<u8>,
    /// Until when that it was used is kept, in seconds since 1970.
    pub kept_until: i64,
}

/// A new challenge, in base64url as the browser takes it.
///
/// # Errors
/// 500 without randomness, or where the token cannot be signed.
pub fn new(signer: &Signer, purpose: Purpose) -> Result<String, Problem> {
    let mut id = [0; ID_BYTES];
    getrandom::fill(&mut id).map_err(Problem::internal)?;
    let (purpose, sub, sid) = named(purpose);
    let now = unix_seconds();
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub,
        sid,
        purpose,
        jti: Base64UrlUnpadded::encode_string(&id),
        iat: now,
        nbf: now,
        exp: now + SECONDS,
    };
    let token = signer.sign(&claims).map_err(Problem::internal)?;
    Ok(Base64UrlUnpadded::encode_string(token.as_bytes()))
}

/// The challenge that a client was given, as it stands in its client data; none where it is not ours for this purpose and now.
#[must_use]
pub fn read(encoded: &str, purpose: Purpose, keys: &JwkSet) -> Option<Answered> {
    let token = String::from_utf8(Base64UrlUnpadded::decode_vec(encoded).ok()?).ok()?;
    let claims: Claims = OURS.verify(&token, keys).ok()?;
    if (claims.purpose, claims.sub, claims.sid) != named(purpose) {
        return None;
    }
    let kept_until = i64::try_from(claims.exp.checked_add(REMEMBERED_SECONDS)?).ok()?;
    Some(Answered { hash: Sha256::digest(token.as_bytes()).to_vec(), kept_until })
}

fn named(purpose: Purpose) -> (Name, Uuid, Uuid) {
    match purpose {
        Purpose::Add(Owner { account_id, login_id }) => (Name::AddPasskey, account_id, login_id),
        Purpose::SignIn => (Name::SignIn, Uuid::nil(), Uuid::nil()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{self, Link};
    use crate::passkey::testing::{keys, signer};

    const ADA: Owner = Owner { account_id: Uuid::from_u128(7), login_id: Uuid::from_u128(70) };

    fn signed(changes: &serde_json::Value) -> String {
        let now = unix_seconds();
        let mut claims = serde_json::json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": Uuid::nil(), "sid": Uuid::nil(), "purpose": "sign-in", "jti": "x",
            "iat": now, "nbf": now, "exp": now + 60,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        Base64UrlUnpadded::encode_string(signer().sign(&claims).unwrap().as_bytes())
    }

    #[test]
    fn a_challenge_is_good_for_its_purpose_and_login_alone_and_no_two_are_the_same() {
        let (one, two) = (new(&signer(), Purpose::SignIn).unwrap(), new(&signer(), Purpose::SignIn).unwrap());
        let [one_read, two_read] = [&one, &two].map(|one| read(one, Purpose::SignIn, &keys()).unwrap());
        assert_ne!(one_read.hash, two_read.hash);
        assert!(one_read.kept_until > i64::try_from(unix_seconds() + SECONDS).unwrap());
        assert_eq!(read(&one, Purpose::Add(ADA), &keys()), None);
        let adding = new(&signer(), Purpose::Add(ADA)).unwrap();
        assert!(read(&adding, Purpose::Add(ADA), &keys()).is_some());
        for other in [
            Purpose::SignIn,
            Purpose::Add(Owner { account_id: Uuid::from_u128(8), ..ADA }),
            Purpose::Add(Owner { login_id: Uuid::from_u128(80), ..ADA }),
        ] {
            assert_eq!(read(&adding, other, &keys()), None, "{other:?}");
        }
    }

    #[test]
    fn what_we_did_not_sign_for_this_and_now_is_no_challenge() {
        let read = |encoded: &str| read(encoded, Purpose::SignIn, &keys()).is_some();
        assert!(read(&signed(&serde_json::json!({}))), "refused below for its own fault");
        let now = unix_seconds();
        for changes in [
            serde_json::json!({ "iss": "elsewhere" }),
            serde_json::json!({ "aud": contract::token::AUDIENCE }),
            serde_json::json!({ "aud": link::AUDIENCE }),
            serde_json::json!({ "exp": now - 60 }),
            serde_json::json!({ "nbf": now + 600 }),
            serde_json::json!({ "exp": u64::MAX }),
            serde_json::json!({ "purpose": "reset-password" }),
        ] {
            assert!(!read(&signed(&changes)), "{changes}");
        }
        let good = signed(&serde_json::json!({}));
        let link = Link::new(&signer(), link::Purpose::ResetPassword, Uuid::nil()).unwrap();
        let link = Base64UrlUnpadded::encode_string(link.token.as_bytes());
        for other in ["", "AAAA", "not base64!", &good[..good.len() - 4], &format!("{good}="), &link] {
            assert!(!read(other), "{other}");
        }
    }
}

//! What a link in a mail carries: a token that is signed, good once, for one purpose, and for a short time.
//!
//! The signature keeps forgeries from the database; the row of its hash makes it good once. It has an audience of its own, so
//! it is no access token, and an access token is no link.

use base64ct::{Base64UrlUnpadded, Encoding};
use contract::token::{ISSUER, JwkSet, Signer};
use fnhost_sdk::problem::Problem;
use fnhost_sdk::time::unix_seconds;
use fnhost_sdk::token::Expected;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The `aud` of these tokens. Nobody else's check accepts it.
pub const AUDIENCE: &str = "orders-links";
/// How long an address can be confirmed by a link, in seconds: a mail may be read on another day.
pub const CONFIRM_SECONDS: u64 = 48 * 60 * 60;
/// How long a password can be set by a link, in seconds.
pub const RESET_SECONDS: u64 = 30 * 60;
/// Random bytes by which two links differ.
const ID_BYTES: usize = 16;

const OURS: Expected = Expected { issuer: ISSUER, audience: AUDIENCE };

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Shows that mails to the account's address arrive.
    ConfirmAddress,
    /// Sets another password.
    ResetPassword,
}

impl Purpose {
    /// The name used in SQL and in the token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmAddress => "confirm-address",
            Self::ResetPassword => "reset-password",
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::ConfirmAddress => CONFIRM_SECONDS,
            Self::ResetPassword => RESET_SECONDS,
        }
    }
}

/// The payload of the token.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    purpose: Purpose,
    jti: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// A link that is to be sent.
#[derive(Debug)]
pub struct Link {
    /// For the mail alone.
    pub token: String,
    /// What is kept of it.
    pub hash: Vec<u8>,
    /// What it is for.
    pub purpose: Purpose,
    /// When it expires, in seconds since 1970.
    pub expires_at: i64,
}

impl Link {
    /// A new one of this account.
    ///
    /// # Errors
    /// 500 without randomness, or where the token cannot be signed.
    pub fn new(signer: &Signer, purpose: Purpose, account_id: Uuid) -> Result<Self, Problem> {
        let mut id = [0; ID_BYTES];
        getrandom::fill(&mut id).map_err(Problem::internal)?;
        let now = unix_seconds();
        let exp = now + purpose.seconds();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: account_id,
            purpose,
            jti: Base64UrlUnpadded::encode_string(&id),
            iat: now,
            nbf: now,
            exp,
        };
        let token = signer.sign(&claims).map_err(Problem::internal)?;
        let expires_at = i64::try_from(exp).map_err(Problem::internal)?;
        Ok(Self { hash: hash(&token), token, purpose, expires_at })
    }
}

/// The hash under which a token that a caller brought is kept, where we signed it for this purpose and it has not expired.
#[must_use]
pub fn read(token: &str, purpose: Purpose, keys: &JwkSet) -> Option<Vec<u8>> {
    let claims: Claims = OURS.verify(token, keys).ok()?;
    (claims.purpose == purpose).then(|| hash(token))
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE_KEY: &str = include_str!("../../contract/testing/private.pem");
    const PUBLIC_KEYS: &str = include_str!("../../contract/testing/public.json");
    const ADA: Uuid = Uuid::from_u128(7);

    fn keys() -> JwkSet {
        serde_json::from_str(PUBLIC_KEYS).unwrap()
    }

    fn signer() -> Signer {
        Signer::new(PRIVATE_KEY, &keys()).unwrap()
    }

    /// A token of our key with these claims, some of them changed.
    fn signed(changes: serde_json::Value) -> String {
        let now = unix_seconds();
        let mut claims = serde_json::json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": ADA, "purpose": "reset-password", "jti": "x",
            "iat": now, "nbf": now, "exp": now + 60,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        signer().sign(&claims).unwrap()
    }

    #[test]
    fn a_link_is_good_for_its_purpose_alone_and_no_two_are_the_same() {
        let one = Link::new(&signer(), Purpose::ResetPassword, ADA).unwrap();
        let two = Link::new(&signer(), Purpose::ResetPassword, ADA).unwrap();
        assert_ne!(one.token, two.token);
        assert_eq!(read(&one.token, Purpose::ResetPassword, &keys()), Some(one.hash));
        assert_eq!(read(&two.token, Purpose::ConfirmAddress, &keys()), None);
    }

    #[test]
    fn what_we_did_not_sign_for_this_here_and_now_is_no_link() {
        let read = |token: &str| read(token, Purpose::ResetPassword, &keys()).is_some();
        assert!(read(&signed(serde_json::json!({}))), "refused below for its own fault");
        let past = unix_seconds() - 60;
        for changes in [
            serde_json::json!({ "iss": "elsewhere" }),
            serde_json::json!({ "aud": contract::token::AUDIENCE }),
            serde_json::json!({ "exp": past }),
            serde_json::json!({ "nbf": unix_seconds() + 600 }),
            serde_json::json!({ "purpose": "sign-in" }),
            serde_json::json!({ "sub": "everybody" }),
        ] {
            assert!(!read(&signed(changes.clone())), "{changes}");
        }
        let good = signed(serde_json::json!({}));
        let [_, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
        let none = Base64UrlUnpadded::encode_string(br#"{"alg":"none","kid":"tests"}"#);
        let other = Link::new(&signer(), Purpose::ResetPassword, Uuid::from_u128(8)).unwrap().token;
        let anothers = other.split('.').nth(1).unwrap();
        let head = good.split('.').next().unwrap();
        for forged in [
            String::new(),
            format!("{none}.{payload}."),
            format!("{none}.{payload}.{signature}"),
            format!("{head}.{anothers}.{signature}"),
            format!("{head}.{payload}"),
        ] {
            assert!(!read(&forged), "{forged}");
        }
    }

    #[test]
    fn an_access_token_is_no_link_and_a_link_no_access_token() {
        let link = Link::new(&signer(), Purpose::ResetPassword, ADA).unwrap().token;
        assert!(contract::token::verify(&link, &keys()).is_err());
    }
}

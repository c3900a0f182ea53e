//! What a login gives: a short access token, and a refresh token that is exchanged for the next pair.

use base64ct::{Base64UrlUnpadded, Encoding};
use contract::token::{self, AUDIENCE, Claims, ISSUER, OURS, Role, Signer};
use fnhost_sdk::Host;
use fnhost_sdk::http::Request;
use fnhost_sdk::problem::Problem;
use fnhost_sdk::time::unix_seconds;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How long an access token is good, in seconds.
pub const ACCESS_SECONDS: u64 = 15 * 60;
/// How long a refresh token is good, in seconds; each exchange starts anew.
pub const REFRESH_SECONDS: i64 = 30 * 24 * 60 * 60;
/// How old a login becomes, in seconds, however often its tokens are exchanged.
pub const LOGIN_SECONDS_MAX: i64 = 180 * 24 * 60 * 60;
/// Random bytes of a refresh token.
const REFRESH_BYTES: usize = 32;

const PRIVATE_KEY_VARIABLE: &str = "token_private_key";

/// The answer to a login, by RFC 6749.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "named by the RFC")]
pub struct Session {
    pub access_token: String,
    pub token_type: &'static str,
    /// Seconds.
    pub expires_in: u64,
    pub refresh_token: String,
}

/// A refresh token: what the caller gets, and what is kept of it.
#[derive(Debug)]
pub struct Refresh {
    /// For the caller alone.
    pub token: String,
    /// SHA-256 of the token; only this is stored.
    pub hash: Vec<u8>,
}

impl Refresh {
    /// A new one.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn new() -> Result<Self, Problem> {
        let mut bytes = [0; REFRESH_BYTES];
        getrandom::fill(&mut bytes).map_err(Problem::internal)?;
        Ok(Self::of(Base64UrlUnpadded::encode_string(&bytes)))
    }

    /// One that a caller brought. It is random enough that a plain hash hides it.
    #[must_use]
    pub fn of(token: String) -> Self {
        let hash = Sha256::digest(token.as_bytes()).to_vec();
        Self { token, hash }
    }
}

/// The key that access tokens are signed with, from the component's variables.
///
/// # Errors
/// 500 where it is missing or is not one of the published ones; the log says which.
pub async fn signer(host: &impl Host) -> Result<Signer, Problem> {
    let pem = host.variable(PRIVATE_KEY_VARIABLE).await.map_err(Problem::internal)?;
    let keys = token::public_keys(host).await?;
    Signer::new(&pem, &keys).map_err(|error| Problem::internal(format!("{PRIVATE_KEY_VARIABLE}: {error}")))
}

/// The payload of an access token as this function makes it: it also names the login.
#[derive(Serialize, Deserialize)]
struct LoginClaims {
    #[serde(flatten)]
    claims: Claims,
    /// As OpenID Connect names it.
    sid: Uuid,
}

/// Who calls, and by which login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The account.
    pub account_id: Uuid,
    /// The login that the token was made for. Whether it has ended is for each statement to find out.
    pub login_id: Uuid,
}

/// Who makes this request, for what only an account's owner may do.
///
/// # Errors
/// 401 without a token that is accepted and names its login; 500 where the public keys are not configured.
pub async fn owner(host: &impl Host, request: &Request) -> Result<Owner, Problem> {
    let LoginClaims { claims, sid } = OURS.claims(host, request).await?;
    Ok(Owner { account_id: claims.sub, login_id: sid })
}

/// 401: the caller's login has ended, or the account is gone.
#[must_use]
pub fn ended() -> Problem {
    Problem::unauthorized("the login has ended; log in again")
}

/// A session of this account's login.
///
/// # Errors
/// 500 where the token cannot be signed.
pub fn session(
    signer: &Signer,
    Owner { account_id, login_id }: Owner,
    role: Role,
    refresh: Refresh,
) -> Result<Session, Problem> {
    let now = unix_seconds();
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: account_id,
        role,
        iat: now,
        nbf: now,
        exp: now + ACCESS_SECONDS,
    };
    Ok(Session {
        access_token: signer.sign(&LoginClaims { claims, sid: login_id }).map_err(Problem::internal)?,
        token_type: "Bearer",
        expires_in: ACCESS_SECONDS,
        refresh_token: refresh.token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_is_kept_as_a_hash_only() {
        let (one, two) = (Refresh::new().unwrap(), Refresh::new().unwrap());
        assert_ne!(one.token, two.token);
        assert_eq!(one.token.len(), 43, "32 bytes in base64url");
        assert_eq!(Refresh::of(one.token.clone()).hash, one.hash);
        assert_ne!(one.hash, one.token.as_bytes());
    }
}

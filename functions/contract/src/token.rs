//! Whose access tokens the functions accept, and what those say: `auth` makes them, everybody checks them.

use fnhost_sdk::Host;
use fnhost_sdk::http::Request;
use fnhost_sdk::problem::Problem;
use fnhost_sdk::token::Expected;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use fnhost_sdk::token::{JwkSet, Refused, Signer, public_keys};

/// The `iss` of our tokens.
pub const ISSUER: &str = "orders-auth";
/// The `aud` of our tokens.
pub const AUDIENCE: &str = "orders";

/// Our access tokens.
pub const OURS: Expected = Expected { issuer: ISSUER, audience: AUDIENCE };

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Orders for themselves.
    Customer,
    /// Also keeps the stock.
    Admin,
}

/// Who is calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub user_id: Uuid,
    /// As it was when the token was made.
    pub role: Role,
}

/// The payload of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the registered claim names of RFC 7519; times in seconds since 1970")]
pub struct Claims {
    pub iss: String,
    pub aud: String,
    pub sub: Uuid,
    pub role: Role,
    pub iat: u64,
    pub nbf: u64,
    pub exp: u64,
}

impl From<Claims> for Caller {
    fn from(claims: Claims) -> Self {
        Self { user_id: claims.sub, role: claims.role }
    }
}

/// Who makes this request.
///
/// # Errors
/// 401 without a token that is accepted; 500 where the public keys are not configured.
pub async fn caller(host: &impl Host, request: &Request) -> Result<Caller, Problem> {
    Ok(OURS.claims::<Claims>(host, request).await?.into())
}

/// Checks a token against the public keys, now.
///
/// # Errors
/// Why it is not accepted.
pub fn verify(token: &str, keys: &JwkSet) -> Result<Caller, Refused> {
    Ok(OURS.verify::<Claims>(token, keys)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnhost_sdk::time::unix_seconds;
    use serde_json::{Value, json};

    const PRIVATE_KEY: &str = include_str!("../testing/private.pem");
    const PUBLIC_KEYS: &str = include_str!("../testing/public.json");

    fn keys() -> JwkSet {
        serde_json::from_str(PUBLIC_KEYS).unwrap()
    }

    /// A token of the tests' key with these claims, some of them changed.
    fn token(changes: Value) -> String {
        let now = unix_seconds();
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": Uuid::from_u128(7), "role": "customer",
            "iat": now, "nbf": now, "exp": now + 900,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        Signer::new(PRIVATE_KEY, &keys()).unwrap().sign(&claims).unwrap()
    }

    #[test]
    fn a_good_token_names_the_caller() {
        for (name, role) in [("customer", Role::Customer), ("admin", Role::Admin)] {
            let caller = Caller { user_id: Uuid::from_u128(7), role };
            assert_eq!(verify(&token(json!({ "role": name })), &keys()), Ok(caller));
        }
    }

    #[test]
    fn a_token_of_another_system_or_role_is_refused() {
        for (changes, refused) in [
            (json!({ "iss": "x" }), Refused::Claims),
            (json!({ "aud": "x" }), Refused::Claims),
            (json!({ "role": "root" }), Refused::Malformed),
            (json!({ "sub": "7" }), Refused::Malformed),
        ] {
            assert_eq!(verify(&token(changes.clone()), &keys()), Err(refused), "{changes}");
        }
    }
}

//! `POST /payments/webhook`: the payment gateway tells what it did, signed. What is told is kept, once, for comparing its
//! books with ours; no order is decided by it.

use crate::sql;
use fnhost_sdk::Host;
use fnhost_sdk::http::{Body, Request, Response};
use fnhost_sdk::problem::Problem;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

/// The header with time and signature: `t=SECONDS,v1=HEX`.
pub const SIGNATURE_HEADER: &str = "payment-gateway-signature";
/// How far the time of a signature may lie from ours, in seconds. An older request is one that somebody has kept.
pub const AGE_MAX_SECONDS: u64 = 300;
/// Events of a request.
pub(crate) const EVENTS_MAX: usize = 1_000;
/// Characters of an event's id.
pub(crate) const ID_CHARS_MAX: usize = 300;
const SECRET: &str = "webhook_secret";

/// What the gateway sends.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Told {
    events: Vec<Event>,
}

/// What became of it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Kept {
    /// Events that were not known.
    pub(crate) new: u64,
    /// Events that had been told before.
    pub(crate) known: u64,
}

/// One thing that it did.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// The same each time that it is told.
    pub id: String,
    /// When, in seconds since 1970.
    pub created: i64,
    /// The payment afterwards.
    pub payment: Payment,
}

/// A payment as the gateway has it.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = GatewayPayment))]
#[allow(missing_docs, reason = "the gateway's own words")]
pub struct Payment {
    pub reference: Uuid,
    pub status: String,
    pub amount: i64,
    pub refunded: i64,
}

/// Keeps what is new of it.
///
/// # Errors
/// 401 where the signature is not good or too old, 413 and 422 where the content is not; 500 without a secret.
pub async fn take(host: &impl Host, request: &Request) -> Result<Response, Problem> {
    let Body::Read(body) = &request.body else {
        return Err(Problem::too_large(fnhost_sdk::http::BODY_LIMIT_BYTES));
    };
    let secret = host.variable(SECRET).await.map_err(Problem::internal)?;
    let signature = request.header(SIGNATURE_HEADER)?.unwrap_or_default();
    // Before anything is read: what is not signed is nobody's word.
    verify(&secret, signature, body, fnhost_sdk::time::unix_seconds()).map_err(Problem::unauthorized)?;
    let Told { events } = request.json()?;
    if events.len() > EVENTS_MAX {
        return Err(Problem::invalid("events", format!("at most {EVENTS_MAX}")));
    }
    if let Some(index) = events.iter().position(|event| event.id.chars().count() > ID_CHARS_MAX) {
        return Err(Problem::invalid(
            format!("events[{index}].id"),
            format!("at most {ID_CHARS_MAX} characters"),
        ));
    }
    let new = sql::keep_gateway_events(host, &events).await?;
    Ok(Response::json(200, &Kept { new, known: events.len() as u64 - new }))
}

/// Checks the signature of a body at the time `now`, in seconds since 1970.
///
/// # Errors
/// Says what is wrong, without saying what would be right.
pub fn verify(secret: &str, signature: &str, body: &[u8], now: u64) -> Result<(), &'static str> {
    let part =
        |name: &str| signature.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let seconds = part("t").ok_or("the webhook is not signed")?;
    let given = part("v1").and_then(unhex).ok_or("the webhook is not signed")?;
    if secret.is_empty() {
        // HMAC takes an empty key, and anybody could sign with it.
        return Err("there is no secret to check the webhook with");
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| "the secret is no key")?;
    mac.update(seconds.as_bytes());
    mac.update(b".");
    mac.update(body);
    // In constant time.
    mac.verify_slice(&given).map_err(|_| "the webhook's signature is wrong")?;
    let at: u64 = seconds.parse().map_err(|_| "the webhook's time is no number")?;
    if at.abs_diff(now) > AGE_MAX_SECONDS {
        return Err("the webhook is too old, or from the future");
    }
    Ok(())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use payment_gateway::signature::sign;

    const NOW: u64 = 1_700_000_000;

    #[test]
    fn only_what_was_signed_lately_with_the_secret_is_taken() {
        let good = sign("secret", NOW, b"body");
        let time = |seconds| sign("secret", seconds, b"body");
        let moved = good.replace(&NOW.to_string(), &(NOW + 1).to_string());
        let (wrong, unsigned) = ("the webhook's signature is wrong", "the webhook is not signed");
        let age = "the webhook is too old, or from the future";
        for (secret, signature, body, expected) in [
            ("secret", good.as_str(), "body", Ok(())),
            ("secret", &time(NOW - AGE_MAX_SECONDS), "body", Ok(())),
            ("secret", &time(NOW + AGE_MAX_SECONDS), "body", Ok(())),
            ("secret", &time(NOW - AGE_MAX_SECONDS - 1), "body", Err(age)),
            ("secret", &time(NOW + AGE_MAX_SECONDS + 1), "body", Err(age)),
            ("secret", &good, "body!", Err(wrong)),
            ("other", &good, "body", Err(wrong)),
            ("secret", &moved, "body", Err(wrong)),
            ("secret", &good[..good.len() - 2], "body", Err(wrong)),
            ("secret", &good[..good.len() - 1], "body", Err(unsigned)),
            ("secret", "", "body", Err(unsigned)),
            ("secret", "t=1", "body", Err(unsigned)),
            ("secret", "v1=00", "body", Err(unsigned)),
            ("secret", "t=1,v1=0g", "body", Err(unsigned)),
            ("secret", "t=1,v1=äß", "body", Err(unsigned)),
            ("", &sign("", NOW, b"body"), "body", Err("there is no secret to check the webhook with")),
        ] {
            assert_eq!(
                verify(secret, signature, body.as_bytes(), NOW),
                expected,
                "{secret} {signature} {body}"
            );
        }
    }
}

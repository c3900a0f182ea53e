//! Reads that may be a moment old, kept in the key-value store `default` where the component was given one.
//!
//! An answer is kept with the time before its read began, with the version of what was read, and with the SHA-256 of the
//! access token that it was given for. It answers only a request with that very token, so who may see it was decided
//! when it was made; and only for [`FRESH_MS`] after that time, so it is never older than a commit that it missed by more,
//! whoever writes and whatever is lost in between. `docs/decisions/0016-cache.md` of fnhost says why it is done like this.
//!
//! A store that is not there, is empty, full of something else or failing is a miss, and never an error.

use crate::http::{Request, Response};
use crate::problem::Problem;
use crate::time;
use sha2::{Digest, Sha256};

/// How long an answer is given again, in milliseconds from the beginning of its read. A tenth of a second is left of the
/// promised whole one, for the answer's own way and for clocks of hosts that differ.
pub const FRESH_MS: u64 = 900;

/// The first byte of every value; values of another form are misses.
const FORMAT: u8 = 1;
const TOKEN_BYTES: usize = 32;
const HEADER_BYTES: usize = 1 + 8 + 8 + TOKEN_BYTES;

/// The store, with every failure a miss.
#[allow(
    async_fn_in_trait,
    reason = "always dispatched statically; a caller that needs Send has the concrete type"
)]
pub trait Cache {
    /// The value of a key.
    async fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Gives a key a value, where that can be done.
    async fn set(&self, key: &str, value: Vec<u8>);
}

/// Answers a request with what is kept under `key`, or else with what `read` answers, and keeps that where its status is
/// 200. `read` checks who asks, and answers with the version of what it has read, which rises with every change.
///
/// A request with `cache-control: no-cache` is read anew; with `no-store` nothing is kept either.
///
/// # Errors
/// Those of `read`.
pub async fn through<C: Cache>(
    cache: &C,
    request: &Request,
    key: &str,
    read: impl AsyncFnOnce() -> Result<(i64, Response), Problem>,
) -> Result<Response, Problem> {
    let (false, Ok(token)) = (asks(request, "no-store"), request.bearer()) else {
        return Ok(read().await?.1);
    };
    let token = Sha256::digest(token).into();
    let stands = cache.get(key).await.unwrap_or_default();
    let read_at_ms = time::unix_millis();
    let stands = Kept::parse(&stands).filter(|kept| kept.is_fresh(read_at_ms));
    if let Some(kept) = &stands
        && kept.answers(&token)
        && !asks(request, "no-cache")
    {
        return Ok(json(kept.body.to_vec()));
    }
    let (version, response) = read().await?;
    // Somebody has said that it is to change, and this read came before it.
    let is_old = stands.is_some_and(|kept| kept.version > version);
    if response.status == 200 && !is_old {
        cache.set(key, Kept { version, read_at_ms, token, body: &response.body }.bytes()).await;
    }
    Ok(response)
}

/// Says that what is kept under `key` has this version now, after its change was committed: what was kept of an older one
/// answers no more, and a read that began before does not put it back unless it does so in this very moment.
pub async fn changed(cache: &impl Cache, key: &str, version: i64) {
    let read_at_ms = time::unix_millis();
    let nobody = [0; TOKEN_BYTES];
    cache.set(key, Kept { version, read_at_ms, token: nobody, body: &[] }.bytes()).await;
}

fn json(body: Vec<u8>) -> Response {
    Response::empty(200).with_body(body).with_header("content-type", "application/json")
}

/// Whether the request's `cache-control` has this directive.
fn asks(request: &Request, directive: &str) -> bool {
    let control = request.header("cache-control").ok().flatten().unwrap_or_default();
    control.split(',').any(|part| part.trim().eq_ignore_ascii_case(directive))
}

/// A value: format, time, version, token, body; numbers in eight bytes, the lowest first.
#[derive(Debug, PartialEq, Eq)]
struct Kept<'a> {
    version: i64,
    /// Milliseconds since 1970.
    read_at_ms: u64,
    /// SHA-256; of nobody's token where it only tells the version.
    token: [u8; TOKEN_BYTES],
    body: &'a [u8],
}

impl<'a> Kept<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
        let (format, header) = header.split_first()?;
        let (read_at, header) = header.split_first_chunk()?;
        let (version, header) = header.split_first_chunk()?;
        let token = header.try_into().ok()?;
        let (read_at_ms, version) = (u64::from_le_bytes(*read_at), i64::from_le_bytes(*version));
        (*format == FORMAT).then_some(Self { version, read_at_ms, token, body })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.body.len());
        bytes.push(FORMAT);
        bytes.extend(self.read_at_ms.to_le_bytes());
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.token);
        bytes.extend(self.body);
        bytes
    }

    /// One that was read later than now comes from a clock that is ahead: how old it is cannot be told.
    fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms.checked_sub(self.read_at_ms).is_some_and(|age_ms| age_ms < FRESH_MS)
    }

    fn answers(&self, token: &[u8; TOKEN_BYTES]) -> bool {
        !self.body.is_empty() && self.token == *token
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;

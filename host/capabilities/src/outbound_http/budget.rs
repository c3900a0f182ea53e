//! Which requests may be sent again, when, and how many in all.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode, header};

/// Makes a request of any method safe to send again, as its receiver promises (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Pause before the second try; doubles with each further one. What is waited is a random time up to it.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Further tries that are always there: what a host with few requests lives on. Also what is saved up at most, in seconds of it.
const RESERVE: f64 = 10.0;
/// The most that is saved up.
const SAVED_MAX: f64 = 100.0;

/// Whether sending it twice does no more than sending it once.
pub fn is_repeatable(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.contains_key(IDEMPOTENCY_KEY)
}

/// Whether another try may get another answer.
pub fn is_transient(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// The pause after the try of this number, 1 for the first: what the host asked for, or a random one that grows.
pub fn pause(attempt: u32, asked: Option<Duration>) -> Duration {
    let longest = PAUSE_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(PAUSE_MAX);
    let random = longest.mul_f64(random());
    asked.map_or(random, |asked| asked + random)
}

/// From 0 to 1.
fn random() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX)
}

/// `Retry-After`: seconds, or a date.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Bounds further tries to a part of the first ones, so that a host in trouble is not sent several times as much.
#[derive(Debug)]
pub struct Budget {
    part: f64,
    left: Mutex<f64>,
}

impl Budget {
    /// `percent` of first tries may be tried again, and [`RESERVE`] at the beginning.
    pub fn new(percent: u32) -> Self {
        Self { part: f64::from(percent) / 100.0, left: Mutex::new(if percent == 0 { 0.0 } else { RESERVE }) }
    }

    /// A request is sent for the first time.
    pub fn earn(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = (*left + self.part).min(SAVED_MAX);
    }

    /// Whether one may be sent again.
    pub fn spend(&self) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = *left >= 1.0;
        if enough {
            *left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_first_tries_is_tried_again() {
        let budget = Budget::new(20);
        let again = |first: u32| {
            (0..first)
                .filter(|_| {
                    budget.earn();
                    budget.spend()
                })
                .count()
        };
        // The reserve is used up, and then it is one in five.
        again(1_000);
        assert_eq!(again(1_000), 200);
        assert!(!Budget::new(0).spend());
    }

    #[test]
    fn what_may_be_sent_again() {
        let with = |name: &'static str| HeaderMap::from_iter([(name.parse().unwrap(), "x".parse().unwrap())]);
        for (method, headers, repeatable) in [
            (Method::GET, HeaderMap::new(), true),
            (Method::PUT, HeaderMap::new(), true),
            (Method::POST, HeaderMap::new(), false),
            (Method::PATCH, with("x-key"), false),
            (Method::POST, with(IDEMPOTENCY_KEY), true),
        ] {
            assert_eq!(is_repeatable(&method, &headers), repeatable, "{method} {headers:?}");
        }
        for (status, transient) in
            [(200, false), (429, false), (500, false), (501, false), (502, true), (503, true), (504, true)]
        {
            assert_eq!(is_transient(StatusCode::from_u16(status).unwrap()), transient, "{status}");
        }
    }

    #[test]
    fn a_pause_grows_is_random_and_is_never_shorter_than_asked() {
        for attempt in 1..40 {
            let longest =
                PAUSE_FIRST.saturating_mul(1 << attempt.min(17_u32).saturating_sub(1)).min(PAUSE_MAX);
            assert!(pause(attempt, None) <= longest, "{attempt}");
            assert!(pause(attempt, Some(PAUSE_MAX)) >= PAUSE_MAX, "{attempt}");
        }
        let header = |value: &str| HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())]);
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:59 GMT").unwrap();
        assert_eq!(retry_after(&header("7"), now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&header("Sat, 01 Jan 2000 00:00:09 GMT"), now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after(&header("Fri, 31 Dec 1999 23:59:00 GMT"), now), Some(Duration::ZERO));
        assert_eq!(retry_after(&header("soon"), now), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}

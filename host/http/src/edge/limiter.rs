//! How many requests a caller may make: governor's cell rate algorithm over a table of bounded size.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::bounded::{Bounded, Until};
use super::caller::network;
use fnhost_manifest::edge::RateLimit;

/// Callers that are remembered, over all routes; 24 bytes each. Whoever is forgotten for another has its full number again.
pub const REMEMBERED_CALLERS: usize = 65_536;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// The subject of a token that was checked, hashed.
    Subject(u64),
    /// Nobody that is known: the address of the client.
    Address(IpAddr),
}

impl Caller {
    /// The caller at an address; a network of IPv6 counts as one.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(network(address))
    }
}

/// What all limiters remember.
#[derive(Clone)]
pub(super) struct Memory {
    table: Arc<Bounded<u64, Nanos>>,
    // Seeded at random, so that nobody can choose addresses that fall together.
    hasher: RandomState,
}

impl Until for Nanos {
    /// By then the caller's full number is back, and nothing is lost by forgetting it.
    fn until(&self) -> u64 {
        self.as_u64()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self { table: Arc::new(Bounded::new(REMEMBERED_CALLERS)), hasher: RandomState::new() }
    }
}

impl StateStore for Memory {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.table.update(key, decide)
    }
}

/// The limiter of one route.
pub(super) struct Limiter<C: Clock = MonotonicClock> {
    cells: RateLimiter<u64, Memory, C, StateInformationMiddleware>,
    hasher: RandomState,
    route: usize,
    burst: u32,
    period: Duration,
    clock: C,
}

/// How many requests are left, for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    burst: u32,
    remaining: u32,
    /// Until all of them are back, seconds.
    reset_s: u64,
    /// Until one is back, seconds; only where there is none.
    retry_s: Option<u64>,
}

impl<C: Clock + Clone> Limiter<C> {
    /// A limiter of the route with this number, which tells its callers from those of other routes.
    pub fn new(route: usize, limit: RateLimit, memory: &Memory, clock: C) -> Self {
        // The manifest has nothing below 1.
        let at_least_one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let burst = at_least_one(limit.burst);
        let period = (limit.per / at_least_one(limit.requests).get()).max(Duration::from_nanos(1));
        // None for a period of zero only.
        let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(burst)).allow_burst(burst);
        Self {
            cells: RateLimiter::new(quota, memory.clone(), clock.clone()),
            hasher: memory.hasher.clone(),
            route,
            burst: burst.get(),
            period,
            clock,
        }
    }

    /// Counts a request, unless it is one too many.
    ///
    /// # Errors
    /// It is.
    pub fn count(&self, caller: Caller) -> Result<Left, Left> {
        let key = self.hasher.hash_one((self.route, caller));
        match self.cells.check_key(&key) {
            Ok(state) => Ok(self.left(state.remaining_burst_capacity(), None)),
            Err(not_until) => Err(self.left(0, Some(not_until.wait_time_from(self.clock.now())))),
        }
    }

    fn left(&self, remaining: u32, wait: Option<Duration>) -> Left {
        let missing = self.period * self.burst.saturating_sub(remaining);
        let seconds = |time: Duration| time.as_millis().div_ceil(1000) as u64;
        Left {
            burst: self.burst,
            remaining,
            reset_s: seconds(missing),
            retry_s: wait.map(|wait| seconds(wait).max(1)),
        }
    }
}

impl Left {
    /// Tells the client.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, HeaderValue::from(self.burst));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(self.reset_s));
        if let Some(seconds) = self.retry_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    /// When to come again, in seconds.
    pub fn retry_s(self) -> u64 {
        self.retry_s.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn limiter(
        requests: u32,
        per_s: u64,
        burst: u32,
        clock: &FakeRelativeClock,
    ) -> Limiter<FakeRelativeClock> {
        let limit = RateLimit { requests, per: Duration::from_secs(per_s), burst };
        Limiter::new(0, limit, &Memory::default(), clock.clone())
    }

    fn at(address: &str) -> Caller {
        Caller::at(address.parse().unwrap())
    }

    #[test]
    fn a_burst_is_spent_and_comes_back_at_the_rate() {
        let clock = FakeRelativeClock::default();
        let limiter = limiter(2, 1, 3, &clock);
        let (one, two) = (at("192.0.2.1"), at("192.0.2.2"));
        let remaining: Vec<u32> = (0..3).map(|_| limiter.count(one).unwrap().remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        let refused = limiter.count(one).unwrap_err();
        assert_eq!(refused, Left { burst: 3, remaining: 0, reset_s: 2, retry_s: Some(1) });
        assert!(limiter.count(two).is_ok(), "each caller has a number of its own");
        clock.advance(Duration::from_millis(499));
        assert!(limiter.count(one).is_err());
        clock.advance(Duration::from_millis(1));
        assert!(limiter.count(one).is_ok(), "one every half second");
        assert!(limiter.count(one).is_err());
        clock.advance(Duration::from_secs(60));
        assert_eq!(limiter.count(one).unwrap().remaining, 2, "never more than the burst");
    }

    #[test]
    fn callers_are_told_apart_by_network_subject_and_route() {
        let clock = FakeRelativeClock::default();
        let memory = Memory::default();
        let limit = RateLimit { requests: 1, per: Duration::from_secs(3600), burst: 1 };
        let limiters = [0, 1].map(|route| Limiter::new(route, limit, &memory, clock.clone()));
        // caller, whether its first request is counted for somebody before it
        let cases = [
            (at("2001:db8::1"), false),
            (at("2001:db8::ffff"), true),
            (at("2001:db8:0:1::1"), false),
            (at("192.0.2.1"), false),
            (at("::ffff:192.0.2.1"), true),
            (Caller::Subject(7), false),
            (Caller::Subject(7), true),
        ];
        for (caller, known) in cases {
            assert_eq!(limiters[0].count(caller).is_err(), known, "{caller:?}");
        }
        assert!(limiters[1].count(at("192.0.2.1")).is_ok(), "a route counts by itself");
    }

    #[test]
    fn its_memory_is_bounded_and_a_caller_that_is_limited_stays_so() {
        let clock = FakeRelativeClock::default();
        let limiter = limiter(1, 3600, 2, &clock);
        let known = at("192.0.2.1");
        while limiter.count(known).is_ok() {}
        // Those that come once have more left than the one that spent it all, so they make room for each other.
        for number in 0..4 * REMEMBERED_CALLERS as u32 {
            let _ = limiter.count(at(&std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string()));
        }
        assert!(limiter.count(known).is_err());
        let Memory { table, .. } = limiter.cells.into_state_store();
        let (values, places) = table.size();
        assert!(values <= REMEMBERED_CALLERS && places <= REMEMBERED_CALLERS, "{values} {places}");
        assert!(values > REMEMBERED_CALLERS * 9 / 10, "{values} of them are in use");
    }
}

//! Refuses requests while there is more to do than can be done: as many as need be, and those first that make new work.
//!
//! What there is to do are events, and how long one that comes now will wait is the delay of a queue that this host serves, as are the age
//! of the oldest and the time that a call takes which makes new ones. Routers keep such a delay near a target with PIE (RFC 8033): a probability of refusal that
//! grows with what the delay is above the target and with how fast it rises. The constants differ, since theirs are for queues of
//! milliseconds. A request is refused by count and not by chance, so that of any ten in a row as many are as should be.

use fnhost_manifest::edge::{Shed, Turn};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long events of these triggers wait on this host.
pub type Waiting = Arc<dyn Fn(&[String]) -> Delay + Send + Sync>;

/// How long events wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delay {
    /// The oldest has waited so long.
    pub oldest: Duration,
    /// One that comes now will wait so long.
    pub ahead: Duration,
}

/// How often the probability is adapted.
pub const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// What one update adds for a delay of twice the target, and takes for none.
const BY_DELAY: f64 = 0.03;
/// What one update adds where the delay has risen by the target since the last one.
const BY_RISE: f64 = 0.3;
/// One update adds no more, whatever the delay and however long after the last.
const ADDED_MAX: f64 = 0.2;
/// Below this part of the target, and up to this probability, nobody is refused.
const HARMLESS_DELAY: f64 = 0.5;
const HARMLESS: f64 = 0.2;
/// Below this part of the target the overload is over, and an update keeps this part of the probability.
const CALM: f64 = 0.3;
const CALM_KEEPS: f64 = 0.8;
/// As much of the last delay counts an interval later, where a smaller one is seen.
const FADES: f64 = 0.8;
/// Of ten thousand requests some always pass: what becomes of them says whether the overload is over.
const PROBABILITY_MAX: f64 = 0.98;
/// From here on others are refused too, besides those whose turn is first.
const LAST_FROM: f64 = 0.9;
/// When to try again: at least, and as much more where nearly everything is refused.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MORE: Duration = Duration::from_secs(4);
/// After a time without requests nothing has aged by more intervals than this: there was no overload.
const PASSED_MAX: u32 = 2;
/// Updates that are made up for after a time without requests, which is enough to forget everything.
const MISSED_UPDATES_MAX: u32 = 100;

/// Decides who is refused.
pub(super) struct Shedder {
    triggers: Vec<String>,
    target: Duration,
    waiting: Waiting,
    state: Mutex<State>,
    counters: [AtomicU32; 2],
    /// The longest call of those whose turn is first that ended since the last update, microseconds.
    longest_us: AtomicU64,
}

/// A request that was let in.
pub(super) struct Admitted {
    shedder: Arc<Shedder>,
    began: Instant,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let took = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shedder.longest_us.fetch_max(took, Ordering::Relaxed);
    }
}

struct State {
    probability: f64,
    /// The delay at the last update, in targets.
    delay: f64,
    updated: Instant,
}

impl Shedder {
    pub fn new(shed: &Shed, waiting: Waiting) -> Self {
        Self {
            triggers: shed.triggers.clone(),
            target: shed.target,
            waiting,
            state: Mutex::new(State { probability: 0.0, delay: 0.0, updated: Instant::now() }),
            counters: Default::default(),
            longest_us: AtomicU64::new(0),
        }
    }

    /// Whether a request is refused, and when it may come again.
    pub fn refuses(&self, turn: Turn) -> Option<Duration> {
        let probability = self.probability(Instant::now());
        let (own, counter) = match turn {
            Turn::First => (probability, &self.counters[0]),
            Turn::Last => ((probability - LAST_FROM).max(0.0) / (1.0 - LAST_FROM), &self.counters[1]),
        };
        let step = (own * f64::from(u32::MAX)) as u32;
        let refused = counter.fetch_add(step, Ordering::Relaxed).checked_add(step).is_none();
        refused.then(|| RETRY_AFTER + RETRY_AFTER_MORE.mul_f64(probability))
    }

    /// A request whose turn this is was let in, and is answered when what this answers is dropped.
    pub fn admit(self: &Arc<Self>, turn: Turn) -> Option<Admitted> {
        (turn == Turn::First).then(|| Admitted { shedder: self.clone(), began: Instant::now() })
    }

    fn probability(&self, now: Instant) -> f64 {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let intervals = now.duration_since(state.updated).as_millis() / UPDATE_INTERVAL.as_millis();
        if intervals > 0 {
            let longest = Duration::from_micros(self.longest_us.swap(0, Ordering::Relaxed));
            let targets = |time: Duration| time.as_secs_f64() / self.target.as_secs_f64();
            let Delay { oldest, ahead } = (self.waiting)(&self.triggers);
            // Under overload nothing ages faster than time passes. What is older at once has waited for something else: a host that was
            // killed, or a database that was away.
            let passed = (now - state.updated).min(UPDATE_INTERVAL * PASSED_MAX);
            let age = targets(oldest.max(longest)).min(state.delay + targets(passed));
            let intervals = u32::try_from(intervals).unwrap_or(u32::MAX).min(MISSED_UPDATES_MAX);
            // Not every interval sees a record taken or a call end.
            let delay = age.max(targets(ahead)).max(state.delay * FADES.powi(intervals.cast_signed()));
            state.update(delay, intervals);
            state.updated = now;
            fnhost_metrics::sheds((100.0 * state.refused()).round() as i64);
        }
        state.refused()
    }
}

impl State {
    /// The part of the requests that is refused: none while the delay is well below the target (RFC 8033, section 4.1), however it
    /// rises.
    fn refused(&self) -> f64 {
        if self.delay < HARMLESS_DELAY && self.probability < HARMLESS { 0.0 } else { self.probability }
    }

    /// The delay is this now, in targets, `intervals` after the last update.
    fn update(&mut self, delay: f64, intervals: u32) {
        let change =
            BY_DELAY * (delay.min(2.0) - 1.0) * f64::from(intervals) + BY_RISE * (delay - self.delay);
        let change = change.min(ADDED_MAX);
        let kept = if delay < CALM { CALM_KEEPS.powi(intervals.cast_signed()) } else { 1.0 };
        self.probability = ((self.probability + change) * kept).clamp(0.0, PROBABILITY_MAX);
        self.delay = delay;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system that carries `carried` orders an interval, offered `offered`: answers the delay in targets and the orders taken an
    /// interval, at the end of `intervals`.
    fn simulate(offered: f64, carried: f64, intervals: u32) -> (f64, f64) {
        let mut state = State { probability: 0.0, delay: 0.0, updated: Instant::now() };
        // The target is five intervals' work.
        let (mut queue, mut taken) = (0.0_f64, 0.0);
        for _ in 0..intervals {
            taken = offered * (1.0 - state.refused());
            queue = (queue + taken - carried).max(0.0);
            state.update(queue / (5.0 * carried), 1);
        }
        (queue / (5.0 * carried), taken)
    }

    #[test]
    fn nobody_is_refused_while_everything_can_be_carried() {
        let (delay, taken) = simulate(90.0, 100.0, 1_000);
        assert_eq!((delay, taken), (0.0, 90.0));
    }

    #[test]
    fn under_overload_as_many_are_taken_as_can_be_carried_and_wait_for_about_the_target() {
        for factor in [1.2, 2.0, 4.0, 10.0] {
            let (delay, taken) = simulate(100.0 * factor, 100.0, 600);
            assert!((90.0..=110.0).contains(&taken), "{factor}: {taken} are taken");
            assert!((0.5..=1.6).contains(&delay), "{factor}: they wait {delay} targets");
        }
    }

    #[test]
    fn the_first_are_refused_before_the_last() {
        let shed = Shed { triggers: vec!["t".to_owned()], target: Duration::from_millis(500) };
        let shedder = |probability| {
            let shedder = Shedder::new(&shed, Arc::new(|_: &[String]| Delay::default()));
            *shedder.state.lock().unwrap() = State { probability, delay: 1.0, updated: Instant::now() };
            shedder
        };
        let refused =
            |shedder: &Shedder, turn| (0..1_000).filter(|_| shedder.refuses(turn).is_some()).count();
        for (probability, first, last) in [(0.0, 0, 0), (0.5, 500, 0), (0.9, 900, 0), (0.95, 950, 500)] {
            let shedder = shedder(probability);
            assert!(refused(&shedder, Turn::First).abs_diff(first) <= 2, "{probability}");
            assert!(refused(&shedder, Turn::Last).abs_diff(last) <= 2, "{probability}");
        }
    }

    #[test]
    fn what_has_waited_for_something_else_refuses_hardly_anybody() {
        // A host that takes over finds records that are ten seconds old, and has handled them half a second later.
        let began = Instant::now();
        let shed = Shed { triggers: vec!["t".to_owned()], target: Duration::from_secs(1) };
        let oldest = Arc::new(AtomicU64::new(10_000));
        let seen = oldest.clone();
        let delay = move |_: &[String]| Delay {
            oldest: Duration::from_millis(seen.load(Ordering::Relaxed)),
            ahead: Duration::ZERO,
        };
        let shedder = Shedder::new(&shed, Arc::new(delay));
        let mut most: f64 = 0.0;
        for update in 1..=20 {
            oldest.store(if update <= 5 { 10_000 } else { 0 }, Ordering::Relaxed);
            most = most.max(shedder.probability(began + Duration::from_millis(1) + UPDATE_INTERVAL * update));
        }
        assert!(most < 0.2, "{most}");
        // Were they still as old after that, it would be overload.
        oldest.store(10_000, Ordering::Relaxed);
        for update in 21..=60 {
            most = most.max(shedder.probability(began + Duration::from_millis(1) + UPDATE_INTERVAL * update));
        }
        assert!(most > 0.9, "{most}");
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut state = State { probability: PROBABILITY_MAX, delay: 1.0, updated: Instant::now() };
        state.update(0.0, MISSED_UPDATES_MAX);
        assert_eq!(state.probability, 0.0);
    }
}

//! Refuses requests while there is more to do than can be done: as many as need be, and those first that make new work.
//!
//! What there is to do are events, and how long one that comes now will wait is the delay of a queue that this host serves, as are the age
//! of the oldest and the time that a call takes which makes new ones. Routers keep such a delay near a target with PIE (RFC 8033), by a
//! probability that grows with the distance to the target and with the rise. Its steps are for queues that a few packets fill; here each request
//! that is taken is work for seconds. So the part that is taken follows from rates: where the delay rises by `r` seconds a second, `1 + r` times as
//! much is taken as is carried, and where it is to rise by `w`, that part changes by `(1 + w) / (1 + r)`. A request is refused by count and not
//! by chance, so that of any ten in a row as many are as should be.
//!
//! What a request makes is not seen where it waits before it has come there. Until then the request itself counts, so that a crowd is refused
//! from its first tenth of a second on, and not when it is the work of seconds.

use fnhost_manifest::edge::{Shed, Turn};
use fnhost_types::waits::{ON_ITS_WAY, Waits};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long events of these triggers wait on this host, with so many that are on their way.
pub type Waiting = Arc<dyn Fn(&[String], usize) -> Waits + Send + Sync>;

/// How often the probability is adapted.
pub const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// The delay is to come to the target in this time.
const SETTLES_IN: Duration = Duration::from_secs(2);
/// It is to fall and to rise no faster than by so many seconds a second.
const FALLS_MAX: f64 = 0.7;
const RISES_MAX: f64 = 0.5;
/// Updates in which the part that is taken comes to what follows from the rates: what they do to the delay is seen that much later.
const STEPS: f64 = 6.0;
/// It grows by no more than this from one update to the next: what is let in is work for longer than it takes to see it.
const GROWTH_MAX: f64 = 1.15;
/// As much of what was seen since the last update counts for how fast the delay rises; more than this, seconds a second, is a batch that
/// came or went.
const SEEN_COUNTS: f64 = 0.3;
const SEEN_MAX: f64 = 2.0;
/// Below this part of the target, and up to this part of the requests, nobody is refused.
const HARMLESS_DELAY: f64 = 0.5;
const HARMLESS: f64 = 0.2;
/// How long the oldest has waited is an answer to what was taken so long ago, and a law that follows it swings. It counts for as much of it, for
/// where less seems to be ahead than is.
const AGE_COUNTS: f64 = 0.5;
/// As much of the last delay counts an interval later, where a smaller one is seen.
const FADES: f64 = 0.8;
/// Of ten thousand requests some always pass: what becomes of them says whether the overload is over.
const TAKEN_MIN: f64 = 0.02;
/// From here on others are refused too, besides those whose turn is first.
const LAST_FROM: f64 = 0.9;
/// When to try again: at least, and as much more where nearly everything is refused.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MORE: Duration = Duration::from_secs(4);
/// After a time without requests nothing has aged by more intervals than this: there was no overload.
const PASSED_MAX: u32 = 2;
/// Updates for which a request counts that has made an event.
const UPDATES_ON_THE_WAY: usize = (ON_ITS_WAY.as_millis() / UPDATE_INTERVAL.as_millis()) as usize;
/// Updates that are made up for after a time without requests, which is enough to forget everything.
const MISSED_UPDATES_MAX: u32 = 100;

/// Decides who is refused.
pub(super) struct Shedder {
    triggers: Vec<String>,
    waiting: Waiting,
    state: Mutex<State>,
    counters: [AtomicU32; 2],
    /// The longest call of those whose turn is first that ended since the last update, microseconds.
    longest_us: AtomicU64,
    /// Those of them that are not answered yet, and that were since the last update and have made an event.
    open: AtomicUsize,
    made: AtomicUsize,
}

/// A request that was let in.
pub(super) struct Admitted {
    shedder: Arc<Shedder>,
    began: Instant,
}

impl Admitted {
    /// It has made an event.
    pub fn made(&self) {
        self.shedder.made.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let took = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shedder.longest_us.fetch_max(took, Ordering::Relaxed);
        self.shedder.open.fetch_sub(1, Ordering::Relaxed);
    }
}

struct State {
    /// The delay that is aimed at, seconds.
    target: f64,
    /// The part of the requests that is taken.
    taken: f64,
    /// The delay at the last update, seconds.
    delay: f64,
    /// How long the oldest has waited for too much work, seconds.
    age: f64,
    /// What was ahead then, and how fast it has risen lately, seconds a second.
    ahead: f64,
    rise: f64,
    /// Requests that made an event before the last updates, the latest first.
    made: [usize; UPDATES_ON_THE_WAY],
    updated: Instant,
}

impl Shedder {
    pub fn new(shed: &Shed, waiting: Waiting) -> Self {
        Self {
            triggers: shed.triggers.clone(),
            waiting,
            state: Mutex::new(State::new(shed.target)),
            counters: Default::default(),
            longest_us: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            made: AtomicUsize::new(0),
        }
    }

    /// Whether a request is refused, and when it may come again.
    pub fn refuses(&self, turn: Turn) -> Option<Duration> {
        let refused = self.refused(Instant::now());
        let (own, counter) = match turn {
            Turn::First => (refused, &self.counters[0]),
            Turn::Last => ((refused - LAST_FROM).max(0.0) / (1.0 - LAST_FROM), &self.counters[1]),
        };
        let step = (own * f64::from(u32::MAX)) as u32;
        let this_one = counter.fetch_add(step, Ordering::Relaxed).checked_add(step).is_none();
        this_one.then(|| RETRY_AFTER + RETRY_AFTER_MORE.mul_f64(refused))
    }

    /// A request whose turn this is was let in, and is answered when what this answers is dropped.
    pub fn admit(self: &Arc<Self>, turn: Turn) -> Option<Admitted> {
        (turn == Turn::First).then(|| {
            self.open.fetch_add(1, Ordering::Relaxed);
            Admitted { shedder: self.clone(), began: Instant::now() }
        })
    }

    /// The part of the requests that is refused.
    fn refused(&self, now: Instant) -> f64 {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let intervals = now.duration_since(state.updated).as_millis() / UPDATE_INTERVAL.as_millis();
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX).min(MISSED_UPDATES_MAX);
        if intervals > 0 {
            let longest = Duration::from_micros(self.longest_us.swap(0, Ordering::Relaxed));
            let made = state.made(self.made.swap(0, Ordering::Relaxed), intervals);
            let on_their_way = made + self.open.load(Ordering::Relaxed);
            let Waits { oldest, ahead } = (self.waiting)(&self.triggers, on_their_way);
            // Under overload nothing ages faster than time passes. What is older at once has waited for something else: a host that was
            // killed, or a database that was away.
            let passed = (now - state.updated).min(UPDATE_INTERVAL * PASSED_MAX);
            state.age = oldest.max(longest).as_secs_f64().min(state.age + passed.as_secs_f64());
            state.update(ahead.as_secs_f64(), intervals);
            state.updated = now;
            fnhost_metrics::sheds((100.0 * state.refused()).round() as i64);
        }
        state.refused()
    }
}

impl State {
    fn new(target: Duration) -> Self {
        let (target, updated) = (target.as_secs_f64(), Instant::now());
        Self {
            target,
            taken: 1.0,
            delay: 0.0,
            age: 0.0,
            ahead: 0.0,
            rise: 0.0,
            made: Default::default(),
            updated,
        }
    }

    /// So many requests have made an event in these intervals; answers how many did whose events may still be on their way.
    fn made(&mut self, lately: usize, intervals: u32) -> usize {
        for _ in 0..self.made.len().min(intervals as usize) {
            self.made.rotate_right(1);
            self.made[0] = 0;
        }
        self.made[0] = lately;
        self.made.iter().sum()
    }

    /// The part of the requests that is refused: none while the delay is well below the target (RFC 8033, section 4.1), however it
    /// rises.
    fn refused(&self) -> f64 {
        let refused = 1.0 - self.taken;
        if self.delay < HARMLESS_DELAY * self.target && refused < HARMLESS { 0.0 } else { refused }
    }

    /// One that comes now will wait for `ahead`, seconds, `intervals` after the last update.
    fn update(&mut self, ahead: f64, intervals: u32) {
        let (updates, power) = (f64::from(intervals), intervals.cast_signed());
        // Not every interval sees a record taken or a call end.
        let delay = ahead.max(self.age * AGE_COUNTS).max(self.delay * FADES.powi(power));
        // Of what is ahead alone: age rises with the clock where nothing is handled for a moment.
        let seen = (ahead - self.ahead) / (updates * UPDATE_INTERVAL.as_secs_f64());
        let counts = 1.0 - (1.0 - SEEN_COUNTS).powi(power);
        self.rise += counts * (seen.clamp(-SEEN_MAX, SEEN_MAX) - self.rise);
        let wanted = (self.target - delay) / SETTLES_IN.as_secs_f64();
        let change = (1.0 + wanted.clamp(-FALLS_MAX, RISES_MAX)) / (1.0 + self.rise.max(-FALLS_MAX));
        let change = change.powf(updates / STEPS).min(GROWTH_MAX.powi(power));
        self.taken = (self.taken * change).clamp(TAKEN_MIN, 1.0);
        (self.delay, self.ahead) = (delay, ahead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_secs(1);

    /// A system that carries 1,000 orders a second and is offered so many times as much: the longest delay in targets and, over its last half,
    /// the middle of the delay and the orders taken as a part of those that can be carried. What is taken is ahead `lag` updates later; each that
    /// is taken beyond what can be carried costs half of one that is.
    fn simulate(offered: f64, lag: usize, noise: f64) -> (f64, f64, f64) {
        let mut state = State::new(TARGET);
        let mut queue = 0.0_f64;
        let mut seen = std::collections::VecDeque::from(vec![0.0; lag]);
        let (mut longest, mut delays, mut carried) = (0.0_f64, Vec::new(), 0.0);
        for update in 0..600 {
            let taken = (offered * (1.0 - state.refused())).min(2.0);
            let could = (1.0 - 0.5 * (taken - 1.0).max(0.0)).max(0.2);
            let done = could.min(taken + queue / UPDATE_INTERVAL.as_secs_f64());
            queue += (taken - done) * UPDATE_INTERVAL.as_secs_f64();
            longest = longest.max(queue);
            seen.push_back(queue);
            // As batches come and go.
            let wave = 1.0 + noise * f64::from(update * 7 % 11 - 5) / 5.0;
            let ahead = seen.pop_front().unwrap_or_default() * wave;
            state.age = ahead;
            state.update(ahead, 1);
            if update >= 300 {
                delays.push(queue);
                carried += done / 300.0;
            }
        }
        delays.sort_by(f64::total_cmp);
        (longest, delays[delays.len() / 2], carried)
    }

    #[test]
    fn nobody_is_refused_while_everything_can_be_carried() {
        let (longest, _, carried) = simulate(0.9, 3, 0.3);
        assert_eq!(longest, 0.0);
        assert!((carried - 0.9).abs() < 1e-9, "{carried}");
    }

    #[test]
    fn under_overload_as_many_are_taken_as_can_be_carried_and_wait_for_about_the_target() {
        for (offered, lag, noise) in
            [(1.2, 2, 0.1), (2.0, 2, 0.1), (4.0, 2, 0.0), (4.0, 4, 0.1), (10.0, 2, 0.1)]
        {
            let (longest, middle, carried) = simulate(offered, lag, noise);
            let told = format!("{offered}, {lag}, {noise}: {longest}, {middle}, {carried}");
            assert!(longest < 2.5, "{told}");
            assert!((0.5..=1.5).contains(&middle), "{told}");
            assert!(carried > 0.75, "{told}");
        }
    }

    #[test]
    fn the_first_are_refused_before_the_last() {
        let shed = Shed { triggers: vec!["t".to_owned()], target: Duration::from_millis(500) };
        let shedder = |refused: f64| {
            let shedder = Shedder::new(&shed, Arc::new(|_: &[String], _| Waits::default()));
            *shedder.state.lock().unwrap() =
                State { taken: 1.0 - refused, delay: 1.0, ..State::new(shed.target) };
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
        let delay = move |_: &[String], _| Waits {
            oldest: Duration::from_millis(seen.load(Ordering::Relaxed)),
            ahead: Duration::ZERO,
        };
        let shedder = Shedder::new(&shed, Arc::new(delay));
        let mut most: f64 = 0.0;
        for update in 1..=20 {
            oldest.store(if update <= 5 { 10_000 } else { 0 }, Ordering::Relaxed);
            most = most.max(shedder.refused(began + Duration::from_millis(1) + UPDATE_INTERVAL * update));
        }
        assert!(most < 0.2, "{most}");
        // Were they still as old after that, it would be overload.
        oldest.store(10_000, Ordering::Relaxed);
        for update in 21..=120 {
            most = most.max(shedder.refused(began + Duration::from_millis(1) + UPDATE_INTERVAL * update));
        }
        assert!(most > 0.9, "{most}");
    }

    #[test]
    fn a_request_counts_until_what_it_made_can_be_seen() {
        let shed = Shed { triggers: vec!["t".to_owned()], target: TARGET };
        let told = Arc::new(AtomicUsize::new(0));
        let tell = told.clone();
        let waiting = move |_: &[String], on_their_way| {
            tell.store(on_their_way, Ordering::Relaxed);
            Waits::default()
        };
        let shedder = Arc::new(Shedder::new(&shed, Arc::new(waiting)));
        let began = Instant::now();
        let counted = |update: u32| {
            shedder.refused(began + Duration::from_millis(1) + UPDATE_INTERVAL * update);
            told.load(Ordering::Relaxed)
        };
        let admitted: Vec<_> = (0..3).filter_map(|_| shedder.admit(Turn::First)).collect();
        assert!(shedder.admit(Turn::Last).is_none(), "it makes nothing");
        assert_eq!(counted(1), 3, "they are open");
        // Two were taken, and one was refused by its function.
        admitted[..2].iter().for_each(Admitted::made);
        drop(admitted);
        let updates = u32::try_from(UPDATES_ON_THE_WAY).expect("a few");
        for update in 2..2 + updates {
            assert_eq!(counted(update), 2, "{update}");
        }
        assert_eq!(counted(2 + updates), 0);
        shedder.made.store(5, Ordering::Relaxed);
        assert_eq!(counted(3 + updates), 5);
        assert_eq!(counted(3 + 3 * updates), 0, "also where nobody came meanwhile");
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut state = State { taken: TAKEN_MIN, delay: 1.0, ..State::new(TARGET) };
        state.update(0.0, MISSED_UPDATES_MAX);
        assert_eq!(state.refused(), 0.0);
    }
}

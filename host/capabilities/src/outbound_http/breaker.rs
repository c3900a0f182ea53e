//! A circuit breaker: where too many tries fail it refuses further ones for a while, then lets a few through to see.
//!
//! Closed, it counts tries and failures of the last [`WINDOW`]. Open, it refuses. Half-open, [`PROBES`] tries are under way
//! at most: as many successes close it, one failure opens it again. Time is given from outside.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fnhost_manifest::outbound::OutboundSettings;
use fnhost_metrics::OutboundMetrics;

/// What the rate of failures is taken over.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Parts of the window: the oldest is forgotten as a whole.
const PARTS: usize = 10;
/// Tries that a half-open circuit lets through at a time, and the successes that close it.
pub const PROBES: u32 = 3;

/// What a circuit does with tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Lets them through.
    Closed,
    /// Lets a few through, to see.
    HalfOpen,
    /// Refuses them.
    Open,
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Which part of time it counts, from the circuit's beginning.
    number: u64,
    tries: u32,
    failures: u32,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { under_way: u32, successes: u32 },
}

#[derive(Debug)]
struct Inner {
    parts: [Part; PARTS],
    phase: Phase,
    /// Raised with every change of phase: what was let through in an earlier one says nothing about this one.
    generation: u64,
}

/// The circuit of one host.
#[derive(Debug)]
pub struct Breaker {
    settings: OutboundSettings,
    began: Instant,
    metrics: OutboundMetrics,
    inner: Mutex<Inner>,
}

/// A try that was let through. Dropped without a verdict it counts as neither success nor failure.
#[derive(Debug)]
pub struct Pass {
    breaker: Arc<Breaker>,
    generation: u64,
    judged: bool,
}

impl Breaker {
    /// A closed circuit.
    pub fn new(settings: OutboundSettings, metrics: OutboundMetrics, now: Instant) -> Self {
        let inner = Inner { parts: [Part::default(); PARTS], phase: Phase::Closed, generation: 0 };
        Self { settings, began: now, metrics, inner: Mutex::new(inner) }
    }

    /// Lets a try through, or says how long it refuses at least.
    pub fn pass(self: &Arc<Self>, now: Instant) -> Result<Pass, Duration> {
        let mut inner = self.lock();
        if let Phase::Open { until } = inner.phase {
            if now < until {
                return Err(until - now);
            }
            inner.enter(Phase::HalfOpen { under_way: 0, successes: 0 });
        }
        if let Phase::HalfOpen { under_way, .. } = &mut inner.phase {
            if *under_way >= PROBES {
                return Err(Duration::ZERO);
            }
            *under_way += 1;
        }
        Ok(Pass { breaker: self.clone(), generation: inner.generation, judged: false })
    }

    /// What it does at present.
    pub fn state(&self) -> State {
        match self.lock().phase {
            Phase::Closed => State::Closed,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::Open { .. } => State::Open,
        }
    }

    fn judge(&self, generation: u64, failed: bool, now: Instant) {
        let mut inner = self.lock();
        if generation != inner.generation {
            return;
        }
        match &mut inner.phase {
            Phase::Closed => {
                if self.count(&mut inner.parts, failed, now) {
                    self.open(&mut inner, now);
                }
            }
            Phase::HalfOpen { .. } if failed => self.open(&mut inner, now),
            Phase::HalfOpen { under_way, successes } => {
                *under_way = under_way.saturating_sub(1);
                *successes += 1;
                if *successes >= PROBES {
                    inner.parts = [Part::default(); PARTS];
                    inner.enter(Phase::Closed);
                    self.metrics.circuit_closed();
                    tracing::info!(host = self.metrics.host(), "the host answers again; circuit closed");
                }
            }
            Phase::Open { .. } => {}
        }
    }

    fn open(&self, inner: &mut Inner, now: Instant) {
        if matches!(inner.phase, Phase::Closed) {
            self.metrics.circuit_opened();
            tracing::warn!(
                host = self.metrics.host(),
                seconds = self.settings.open_for.as_secs_f64(),
                "too many requests fail; circuit opened, requests are refused until the host answers"
            );
        }
        inner.enter(Phase::Open { until: now + self.settings.open_for });
    }

    /// Counts a try; true where the circuit has to open.
    fn count(&self, parts: &mut [Part; PARTS], failed: bool, now: Instant) -> bool {
        let part_ms = WINDOW.as_millis() / PARTS as u128;
        let number = u64::try_from((now - self.began).as_millis() / part_ms).unwrap_or(u64::MAX);
        let part = &mut parts[usize::try_from(number % PARTS as u64).unwrap_or_default()];
        if part.number != number {
            *part = Part { number, ..Part::default() };
        }
        part.tries += 1;
        part.failures += u32::from(failed);
        if !failed {
            return false;
        }
        let recent = parts.iter().filter(|part| part.number + PARTS as u64 > number);
        let (tries, failures) =
            recent.fold((0, 0), |(tries, failures), part| (tries + part.tries, failures + part.failures));
        let percent = u64::from(failures) * 100;
        tries >= self.settings.open_at_calls
            && percent >= u64::from(tries) * u64::from(self.settings.open_at_error_percent)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        if self.state() != State::Closed {
            self.metrics.circuit_closed();
        }
    }
}

impl Pass {
    /// The host answered, whatever it said.
    pub fn succeeded(mut self, now: Instant) {
        self.judged = true;
        self.breaker.judge(self.generation, false, now);
    }

    /// The host failed.
    pub fn failed(mut self, now: Instant) {
        self.judged = true;
        self.breaker.judge(self.generation, true, now);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.judged {
            return;
        }
        let mut inner = self.breaker.lock();
        if inner.generation == self.generation
            && let Phase::HalfOpen { under_way, .. } = &mut inner.phase
        {
            *under_way = under_way.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker(now: Instant) -> Arc<Breaker> {
        let settings =
            OutboundSettings { open_at_calls: 10, open_for: SECOND * 5, ..OutboundSettings::default() };
        Arc::new(Breaker::new(settings, OutboundMetrics::new("breaker", "test"), now))
    }

    fn run(breaker: &Arc<Breaker>, now: Instant, failures: u32, successes: u32) {
        for _ in 0..successes {
            breaker.pass(now).unwrap().succeeded(now);
        }
        for _ in 0..failures {
            breaker.pass(now).unwrap().failed(now);
        }
    }

    #[test]
    fn it_opens_at_half_of_enough_tries_within_the_window() {
        let now = Instant::now();
        for (failures, successes, opened) in [(9, 0, false), (10, 0, true), (5, 5, true), (4, 6, false)] {
            let breaker = breaker(now);
            run(&breaker, now, failures, successes);
            assert_eq!(breaker.state() == State::Open, opened, "{failures} of {}", failures + successes);
        }
        // What lies longer ago than the window is forgotten.
        let slow = breaker(now);
        for second in 0..60 {
            run(&slow, now + SECOND * second * 2, 1, 0);
        }
        assert_eq!(slow.state(), State::Closed, "five tries in any ten seconds");
    }

    #[test]
    fn an_open_one_refuses_then_probes_then_closes() {
        let now = Instant::now();
        let breaker = breaker(now);
        run(&breaker, now, 10, 0);
        assert_eq!(breaker.pass(now + SECOND).unwrap_err(), SECOND * 4);
        let later = now + SECOND * 5;
        let mut probes: Vec<_> = (0..PROBES).map(|_| breaker.pass(later).unwrap()).collect();
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(breaker.pass(later).is_err(), "no more than the probes");
        // One whose caller went away makes room for another.
        probes.pop();
        probes.push(breaker.pass(later).unwrap());
        for probe in probes {
            probe.succeeded(later);
        }
        assert_eq!(breaker.state(), State::Closed);
        run(&breaker, later, 9, 0);
        assert_eq!(breaker.state(), State::Closed, "it counts anew");
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_and_old_verdicts_say_nothing() {
        let now = Instant::now();
        let breaker = breaker(now);
        let old = breaker.pass(now).unwrap();
        run(&breaker, now, 10, 0);
        let later = now + SECOND * 5;
        let probe = breaker.pass(later).unwrap();
        old.succeeded(later);
        assert_eq!(breaker.state(), State::HalfOpen);
        probe.failed(later);
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(breaker.pass(later).unwrap_err(), SECOND * 5);
    }
}

//! The place of a component: the one indirection through which every batch and every request finds its code.
//!
//! A batch or a request takes a version once and keeps it to its end. So a switch is a pointer that changes between two
//! of them: nothing waits for it, what runs finishes on the old version, and the old version's memory goes when its last
//! call has ended.

use super::tally::Tally;
use fnhost_db::tally::{Counted, Kind, Outcome};
use fnhost_engine::LoadedComponent;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A version that is loaded. Immutable.
pub struct Version {
    /// Row of `fnhost.version`; 0 for code that no deployment knows, as in tests and benchmarks.
    pub number: i64,
    /// The code with its variables.
    pub component: LoadedComponent,
}

/// A version with what its calls come to, at one revision.
#[derive(Clone)]
pub struct Lane {
    /// The version that calls in this lane run.
    pub version: Arc<Version>,
    tally: Arc<Tally>,
}

impl Lane {
    /// A lane with nothing counted yet.
    pub fn new(version: Arc<Version>, revision: i64) -> Self {
        let tally = Arc::new(Tally::new(version.number, revision));
        Self { version, tally }
    }
}

/// A version that gets a part of the batches and requests.
#[derive(Clone)]
pub struct Candidate {
    /// The canary and its counts.
    pub lane: Lane,
    /// Its part of the batches of each partition and of the requests, percent.
    pub percent: u32,
}

/// What runs of a component, at one revision of the running set.
pub struct Running {
    /// The revision.
    pub revision: i64,
    /// Gets what the candidate does not get.
    pub current: Lane,
    /// The version that is tried, where there is one.
    pub candidate: Option<Candidate>,
    /// Where there is no candidate: whether the current version is on trial.
    pub on_trial: bool,
}

impl Running {
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.current).chain(self.candidate.as_ref().map(|candidate| &candidate.lane))
    }
}

/// The place of one component.
pub struct Slot {
    running: watch::Sender<Arc<Running>>,
    withdrawals: watch::Sender<i64>,
    requests: AtomicU64,
    /// Counts of revisions that are over; calls that still run add to them.
    retired: Mutex<Vec<Arc<Tally>>>,
}

impl Slot {
    /// A place in which `component` runs, without a deployment that could change it.
    pub fn of(component: LoadedComponent) -> Arc<Self> {
        let current = Lane::new(Arc::new(Version { number: 0, component }), 0);
        Self::new(Running { revision: 0, current, candidate: None, on_trial: false }, 0)
    }

    /// A place with what runs in it, and how often versions were rolled back before.
    pub fn new(running: Running, withdrawals: i64) -> Arc<Self> {
        Arc::new(Self {
            running: watch::Sender::new(Arc::new(running)),
            withdrawals: watch::Sender::new(withdrawals),
            requests: AtomicU64::new(0),
            retired: Mutex::default(),
        })
    }

    /// Snapshot of what the slot runs: the version and, during a canary, a second one.
    pub fn running(&self) -> Arc<Running> {
        self.running.borrow().clone()
    }

    /// The version for the next request.
    pub fn pick_request(self: &Arc<Self>) -> Picked {
        let running = self.running();
        let nth = match running.candidate {
            Some(_) => self.requests.fetch_add(1, Ordering::Relaxed),
            None => 0,
        };
        self.pick(&running, nth)
    }

    /// The version for a partition's batch, the `nth` that this host handles of it.
    pub fn pick_batch(self: &Arc<Self>, nth: u64) -> Picked {
        self.pick(&self.running(), nth)
    }

    fn pick(self: &Arc<Self>, running: &Running, nth: u64) -> Picked {
        let (lane, on_trial) = match &running.candidate {
            Some(candidate) if is_turn(nth, candidate.percent) => (&candidate.lane, true),
            Some(_) => (&running.current, false),
            None => (&running.current, running.on_trial),
        };
        Picked { slot: self.clone(), lane: lane.clone(), on_trial, compared: running.candidate.is_some() }
    }

    /// Puts `running` in the place of what ran. Calls under way are not touched.
    pub fn switch(&self, running: Running, withdrawals: i64) {
        let former = self.running.send_replace(Arc::new(running));
        lock(&self.retired).extend(former.lanes().map(|lane| lane.tally.clone()));
        self.withdrawals.send_if_modified(|known| std::mem::replace(known, withdrawals) != withdrawals);
    }

    /// How often versions were rolled back; changes when one is.
    pub fn withdrawals(&self) -> watch::Receiver<i64> {
        self.withdrawals.subscribe()
    }

    /// What was counted since the last time, over all versions that have calls.
    pub fn take_counts(&self) -> Vec<Counted> {
        let running = self.running();
        let mut retired = lock(&self.retired);
        let counted = retired.iter().chain(running.lanes().map(|lane| &lane.tally));
        let counted = counted.flat_map(|tally| tally.take()).collect();
        // Those that no call holds any more have said all.
        retired.retain(|tally| Arc::strong_count(tally) > 1);
        counted
    }

    fn runs(&self, version: &Arc<Version>) -> bool {
        self.running().lanes().any(|lane| Arc::ptr_eq(&lane.version, version))
    }
}

/// True for `percent` of a hundred numbers, evenly spread; not for the first.
fn is_turn(nth: u64, percent: u32) -> bool {
    let share = |n: u64| n.wrapping_mul(u64::from(percent)) / 100;
    share(nth + 1) > share(nth)
}

/// A version, for the time of one batch or request.
pub struct Picked {
    slot: Arc<Slot>,
    lane: Lane,
    on_trial: bool,
    compared: bool,
}

impl Picked {
    /// The loaded component of the picked version.
    pub fn component(&self) -> &LoadedComponent {
        &self.lane.version.component
    }

    /// Row of `fnhost.version`, or 0.
    pub fn number(&self) -> i64 {
        self.lane.version.number
    }

    /// Whether it has still to prove itself.
    pub fn on_trial(&self) -> bool {
        self.on_trial
    }

    /// Whether another version ran beside it when it was picked.
    pub fn is_compared(&self) -> bool {
        self.compared
    }

    /// Whether it is still among what runs.
    pub fn runs(&self) -> bool {
        self.slot.runs(&self.lane.version)
    }

    /// Counts what a call of it came to.
    pub fn count(&self, kind: Kind, outcome: Outcome) {
        self.lane.tally.add(kind, outcome);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::is_turn;

    #[test]
    fn a_canary_gets_its_share_evenly() {
        for percent in [1, 10, 33, 50, 99] {
            let turns: Vec<u64> = (0..1_000).filter(|nth| is_turn(*nth, percent)).collect();
            assert_eq!(turns.len(), percent as usize * 10, "{percent}%");
            let gaps = turns.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(gaps.clone().max().unwrap() - gaps.min().unwrap() <= 1, "{percent}%");
        }
        assert_eq!((0..30).filter(|nth| is_turn(*nth, 10)).collect::<Vec<_>>(), [9, 19, 29]);
    }
}

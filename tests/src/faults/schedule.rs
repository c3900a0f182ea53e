//! The schedule of faults: what strikes, what it strikes, when and for how long. Pure: the same seed and scale give the same schedule.

use fastrand::Rng;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// Longer than the session time-out of a group's member (6 s), so that others own its partitions when it goes on.
const ZOMBIE: Range<u64> = 7_500..10_000;
/// How long a process is gone, milliseconds.
const GONE: Range<u64> = 200..3_000;
/// How long something gets no answer, milliseconds: some outlast the host's patience, others do not.
const SILENT: Range<u64> = 300..6_000;
/// Roles whose COMMITs are lost and who are in trouble. `fnhost` is the owner's, with which relays commit.
const ROLES: [&str; 7] =
    ["fn_ledger", "fn_order", "fn_inventory", "fn_payment", "fn_notify", "fn_forecast", "fnhost"];
/// Functions that are swapped at any time, and those that get odd records too, which wait for the end of a version's trial.
const SWAPPED: [&str; 4] = ["auth", "order", "notify", "web"];
const SWAPPED_IN_LONG_RUNS: [&str; 2] = ["inventory", "payment"];
/// A run of this length or more has time for a minute's trial of any function.
const LONG_RUN: Duration = Duration::from_secs(180);
/// Topics that are made anew: nothing of the suite's own is sent to them.
const RECREATED: [&str; 2] = ["notification-events", "ledger-events"];

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of a host, which is started again.
    KillHost {
        /// Which one.
        host: usize,
        /// Milliseconds until it is started.
        ms: u64,
    },
    /// SIGSTOP, and SIGCONT when others own its partitions.
    FreezeHost {
        /// Which one.
        host: usize,
        /// For how long, milliseconds.
        ms: u64,
    },
    /// `kill -9` of a broker, which is started again.
    KillBroker {
        /// Which one.
        broker: usize,
        /// Milliseconds until it is started.
        ms: u64,
    },
    /// Connections to a broker are cut, and there are none for a while.
    CutBroker {
        /// Which one.
        broker: usize,
        /// For how long, milliseconds.
        ms: u64,
    },
    /// What is sent to and from a broker waits.
    FreezeBroker {
        /// Which one.
        broker: usize,
        /// For how long, milliseconds.
        ms: u64,
    },
    /// Postgres is stopped at once, and reached again later.
    StopPostgres {
        /// After so many milliseconds.
        ms: u64,
    },
    /// A host's connections to Postgres are cut, and there are none for a while.
    CutDatabase {
        /// The host, counted from 0.
        host: usize,
        /// For how long, milliseconds.
        ms: u64,
    },
    /// What is sent between a host and Postgres waits.
    FreezeDatabase {
        /// The host, counted from 0.
        host: usize,
        /// For how long, milliseconds.
        ms: u64,
    },
    /// A COMMIT gets no answer: the server has it or not, and later the connection is cut.
    LoseCommit {
        /// The session's role.
        role: &'static str,
        /// Whether the server gets it.
        deliver: bool,
        /// How long there is silence, milliseconds.
        ms: u64,
    },
    /// A role may not connect, and its sessions end.
    CloseRole {
        /// Which one.
        role: &'static str,
        /// For how long, milliseconds.
        ms: u64,
    },
    /// A role may only read.
    RestrainRole {
        /// Which one.
        role: &'static str,
        /// For how long, milliseconds.
        ms: u64,
    },
    /// Records that no function can handle, see [`super::odd`].
    OddRecords {
        /// What they are made of.
        seed: u64,
    },
    /// A topic is deleted and made anew while no order is under way.
    RecreateTopic {
        /// Which one.
        topic: &'static str,
    },
    /// Another version of a function, with the same behaviour.
    Swap {
        /// Which one.
        function: &'static str,
        /// Its share at first, percent; none: all at once.
        canary: Option<u32>,
    },
    /// The version before, or no canary.
    RollBack {
        /// Of which function.
        function: &'static str,
    },
    /// `kill -9` of the payment gateway, which comes back at once.
    KillPaymentGateway,
    /// A host is killed while brokers have not acknowledged what it sent.
    KillUnacknowledged {
        /// Which one.
        host: usize,
        /// How long nothing is acknowledged before, milliseconds.
        ms: u64,
    },
    /// A host is stopped in a COMMIT of the ledger, which reaches the server while the next owner waits for the row.
    CommitInTakeOver {
        /// Which one.
        host: usize,
    },
    /// A host is stopped in a COMMIT of the ledger that never reaches the server, and goes on when the next owner has committed.
    JudgeAfterTakeOver {
        /// Which one.
        host: usize,
    },
}

/// What there is to strike, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Hosts.
    pub hosts: usize,
    /// Brokers.
    pub brokers: usize,
    /// Faults.
    pub faults: usize,
    /// Only kinds whose name contains this; all kinds where it is empty.
    pub only: &'static str,
    /// From one fault to the next, on average. Shorter than most faults last, so that they overlap.
    pub every: Duration,
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Since the first order.
    pub at: Duration,
    /// What strikes.
    pub fault: Fault,
}

impl Scale {
    /// Time of all faults.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.every * u32::try_from(self.faults).unwrap_or(u32::MAX)
    }
}

/// The faults in the order of their times. Kinds are dealt like cards, so that each comes once before any comes again.
#[must_use]
pub fn plan(seed: u64, scale: Scale) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    let every_ms = u64::try_from(scale.every.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut deck: Vec<Kind> = Vec::new();
    let mut planned: Vec<Planned> = Vec::with_capacity(scale.faults);
    for number in 0..scale.faults as u64 {
        if deck.is_empty() {
            let is_wanted = |kind: &Kind| kind(&mut Rng::with_seed(0), scale).kind().contains(scale.only);
            deck = KINDS.into_iter().filter(is_wanted).collect();
            rng.shuffle(&mut deck);
        }
        let Some(kind) = deck.pop() else { break };
        let at = Duration::from_millis(number * every_ms + rng.u64(0..every_ms));
        planned.push(Planned { at, fault: kind(&mut rng, scale) });
    }
    planned.sort_by_key(|planned| planned.at);
    planned
}

/// Deals a fault of one kind.
type Kind = fn(&mut Rng, Scale) -> Fault;

/// Each kind once; what has two forms that matter alike is there twice.
const KINDS: [Kind; 22] = [
    |rng, scale| Fault::KillHost { host: rng.usize(0..scale.hosts), ms: rng.u64(GONE) },
    |rng, scale| Fault::KillHost { host: rng.usize(0..scale.hosts), ms: rng.u64(GONE) },
    |rng, scale| Fault::FreezeHost { host: rng.usize(0..scale.hosts), ms: rng.u64(ZOMBIE) },
    |rng, scale| Fault::KillBroker { broker: rng.usize(0..scale.brokers), ms: rng.u64(GONE) },
    |rng, scale| Fault::CutBroker { broker: rng.usize(0..scale.brokers), ms: rng.u64(GONE) },
    |rng, scale| Fault::FreezeBroker { broker: rng.usize(0..scale.brokers), ms: rng.u64(SILENT) },
    |rng, _| Fault::StopPostgres { ms: rng.u64(GONE) },
    |rng, scale| Fault::CutDatabase { host: rng.usize(0..scale.hosts), ms: rng.u64(GONE) },
    |rng, scale| Fault::FreezeDatabase { host: rng.usize(0..scale.hosts), ms: rng.u64(SILENT) },
    |rng, _| Fault::LoseCommit { role: one(rng, &ROLES), deliver: true, ms: rng.u64(SILENT) },
    |rng, _| Fault::LoseCommit { role: one(rng, &ROLES), deliver: false, ms: rng.u64(SILENT) },
    |_, _| Fault::LoseCommit { role: "fn_ledger", deliver: false, ms: SILENT.start },
    // The owner's role is the suite's own, and stays as it is.
    |rng, _| Fault::CloseRole { role: one(rng, &ROLES[..5]), ms: rng.u64(GONE) },
    |rng, _| Fault::RestrainRole { role: one(rng, &ROLES[..5]), ms: rng.u64(GONE) },
    |rng, _| Fault::OddRecords { seed: rng.u64(..) },
    |rng, _| Fault::RecreateTopic { topic: one(rng, &RECREATED) },
    |rng, scale| Fault::Swap { function: swapped(rng, scale), canary: rng.bool().then(|| rng.u32(10..60)) },
    |rng, scale| Fault::RollBack { function: swapped(rng, scale) },
    |_, _| Fault::KillPaymentGateway,
    |rng, scale| Fault::KillUnacknowledged { host: rng.usize(0..scale.hosts), ms: rng.u64(500..1_500) },
    |rng, scale| Fault::CommitInTakeOver { host: rng.usize(0..scale.hosts) },
    |rng, scale| Fault::JudgeAfterTakeOver { host: rng.usize(0..scale.hosts) },
];

fn one(rng: &mut Rng, names: &[&'static str]) -> &'static str {
    names[rng.usize(0..names.len())]
}

fn swapped(rng: &mut Rng, scale: Scale) -> &'static str {
    let long = if scale.span() >= LONG_RUN { &SWAPPED_IN_LONG_RUNS[..] } else { &[] };
    one(rng, &[&SWAPPED[..], long].concat())
}

impl Fault {
    /// What kind it is, for the report.
    #[must_use]
    pub fn kind(&self) -> String {
        let text = self.to_string();
        text.split([':', ',']).next().unwrap_or(&text).to_owned()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillHost { host, ms } => write!(f, "kill -9 a host: {host}, start after {ms} ms"),
            Self::FreezeHost { host, ms } => write!(f, "freeze a host: {host} for {ms} ms"),
            Self::KillBroker { broker, ms } => write!(f, "kill -9 a broker: {broker}, start after {ms} ms"),
            Self::CutBroker { broker, ms } => write!(f, "cut off a broker: {broker} for {ms} ms"),
            Self::FreezeBroker { broker, ms } => {
                write!(f, "freeze a broker's connections: {broker} for {ms} ms")
            }
            Self::StopPostgres { ms } => write!(f, "stop Postgres: reached again after {ms} ms"),
            Self::CutDatabase { host, ms } => write!(f, "cut off the database: from host {host} for {ms} ms"),
            Self::FreezeDatabase { host, ms } => {
                write!(f, "freeze the database's connections: of host {host} for {ms} ms")
            }
            Self::LoseCommit { role, deliver: true, ms } => {
                write!(f, "withhold the answer of a COMMIT: of {role}, cut after {ms} ms")
            }
            Self::LoseCommit { role, deliver: false, ms } => {
                write!(f, "lose a COMMIT: of {role}, cut after {ms} ms")
            }
            Self::CloseRole { role, ms } => write!(f, "close a role: {role} for {ms} ms"),
            Self::RestrainRole { role, ms } => write!(f, "let a role only read: {role} for {ms} ms"),
            Self::OddRecords { seed } => write!(f, "odd records: of seed {seed}"),
            Self::RecreateTopic { topic } => write!(f, "make a topic anew: {topic}"),
            Self::Swap { function, canary: None } => write!(f, "swap a function: {function}"),
            Self::Swap { function, canary: Some(percent) } => {
                write!(f, "swap a function: {function}, canary of {percent}%")
            }
            Self::RollBack { function } => write!(f, "roll a function back: {function}"),
            Self::KillPaymentGateway => write!(f, "kill -9 the payment gateway"),
            Self::KillUnacknowledged { host, ms } => {
                write!(f, "kill a host without acknowledgements: {host}, after {ms} ms")
            }
            Self::CommitInTakeOver { host } => {
                write!(f, "let a COMMIT happen in a take-over: from host {host}")
            }
            Self::JudgeAfterTakeOver { host } => {
                write!(f, "let a lost COMMIT be judged after a take-over: by host {host}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SCALE: Scale = Scale { hosts: 3, brokers: 3, faults: 44, only: "", every: Duration::from_secs(3) };

    #[test]
    fn a_seed_gives_one_schedule_and_another_gives_another() {
        assert_eq!(plan(7, SCALE), plan(7, SCALE));
        assert_ne!(plan(7, SCALE), plan(8, SCALE));
    }

    #[test]
    fn every_kind_comes_before_any_comes_again() {
        let planned = plan(7, SCALE);
        assert_eq!(planned.len(), SCALE.faults);
        assert!(planned.is_sorted_by_key(|planned| planned.at));
        assert!(planned.iter().all(|planned| planned.at < SCALE.span()));
        let kinds: BTreeSet<String> =
            planned.iter().take(KINDS.len() + 4).map(|planned| planned.fault.kind()).collect();
        let all: BTreeSet<String> = planned.iter().map(|planned| planned.fault.kind()).collect();
        // Killed hosts and lost COMMITs are there twice. Neighbours in the deck may change places in time.
        assert!(all.len() == KINDS.len() - 2 && kinds.len() + 2 >= all.len(), "{kinds:?} of {all:?}");
    }

    #[test]
    fn only_kinds_that_are_wanted_come() {
        let planned = plan(7, Scale { only: "kill -9 a", ..SCALE });
        let kinds: BTreeSet<String> = planned.iter().map(|planned| planned.fault.kind()).collect();
        assert_eq!(kinds, ["kill -9 a host", "kill -9 a broker"].map(str::to_owned).into());
        assert_eq!(planned.len(), SCALE.faults);
        assert!(plan(7, Scale { only: "no such kind", ..SCALE }).is_empty());
    }

    #[test]
    fn what_is_struck_exists() {
        for seed in 0..50 {
            for planned in plan(seed, Scale { hosts: 1, brokers: 1, ..SCALE }) {
                match planned.fault {
                    Fault::KillHost { host, .. } | Fault::FreezeHost { host, .. } => assert_eq!(host, 0),
                    Fault::KillBroker { broker, .. } | Fault::CutBroker { broker, .. } => {
                        assert_eq!(broker, 0)
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn only_long_runs_swap_what_gets_odd_records() {
        let functions = |faults| -> BTreeSet<&str> {
            let scale = Scale { faults, ..SCALE };
            let plans = (0..50).flat_map(|seed| plan(seed, scale));
            plans
                .filter_map(|planned| match planned.fault {
                    Fault::Swap { function, .. } | Fault::RollBack { function } => Some(function),
                    _ => None,
                })
                .collect()
        };
        assert_eq!(functions(22), SWAPPED.into());
        assert!(functions(220).contains("payment"));
    }
}

//! A relay's leaders and the lease that elects them; a schedule's are alike.
//!
//! A relay's row and two hosts that would lead. A lease passes at any time: hosts' clocks promise nothing. The relay takes any event
//! that it sees, since HTTP requests commit in no order. A leader may be killed (its transaction ends), be late (it goes on where it
//! was), or freeze for good with its connections open. Accepted messages follow from the log, as in `dispatch`.

use crate::functions::{
    FILTER, JUDGE_COMMIT, LOAD_LEASE, RELAY_ONCE, RENEW_LEASE, RESIGN, SEND, STORE, TAKE_EVENTS, TAKE_LEASE,
};
use crate::part::{Part, Promise, Rule, Step, Steps, Without, breaks, hosts_with};

const EVENTS: u8 = 3;
const HOSTS: usize = 2;
const TAKE_OVERS_MAX: u8 = 4;
const FREEZES: u8 = 1;

const LEASE_RAISES_EPOCH: Rule = Rule {
    name: "lease-raises-epoch",
    says: "taking a lease raises the epoch",
    keeps: Promise::OnlyCommitted,
};
const STORE_JUDGES_LEADER: Rule = Rule {
    name: "store-judges-leader",
    says: "a leader's store is judged by the row, not by its lease",
    keeps: Promise::NumbersOnce,
};
const LEASE_PASSES: Rule =
    Rule { name: "lease-passes", says: "a lease that has passed can be taken", keeps: Promise::EndInReach };
const TERMINATE_BLOCKERS: Rule = Rule {
    name: "terminate-blockers",
    says: "a take-over terminates the sessions that hold the row",
    keeps: Promise::EndInReach,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lease {
    Free,
    Held,
    Passed,
}

/// A number and its event.
type Message = (u8, u8);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    take_overs: u8,
    lease: Lease,
    /// The event of each number.
    relayed: Vec<u8>,
    outbox: Vec<Message>,
    freezes: u8,
    hosts: [Host; HOSTS],
    accepted: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Idle,
    /// Has taken the lease.
    Taken {
        current: bool,
    },
    Leader(Leader),
    /// Its transaction is open, with this event.
    Open(Leader, u8),
    /// Its COMMIT of this event is unanswered.
    Doubt(Leader, u8),
    /// For good; `locks` while its transaction holds the row.
    Frozen {
        locks: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Leader {
    /// The epoch of the row is its own.
    current: bool,
    /// Of the next message.
    number: u8,
    unsent: Vec<Message>,
    acknowledged: Option<u8>,
}

impl Host {
    fn locks(&self) -> bool {
        matches!(self, Self::Open(..) | Self::Frozen { locks: true })
    }

    fn leader(&self) -> Option<&Leader> {
        match self {
            Self::Leader(leader) | Self::Open(leader, _) | Self::Doubt(leader, _) => Some(leader),
            _ => None,
        }
    }

    fn with(&self, leader: Leader) -> Self {
        match self {
            Self::Open(_, event) => Self::Open(leader, *event),
            Self::Doubt(_, event) => Self::Doubt(leader, *event),
            _ => Self::Leader(leader),
        }
    }

    fn is_current(&self) -> bool {
        matches!(self, Self::Taken { current: true }) || self.leader().is_some_and(|leader| leader.current)
    }

    /// After another host has taken the lease, and terminated the session that held the row.
    fn replaced(&self, without: &Without) -> Self {
        let current = |current| current && !without.keeps(&LEASE_RAISES_EPOCH);
        match self {
            Self::Taken { current: known } => Self::Taken { current: current(*known) },
            Self::Frozen { .. } => Self::Frozen { locks: false },
            Self::Open(leader, _) => {
                Self::Leader(Leader { current: current(leader.current), ..leader.clone() })
            }
            other => other.leader().map_or_else(
                || other.clone(),
                |leader| other.with(Leader { current: current(leader.current), ..leader.clone() }),
            ),
        }
    }
}

impl State {
    fn host(&self, index: usize, host: Host) -> Self {
        Self { hosts: hosts_with(&self.hosts, index, host), ..self.clone() }
    }

    fn locked_by_others(&self, index: usize) -> bool {
        self.hosts.iter().enumerate().any(|(other, host)| other != index && host.locks())
    }

    fn take(&self, index: usize, without: &Without, steps: &mut Steps<Self>) {
        let passed = self.lease == Lease::Passed && without.keeps(&LEASE_PASSES);
        let free = self.lease == Lease::Free || passed;
        let waits = self.locked_by_others(index) && !without.keeps(&TERMINATE_BLOCKERS);
        if !free || waits || self.take_overs == TAKE_OVERS_MAX {
            return;
        }
        let mut after = Self { take_overs: self.take_overs + 1, lease: Lease::Held, ..self.clone() };
        after.hosts = after.hosts.map(|host| host.replaced(without));
        steps.to(TAKE_LEASE.step("take the lease"), after.host(index, Host::Taken { current: true }));
    }

    fn relay(&self, index: usize, leader: &Leader, without: &Without, steps: &mut Steps<Self>) {
        let next = self.relayed.len() as u8;
        let is_judged = leader.current && leader.number == next;
        if is_judged || !without.keeps(&STORE_JUDGES_LEADER) {
            for event in (0..EVENTS).filter(|event| !self.relayed.contains(event)) {
                let again = breaks(Promise::NumbersOnce, leader.number < next);
                let open = self.host(index, Host::Open(leader.clone(), event));
                steps.judged(TAKE_EVENTS.step("delete an event and store"), open, again);
            }
        }
        if leader.current {
            let after = Self { lease: Lease::Free, ..self.host(index, Host::Idle) };
            steps.to(RESIGN.step("give the lease up"), after);
        } else {
            steps.to(STORE.step("is refused: lead no more"), self.host(index, Host::Idle));
        }
    }

    fn commit(&self, index: usize, leader: &Leader, event: u8, steps: &mut Steps<Self>) {
        let message = (leader.number, event);
        let mut stored = self.clone();
        stored.relayed.push(event);
        stored
            .outbox
            .retain(|(number, _)| leader.acknowledged.is_none_or(|acknowledged| *number > acknowledged));
        stored.outbox.push(message);
        let cleared = Leader { acknowledged: None, ..leader.clone() };
        let after = Leader { number: leader.number + 1, ..with_message(&cleared, message) };
        steps.to(RELAY_ONCE.step("commit"), stored.host(index, Host::Leader(after)));
        let lost = stored.host(index, Host::Doubt(cleared, event));
        steps.to(Step::world("a COMMIT happens, and its answer is lost"), lost);
        let not = self.host(index, Host::Doubt(leader.clone(), event));
        steps.to(Step::world("a COMMIT gets no answer and does not happen"), not);
    }

    fn judge(&self, index: usize, leader: &Leader, event: u8, steps: &mut Steps<Self>) {
        let next = self.relayed.len() as u8;
        if !leader.current || next > leader.number + 1 {
            steps.to(JUDGE_COMMIT.step("find itself fenced"), self.host(index, Host::Idle));
        } else if next == leader.number {
            let after = Host::Leader(leader.clone());
            steps.to(JUDGE_COMMIT.step("find it not committed"), self.host(index, after));
        } else {
            let after = Leader { number: next, ..with_message(leader, (leader.number, event)) };
            steps.to(JUDGE_COMMIT.step("find it committed"), self.host(index, Host::Leader(after)));
        }
    }

    fn send(&self, index: usize, leader: &Leader, steps: &mut Steps<Self>) {
        let Some(((number, event), rest)) = leader.unsent.split_first() else { return };
        let sent = Leader { unsent: rest.to_vec(), acknowledged: Some(*number), ..leader.clone() };
        let mut after = self.host(index, self.hosts[index].with(sent));
        if *number < self.accepted {
            steps.to(FILTER.step("refuse what was sent again"), after);
            return;
        }
        let fault = if *number > self.accepted {
            Some(Promise::NoMessageLost)
        } else {
            breaks(Promise::OnlyCommitted, self.relayed.get(usize::from(*number)) != Some(event))
        };
        after.accepted += 1;
        steps.judged(SEND.step("send, and Kafka acknowledges"), after, fault);
    }
}

fn with_message(leader: &Leader, message: Message) -> Leader {
    let mut leader = leader.clone();
    leader.unsent.push(message);
    leader
}

pub(crate) struct LeaseModel;

impl Part for LeaseModel {
    type State = State;
    const NAME: &'static str = "lease";
    const ASKS: &'static str =
        "a relay's leaders, killed, frozen or late: are events lost, repeated or stuck?";
    const RULES: &'static [&'static Rule] =
        &[&LEASE_RAISES_EPOCH, &STORE_JUDGES_LEADER, &LEASE_PASSES, &TERMINATE_BLOCKERS];

    fn start() -> State {
        State {
            take_overs: 0,
            lease: Lease::Free,
            relayed: Vec::new(),
            outbox: Vec::new(),
            freezes: FREEZES,
            hosts: [const { Host::Idle }; HOSTS],
            accepted: 0,
        }
    }

    fn steps(state: &State, without: &Without, steps: &mut Steps<State>) {
        for (index, host) in state.hosts.iter().enumerate() {
            if matches!(host, Host::Frozen { .. }) {
                continue;
            }
            let locked = state.locked_by_others(index);
            if *host == Host::Idle || matches!(host, Host::Leader(leader) if !leader.current) {
                state.take(index, without, steps);
            }
            if *host == Host::Idle {
                continue;
            }
            steps.to(Step::world("a leader is killed"), state.host(index, Host::Idle));
            if state.freezes > 0 {
                let frozen = state.host(index, Host::Frozen { locks: host.locks() });
                let after = State { freezes: state.freezes - 1, ..frozen };
                steps.to(Step::world("a leader freezes for good"), after);
            }
            if host.is_current() && state.lease == Lease::Passed && !locked {
                steps.to(RENEW_LEASE.step("renew the lease"), State { lease: Lease::Held, ..state.clone() });
            }
            match host {
                Host::Taken { current } => {
                    let leader = Leader {
                        current: *current,
                        number: state.relayed.len() as u8,
                        unsent: state.outbox.clone(),
                        acknowledged: None,
                    };
                    steps.to(LOAD_LEASE.step("read the outbox"), state.host(index, Host::Leader(leader)));
                }
                Host::Leader(leader) if !locked => state.relay(index, leader, without, steps),
                Host::Open(leader, event) => state.commit(index, leader, *event, steps),
                Host::Doubt(leader, event) => state.judge(index, leader, *event, steps),
                _ => {}
            }
            if let Some(leader) = host.leader() {
                state.send(index, leader, steps);
            }
        }
        if state.lease == Lease::Held {
            steps.to(Step::world("the lease passes"), State { lease: Lease::Passed, ..state.clone() });
        }
    }

    fn is_done(state: &State) -> bool {
        state.accepted == EVENTS
    }

    fn is_used_up(state: &State) -> bool {
        state.take_overs == TAKE_OVERS_MAX
    }
}

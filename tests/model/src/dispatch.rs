//! A partition's owners: crashes, take-overs, COMMITs without an answer, and what is sent.
//!
//! Each record emits one message, to one of two partitions by turns. A record may come out in two ways, because a function's result
//! can depend on time: what is sent must be what was committed. A host that is fenced or has lost the partition goes on sending what
//! it has. Consumers are not seen: what they accept follows from the order in which messages arrive in the log.

use crate::functions::{CLEAR, COMMIT, DELIVERY, FILTER, JUDGE_COMMIT, LOAD, RAISE_EPOCH, SEND, STORE};
use crate::part::{Part, Promise, Rule, Step, Steps, Without, breaks, hosts_with};

const RECORDS: u8 = 4;
const HOSTS: usize = 2;
const TARGETS: u8 = 2;
const TAKE_OVERS_MAX: u8 = 4;

const STORE_CHECKS: Rule = Rule {
    name: "store-checks",
    says: "the store checks token, epoch, version, stores, position and emitted",
    keeps: Promise::NoEffectTwice,
};
const ONE_TRANSACTION: Rule = Rule {
    name: "one-transaction",
    says: "the position is stored in the function's transaction",
    keeps: Promise::NoEffectTwice,
};
const OUTBOX_IN_TRANSACTION: Rule = Rule {
    name: "outbox-in-transaction",
    says: "messages are stored in the function's transaction",
    keeps: Promise::NoMessageLost,
};
const CLEAR_AFTER_ACK: Rule = Rule {
    name: "clear-after-ack",
    says: "the outbox is cleared after the acknowledgement",
    keeps: Promise::NoMessageLost,
};
const JUDGE_BY_EPOCH: Rule = Rule {
    name: "judge-by-epoch",
    says: "a COMMIT without an answer is judged by the epoch, not by the position alone",
    keeps: Promise::OnlyCommitted,
};
const NUMBERS: Rule = Rule {
    name: "numbers",
    says: "consumers refuse what is not above their watermark",
    keeps: Promise::NoMessageTwice,
};
const LOAD_AFTER_RAISE: Rule = Rule {
    name: "load-after-raise",
    says: "the outbox is read after the statement that raised the epoch",
    keeps: Promise::NoMessageLost,
};
const UNSENT_FIRST: Rule = Rule {
    name: "unsent-first",
    says: "a stream is sent in order, and an owner begins with what is unsent",
    keeps: Promise::NoMessageLost,
};
const FAILURE_STOPS: Rule = Rule {
    name: "failure-stops-producer",
    says: "a failed delivery stops the producer",
    keeps: Promise::NoMessageLost,
};

/// A number, and how its record came out.
type Message = (u8, u8);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    take_overs: u8,
    /// How each record came out; the length is the position and the number of messages.
    committed: Vec<u8>,
    /// Records whose effects are committed.
    effects: u8,
    outbox: Vec<Message>,
    hosts: [Host; HOSTS],
    /// Messages that each target has accepted.
    accepted: [u8; TARGETS as usize],
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Idle,
    /// Has read the outbox, and the epoch is not raised yet.
    Early(Vec<Message>),
    /// Has raised the epoch. `current` is false after another take-over: the number itself would tell no more, and make states
    /// differ that are alike.
    Raised {
        current: bool,
    },
    Owner(Owner),
    /// Waits for the answer to a COMMIT that would make it `Owner` with this message.
    Doubt(Owner, Message),
    /// Has committed an effect and not yet the rest.
    Between(Owner, Message),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Owner {
    current: bool,
    position: u8,
    unsent: Vec<Message>,
    acknowledged: Option<u8>,
}

impl Host {
    fn fenced(&self) -> Self {
        match self.clone() {
            Self::Raised { .. } => Self::Raised { current: false },
            Self::Owner(owner) => Self::Owner(Owner { current: false, ..owner }),
            Self::Doubt(owner, message) => Self::Doubt(Owner { current: false, ..owner }, message),
            Self::Between(owner, message) => Self::Between(Owner { current: false, ..owner }, message),
            other => other,
        }
    }

    fn owns(&self) -> bool {
        match self {
            Self::Idle | Self::Early(_) => false,
            Self::Raised { current } => *current,
            Self::Owner(owner) | Self::Doubt(owner, _) | Self::Between(owner, _) => owner.current,
        }
    }
}

impl Owner {
    /// After the commit of `message`.
    fn with(&self, message: Message) -> Self {
        let mut unsent = self.unsent.clone();
        unsent.push(message);
        Self { position: self.position + 1, unsent, acknowledged: None, ..self.clone() }
    }
}

impl State {
    fn position(&self) -> u8 {
        self.committed.len() as u8
    }

    fn host(&self, index: usize, host: Host) -> Self {
        Self { hosts: hosts_with(&self.hosts, index, host), ..self.clone() }
    }

    /// After the host at `index` has raised the epoch.
    fn taken(&self, index: usize, host: Host) -> Self {
        let mut state = Self { take_overs: self.take_overs + 1, ..self.clone() };
        state.hosts = state.hosts.map(|host| host.fenced());
        state.host(index, host)
    }

    /// After the store of `message` by an owner to whom `acknowledged` is.
    fn stored(&self, message: Message, acknowledged: Option<u8>, with_outbox: bool) -> Self {
        let mut state = self.clone();
        state.committed.push(message.1);
        state.effects |= 1 << message.0;
        state.outbox.retain(|(number, _)| acknowledged.is_none_or(|acknowledged| *number > acknowledged));
        if with_outbox {
            state.outbox.push(message);
        }
        state
    }

    fn take_over(&self, index: usize, without: &Without, steps: &mut Steps<Self>) {
        let host = &self.hosts[index];
        if self.take_overs == TAKE_OVERS_MAX || host.owns() {
            return;
        }
        let raise = RAISE_EPOCH.step("take the partition over");
        if without.keeps(&LOAD_AFTER_RAISE) {
            steps.to(raise, self.taken(index, Host::Raised { current: true }));
            return;
        }
        match host {
            Host::Early(outbox) => {
                let (position, unsent) = (self.position(), outbox.clone());
                let owner = Owner { current: true, position, unsent, acknowledged: None };
                steps.to(raise, self.taken(index, Host::Owner(owner)));
            }
            Host::Idle | Host::Owner(_) => {
                steps.to(
                    LOAD.step("read the outbox, too early"),
                    self.host(index, Host::Early(self.outbox.clone())),
                );
            }
            _ => {}
        }
    }

    /// The record at the owner's position.
    fn batch(&self, index: usize, owner: &Owner, without: &Without, steps: &mut Steps<Self>) {
        let fits = owner.current && owner.position == self.position();
        if owner.position < RECORDS && (fits || !without.keeps(&STORE_CHECKS)) {
            for way in [0, 1] {
                let message = (owner.position, way);
                let doubled = breaks(Promise::NoEffectTwice, self.effects & (1 << owner.position) != 0);
                if !without.keeps(&ONE_TRANSACTION) {
                    let mut apart = self.host(index, Host::Between(owner.clone(), message));
                    apart.effects |= 1 << owner.position;
                    steps.judged(COMMIT.step("commit the effect, not yet the position"), apart, doubled);
                    continue;
                }
                let with_outbox = without.keeps(&OUTBOX_IN_TRANSACTION);
                let stored = self.stored(message, owner.acknowledged, with_outbox);
                if with_outbox {
                    let after = stored.host(index, Host::Owner(owner.with(message)));
                    steps.judged(COMMIT.step("store and commit"), after, doubled);
                } else {
                    let between = Host::Between(owner.with(message), message);
                    steps.judged(
                        COMMIT.step("commit, not yet the outbox"),
                        stored.host(index, between),
                        doubled,
                    );
                }
                let doubt = Owner { acknowledged: None, ..owner.clone() };
                let after = stored.host(index, Host::Doubt(doubt, message));
                steps.judged(Step::world("a COMMIT happens, and its answer is lost"), after, doubled);
            }
            if fits {
                let doubt = Host::Doubt(owner.clone(), (owner.position, 0));
                steps.to(Step::world("a COMMIT gets no answer and does not happen"), self.host(index, doubt));
            }
        }
        if fits && owner.acknowledged.is_some() {
            let mut cleared = self.clone();
            cleared.outbox.retain(|(number, _)| Some(*number) > owner.acknowledged);
            let after = Host::Owner(Owner { acknowledged: None, ..owner.clone() });
            steps.to(CLEAR.step("clear what is acknowledged"), cleared.host(index, after));
        }
        if !without.keeps(&CLEAR_AFTER_ACK) && owner.current && !owner.unsent.is_empty() {
            let mut cleared = self.clone();
            cleared.outbox.retain(|message| !owner.unsent.contains(message));
            steps.to(CLEAR.step("clear what is not acknowledged"), cleared);
        }
        if !fits {
            steps.to(STORE.step("is refused: take over again"), self.host(index, Host::Idle));
        }
    }

    /// The second transaction, where a rule is off.
    fn rest(
        &self,
        index: usize,
        owner: &Owner,
        message: Message,
        without: &Without,
        steps: &mut Steps<Self>,
    ) {
        let after = |owner| Host::Owner(owner);
        if without.keeps(&ONE_TRANSACTION) {
            let mut state = self.clone();
            if owner.current {
                state.outbox.push(message);
            }
            steps.to(STORE.step("store the outbox"), state.host(index, after(owner.clone())));
        } else if owner.current && owner.position == self.position() {
            let stored = self.stored(message, owner.acknowledged, true);
            steps.to(STORE.step("store the position"), stored.host(index, after(owner.with(message))));
        }
    }

    fn judge(
        &self,
        index: usize,
        owner: &Owner,
        message: Message,
        without: &Without,
        steps: &mut Steps<Self>,
    ) {
        let step = JUDGE_COMMIT.step("find it committed");
        if !owner.current && without.keeps(&JUDGE_BY_EPOCH) {
            steps.to(JUDGE_COMMIT.step("find itself fenced"), self.host(index, Host::Idle));
        } else if self.position() > owner.position {
            steps.to(step, self.host(index, Host::Owner(owner.with(message))));
        } else {
            steps
                .to(JUDGE_COMMIT.step("find it not committed"), self.host(index, Host::Owner(owner.clone())));
        }
    }

    fn send(&self, index: usize, without: &Without, steps: &mut Steps<Self>) {
        let owner = match &self.hosts[index] {
            Host::Owner(owner) | Host::Doubt(owner, _) | Host::Between(owner, _) => owner,
            _ => return,
        };
        let with = |unsent: Vec<Message>, acknowledged| {
            let owner = Owner { unsent, acknowledged, ..owner.clone() };
            match &self.hosts[index] {
                Host::Doubt(_, message) => Host::Doubt(owner, *message),
                Host::Between(_, message) => Host::Between(owner, *message),
                _ => Host::Owner(owner),
            }
        };
        let last = if without.keeps(&UNSENT_FIRST) { 1 } else { owner.unsent.len() };
        for at in 0..last.min(owner.unsent.len()) {
            let (number, way) = owner.unsent[at];
            let mut rest = owner.unsent.clone();
            rest.remove(at);
            let target = number % TARGETS;
            let awaited = target + self.accepted[target as usize] * TARGETS;
            let mut sent = self.host(index, with(rest.clone(), Some(number)));
            if number < awaited {
                let twice = breaks(Promise::NoMessageTwice, !without.keeps(&NUMBERS));
                steps.judged(FILTER.step("refuse what was sent again"), sent, twice);
            } else {
                let fault = if number > awaited {
                    Some(Promise::NoMessageLost)
                } else {
                    breaks(Promise::OnlyCommitted, self.committed.get(number as usize) != Some(&way))
                };
                sent.accepted[target as usize] += 1;
                steps.judged(SEND.step("send, and Kafka acknowledges"), sent, fault);
            }
            if !without.keeps(&FAILURE_STOPS) && at == 0 {
                let acknowledged = owner.acknowledged;
                steps.to(DELIVERY.step("fail, and go on"), self.host(index, with(rest, acknowledged)));
            }
        }
        if !owner.unsent.is_empty() && without.keeps(&FAILURE_STOPS) {
            steps.to(DELIVERY.step("fail, and stop the producer"), self.host(index, Host::Idle));
        }
    }
}

pub(crate) struct Dispatch;

impl Part for Dispatch {
    type State = State;
    const NAME: &'static str = "dispatch";
    const ASKS: &'static str = "two hosts, crashes, COMMITs without an answer: is each effect made once, each message accepted once?";
    const RULES: &'static [&'static Rule] = &[
        &STORE_CHECKS,
        &ONE_TRANSACTION,
        &OUTBOX_IN_TRANSACTION,
        &CLEAR_AFTER_ACK,
        &JUDGE_BY_EPOCH,
        &NUMBERS,
        &LOAD_AFTER_RAISE,
        &UNSENT_FIRST,
        &FAILURE_STOPS,
    ];

    fn start() -> State {
        State {
            take_overs: 0,
            committed: Vec::new(),
            effects: 0,
            outbox: Vec::new(),
            hosts: [const { Host::Idle }; HOSTS],
            accepted: [0; TARGETS as usize],
        }
    }

    fn steps(state: &State, without: &Without, steps: &mut Steps<State>) {
        for (index, host) in state.hosts.iter().enumerate() {
            state.take_over(index, without, steps);
            if *host != Host::Idle {
                steps.to(Step::world("a host is killed"), state.host(index, Host::Idle));
            }
            match host {
                Host::Idle | Host::Early(_) => {}
                Host::Raised { current } => {
                    let (position, unsent) = (state.position(), state.outbox.clone());
                    let owner = Owner { current: *current, position, unsent, acknowledged: None };
                    steps.to(LOAD.step("read position and outbox"), state.host(index, Host::Owner(owner)));
                }
                Host::Owner(owner) => state.batch(index, owner, without, steps),
                Host::Doubt(owner, message) => state.judge(index, owner, *message, without, steps),
                Host::Between(owner, message) => state.rest(index, owner, *message, without, steps),
            }
            state.send(index, without, steps);
        }
    }

    fn is_done(state: &State) -> bool {
        state.position() == RECORDS && state.accepted.iter().sum::<u8>() == RECORDS
    }

    fn is_used_up(state: &State) -> bool {
        state.take_overs == TAKE_OVERS_MAX
    }
}

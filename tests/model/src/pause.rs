//! A partition that is paused and resumed, and one that has stopped.
//!
//! Two hosts take the partition over from each other. A pause is a row that an owner reads at its take-over and is told of while it
//! runs, so that a batch in hand may still be committed. How soon it is told is a matter of time, which the model does not have: an
//! owner that runs when the pause comes may take batches until then.

use crate::functions::{
    CHECK_POSITION, CHECK_TOPIC, COMMIT, LOAD, NEW_WORK, RAISE_EPOCH, SEND, SET_PAUSED, SET_POSITION, STORE,
};
use crate::part::{Part, Promise, Rule, Step, Steps, Without, breaks, hosts_with};

const RECORDS: u8 = 2;
const HOSTS: usize = 2;
const TAKE_OVERS_MAX: u8 = 3;
const PAUSES: u8 = 2;
const RESUMES: u8 = 1;

const PAUSE_IN_TABLE: Rule = Rule {
    name: "pause-in-table",
    says: "a pause is kept in Postgres, not by the owner",
    keeps: Promise::PauseLasts,
};
const READ_PAUSE_FIRST: Rule = Rule {
    name: "read-pause-first",
    says: "a take-over reads the pause before the first batch",
    keeps: Promise::PauseLasts,
};
const PAUSED_SENDS: Rule = Rule {
    name: "paused-sends",
    says: "a paused owner goes on sending what is committed",
    keeps: Promise::EndInReach,
};
const RESUME_LEAVES_STOP: Rule = Rule {
    name: "resume-leaves-stop",
    says: "a resume does not start a partition that has stopped",
    keeps: Promise::StopLasts,
};
const STOP_FENCES: Rule = Rule {
    name: "stop-fences",
    says: "a stop raises the version, and nobody takes a stopped partition over",
    keeps: Promise::StopLasts,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    paused: bool,
    stopped: bool,
    /// Why it stopped is not gone: only a command starts it.
    unfit: bool,
    /// Each record emits one message.
    position: u8,
    accepted: u8,
    hosts: [Host; HOSTS],
    take_overs: u8,
    pauses: u8,
    resumes: u8,
    stops: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Idle,
    /// Has raised the epoch; `current` is false after another take-over or a change of the version.
    Raised {
        current: bool,
    },
    Owner(Owner),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Owner {
    /// Epoch and version are the row's.
    current: bool,
    /// What it knows of the pause.
    paused: bool,
    /// Took the partition over during the pause, or was told of it: what it should know.
    should_know: bool,
    in_hand: bool,
    /// Numbers that it has still to send.
    unsent: Vec<u8>,
}

impl State {
    fn host(&self, index: usize, host: Host) -> Self {
        Self { hosts: hosts_with(&self.hosts, index, host), ..self.clone() }
    }

    fn owner(&self, index: usize, owner: Owner) -> Self {
        self.host(index, Host::Owner(owner))
    }

    fn each_owner(mut self, change: impl Fn(&mut Owner)) -> Self {
        for host in &mut self.hosts {
            if let Host::Owner(owner) = host {
                change(owner);
            }
        }
        self.hosts.sort();
        self
    }

    /// Epoch or version were raised.
    fn fenced(mut self) -> Self {
        for host in &mut self.hosts {
            match host {
                Host::Idle => {}
                Host::Raised { current } | Host::Owner(Owner { current, .. }) => *current = false,
            }
        }
        self.hosts.sort();
        self
    }

    fn operator(&self, without: &Without, steps: &mut Steps<Self>) {
        if self.pauses > 0 && !self.paused {
            let after = Self { paused: true, pauses: self.pauses - 1, ..self.clone() };
            // Where the owner keeps it, it is told at once.
            let told = !without.keeps(&PAUSE_IN_TABLE);
            let after = after.each_owner(|owner| {
                owner.paused |= told && owner.current;
                owner.should_know |= told && owner.current;
            });
            steps.to(SET_PAUSED.step("pause the partition"), after);
        }
        if self.resumes > 0 && self.paused {
            let mut after = Self { paused: false, resumes: self.resumes - 1, ..self.clone() };
            after.stopped &= without.keeps(&RESUME_LEAVES_STOP);
            let after = after.each_owner(|owner| owner.should_know = false);
            steps.to(SET_PAUSED.step("resume the partition"), after);
        }
        if self.stopped {
            let after = Self { stopped: false, unfit: false, ..self.clone() };
            steps.to(SET_POSITION.step("decide where a stopped partition goes on"), after.fenced());
        }
    }

    fn take_over(&self, index: usize, without: &Without, steps: &mut Steps<Self>) {
        if self.take_overs == TAKE_OVERS_MAX {
            return;
        }
        if self.stopped && without.keeps(&STOP_FENCES) {
            // Only looks: it does not take over.
            steps.to(CHECK_POSITION.step("find the partition stopped"), self.clone());
            return;
        }
        let after = Self { take_overs: self.take_overs + 1, ..self.clone() };
        let after = after.fenced().host(index, Host::Raised { current: true });
        steps.to(RAISE_EPOCH.step("take the partition over"), after);
    }

    fn own(&self, index: usize, owner: &Owner, without: &Without, steps: &mut Steps<Self>) {
        let with = |changed: Owner| self.owner(index, changed);
        if !owner.paused && !owner.in_hand && self.position < RECORDS {
            let fault = breaks(Promise::PauseLasts, owner.current && self.paused && owner.should_know)
                .or(breaks(Promise::StopLasts, owner.current && self.unfit));
            steps.judged(
                NEW_WORK.step("take a batch"),
                with(Owner { in_hand: true, ..owner.clone() }),
                fault,
            );
        }
        if owner.in_hand && owner.current {
            let mut unsent = owner.unsent.clone();
            unsent.push(self.position);
            let after = Self { position: self.position + 1, ..self.clone() };
            let after = after.owner(index, Owner { in_hand: false, unsent, ..owner.clone() });
            steps.judged(COMMIT.step("store and commit"), after, breaks(Promise::StopLasts, self.unfit));
        }
        if !owner.current {
            steps.to(STORE.step("is refused: take over again"), self.host(index, Host::Idle));
        }
        if owner.paused != self.paused && owner.current && without.keeps(&PAUSE_IN_TABLE) {
            let told = Owner { paused: self.paused, should_know: self.paused, ..owner.clone() };
            steps.to(Step::world("the owner is told of the pause or its end"), with(told));
        }
        if let Some((number, rest)) = owner.unsent.split_first()
            && (!owner.paused || without.keeps(&PAUSED_SENDS))
        {
            let mut after = with(Owner { unsent: rest.to_vec(), ..owner.clone() });
            after.accepted = after.accepted.max(number + 1);
            steps.judged(SEND.step("send"), after, breaks(Promise::NoMessageLost, *number > self.accepted));
        }
    }

    fn stop(&self, index: usize, owner: &Owner, without: &Without, steps: &mut Steps<Self>) {
        if self.stops == 0 || !owner.current {
            return;
        }
        let after = Self { stopped: true, unfit: true, stops: self.stops - 1, ..self.clone() };
        let after = after.host(index, Host::Idle);
        let after = if without.keeps(&STOP_FENCES) { after.fenced() } else { after };
        steps.to(CHECK_TOPIC.step("find another topic and stop"), after);
    }
}

pub(crate) struct Pause;

impl Part for Pause {
    type State = State;
    const NAME: &'static str = "pause";
    const ASKS: &'static str =
        "a pause across crashes and take-overs, and beside a stop: is anything served that should rest?";
    const RULES: &'static [&'static Rule] =
        &[&PAUSE_IN_TABLE, &READ_PAUSE_FIRST, &PAUSED_SENDS, &RESUME_LEAVES_STOP, &STOP_FENCES];

    fn start() -> State {
        State {
            paused: false,
            stopped: false,
            unfit: false,
            position: 0,
            accepted: 0,
            hosts: [const { Host::Idle }; HOSTS],
            take_overs: 0,
            pauses: PAUSES,
            resumes: RESUMES,
            stops: 1,
        }
    }

    fn steps(state: &State, without: &Without, steps: &mut Steps<State>) {
        state.operator(without, steps);
        for (index, host) in state.hosts.iter().enumerate() {
            if *host != Host::Idle {
                steps.to(Step::world("a host is killed"), state.host(index, Host::Idle));
            }
            match host {
                Host::Idle => state.take_over(index, without, steps),
                Host::Raised { current: false } => {
                    steps.to(LOAD.step("find itself fenced"), state.host(index, Host::Idle));
                }
                Host::Raised { current: true } => {
                    // The outbox is what is not acknowledged.
                    let unsent = (state.accepted..state.position).collect();
                    let paused =
                        state.paused && without.keeps(&READ_PAUSE_FIRST) && without.keeps(&PAUSE_IN_TABLE);
                    let (current, should_know) = (true, state.paused);
                    let owner = Owner { current, paused, should_know, in_hand: false, unsent };
                    steps.to(LOAD.step("read the pause and the outbox"), state.owner(index, owner));
                }
                Host::Owner(owner) => {
                    state.own(index, owner, without, steps);
                    state.stop(index, owner, without, steps);
                }
            }
        }
    }

    fn is_done(state: &State) -> bool {
        let rests = state.paused && state.resumes == 0;
        state.accepted == state.position && (state.position == RECORDS || rests)
    }

    fn is_used_up(state: &State) -> bool {
        state.take_overs == TAKE_OVERS_MAX && state.hosts.iter().all(|host| !host.may_serve())
    }
}

impl Host {
    fn may_serve(&self) -> bool {
        match self {
            Self::Idle => false,
            Self::Raised { current } => *current,
            Self::Owner(owner) => owner.current,
        }
    }
}

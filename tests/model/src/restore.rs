//! A database that is restored, and the messages that are committed after that.
//!
//! One stream, the database of its sender, and a consumer. The database is set back to its last backup, or to its beginning, up to two
//! times; the log is not. A host from before a restore may go on sending, but commits nothing. Messages whose commits were forgotten
//! may be accepted or not, and their effects may be repeated. A message that the database knows must be accepted once and in order.
//!
//! What the consumer accepts follows from the order in which messages arrive in the log, even if its own database is restored too:
//! then it reads the same log again. How a restore is noticed is left out; the model only says when it must be.

use crate::functions::{BEGIN_INCARNATION, CLEAR, COMMIT, PRESENT_INCARNATION, RESEND, SEND, TAKE_OVER};
use crate::part::{Part, Promise, Rule, Step, Steps, Without};

const MESSAGES: u8 = 4;
const BACKUPS: u8 = 2;
const RESTORES: u8 = 2;

const INCARNATION_IN_NAME: Rule = Rule {
    name: "incarnation-in-name",
    says: "a stream's name has the incarnation of the database",
    keeps: Promise::NoMessageLost,
};
const NOTICE_FIRST: Rule = Rule {
    name: "notice-first",
    says: "the incarnation changes before the restored database commits its first message",
    keeps: Promise::NoMessageLost,
};
const RANDOM_INCARNATION: Rule = Rule {
    name: "random-incarnation",
    says: "an incarnation is random, not counted in the database that is restored",
    keeps: Promise::NoMessageLost,
};
const INCARNATION_OF_COMMIT: Rule = Rule {
    name: "incarnation-of-commit",
    says: "outbox rows are sent under the incarnation in which they were committed",
    keeps: Promise::NoMessageTwice,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Message {
    incarnation: u8,
    number: u8,
    /// Which of all messages it is.
    identity: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Db {
    incarnation: u8,
    emitted: u8,
    outbox: Vec<Message>,
    /// Identities of all messages that this database knows as committed.
    history: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host {
    incarnation: u8,
    unsent: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    db: Db,
    backup: Db,
    /// No restore, or it was noticed.
    noticed: bool,
    host: Option<Host>,
    /// What a host from before the restore has still to send.
    stray: Vec<Message>,
    accepted: Vec<Message>,
    /// Used so far, here and below: by all histories together.
    identities: u8,
    incarnations: u8,
    /// Still to come.
    backups: u8,
    restores: u8,
}

impl State {
    fn notice(&self, without: &Without) -> Self {
        let mut after = Self { noticed: true, host: None, ..self.clone() };
        after.incarnations += 1;
        if without.keeps(&INCARNATION_IN_NAME) {
            let random = without.keeps(&RANDOM_INCARNATION);
            after.db.incarnation = if random { self.incarnations } else { self.db.incarnation + 1 };
        }
        if !without.keeps(&INCARNATION_OF_COMMIT) {
            let incarnation = after.db.incarnation;
            after.db.outbox.iter_mut().for_each(|message| message.incarnation = incarnation);
        }
        after
    }

    /// What a host does that has read the database after the last restore.
    fn serve(&self, host: &Host, steps: &mut Steps<Self>) {
        if self.identities < MESSAGES {
            let (number, identity) = (self.db.emitted + 1, self.identities);
            let message = Message { incarnation: host.incarnation, number, identity };
            let mut after = self.clone();
            after.db.emitted = number;
            after.db.outbox.push(message);
            after.db.history.push(identity);
            after.host.iter_mut().for_each(|host| host.unsent.push(message));
            after.identities += 1;
            steps.to(COMMIT.step("commit a message"), after);
        }
        if self.db.outbox != host.unsent {
            let mut after = self.clone();
            after.db.outbox = host.unsent.clone();
            steps.to(CLEAR.step("clear what is acknowledged"), after);
        }
        if let Some((message, rest)) = host.unsent.split_first() {
            let mut after = self.clone();
            after.host = Some(Host { unsent: rest.to_vec(), ..host.clone() });
            self.send(SEND.step("send"), after, *message, steps);
        }
    }

    /// A message arrives in the log, and the consumer accepts or refuses it.
    fn send(&self, step: Step, mut after: Self, message: Message, steps: &mut Steps<Self>) {
        let history = &self.db.history;
        let mut before: Vec<u8> = self.accepted.iter().map(|accepted| accepted.identity).collect();
        let of_stream = self.accepted.iter().filter(|accepted| accepted.incarnation == message.incarnation);
        let watermark = of_stream.map(|accepted| accepted.number).max().unwrap_or(0);
        let is_known = before.contains(&message.identity);
        if message.number <= watermark {
            let lost = history.contains(&message.identity) && !is_known;
            steps.judged(step, after, lost.then_some(Promise::NoMessageLost));
            return;
        }
        if is_known {
            steps.judged(step, after, Some(Promise::NoMessageTwice));
            return;
        }
        before.push(message.identity);
        before.retain(|identity| history.contains(identity));
        after.accepted.push(message);
        let gap = !history.starts_with(&before);
        steps.judged(step, after, gap.then_some(Promise::NoMessageLost));
    }
}

pub(crate) struct Restore;

impl Part for Restore {
    type State = State;
    const NAME: &'static str = "restore";
    const ASKS: &'static str = "a database that forgets its last commits: is a message refused that was committed after the restore?";
    const RULES: &'static [&'static Rule] =
        &[&INCARNATION_IN_NAME, &NOTICE_FIRST, &RANDOM_INCARNATION, &INCARNATION_OF_COMMIT];

    fn start() -> State {
        State {
            db: Db::default(),
            backup: Db::default(),
            noticed: true,
            host: None,
            stray: Vec::new(),
            accepted: Vec::new(),
            identities: 0,
            incarnations: 1,
            backups: BACKUPS,
            restores: RESTORES,
        }
    }

    fn steps(state: &State, without: &Without, steps: &mut Steps<State>) {
        let may_be_late = !without.keeps(&NOTICE_FIRST);
        if state.backups > 0 && state.backup != state.db {
            let backup = state.db.clone();
            let after = State { backup, backups: state.backups - 1, ..state.clone() };
            steps.to(Step::world("the database is backed up"), after);
        }
        if state.restores > 0 {
            let stray = state.host.as_ref().map_or_else(|| state.stray.clone(), |host| host.unsent.clone());
            let (db, restores) = (state.backup.clone(), state.restores - 1);
            let after = State { db, noticed: false, host: None, stray, restores, ..state.clone() };
            steps.to(Step::world("the database is restored"), after);
        }
        if !state.noticed {
            let noticed = state.notice(without);
            if state.host.is_none() {
                steps.to(PRESENT_INCARNATION.step("find another server"), noticed.clone());
            }
            if state.host.is_some() || !may_be_late {
                steps.to(BEGIN_INCARNATION.step("find the group's offset ahead"), noticed);
            }
        }
        if state.host.is_none() && (state.noticed || may_be_late) {
            let (incarnation, unsent) = (state.db.incarnation, state.db.outbox.clone());
            let after = State { host: Some(Host { incarnation, unsent }), ..state.clone() };
            steps.to(TAKE_OVER.step("take over and read the outbox"), after);
        }
        if let Some(host) = &state.host {
            steps.to(Step::world("the host is killed"), State { host: None, ..state.clone() });
            state.serve(host, steps);
        }
        if let Some((message, rest)) = state.stray.split_first() {
            let after = State { stray: rest.to_vec(), ..state.clone() };
            let step = RESEND.step("a host from before the restore sends on");
            state.send(step, after, *message, steps);
        }
    }

    fn is_done(state: &State) -> bool {
        let accepted = |identity: &u8| state.accepted.iter().any(|message| message.identity == *identity);
        state.noticed && state.identities == MESSAGES && state.db.history.iter().all(accepted)
    }

    fn is_used_up(_: &State) -> bool {
        false
    }
}

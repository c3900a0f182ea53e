//! A message that Kafka refuses, and the operator who gives it up.
//!
//! A stream's messages are committed, and Kafka may begin to refuse the second one, until its limit is raised, if it ever is. The owner may be killed
//! at any time. The operator gives the message up: the owner, which has nothing of the stream on its way to Kafka at a
//! take-over, makes a dead letter of it, and its number is left out.

use crate::functions::{BURY_GIVEN_UP, LOAD, NOTE_REFUSED, OPEN, RESEND, STORE};
use crate::part::{Part, Promise, Rule, Step, Steps, Without, breaks};

const MESSAGES: u8 = 3;
/// The one that Kafka refuses.
const REFUSED: u8 = 2;

const REFUSED_BLOCKS: Rule = Rule {
    name: "refused-blocks",
    says: "nothing of a stream is sent behind a message that Kafka refuses",
    keeps: Promise::NoMessageLost,
};
const NOTE_IN_ROW: Rule = Rule {
    name: "note-in-row",
    says: "a refused message is noted in Postgres, where it can be given up",
    keeps: Promise::EndInReach,
};
const LETTER_AT_ONCE: Rule = Rule {
    name: "letter-at-once",
    says: "a message that is given up becomes a dead letter in the transaction that takes it out of the outbox",
    keeps: Promise::NoMessageLost,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    outbox: Vec<u8>,
    /// What the owner has still to send; none where there is no owner.
    owner: Option<Vec<u8>>,
    /// Kafka refuses the message.
    refuses: bool,
    /// It does not yet, and may begin to.
    may_refuse: bool,
    /// Its row in `refused`.
    noted: bool,
    /// Is out of the outbox and not yet a dead letter.
    between: bool,
    dead: bool,
    /// Numbers that consumers accepted, in order.
    accepted: Vec<u8>,
}

impl State {
    fn owns(&self, unsent: &[u8], without: &Without, steps: &mut Steps<Self>) {
        let acknowledged: Vec<u8> =
            self.outbox.iter().copied().filter(|number| unsent.contains(number)).collect();
        if acknowledged != self.outbox {
            steps.to(STORE.step("clear what is acknowledged"), Self { outbox: acknowledged, ..self.clone() });
        }
        let Some((number, rest)) = unsent.split_first() else {
            if self.noted {
                steps.to(OPEN.step("forget what was refused"), Self { noted: false, ..self.clone() });
            }
            return;
        };
        let sent = Self { owner: Some(rest.to_vec()), ..self.clone() };
        if self.refuses && *number == REFUSED {
            let mut after = Self { owner: None, ..self.clone() };
            after.noted |= without.keeps(&NOTE_IN_ROW);
            if without.keeps(&REFUSED_BLOCKS) {
                steps.to(NOTE_REFUSED.step("note that Kafka refuses a message"), after);
            } else {
                let rest = [rest, &[*number][..]].concat();
                let after = Self { owner: Some(rest), noted: true, ..self.clone() };
                steps.to(NOTE_REFUSED.step("note a refused message and send on behind it"), after);
            }
            return;
        }
        let watermark = self.accepted.last().copied().unwrap_or(0);
        if *number <= watermark {
            let lost = breaks(Promise::NoMessageLost, !self.accepted.contains(number) && !self.dead);
            steps.judged(RESEND.step("send what consumers refuse"), sent, lost);
            return;
        }
        let mut after = sent;
        after.accepted.push(*number);
        steps.to(RESEND.step("send"), after);
    }

    fn give_up(&self, without: &Without, steps: &mut Steps<Self>) {
        if self.between {
            let dead = Self { between: false, dead: true, ..self.clone() };
            steps.to(BURY_GIVEN_UP.step("keep the dead letter"), dead);
            let lost = breaks(Promise::NoMessageLost, !self.accepted.contains(&REFUSED));
            steps.judged(Step::world("the command is killed"), Self { between: false, ..self.clone() }, lost);
        }
        if !self.noted || !self.outbox.contains(&REFUSED) {
            return;
        }
        let mut after = Self { noted: false, ..self.clone() };
        after.outbox.retain(|number| *number != REFUSED);
        if without.keeps(&LETTER_AT_ONCE) {
            steps.to(BURY_GIVEN_UP.step("give the message up"), Self { dead: true, ..after });
        } else {
            steps.to(
                BURY_GIVEN_UP.step("take the message out of the outbox"),
                Self { between: true, ..after },
            );
        }
    }
}

pub(crate) struct Refusal;

impl Part for Refusal {
    type State = State;
    const NAME: &'static str = "refusal";
    const ASKS: &'static str = "Kafka refuses a message, and an operator gives it up: is anything else lost?";
    const RULES: &'static [&'static Rule] = &[&REFUSED_BLOCKS, &NOTE_IN_ROW, &LETTER_AT_ONCE];

    fn start() -> State {
        State {
            outbox: (1..=MESSAGES).collect(),
            owner: None,
            refuses: false,
            may_refuse: true,
            noted: false,
            between: false,
            dead: false,
            accepted: Vec::new(),
        }
    }

    fn steps(state: &State, without: &Without, steps: &mut Steps<State>) {
        if state.may_refuse {
            let lowered = State { refuses: true, may_refuse: false, ..state.clone() };
            steps.to(Step::world("Kafka refuses the second message from now on"), lowered);
        }
        // Nobody can count on that: the end is in reach without it.
        if state.refuses && state.noted {
            let raised = State { refuses: false, ..state.clone() };
            steps.to(Step::operator("raise the topic's limit"), raised);
        }
        state.give_up(without, steps);
        match &state.owner {
            None => {
                let after = State { owner: Some(state.outbox.clone()), ..state.clone() };
                steps.to(LOAD.step("take over and read the outbox"), after);
            }
            Some(unsent) => {
                steps.to(Step::world("the host is killed"), State { owner: None, ..state.clone() });
                state.owns(unsent, without, steps);
            }
        }
    }

    fn is_done(state: &State) -> bool {
        let settled = |number| state.accepted.contains(&number) || (number == REFUSED && state.dead);
        (1..=MESSAGES).all(settled) && !state.between
    }

    fn is_used_up(_: &State) -> bool {
        false
    }
}

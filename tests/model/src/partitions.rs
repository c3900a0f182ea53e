//! Partitions that are added to a topic while it is written and read.
//!
//! A stream is sent to the topic, whose partitions a trigger consumes that starts at the latest record. The sender and the consumer may
//! be killed at any time, and a partition is added at any time. Records of the sender have no key: the number chooses the partition.

use crate::functions::{COMMIT, FILTER, LOAD, PARTITION_FOR, SEND, START_OF, STORE, STORE_START};
use crate::part::{Part, Promise, Rule, Step, Steps, Without, breaks};

const MESSAGES: u8 = 3;
const PARTITIONS_MAX: usize = 2;

const FIXED_TARGET: Rule = Rule {
    name: "fixed-target",
    says: "the target partition is stored with the message",
    keeps: Promise::NoMessageTwice,
};
const ADDED_FROM_EARLIEST: Rule = Rule {
    name: "added-from-earliest",
    says: "a partition that is added later starts at the earliest record",
    keeps: Promise::NoRecordSkipped,
};
const START_IN_TABLE: Rule = Rule {
    name: "start-in-table",
    says: "a start is stored before the first batch, and not resolved again",
    keeps: Promise::NoRecordSkipped,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    partitions: u8,
    /// Messages numbered so far.
    emitted: u8,
    /// Number and target partition.
    outbox: Vec<(u8, u8)>,
    /// What the sender has still to send; none where there is no sender.
    sender: Option<Vec<(u8, u8)>>,
    /// Numbers of the messages in each partition.
    logs: [Vec<u8>; PARTITIONS_MAX],
    /// What the consumer has stored of each partition.
    rows: [Option<u8>; PARTITIONS_MAX],
    watermarks: [u8; PARTITIONS_MAX],
    /// Where the consumer is in each partition; none where there is no consumer.
    consumer: Option<[Option<u8>; PARTITIONS_MAX]>,
    /// Numbers that took effect, and those from before the trigger's start, as bits.
    effects: u8,
    excused: u8,
    kills: u8,
}

fn bits(numbers: &[u8]) -> u8 {
    numbers.iter().fold(0, |bits, number| bits | 1 << number)
}

impl State {
    fn send(&self, without: &Without, steps: &mut Steps<Self>) {
        let Some(unsent) = &self.sender else {
            let after = Self { sender: Some(self.outbox.clone()), ..self.clone() };
            steps.to(LOAD.step("take over and read the outbox"), after);
            return;
        };
        if self.emitted < MESSAGES {
            let message = (self.emitted + 1, self.partition_for(self.emitted + 1));
            let mut after = Self { emitted: message.0, ..self.clone() };
            after.outbox.push(message);
            after.sender.iter_mut().for_each(|unsent| unsent.push(message));
            steps.to(PARTITION_FOR.step("commit a message for a partition"), after);
        }
        if self.outbox != *unsent {
            let after = Self { outbox: unsent.clone(), ..self.clone() };
            steps.to(STORE.step("clear what is acknowledged"), after);
        }
        if let Some(((number, target), rest)) = unsent.split_first() {
            let mut after = Self { sender: Some(rest.to_vec()), ..self.clone() };
            let (step, target) = if without.keeps(&FIXED_TARGET) {
                (SEND.step("send"), *target)
            } else {
                (PARTITION_FOR.step("choose a partition anew and send"), self.partition_for(*number))
            };
            after.logs[usize::from(target)].push(*number);
            steps.to(step, after);
        }
    }

    fn partition_for(&self, number: u8) -> u8 {
        number % self.partitions
    }

    fn consume(&self, without: &Without, steps: &mut Steps<Self>) {
        let Some(at) = &self.consumer else {
            let after = Self { consumer: Some(self.rows), ..self.clone() };
            steps.to(LOAD.step("read the stored positions"), after);
            return;
        };
        let known = 0..usize::from(self.partitions);
        if at.iter().all(Option::is_none) {
            // The trigger's own start: the latest record of each partition that is there.
            self.begin(&known.collect::<Vec<_>>(), false, without, steps);
            return;
        }
        for partition in known {
            match at[partition] {
                None => {
                    self.begin(&[partition], without.keeps(&ADDED_FROM_EARLIEST), without, steps);
                }
                Some(position) if usize::from(position) < self.logs[partition].len() => {
                    self.handle(partition, position, steps);
                }
                Some(_) => {}
            }
        }
    }

    /// Begins with partitions that have no position.
    fn begin(&self, partitions: &[usize], earliest: bool, without: &Without, steps: &mut Steps<Self>) {
        let mut after = self.clone();
        let mut skipped = 0;
        for partition in partitions {
            let log = &self.logs[*partition];
            let position = if earliest { 0 } else { log.len() as u8 };
            skipped |= bits(&log[..usize::from(position)]);
            after.consumer.iter_mut().for_each(|at| at[*partition] = Some(position));
            if without.keeps(&START_IN_TABLE) {
                after.rows[*partition] = Some(position);
            }
        }
        if self.excused == 0 {
            // What is there at the very first look was never meant for the trigger.
            after.excused = skipped | 1;
        }
        skipped &= !(after.effects | after.excused);
        let step = if earliest { START_OF } else { STORE_START };
        steps.judged(step.step("choose a start"), after, breaks(Promise::NoRecordSkipped, skipped != 0));
    }

    fn handle(&self, partition: usize, position: u8, steps: &mut Steps<Self>) {
        let number = self.logs[partition][usize::from(position)];
        let mut after = self.clone();
        after.rows[partition] = Some(position + 1);
        after.consumer.iter_mut().for_each(|at| at[partition] = Some(position + 1));
        if number <= self.watermarks[partition] {
            let lost = (self.effects | self.excused) & (1 << number) == 0;
            steps.judged(FILTER.step("refuse a duplicate"), after, breaks(Promise::NoMessageLost, lost));
            return;
        }
        after.watermarks[partition] = number;
        after.effects |= 1 << number;
        let twice = self.effects & (1 << number) != 0;
        steps.judged(COMMIT.step("handle a message"), after, breaks(Promise::NoMessageTwice, twice));
    }
}

pub(crate) struct Partitions;

impl Part for Partitions {
    type State = State;
    const NAME: &'static str = "partitions";
    const ASKS: &'static str =
        "a topic gets partitions while it is written and read: is a message lost or accepted twice?";
    const RULES: &'static [&'static Rule] = &[&FIXED_TARGET, &ADDED_FROM_EARLIEST, &START_IN_TABLE];

    fn start() -> State {
        State {
            partitions: 1,
            emitted: 0,
            outbox: Vec::new(),
            sender: None,
            logs: [const { Vec::new() }; PARTITIONS_MAX],
            rows: [None; PARTITIONS_MAX],
            watermarks: [0; PARTITIONS_MAX],
            consumer: None,
            effects: 0,
            excused: 0,
            kills: 2,
        }
    }

    fn steps(state: &State, without: &Without, steps: &mut Steps<State>) {
        if usize::from(state.partitions) < PARTITIONS_MAX {
            let after = State { partitions: state.partitions + 1, ..state.clone() };
            steps.to(Step::world("a partition is added"), after);
        }
        if state.kills > 0 {
            let kills = state.kills - 1;
            if state.sender.is_some() {
                steps.to(Step::world("the sender is killed"), State { sender: None, kills, ..state.clone() });
            }
            if state.consumer.is_some() {
                steps.to(
                    Step::world("the consumer is killed"),
                    State { consumer: None, kills, ..state.clone() },
                );
            }
        }
        state.send(without, steps);
        state.consume(without, steps);
    }

    fn is_done(state: &State) -> bool {
        let handled = (state.effects | state.excused).count_ones();
        // The lowest bit says that the trigger has begun.
        state.emitted == MESSAGES && handled == u32::from(MESSAGES) + 1
    }

    fn is_used_up(_: &State) -> bool {
        false
    }
}

//! A partition's position, its topic's log, and `fnhost position`.
//!
//! One partition of a topic, from its first record on. The topic may be deleted and made anew under its name, lose its end (an unclean
//! election), or its start (retention). A lost end is noticed before the log grows again: within one topic id nothing else tells its
//! records apart. Take-overs fence each other as in `dispatch`, and the database is not restored.

mod kafka;
mod owner;

use crate::functions::{CHECK_POSITION, GROUP_POSITION, MOVE_POSITION, RAISE_EPOCH, SET_POSITION, STOP};
use crate::part::{Part, Promise, Rule, Steps, Without, breaks};

/// Records that are made in all.
const RECORDS: u8 = 4;

const COMPARE_TOPIC_ID: Rule = Rule {
    name: "compare-topic-id",
    says: "the topic's id is stored beside the position and compared",
    keeps: Promise::NoRecordSkipped,
};
const COMPARE_WHILE_OWNING: Rule = Rule {
    name: "compare-while-owning",
    says: "an owner compares the topic's id again while it runs (every second; here after each fetch)",
    keeps: Promise::NoRecordSkipped,
};
const COMPARE_BOUNDS: Rule = Rule {
    name: "compare-bounds",
    says: "a take-over compares the position with the log's start and end",
    keeps: Promise::NoRecordSkipped,
};
const KEEP_STOP: Rule = Rule {
    name: "keep-stop",
    says: "a stop is kept in the partition's row",
    keeps: Promise::NoRecordSkipped,
};
const STOP_RAISES_VERSION: Rule =
    Rule { name: "stop-raises-version", says: "a stop raises the version", keeps: Promise::StopLasts };
const STOP_AS_READ: Rule = Rule {
    name: "stop-as-read",
    says: "a stop is written only if position and version are as they were read",
    keeps: Promise::CommandsStand,
};
const POSITION_STORES_ID: Rule = Rule {
    name: "position-stores-id",
    says: "`fnhost position` stores the id of the topic whose log it looked at",
    keeps: Promise::NoRecordSkipped,
};
const POSITION_CHOSEN: Rule = Rule {
    name: "position-chosen",
    says: "`fnhost position` marks the position as chosen until the first store",
    keeps: Promise::CommandsStand,
};
const POSITION_DROPS_PARKED: Rule = Rule {
    name: "position-drops-parked",
    says: "`fnhost position` deletes parked records at or after the position",
    keeps: Promise::NoEffectTwice,
};
const POSITION_DROPS_WATERMARKS: Rule = Rule {
    name: "position-drops-watermarks",
    says: "`fnhost position` deletes the watermarks where it moves back",
    keeps: Promise::NoRecordSkipped,
};

const TAKE_OVER_AS_CHECKED: Rule = Rule {
    name: "take-over-as-checked",
    says: "a take-over starts again if the version is not the one whose position it checked",
    keeps: Promise::StopLasts,
};

/// Records as bits.
type Records = u8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    log: Log,
    row: Row,
    /// An owner whose row was changed from outside stores nothing any more and is left out.
    owner: Option<Owner>,
    taking: Option<Taking>,
    /// `fnhost position` between its look at the log and its statement.
    command: Option<Command>,
    /// The group's offset.
    group: Option<u8>,
    past: Past,
    left: Left,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Log {
    topic_id: u8,
    start: u8,
    /// Record numbers, the first at the offset `start`.
    records: Vec<u8>,
    /// It lost its end, and nobody has noticed yet.
    shorter: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    topic_id: Option<u8>,
    position: u8,
    stopped: bool,
    chosen: bool,
    /// All records are of one stream and have their number in it.
    watermark: Option<u8>,
    /// Offsets and records.
    parked: Vec<(u8, u8)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    topic_id: u8,
    position: u8,
    fetched: Option<Fetched>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Fetched {
    /// Of the log that the record is from.
    topic_id: u8,
    record: u8,
    /// Whether the owner has compared the id since.
    compared: bool,
}

/// How far a take-over is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Taking {
    Read { group: Option<u8>, row: Row },
    Stop { row: Row },
    Go { topic_id: u8 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Command {
    topic_id: u8,
    position: u8,
}

/// What has become of records: it judges the protocol, which does not see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Past {
    handled: Records,
    /// The operator chose to leave them out.
    excused: Records,
    /// Deleted by retention before they were handled.
    lost: Records,
}

/// How often something may still happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Left {
    records: u8,
    recreations: u8,
    losses: u8,
    retentions: u8,
    commands: u8,
}

fn bits(records: impl IntoIterator<Item = u8>) -> Records {
    records.into_iter().fold(0, |bits, record| bits | 1 << record)
}

impl Log {
    fn end(&self) -> u8 {
        self.start + self.records.len() as u8
    }

    fn below(&self, offset: u8) -> Records {
        let count = usize::from(offset.saturating_sub(self.start)).min(self.records.len());
        bits(self.records[..count].iter().copied())
    }

    fn all(&self) -> Records {
        bits(self.records.iter().copied())
    }
}

impl State {
    fn parked(&self) -> Records {
        bits(self.row.parked.iter().map(|(_, record)| *record))
    }

    /// `fnhost position`: a look at the log, then a statement that sets the row.
    fn operator(&self, without: &Without, steps: &mut Steps<Self>) {
        let (log, row) = (&self.log, &self.row);
        if self.left.commands > 0 && self.command.is_none() {
            for position in log.start..=log.end() {
                let mut after = self.clone();
                after.command = Some(Command { topic_id: log.topic_id, position });
                after.left.commands -= 1;
                steps.to(MOVE_POSITION.step("look at the log and choose a position"), after);
            }
        }
        let Some(Command { topic_id, position }) = self.command else { return };
        let mut after = self.changed(without);
        after.past.lost = 0;
        if topic_id == log.topic_id {
            let below = log.below(position);
            let again = log.all() & !below;
            after.past.handled &= !again;
            after.past.excused = (after.past.excused | below) & !again;
        }
        let back = position < row.position;
        after.row = Row {
            topic_id: without.keeps(&POSITION_STORES_ID).then_some(topic_id),
            position,
            stopped: false,
            chosen: without.keeps(&POSITION_CHOSEN),
            watermark: row.watermark.filter(|_| !back || !without.keeps(&POSITION_DROPS_WATERMARKS)),
            parked: row.parked.clone(),
        };
        if without.keeps(&POSITION_DROPS_PARKED) {
            after.row.parked.retain(|(offset, _)| *offset < position);
        }
        (after.owner, after.command) = (None, None);
        steps.to(SET_POSITION.step("set the position"), after);
    }

    fn fits(&self) -> bool {
        let (log, row) = (&self.log, &self.row);
        row.topic_id.is_none_or(|known| known == log.topic_id)
            && (log.start..=log.end()).contains(&row.position)
    }

    /// The row's version was raised: a take-over that has read the row starts again.
    fn changed(&self, without: &Without) -> Self {
        let goes_on = |taking: &Taking| match taking {
            Taking::Read { .. } => false,
            Taking::Stop { .. } => !without.keeps(&STOP_AS_READ),
            Taking::Go { .. } => !without.keeps(&TAKE_OVER_AS_CHECKED),
        };
        Self { taking: self.taking.clone().filter(goes_on), ..self.clone() }
    }

    /// The partition is stopped: in its row, so that only a command starts it again.
    fn stop(&self, without: &Without, by_owner: bool) -> Self {
        let mut after = self.clone();
        after.log.shorter = false;
        if by_owner {
            after.owner = None;
        } else {
            after.taking = None;
        }
        if !without.keeps(&KEEP_STOP) {
            return after;
        }
        after.row.stopped = true;
        if !without.keeps(&STOP_RAISES_VERSION) {
            return after;
        }
        Self { owner: None, ..after.changed(without) }
    }

    fn take_over(&self, without: &Without, steps: &mut Steps<Self>) {
        let (log, row) = (&self.log, &self.row);
        let with = |taking| Self { taking, ..self.clone() };
        match &self.taking {
            None if row.stopped => {}
            None => {
                let taking = Taking::Read { group: self.group, row: row.clone() };
                steps.to(GROUP_POSITION.step("read the group's offset"), with(Some(taking)));
            }
            Some(Taking::Read { group, row: read }) => {
                let other = read.topic_id.is_some_and(|known| known != log.topic_id);
                let outside = !(log.start..=log.end()).contains(&read.position);
                let stop = with(Some(Taking::Stop { row: read.clone() }));
                if (other && without.keeps(&COMPARE_TOPIC_ID)) || (outside && without.keeps(&COMPARE_BOUNDS))
                {
                    steps.to(CHECK_POSITION.step("see that the position does not fit the log"), stop);
                } else if group.is_some_and(|group| group > read.position) && !read.chosen {
                    let step = CHECK_POSITION.step("see the group's offset above the position");
                    steps.judged(step, stop, Some(Promise::CommandsStand));
                } else {
                    let mut go = with(Some(Taking::Go { topic_id: log.topic_id }));
                    go.log.shorter = false;
                    steps.to(CHECK_POSITION.step("see that the position fits"), go);
                }
            }
            Some(Taking::Stop { row: read }) => {
                if !without.keeps(&STOP_AS_READ) {
                    let undone = breaks(Promise::CommandsStand, self.fits());
                    steps.judged(
                        STOP.step("stop, whatever the row says by now"),
                        self.stop(without, false),
                        undone,
                    );
                } else if read.position == row.position {
                    steps.to(STOP.step("stop the partition"), self.stop(without, false));
                } else {
                    steps.to(STOP.step("find the row changed: start again"), with(None));
                }
            }
            Some(Taking::Go { topic_id }) => {
                let topic_id = row.topic_id.unwrap_or(*topic_id);
                let mut after = with(None);
                after.row.topic_id = Some(topic_id);
                after.owner = Some(Owner { topic_id, position: row.position, fetched: None });
                after.group = Some(row.position);
                steps.to(RAISE_EPOCH.step("take the partition over"), after);
            }
        }
    }
}

pub(crate) struct Topic;

impl Part for Topic {
    type State = State;
    const NAME: &'static str = "topic";
    const ASKS: &'static str = "a topic that is made anew or loses records, a stop, `fnhost position`: is a record skipped or repeated?";
    const RULES: &'static [&'static Rule] = &[
        &COMPARE_TOPIC_ID,
        &COMPARE_WHILE_OWNING,
        &COMPARE_BOUNDS,
        &KEEP_STOP,
        &STOP_RAISES_VERSION,
        &STOP_AS_READ,
        &POSITION_STORES_ID,
        &POSITION_CHOSEN,
        &POSITION_DROPS_PARKED,
        &POSITION_DROPS_WATERMARKS,
        &TAKE_OVER_AS_CHECKED,
    ];

    /// One record was handled.
    fn start() -> State {
        State {
            log: Log { topic_id: 0, start: 0, records: vec![0], shorter: false },
            row: Row {
                topic_id: Some(0),
                position: 1,
                stopped: false,
                chosen: false,
                watermark: Some(0),
                parked: Vec::new(),
            },
            owner: Some(Owner { topic_id: 0, position: 1, fetched: None }),
            taking: None,
            command: None,
            group: Some(1),
            past: Past { handled: 1, excused: 0, lost: 0 },
            left: Left { records: RECORDS - 1, recreations: 1, losses: 1, retentions: 1, commands: 1 },
        }
    }

    fn steps(state: &State, without: &Without, steps: &mut Steps<State>) {
        state.kafka(steps);
        state.operator(without, steps);
        state.take_over(without, steps);
        if let Some(owner) = &state.owner {
            state.own(owner, without, steps);
        }
    }

    fn is_done(state: &State) -> bool {
        let caught_up =
            |owner: &Owner| owner.topic_id == state.log.topic_id && owner.position == state.log.end();
        let quiet = state.left.records == 0 && !state.row.stopped && state.row.parked.is_empty();
        state.owner.as_ref().is_some_and(caught_up) && quiet
    }

    /// Only a further command would help, and there is none left.
    fn is_used_up(state: &State) -> bool {
        state.left.commands == 0 && (state.command.is_some() || state.row.stopped || !state.fits())
    }
}

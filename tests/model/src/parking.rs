//! Records that wait, dead letters, and dead letters that are put back.
//!
//! One partition with records of two keys, and its owner, who may be killed at any time. A record may be done, fail or be rejected at
//! each attempt; when it is due is left out. An operator puts dead letters back. Owners fence each other as in `dispatch`, and the
//! position is not moved.

mod judge;
mod redrive;

use crate::functions::{COMMIT, DUE_WORK, LOAD, NEW_WORK, STORE};
use crate::part::{Part, Promise, Rule, Step, Steps, Without};
use judge::{Ghost, outcomes};
use redrive::Redrive;

/// The key of each record; its number is its offset.
const KEYS: [u8; RECORDS] = [0, 0, 1, 0];
const RECORDS: usize = 4;
const ATTEMPTS_MAX: u8 = 2;
const REDRIVES: u8 = 2;
const BATCH_MAX: usize = 2;

const WAIT_BEHIND: Rule = Rule {
    name: "wait-behind",
    says: "a record whose key is parked is parked behind it",
    keeps: Promise::OrderOfKey,
};
const JUDGE_ORDER: Rule = Rule {
    name: "judge-order",
    says: "no record is done behind one of its key and batch that is to be tried again",
    keeps: Promise::OrderOfKey,
};
const HEAD_FIRST: Rule = Rule {
    name: "head-first",
    says: "of the parked records of a key, the first one runs first",
    keeps: Promise::OrderOfKey,
};
const BATCH_AS_PARKED: Rule = Rule {
    name: "batch-as-parked",
    says: "parked records of a key run in the order in which they are parked, not in that of their offsets",
    keeps: Promise::OrderOfKey,
};
const FATES_IN_TRANSACTION: Rule = Rule {
    name: "fates-in-transaction",
    says: "records are parked and buried in the transaction that stores the position",
    keeps: Promise::NoRecordSkipped,
};
const STORE_ATTEMPTS: Rule =
    Rule { name: "store-attempts", says: "attempts are counted in Postgres", keeps: Promise::AttemptsCount };
const REDRIVE_LAST: Rule = Rule {
    name: "redrive-last",
    says: "a dead letter is put back behind what is parked of its key",
    keeps: Promise::OrderOfKey,
};
const REDRIVE_RAISES_VERSION: Rule = Rule {
    name: "redrive-raises-version",
    says: "putting a dead letter back raises the version",
    keeps: Promise::OrderOfKey,
};
const REDRIVE_LOCKS: Rule = Rule {
    name: "redrive-locks",
    says: "the partition's row is locked before the dead letter's place is looked up",
    keeps: Promise::OrderOfKey,
};
const REDRIVE_AT_ONCE: Rule = Rule {
    name: "redrive-at-once",
    says: "a dead letter is deleted in the transaction that parks it",
    keeps: Promise::NoEffectTwice,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The partition's row and what belongs to it.
    db: Stored,
    owner: Option<Owner>,
    redrive: Option<Redrive>,
    redrives: u8,
    ghost: Ghost,
}

/// What the database has, and an owner in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Stored {
    position: u8,
    /// In their order; a key's come one after the other, with others between them.
    parked: Vec<Parked>,
    /// Only the database has these.
    dead: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Parked {
    record: u8,
    attempts: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    /// Its version is the row's.
    fresh: bool,
    memory: Stored,
    /// Has committed the position and not yet these fates.
    between: Option<Vec<Fate>>,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Done(u8),
    /// Is parked with this many attempts, or stays so.
    Park(u8, u8),
    Dead(u8),
}

/// A batch that is settled.
struct Work {
    from: Step,
    fates: Vec<Fate>,
    /// After it.
    position: u8,
}

const FROM_LOG: Step = NEW_WORK.step("handle records that have arrived");
const FROM_PARKED: Step = DUE_WORK.step("handle parked records");

fn key(record: u8) -> u8 {
    KEYS[usize::from(record)]
}

impl Stored {
    fn at(&self, record: u8) -> Option<usize> {
        self.parked.iter().position(|parked| parked.record == record)
    }

    fn blocks(&self, of: u8) -> bool {
        self.parked.iter().any(|parked| key(parked.record) == of)
    }

    /// Deletes one dead letter of the record: it may have died again meanwhile.
    fn drop_letter(&mut self, record: u8) {
        if let Some(at) = self.dead.iter().position(|dead| *dead == record) {
            self.dead.remove(at);
        }
    }

    fn apply(&mut self, fate: Fate) {
        match fate {
            Fate::Done(record) | Fate::Dead(record) => self.parked.retain(|parked| parked.record != record),
            Fate::Park(record, attempts) => match self.at(record) {
                Some(at) => self.parked[at].attempts = attempts,
                None => self.parked.push(Parked { record, attempts }),
            },
        }
        if let Fate::Dead(record) = fate {
            self.dead.push(record);
            self.dead.sort_unstable();
        }
    }
}

impl State {
    /// Stores what became of these records, with the position after them.
    fn settle(&self, owner: &Owner, work: Work, without: &Without, steps: &mut Steps<Self>) {
        let Work { from, fates, position } = work;
        if !owner.fresh {
            return;
        }
        let mut after = self.clone();
        after.db.position = position;
        let mut memory = owner.memory.clone();
        memory.position = position;
        for fate in &fates {
            memory.apply(*fate);
        }
        memory.dead.clear();
        let mut broken = None;
        for fate in &fates {
            let judged = after.ghost.judge(*fate);
            broken = broken.or(judged);
        }
        if !without.keeps(&FATES_IN_TRANSACTION) {
            let owner = Owner { memory, between: Some(fates), ..owner.clone() };
            steps.judged(
                COMMIT.step("commit the position, not yet what is parked"),
                with(after, owner),
                broken,
            );
            return;
        }
        for fate in fates {
            after.db.apply(fate);
        }
        let owner = Owner { memory, ..owner.clone() };
        steps.judged(from, with(after, owner), broken);
    }

    /// Records from the log.
    fn new_work(&self, owner: &Owner, without: &Without, steps: &mut Steps<Self>) {
        let first = owner.memory.position;
        for end in first + 1..=RECORDS.min(usize::from(first) + BATCH_MAX) as u8 {
            let items: Vec<Parked> = (first..end).map(|record| Parked { record, attempts: 0 }).collect();
            let waits = |record: u8| without.keeps(&WAIT_BEHIND) && owner.memory.blocks(key(record));
            for fates in outcomes(&items, &waits, without.keeps(&JUDGE_ORDER)) {
                let work = Work { from: FROM_LOG, fates, position: end };
                self.settle(owner, work, without, steps);
            }
        }
    }

    /// Parked records.
    fn due_work(&self, owner: &Owner, without: &Without, steps: &mut Steps<Self>) {
        let parked = &owner.memory.parked;
        for (at, first) in parked.iter().enumerate() {
            let of_key = |other: &&Parked| key(other.record) == key(first.record);
            let is_head = !parked[..at].iter().any(|other| of_key(&other));
            if !is_head && without.keeps(&HEAD_FIRST) {
                continue;
            }
            let next = parked[at + 1..].iter().find(of_key);
            let mut batches = vec![vec![first.clone()]];
            if let Some(next) = next.filter(|next| is_head && first.attempts == 0 && next.attempts == 0) {
                let mut both = vec![first.clone(), next.clone()];
                if !without.keeps(&BATCH_AS_PARKED) {
                    both.sort_by_key(|parked| parked.record);
                }
                batches.push(both);
            }
            for items in batches {
                for fates in outcomes(&items, &|_| false, without.keeps(&JUDGE_ORDER)) {
                    let work = Work { from: FROM_PARKED, fates, position: owner.memory.position };
                    self.settle(owner, work, without, steps);
                }
            }
        }
    }

    fn load(&self, without: &Without) -> Owner {
        let mut memory = Stored { dead: Vec::new(), ..self.db.clone() };
        if !without.keeps(&STORE_ATTEMPTS) {
            memory.parked.iter_mut().for_each(|parked| parked.attempts = 0);
        }
        Owner { fresh: true, memory, between: None }
    }
}

fn with(state: State, owner: Owner) -> State {
    State { owner: Some(owner), ..state }
}

pub(crate) struct Parking;

impl Part for Parking {
    type State = State;
    const NAME: &'static str = "parking";
    const ASKS: &'static str =
        "records that fail, wait, die and are put back: are they handled once, in the order of their key?";
    const RULES: &'static [&'static Rule] = &[
        &WAIT_BEHIND,
        &JUDGE_ORDER,
        &HEAD_FIRST,
        &BATCH_AS_PARKED,
        &FATES_IN_TRANSACTION,
        &STORE_ATTEMPTS,
        &REDRIVE_LAST,
        &REDRIVE_RAISES_VERSION,
        &REDRIVE_LOCKS,
        &REDRIVE_AT_ONCE,
    ];

    fn start() -> State {
        State { db: Stored::default(), owner: None, redrive: None, redrives: REDRIVES, ghost: Ghost::new() }
    }

    fn steps(state: &State, without: &Without, steps: &mut Steps<State>) {
        state.operator(without, steps);
        let Some(owner) = &state.owner else {
            steps
                .to(LOAD.step("take over and read what is parked"), with(state.clone(), state.load(without)));
            return;
        };
        let ended = State { owner: None, ..state.clone() };
        let skipped = ended.ghost.skipped(&ended.db);
        steps.judged(Step::world("the host is killed"), ended.clone(), skipped);
        if let Some(fates) = &owner.between {
            let mut after = with(state.clone(), Owner { between: None, ..owner.clone() });
            for fate in fates {
                after.db.apply(*fate);
            }
            steps.to(STORE.step("park and bury in another transaction"), after);
            return;
        }
        if !owner.fresh {
            steps.to(STORE.step("is refused: take over again"), ended);
            return;
        }
        state.new_work(owner, without, steps);
        state.due_work(owner, without, steps);
    }

    fn is_done(state: &State) -> bool {
        usize::from(state.db.position) == RECORDS && state.db.parked.is_empty() && state.redrive.is_none()
    }

    fn is_used_up(_: &State) -> bool {
        false
    }
}

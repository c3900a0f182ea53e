//! The functions of the host that take the models' steps. A test holds that each is in its file, and that each takes a step.

use crate::part::{By, Step};
use std::fmt::{self, Display};

/// A function of the host, in Rust or SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Function {
    /// Its file in the checkout.
    pub file: &'static str,
    /// Its name.
    pub name: &'static str,
}

impl Function {
    /// A step that it takes.
    pub const fn step(self, what: &'static str) -> Step {
        Step { by: By::Host(self), what }
    }
}

impl Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.trim_end_matches("/mod.rs").trim_end_matches(".rs").trim_end_matches(".sql");
        write!(f, "{}::{}", file.rsplit('/').next().unwrap_or(file), self.name)
    }
}

macro_rules! functions {
    ($($constant:ident = $name:ident in $file:literal;)*) => {
        $(pub(crate) const $constant: Function = Function { file: $file, name: stringify!($name) };)*
        /// All of them.
        pub const ALL: &[Function] = &[$($constant),*];
    };
}

functions! {
    BEGIN_INCARNATION = begin_incarnation in "host/db/src/stopped.rs";
    BURY_GIVEN_UP = bury_given_up in "host/db/src/refused.rs";
    CHECK_POSITION = check_position in "host/dispatch/src/worker/take_over.rs";
    CHECK_TOPIC = check_topic in "host/dispatch/src/worker/mod.rs";
    CLEAR = clear in "host/dispatch/src/worker/mod.rs";
    COMMIT = commit in "host/dispatch/src/commit.rs";
    DELIVERY = delivery in "host/kafka/src/producer.rs";
    DUE_WORK = due_work in "host/dispatch/src/worker/intake.rs";
    FILTER = filter in "host/dispatch/src/worker/intake.rs";
    GROUP_POSITION = group_position in "host/kafka/src/assigned.rs";
    JUDGE_COMMIT = judge_commit in "host/db/src/ownership.rs";
    LOAD = load in "host/db/src/ownership.rs";
    LOAD_LEASE = load in "host/db/src/relay.rs";
    MOVE_POSITION = move_position in "host/dispatch/src/operator/position.rs";
    NEW_WORK = new_work in "host/dispatch/src/worker/intake.rs";
    NOTE_REFUSED = note_refused in "host/dispatch/src/stream.rs";
    OPEN = open in "host/dispatch/src/stream.rs";
    PARTITION_FOR = partition_for in "host/kafka/src/cluster.rs";
    PRESENT_INCARNATION = present_incarnation in "migrations/fnhost/0005_edges.sql";
    PROVE_MEMBERSHIP = prove_membership in "host/kafka/src/assigned.rs";
    RAISE_EPOCH = raise_epoch in "host/db/src/ownership.rs";
    REDRIVE_PART = redrive_part in "host/db/src/dead/redrive.rs";
    RELAY_ONCE = relay_once in "host/dispatch/src/relay/mod.rs";
    RENEW_LEASE = renew_lease in "host/db/src/relay.rs";
    RESEND = resend in "host/kafka/src/sender.rs";
    RESIGN = resign in "host/dispatch/src/relay/mod.rs";
    SEND = send in "host/kafka/src/sender.rs";
    SET_PAUSED = set_paused in "host/db/src/positions.rs";
    SET_POSITION = set in "host/db/src/positions.rs";
    START_OF = start_of in "host/dispatch/src/subscription.rs";
    STOP = stop in "host/db/src/stopped.rs";
    STORE = store in "migrations/fnhost/0005_edges.sql";
    STORE_START = store_start in "host/db/src/schema.rs";
    STORE_VERDICTS = store_verdicts in "host/dispatch/src/worker/settle.rs";
    TAKE = take in "host/kafka/src/assigned.rs";
    TAKE_EVENTS = take_events in "host/db/src/relay.rs";
    TAKE_LEASE = take_lease in "host/db/src/relay.rs";
    TAKE_OVER = take_over in "host/dispatch/src/worker/take_over.rs";
}

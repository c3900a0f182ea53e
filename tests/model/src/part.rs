//! What a model is made of: promises, rules and steps.

use crate::functions::Function;
use std::fmt::{self, Debug, Display};
use std::hash::Hash;

/// What must hold whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// A committed message is accepted.
    NoMessageLost,
    /// A message is accepted once.
    NoMessageTwice,
    /// Only what was committed is sent.
    OnlyCommitted,
    /// A number of a stream stands for one message.
    NumbersOnce,
    /// A record takes effect once.
    NoEffectTwice,
    /// A record takes effect, becomes a dead letter, or is left out by an operator.
    NoRecordSkipped,
    /// Records of a key are handled in their order; one that is put back stands behind what waits at that time.
    OrderOfKey,
    /// A failed attempt counts.
    AttemptsCount,
    /// A stopped partition is not served until a command decides.
    StopLasts,
    /// A paused partition takes no new batch.
    PauseLasts,
    /// What an operator decided stands.
    CommandsStand,
    /// From every state, everything can still be handled and accepted.
    EndInReach,
}

impl Promise {
    /// Its name as a property.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoMessageLost => "no message is lost",
            Self::NoMessageTwice => "no message is accepted twice",
            Self::OnlyCommitted => "nothing is accepted that nobody committed",
            Self::NumbersOnce => "no number is used twice",
            Self::NoEffectTwice => "no effect is doubled",
            Self::NoRecordSkipped => "no record is skipped",
            Self::OrderOfKey => "the order of a key is kept",
            Self::AttemptsCount => "every failed attempt counts",
            Self::StopLasts => "a stopped partition is not served",
            Self::PauseLasts => "a paused partition takes no new batch",
            Self::CommandsStand => "no command is undone",
            Self::EndInReach => "the end can be reached",
        }
    }
}

/// What the host does to keep a promise.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// By which it is switched off.
    pub name: &'static str,
    /// What the host does.
    pub says: &'static str,
    /// The promise that is broken without it.
    pub keeps: Promise,
}

/// The rules that are switched off.
#[derive(Clone, Debug, Default)]
pub struct Without(Vec<&'static str>);

impl Without {
    /// These rules are switched off.
    pub fn rules(rules: &[&'static Rule]) -> Self {
        Self(rules.iter().map(|rule| rule.name).collect())
    }

    /// Whether the rule is followed.
    pub fn keeps(&self, rule: &Rule) -> bool {
        !self.0.contains(&rule.name)
    }
}

/// Who takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A function of the host.
    Host(Function),
    /// Kafka, the database or the machine.
    World,
    /// A command of an operator.
    Operator,
}

/// A step of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who takes it.
    pub by: By,
    /// What happens.
    pub what: &'static str,
}

impl Step {
    /// Something that the host does not decide.
    pub const fn world(what: &'static str) -> Self {
        Self { by: By::World, what }
    }

    /// An operator's command.
    pub const fn operator(what: &'static str) -> Self {
        Self { by: By::Operator, what }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            By::Host(function) => write!(f, "{:28} {}", function.to_string(), self.what),
            By::World => write!(f, "{:28} {}", "-", self.what),
            By::Operator => write!(f, "{:28} {}", "operator", self.what),
        }
    }
}

/// The steps that can be taken in a state.
#[derive(Debug)]
pub struct Steps<S>(pub(crate) Vec<(Step, S, Option<Promise>)>);

impl<S> Steps<S> {
    /// A step to `state`.
    pub fn to(&mut self, step: Step, state: S) {
        self.0.push((step, state, None));
    }

    /// A step to `state` that breaks `promise`, if any: nothing is looked at behind it.
    pub fn judged(&mut self, step: Step, state: S, promise: Option<Promise>) {
        self.0.push((step, state, promise));
    }
}

/// The promise that is broken if `broken`.
pub fn breaks(promise: Promise, broken: bool) -> Option<Promise> {
    broken.then_some(promise)
}

/// A model of one part of the protocol.
pub trait Part: 'static {
    /// What is stored, what each host has in memory, what is in Kafka, and what is left of each bound.
    type State: Clone + Debug + Eq + Hash + Send + Sync;
    /// Its name.
    const NAME: &'static str;
    /// The question that it answers.
    const ASKS: &'static str;
    /// The rules that can be switched off.
    const RULES: &'static [&'static Rule];

    /// Where it starts.
    fn start() -> Self::State;

    /// The steps that can be taken in `state`; always the same ones in the same order.
    fn steps(state: &Self::State, without: &Without, steps: &mut Steps<Self::State>);

    /// Everything is handled and accepted.
    fn is_done(state: &Self::State) -> bool;

    /// A bound is used up, so that it says nothing if the end cannot be reached.
    fn is_used_up(state: &Self::State) -> bool;
}

/// All hosts, where `host` takes the place of the one at `index`. They are alike, so they are sorted: a state is kept once and not for
/// each order of the hosts.
pub fn hosts_with<H: Clone + Ord, const N: usize>(hosts: &[H; N], index: usize, host: H) -> [H; N] {
    let mut hosts = hosts.clone();
    hosts[index] = host;
    hosts.sort();
    hosts
}

//! Runs a model: every step in every state that can be reached.

use crate::functions::Function;
use crate::part::{By, Part, Promise, Rule, Step, Steps, Without};
use stateright::{Checker as _, HasDiscoveries, Model, Property};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::{self, Display};
use std::marker::PhantomData;

/// A promise that is broken, and the shortest way to it.
#[derive(Debug)]
pub struct Fault {
    /// The promise.
    pub promise: Promise,
    /// Steps from the start.
    pub way: Vec<Step>,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BROKEN: {}", self.promise.name())?;
        for (number, step) in (1..).zip(&self.way) {
            write!(f, "\n  {number:2}. {step}")?;
        }
        Ok(())
    }
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// States that were reached.
    pub states: usize,
    /// The host's functions that took a step.
    pub functions: BTreeSet<Function>,
    /// The first fault, if any.
    pub fault: Option<Fault>,
}

/// A model that can be explored.
pub trait Explore: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// The question that it answers.
    fn asks(&self) -> &'static str;
    /// Its rules.
    fn rules(&self) -> &'static [&'static Rule];
    /// Explores it without these rules.
    fn explore(&self, without: &Without) -> Report;
}

/// A part as a model that can be explored.
pub struct Of<P>(PhantomData<fn() -> P>);

impl<P> Of<P> {
    /// The one value.
    pub const NEW: Self = Self(PhantomData);
}

impl<P: Part> Explore for Of<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn asks(&self) -> &'static str {
        P::ASKS
    }

    fn rules(&self) -> &'static [&'static Rule] {
        P::RULES
    }

    fn explore(&self, without: &Without) -> Report {
        let (found, states) = find::<P>(without, None);
        if let Some(mut fault) = found {
            // The checker goes on for a moment after its first find: a shorter way may have been replaced.
            while let (Some(shorter), _) = find::<P>(without, Some(fault.way.len())) {
                fault = shorter;
            }
            return Report { states, functions: BTreeSet::new(), fault: Some(fault) };
        }
        Graph::<P>::explore(without).report()
    }
}

/// The first broken promise that stateright finds, on a way shorter than `shorter_than`, and the number of states that it saw.
fn find<P: Part>(without: &Without, shorter_than: Option<usize>) -> (Option<Fault>, usize) {
    let model = Checked::<P> { without: without.clone(), part: PhantomData };
    let mut checker = model.checker().finish_when(HasDiscoveries::AnyFailures);
    if let Some(steps) = shorter_than {
        // Its depth counts states and leaves out what is at the depth itself.
        checker = checker.target_max_depth(steps + 1);
    }
    let checker = checker.spawn_bfs().join();
    let faults = checker.discoveries().into_iter().filter_map(|(name, path)| {
        let promise = *PROMISES.iter().find(|promise| promise.name() == name)?;
        Some(Fault { promise, way: path.into_actions().into_iter().map(|taken| taken.step).collect() })
    });
    let shortest = faults.min_by_key(|fault| (fault.way.len(), fault.promise));
    (shortest, checker.unique_state_count())
}

/// A part as stateright sees it.
struct Checked<P> {
    without: Without,
    part: PhantomData<fn() -> P>,
}

/// A state, and the promise that the step to it broke.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node<S> {
    state: S,
    broken: Option<Promise>,
}

/// A step with the state behind it.
#[derive(Clone, Debug, PartialEq)]
struct Taken<S> {
    step: Step,
    to: Node<S>,
}

/// The promises that stateright checks, and when each is broken. "In reach" it sees only where a run ends for good.
macro_rules! promises {
    ($($promise:ident)*) => {
        const PROMISES: &[Promise] = &[$(Promise::$promise,)* Promise::EndInReach];
        fn properties<P: Part>() -> Vec<Property<Checked<P>>> {
            vec![
                $(Property::always(Promise::$promise.name(), |_, node: &Node<_>| node.broken != Some(Promise::$promise)),)*
                Property::eventually(Promise::EndInReach.name(), |_, node: &Node<_>| {
                    node.broken.is_some() || P::is_done(&node.state) || P::is_used_up(&node.state)
                }),
            ]
        }
    };
}

promises! {
    NoMessageLost NoMessageTwice OnlyCommitted NumbersOnce NoEffectTwice NoRecordSkipped OrderOfKey AttemptsCount StopLasts PauseLasts
    CommandsStand
}

impl<P: Part> Model for Checked<P> {
    type State = Node<P::State>;
    type Action = Taken<P::State>;

    fn init_states(&self) -> Vec<Self::State> {
        vec![Node { state: P::start(), broken: None }]
    }

    fn actions(&self, node: &Self::State, actions: &mut Vec<Self::Action>) {
        if node.broken.is_some() {
            return;
        }
        let mut steps = Steps(Vec::new());
        P::steps(&node.state, &self.without, &mut steps);
        actions.extend(
            steps.0.into_iter().map(|(step, state, broken)| Taken { step, to: Node { state, broken } }),
        );
    }

    fn next_state(&self, _: &Self::State, taken: Self::Action) -> Option<Self::State> {
        Some(taken.to)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}

/// All states of a part without faults, and the ways between them.
struct Graph<P: Part> {
    states: Vec<P::State>,
    /// How each state was reached first.
    came_by: Vec<Option<(usize, Step)>>,
    /// The states from which each can be reached in one step.
    before: Vec<Vec<usize>>,
    functions: BTreeSet<Function>,
}

impl<P: Part> Graph<P> {
    fn explore(without: &Without) -> Self {
        let mut numbers = HashMap::from([(P::start(), 0)]);
        let mut graph = Self {
            states: vec![P::start()],
            came_by: vec![None],
            before: vec![Vec::new()],
            functions: BTreeSet::new(),
        };
        let mut next = 0;
        while next < graph.states.len() {
            let mut steps = Steps(Vec::new());
            P::steps(&graph.states[next], without, &mut steps);
            for (step, state, _) in steps.0 {
                if let By::Host(function) = step.by {
                    graph.functions.insert(function);
                }
                let number = match numbers.entry(state) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        graph.states.push(new.key().clone());
                        graph.came_by.push(Some((next, step)));
                        graph.before.push(Vec::new());
                        *new.insert(graph.states.len() - 1)
                    }
                };
                graph.before[number].push(next);
            }
            next += 1;
        }
        graph
    }

    /// The first state from which the end cannot be reached, unless a bound is why.
    fn dead_end(&self) -> Option<usize> {
        let mut reaches: Vec<bool> = self.states.iter().map(P::is_done).collect();
        let mut queue: VecDeque<usize> = (0..reaches.len()).filter(|number| reaches[*number]).collect();
        while let Some(number) = queue.pop_front() {
            for before in &self.before[number] {
                if !std::mem::replace(&mut reaches[*before], true) {
                    queue.push_back(*before);
                }
            }
        }
        (0..reaches.len()).find(|number| !reaches[*number] && !P::is_used_up(&self.states[*number]))
    }

    fn way_to(&self, mut number: usize) -> Vec<Step> {
        let mut way = Vec::new();
        while let Some((before, step)) = self.came_by[number] {
            way.push(step);
            number = before;
        }
        way.reverse();
        way
    }

    fn report(self) -> Report {
        let dead_end = self.dead_end();
        let fault = dead_end.map(|number| Fault { promise: Promise::EndInReach, way: self.way_to(number) });
        Report { states: self.states.len(), functions: self.functions, fault }
    }
}

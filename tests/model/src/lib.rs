//! The dispatch protocol (docs/protocol.md) as small models, one for each question.
//!
//! Each model tries every step in every state that it can reach. A step is what one function of the host does (or Kafka, an operator,
//! a crash); a promise is what must hold whatever happens; a rule is what the host does to keep it. Without a rule, a model finds the
//! shortest way to the promise that is broken.
//!
//! [`mod@explore`] runs a model: stateright finds broken promises and runs that end too early; a second pass finds states from which
//! the end cannot be reached any more, which stateright has no property for.

pub mod explore;
pub mod functions;
pub mod part;

mod dispatch;
mod lease;
mod parking;
mod partitions;
mod pause;
mod refusal;
mod restore;
mod topic;

use explore::{Explore, Of};

/// All models.
pub fn models() -> [&'static dyn Explore; 8] {
    [
        &Of::<dispatch::Dispatch>::NEW,
        &Of::<parking::Parking>::NEW,
        &Of::<topic::Topic>::NEW,
        &Of::<pause::Pause>::NEW,
        &Of::<partitions::Partitions>::NEW,
        &Of::<refusal::Refusal>::NEW,
        &Of::<restore::Restore>::NEW,
        &Of::<lease::LeaseModel>::NEW,
    ]
}

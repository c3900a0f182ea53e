//! Variables whose values change while hosts run: the keys that sign and check tokens.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::variables::Secret;

/// Values that count in place of those that the application was started with; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Rotating(Arc<RwLock<BTreeMap<String, Secret>>>);

impl Rotating {
    /// The value of an application variable, where it has one of its own.
    #[must_use]
    pub fn get(&self, variable: &str) -> Option<Secret> {
        // Nothing panics while it is held.
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(variable).cloned()
    }

    /// Puts these in place of all that were there.
    pub fn replace(&self, values: BTreeMap<String, Secret>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = values;
    }
}

/// What a component sees of them.
#[derive(Clone, Debug, Default)]
pub struct Rotated {
    /// The application variable behind each of the component's own that is one and nothing else.
    pub names: BTreeMap<String, String>,
    /// The values, by application variable.
    pub values: Rotating,
}

impl Rotated {
    /// The value of a variable of the component, where it has changed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Secret> {
        self.values.get(self.names.get(name)?)
    }
}

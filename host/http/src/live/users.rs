//! How many streams each user has open: one user must not take the places of all others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The streams of each user. Users without one take no memory.
#[derive(Clone)]
pub(super) struct Users {
    max: usize,
    open: Arc<Mutex<HashMap<u64, usize>>>,
}

/// A user's place; given up when dropped.
pub(super) struct Place {
    users: Users,
    user: u64,
}

impl Users {
    /// Each may have `max` streams.
    pub fn new(max: usize) -> Self {
        Self { max, open: Arc::default() }
    }

    /// Streams that each may have.
    pub fn max(&self) -> usize {
        self.max
    }

    /// A place for one more stream of a user; none where there are as many as may be.
    pub fn enter(&self, user: u64) -> Option<Place> {
        // Nothing panics while it is held.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = open.get(&user).copied().unwrap_or_default();
        if streams >= self.max {
            return None;
        }
        open.insert(user, streams + 1);
        Some(Place { users: self.clone(), user })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.users.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(streams) = open.get_mut(&self.user) {
            *streams -= 1;
            if *streams == 0 {
                open.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_as_many_streams_as_may_be_and_gets_places_back() {
        let users = Users::new(2);
        let first = users.enter(1).expect("a place");
        let _second = users.enter(1).expect("a place");
        assert!(users.enter(1).is_none(), "two are open");
        let other = users.enter(2).expect("another user has places of its own");
        drop(first);
        let _third = users.enter(1).expect("a place was given back");
        drop(other);
        assert_eq!(users.open.lock().unwrap().len(), 1, "who has no stream takes no memory");
    }
}

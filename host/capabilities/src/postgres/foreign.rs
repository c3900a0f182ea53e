//! Connections to addresses that are not a function's own database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::address::Address;
use fnhost_db::session::{RolePool, SessionLimits};

/// Connections to one address that is not a function's own database.
const FOREIGN_CONNECTIONS_MAX: usize = 4;
/// Foreign addresses whose connections are kept; beyond that the one unused for longest is closed.
const FOREIGN_ADDRESSES_MAX: usize = 16;

/// Small pools for the addresses that components open beside their own database.
pub struct AddressPools {
    deadline: Duration,
    /// The most recently used last.
    pools: Mutex<Vec<(AddressKey, RolePool)>>,
}

/// An address and the certificate authority that is trusted for it.
type AddressKey = (Address, Option<Arc<str>>);

impl AddressPools {
    /// Pools whose statements end after `deadline`.
    pub fn new(deadline: Duration) -> Self {
        Self { deadline, pools: Mutex::new(Vec::new()) }
    }

    pub(super) fn pool(&self, key: AddressKey) -> RolePool {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = match pools.iter().position(|(known, _)| *known == key) {
            Some(at) => pools.remove(at).1,
            None => {
                let limits =
                    SessionLimits { max_connections: FOREIGN_CONNECTIONS_MAX, deadline: self.deadline };
                RolePool::new("outbound", key.0.options(key.1.as_deref()), limits)
            }
        };
        if pools.len() == FOREIGN_ADDRESSES_MAX {
            pools.remove(0);
        }
        pools.push((key, pool.clone()));
        pool
    }
}

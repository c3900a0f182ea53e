//! How many connections each client has open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::MAX_CONNECTIONS;
use super::edge::network;

/// Connections of one client address at a time, or of one network of IPv6; a further one is closed. Half of all, so that no
/// address alone keeps the others out, and many viewers can share one.
pub const MAX_CONNECTIONS_PER_ADDRESS: usize = MAX_CONNECTIONS / 2;

/// Open connections by network; what has none takes no memory.
#[derive(Default)]
pub(super) struct Clients {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection, counted until this is dropped; by default one that is not counted.
#[derive(Default)]
pub(super) struct Open(Option<(Arc<Clients>, IpAddr)>);

impl Clients {
    /// Counts a connection from this address; none where it has as many as it may.
    pub fn open(self: &Arc<Self>, address: IpAddr) -> Option<Open> {
        let network = network(address);
        let mut counts = self.counts();
        let count = counts.entry(network).or_default();
        if *count >= MAX_CONNECTIONS_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Open(Some((self.clone(), network))))
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some((clients, network)) = &self.0 else { return };
        let mut counts = clients.counts();
        match counts.get_mut(network) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(network)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_number_of_connections_and_no_others() {
        let clients = Arc::<Clients>::default();
        let open = |address: &str| clients.open(address.parse().expect("an address"));
        let mut first: Vec<Open> =
            (0..MAX_CONNECTIONS_PER_ADDRESS).map(|_| open("192.0.2.1").expect("below the limit")).collect();
        assert!(open("192.0.2.1").is_none() && open("::ffff:192.0.2.1").is_none());
        let other = open("192.0.2.2").expect("another address");
        first.pop();
        first.push(open("192.0.2.1").expect("one was closed"));
        drop((first, other));
        assert!(clients.counts().is_empty(), "what is closed is forgotten");

        let network: Vec<Open> = (0..MAX_CONNECTIONS_PER_ADDRESS)
            .map(|number| open(&format!("2001:db8::{number:x}")).expect("below the limit"))
            .collect();
        assert!(open("2001:db8::ffff:1").is_none(), "the same network");
        assert!(open("2001:db8:0:1::1").is_some(), "the next one");
        drop(network);
    }
}

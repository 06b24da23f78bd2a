//! How many connections each client address has open on this node.
//!
//! Shared by the workers, because the kernel spreads an address's connections over them. Only looked at as a
//! connection opens and closes, and only where there is a limit.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rustc_hash::FxHashMap;

use super::client_of;

/// Open connections by client address.
#[derive(Default)]
pub(crate) struct ClientConnections {
    open: Mutex<FxHashMap<IpAddr, u32>>,
}

impl ClientConnections {
    /// Counts a connection until the guard is dropped; `None` when its address has `limit` of them already.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, limit: u32) -> Option<CountedConnection> {
        let address = client_of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(CountedConnection { addresses: Arc::clone(self), address })
    }
}

/// One counted connection.
pub(crate) struct CountedConnection {
    addresses: Arc<ClientConnections>,
    address: IpAddr,
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            // Addresses without connections are removed, so memory follows the open connections.
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_limit_and_who_is_gone_is_forgotten() {
        let addresses = Arc::new(ClientConnections::default());
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let held = [addresses.enter(one, 2).unwrap(), addresses.enter(one, 2).unwrap()];
        assert!(addresses.enter(one, 2).is_none());
        assert!(addresses.enter(other, 2).is_some());
        let neighbours = ["2001:db8::2", "2001:db8:0:0:ffff::3"].map(|text| text.parse().unwrap());
        let _two = neighbours.map(|address| addresses.enter(address, 2).unwrap());
        assert!(addresses.enter(other, 2).is_none(), "one network is one client");
        assert!(addresses.enter("2001:db8:0:1::1".parse().unwrap(), 2).is_some());
        drop(_two);
        drop(held);
        assert!(addresses.enter(one, 2).is_some());
        assert!(addresses.open.lock().unwrap().is_empty());
    }
}

//! How many connections each client address has open on this node.
//!
//! Shared by the workers, because the kernel spreads an address's connections over them. Only looked at as a
//! connection opens and closes, and only where there is a limit.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rustc_hash::FxHashMap;

/// Open connections by client address.
#[derive(Default)]
pub(crate) struct Addresses {
    open: Mutex<FxHashMap<IpAddr, u32>>,
}

impl Addresses {
    /// Counts a connection until the guard is dropped; `None` when its address has `limit` of them already.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, limit: u32) -> Option<Entered> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Entered { addresses: Arc::clone(self), address })
    }
}

/// One counted connection.
pub(crate) struct Entered {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            // Who is gone is forgotten: memory follows the connections that are open.
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
        let addresses = Arc::new(Addresses::default());
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let held = [addresses.enter(one, 2).unwrap(), addresses.enter(one, 2).unwrap()];
        assert!(addresses.enter(one, 2).is_none());
        assert!(addresses.enter(other, 2).is_some());
        drop(held);
        assert!(addresses.enter(one, 2).is_some());
        assert!(addresses.open.lock().unwrap().is_empty());
    }
}

//! The addresses of one backend: their order of use, and which of them are allowed.
//!
//! A node uses one address at a time: the first one that accepts connections, in the same order as the health checker,
//! so that both use the same server. After a failed connection it uses the next address.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use weir_snapshot::{
    backend_address::{self, OwnPort},
    config::AllowBackends,
};

/// The addresses of a backend's host, and which of them is in use.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    list: Vec<SocketAddr>,
    current: AtomicUsize,
}

impl Addresses {
    /// Continues with the address that was in use before, if the list has it, or else with the first one.
    pub(crate) fn following(list: Vec<SocketAddr>, before: &Self) -> Self {
        let in_use = before.in_use();
        let current = list.iter().position(|address| Some(*address) == in_use).unwrap_or(0);
        Self { list, current: AtomicUsize::new(current) }
    }

    /// All addresses, in order.
    pub(crate) fn all(&self) -> &[SocketAddr] {
        &self.list
    }

    /// Each address once, starting with the one in use.
    pub(crate) fn starting_at_current(&self) -> impl Iterator<Item = SocketAddr> {
        let at = self.current.load(Relaxed).min(self.list.len());
        let (before, after) = self.list.split_at(at);
        after.iter().chain(before).copied()
    }

    /// The address that new connections try first.
    pub(crate) fn in_use(&self) -> Option<SocketAddr> {
        self.starting_at_current().next()
    }

    /// The addresses before the one in use.
    pub(crate) fn preferred(&self) -> &[SocketAddr] {
        &self.list[..self.current.load(Relaxed).min(self.list.len())]
    }

    /// A connection to the address failed. If it is in use, the next one is used from now on.
    pub(crate) fn failed(&self, address: SocketAddr) {
        let current = self.current.load(Relaxed);
        if self.list.len() > 1 && self.list.get(current) == Some(&address) {
            let next = (current + 1) % self.list.len();
            // If another worker has moved on already, its choice counts.
            let _ = self.current.compare_exchange(current, next, Relaxed, Relaxed);
        }
    }

    /// The address accepts connections again: it is used from now on.
    pub(crate) fn prefer(&self, address: SocketAddr) {
        if let Some(index) = self.list.iter().position(|one| *one == address) {
            self.current.store(index, Relaxed);
        }
    }
}

/// The addresses that this node may connect to.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressPolicy {
    allow: AllowBackends,
    own: Arc<[OwnPort]>,
}

impl AddressPolicy {
    /// Made of the configuration's setting and of the ports that are known to belong to the fleet.
    pub(crate) fn new(allow: AllowBackends, own: Arc<[OwnPort]>) -> Self {
        Self { allow, own }
    }

    /// The allowed addresses, and the first one that is not allowed with the reason.
    pub(crate) fn filter(&self, addresses: Vec<SocketAddr>) -> (Vec<SocketAddr>, Option<String>) {
        let mut refused = None;
        let mut allowed = addresses;
        allowed.retain(|address| {
            let why = backend_address::why_forbidden(*address, &self.allow, &self.own, is_local);
            let is_allowed = why.is_none();
            if let (None, Some(why)) = (&refused, why) {
                refused = Some(why);
            }
            is_allowed
        });
        (allowed, refused)
    }
}

/// Whether the address belongs to this machine. Normally only these can be bound. With `net.ipv4.ip_nonlocal_bind` an
/// address for documentation (RFC 5737) can be bound too, and then only loopback addresses are certain.
fn is_local(address: IpAddr) -> bool {
    let binds = |address| UdpSocket::bind((address, 0)).is_ok();
    address.is_loopback() || binds(address) && !binds(IpAddr::from([192, 0, 2, 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_failed_address_is_followed_by_the_next_and_the_first_comes_back() {
        let all = list(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
        let addresses = Addresses::following(all.clone(), &Addresses::default());
        let order = |addresses: &Addresses| addresses.starting_at_current().collect::<Vec<_>>();
        assert_eq!(order(&addresses), all);
        assert!(addresses.preferred().is_empty());
        addresses.failed(all[0]);
        addresses.failed(all[0]);
        assert_eq!(order(&addresses), [all[1], all[2], all[0]], "what is not in use does not fail twice");
        assert_eq!(addresses.preferred(), &all[..1]);
        let next = Addresses::following(list(&["10.0.0.0:80", "10.0.0.2:80"]), &addresses);
        assert_eq!(next.in_use(), Some(all[1]), "a new answer keeps what is in use");
        let next = Addresses::following(list(&["10.0.0.9:80"]), &addresses);
        assert_eq!(next.in_use(), Some(list(&["10.0.0.9:80"])[0]));
        addresses.failed(all[1]);
        addresses.failed(all[2]);
        assert_eq!(order(&addresses), all, "after the last comes the first");
        addresses.failed(all[0]);
        addresses.prefer(all[0]);
        assert_eq!(order(&addresses), all);
        let one = Addresses::following(list(&["10.0.0.1:80"]), &Addresses::default());
        one.failed(all[0]);
        assert_eq!(one.in_use(), Some(all[0]), "a single address stays in use");
        assert_eq!(Addresses::default().in_use(), None);
    }

    #[test]
    fn refused_addresses_are_left_out_and_the_reason_is_kept() {
        let own: Arc<[OwnPort]> =
            Arc::new([OwnPort::new("0.0.0.0:8080".parse().unwrap(), "a node's HTTP port")]);
        let permit = AddressPolicy::new(AllowBackends::default(), Arc::clone(&own));
        let all = list(&[
            "169.254.169.254:80",
            "127.0.0.1:8080",
            "192.0.2.7:8080",
            "[fe80::1]:80",
            "127.0.0.1:8081",
        ]);
        let (allowed, why) = permit.filter(all.clone());
        assert_eq!(
            allowed,
            list(&["192.0.2.7:8080", "127.0.0.1:8081"]),
            "another machine's port is not ours"
        );
        assert!(why.unwrap().contains("169.254.169.254:80 is a link-local"));
        let permit = AddressPolicy::new(AllowBackends { link_local: true, own_ports: true }, own);
        assert_eq!(permit.filter(all.clone()), (all, None));
    }
}

//! Limits per client address: open connections, and requests in flight.

mod connections;
mod requests;

use std::net::{IpAddr, Ipv6Addr};

pub(crate) use self::{
    connections::{ClientConnections, CountedConnection},
    requests::{ClientRequest, ClientRequests, NodeRequests},
};

/// The unit that a limit counts: an IPv4 address, or the /64 network of an IPv6 address, because one host can use all
/// of its addresses. `address` is canonical.
fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

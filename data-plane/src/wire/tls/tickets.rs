//! Session tickets that any worker of any node resumes from.
//!
//! The state of a session is sealed into a ticket that the client keeps, so that nodes need no table of sessions. The
//! control plane makes the keys and sends the same ones to all nodes; before that a node uses a key of its own. A
//! ticket is useless once its key is deleted. Keys are few and short-lived, because the holder of a key can read every
//! session (of TLS 1.2, and those that its tickets resumed) that it sealed.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use rustls::server::ProducesTickets;
use weir_proto::v1;

/// Length of a key's name, which precedes its tickets.
const NAME: usize = 16;

/// How long a ticket of the node's own key is worth keeping, in seconds.
const OWN_LIFETIME: u32 = 4 * 3600;

/// Seals and opens session tickets.
pub(crate) struct Tickets(ArcSwap<Ring>);

/// The keys that hold at one time.
struct Ring {
    current: Option<Sealer>,
    others: Vec<Sealer>,
    lifetime: u32,
}

/// One key. Sealing by AES-GCM-SIV: nodes draw their nonces without knowing of each other's.
struct Sealer {
    name: [u8; NAME],
    key: RandomizedNonceKey,
}

impl Sealer {
    fn new(name: &[u8], key: &[u8]) -> Option<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, key).ok()?;
        Some(Self { name: name.try_into().ok()?, key })
    }

    /// A key of this node alone.
    fn own() -> Option<Self> {
        let (mut name, mut key) = ([0; NAME], [0; 32]);
        rand::fill(&mut name).and_then(|()| rand::fill(&mut key)).ok()?;
        Self::new(&name, &key)
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(self.name), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(NAME + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key.open_in_place(nonce, Aad::from(self.name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

impl Default for Tickets {
    fn default() -> Self {
        let ring = Ring { current: Sealer::own(), others: Vec::new(), lifetime: OWN_LIFETIME };
        Self(ArcSwap::from_pointee(ring))
    }
}

impl Tickets {
    /// Takes the fleet's keys; whether they are such.
    pub(crate) fn set(&self, keys: &v1::TicketKeys) -> bool {
        let sealer = |key: &v1::TicketKey| Sealer::new(&key.name, &key.key);
        let Some(current) = keys.current.as_ref().and_then(sealer) else { return false };
        let others: Option<Vec<Sealer>> = keys.others.iter().map(sealer).collect();
        let Some(others) = others else { return false };
        self.0.store(Arc::new(Ring { current: Some(current), others, lifetime: keys.lifetime_seconds }));
        true
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.0.load().current.is_some()
    }

    fn lifetime(&self) -> u32 {
        self.0.load().lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.load().current.as_ref()?.seal(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let ring = self.0.load();
        let sealer = ring.current.iter().chain(&ring.others).find(|sealer| sealer.name == *name)?;
        sealer.open(nonce, sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> v1::TicketKey {
        v1::TicketKey { name: vec![n; 16], key: vec![n; 32] }
    }

    fn tickets(current: u8, others: &[u8]) -> Tickets {
        let tickets = Tickets::default();
        let others = others.iter().map(|n| key(*n)).collect();
        assert!(tickets.set(&v1::TicketKeys { current: Some(key(current)), others, lifetime_seconds: 60 }));
        tickets
    }

    #[test]
    fn a_ticket_is_opened_wherever_its_key_is_known() {
        let ticket = tickets(1, &[]).encrypt(b"session").unwrap();
        for (current, others, opens) in
            [(1, &[][..], true), (2, &[1], true), (9, &[1, 8], true), (2, &[3], false)]
        {
            let opened = tickets(current, others).decrypt(&ticket);
            assert_eq!(opened.as_deref(), opens.then_some(&b"session"[..]), "{current} {others:?}");
        }
        assert_eq!(Tickets::default().decrypt(&ticket), None);
    }

    #[test]
    fn what_was_changed_or_cut_opens_nothing() {
        let tickets = tickets(1, &[]);
        let ticket = tickets.encrypt(b"session").unwrap();
        assert_ne!(ticket, tickets.encrypt(b"session").unwrap(), "each has its own nonce");
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(tickets.decrypt(&forged), None, "byte {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn keys_that_are_none_are_refused_and_the_old_ones_stay() {
        let tickets = tickets(1, &[]);
        let ticket = tickets.encrypt(b"session").unwrap();
        let short = v1::TicketKey { name: vec![1; 16], key: vec![1; 31] };
        let wrong = [
            v1::TicketKeys::default(),
            v1::TicketKeys { current: Some(short.clone()), ..Default::default() },
            v1::TicketKeys { current: Some(key(2)), others: vec![short], lifetime_seconds: 1 },
        ];
        for keys in wrong {
            assert!(!tickets.set(&keys));
        }
        assert!(tickets.decrypt(&ticket).is_some());
    }
}

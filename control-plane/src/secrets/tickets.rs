//! Session-ticket keys, which nodes use to encrypt TLS session tickets: created here, shared by all nodes, and rotated.
//!
//! Each rotation depends only on the stored keys and the time, so nothing is lost while the control plane is down. The
//! next key is published a whole period ahead, so that a node that receives it late can still decrypt tickets of other
//! nodes.

use aws_lc_rs::rand;
use zeroize::Zeroizing;

/// How long a key encrypts new tickets.
pub(super) const PERIOD_MS: i64 = 8 * 3600 * 1000;

/// How long a key decrypts after the next one took over; together with its own period this makes one day.
const KEEP_MS: i64 = 2 * PERIOD_MS;

/// A session-ticket key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketKey {
    /// Key name, at the start of each ticket.
    pub name: [u8; 16],
    /// Secret key bytes.
    pub key: Zeroizing<[u8; 32]>,
    /// When the key starts to encrypt, milliseconds since the Unix epoch.
    pub since_ms: i64,
}

impl TicketKey {
    fn new(since_ms: i64) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut new = Self { name: [0; 16], key: Zeroizing::new([0; 32]), since_ms };
        rand::fill(&mut new.name)?;
        rand::fill(&mut *new.key)?;
        Ok(new)
    }
}

/// The session-ticket keys in use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TicketKeys {
    /// The key that encrypts new tickets.
    pub current: Option<TicketKey>,
    /// Other keys that decrypt tickets.
    pub others: Vec<TicketKey>,
}

impl TicketKeys {
    /// Ticket lifetime, in seconds.
    pub const LIFETIME_SECONDS: u32 = (KEEP_MS / 1000) as u32;
}

/// The result of a rotation at a given time.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    /// Keys to store.
    pub(super) new: Vec<TicketKey>,
    /// Keys to delete.
    pub(super) old: Vec<TicketKey>,
    /// Keys that nodes use.
    pub(super) keys: TicketKeys,
    /// When to rotate again, milliseconds since the Unix epoch.
    pub(super) next_ms: i64,
}

pub(super) fn rotate(
    mut stored: Vec<TicketKey>,
    now_ms: i64,
) -> Result<Rotation, aws_lc_rs::error::Unspecified> {
    let mut rotation = Rotation::default();
    stored.sort_by_key(|key| key.since_ms);
    let mut add =
        |stored: &mut Vec<TicketKey>, since_ms: i64| -> Result<i64, aws_lc_rs::error::Unspecified> {
            let key = TicketKey::new(since_ms)?;
            rotation.new.push(key.clone());
            stored.push(key);
            Ok(since_ms)
        };
    // The last key is the next one, unless the control plane was down for longer than its period.
    let mut last = match stored.last() {
        Some(last) if last.since_ms + PERIOD_MS > now_ms => last.since_ms,
        _ => add(&mut stored, now_ms)?,
    };
    if last <= now_ms {
        last = add(&mut stored, last + PERIOD_MS)?;
    }
    // If the clock was set back, all keys start later; the oldest one is used meanwhile.
    let current = stored.iter().rposition(|key| key.since_ms <= now_ms).unwrap_or(0);
    let is_old = |i: usize, stored: &[TicketKey]| {
        i < current && stored.get(i + 1).is_some_and(|next| next.since_ms + KEEP_MS <= now_ms)
    };
    for (i, key) in stored.iter().enumerate() {
        if i == current {
            rotation.keys.current = Some(key.clone());
        } else if is_old(i, &stored) {
            rotation.old.push(key.clone());
        } else {
            rotation.keys.others.push(key.clone());
        }
    }
    rotation.next_ms = last;
    Ok(rotation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(stored: &mut Vec<TicketKey>, now_ms: i64) -> Rotation {
        let rotation = rotate(stored.clone(), now_ms).unwrap();
        stored.extend(rotation.new.iter().cloned());
        stored.retain(|key| !rotation.old.contains(key));
        rotation
    }

    #[test]
    fn the_next_key_is_published_a_period_ahead_and_old_ones_are_deleted() {
        let mut stored = Vec::new();
        let first = apply(&mut stored, 1_000);
        assert_eq!((first.new.len(), first.keys.others.len(), first.next_ms), (2, 1, 1_000 + PERIOD_MS));
        assert!(apply(&mut stored, 2_000).new.is_empty(), "nothing to do before the next rotation");
        let second = apply(&mut stored, first.next_ms);
        assert_eq!(second.keys.current, Some(first.keys.others[0].clone()));
        assert_eq!(second.keys.others.len(), 2, "the previous key and the next one");
        let mut now = second.next_ms;
        for _ in 0..10 {
            let rotation = apply(&mut stored, now);
            assert!(stored.len() <= 5 && rotation.keys.others.len() <= 3, "{}", stored.len());
            now = rotation.next_ms;
        }
        assert!(!stored.contains(&first.keys.current.unwrap()));
    }

    #[test]
    fn a_long_downtime_and_a_clock_set_back_leave_a_current_key() {
        let mut stored = Vec::new();
        let before = apply(&mut stored, 1_000);
        let after = apply(&mut stored, 1_000 + 100 * PERIOD_MS);
        assert!(after.keys.current.is_some() && after.keys.current != before.keys.current);
        assert_eq!(stored.len(), 3, "the expected next key is kept for tickets it may have encrypted");
        let earlier = apply(&mut stored, 500);
        assert!(earlier.keys.current.is_some() && earlier.next_ms > 500);
    }
}

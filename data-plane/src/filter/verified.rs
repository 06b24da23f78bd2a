//! A bounded cache of verified secrets. It is indexed by a keyed hash, so that memory holds neither passwords nor
//! tokens.

use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustc_hash::FxHashMap;
use sha2::Sha256;

use crate::cache_padded::CachePadded;

/// Number of shards, each with its own lock.
const SHARDS: usize = 16;

/// Entries of a shard.
const MOST: usize = 1024;

/// Keyed hash of a secret.
pub(super) type Digest = [u8; 16];

/// One shard: values with their expiry, in seconds since the Unix epoch.
type Shard<V> = CachePadded<Mutex<FxHashMap<Digest, (u64, V)>>>;

/// Values by digest.
pub(super) struct Verified<V> {
    /// Keyed with a random key at each start.
    mac: Option<Hmac<Sha256>>,
    shards: [Shard<V>; SHARDS],
}

impl<V> Default for Verified<V> {
    fn default() -> Self {
        let mut key = [0; 32];
        // Version 4 UUIDs use the system's random numbers.
        key.chunks_mut(16).for_each(|piece| piece.copy_from_slice(uuid::Uuid::new_v4().as_bytes()));
        // HMAC accepts keys of any length.
        Self { mac: Hmac::new_from_slice(&key).ok(), shards: Default::default() }
    }
}

impl<V: Clone> Verified<V> {
    /// The digest of all parts together.
    pub(super) fn digest(&self, parts: &[&[u8]]) -> Option<Digest> {
        let mut mac = self.mac.clone()?;
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        Some(digest)
    }

    fn shard(&self, digest: &Digest) -> &Mutex<FxHashMap<Digest, (u64, V)>> {
        &self.shards[usize::from(digest[0]) % SHARDS].0
    }

    /// The cached value, unless it has expired.
    pub(super) fn get(&self, digest: &Digest, now: u64) -> Option<V> {
        let shard = self.shard(digest).lock().unwrap_or_else(PoisonError::into_inner);
        shard.get(digest).filter(|(until, _)| now < *until).map(|(_, value)| value.clone())
    }

    /// Adds a value that expires. In a full shard, expired entries are removed, or else any other one.
    pub(super) fn insert(&self, digest: Digest, until: u64, now: u64, value: V) {
        let mut shard = self.shard(&digest).lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= MOST && !shard.contains_key(&digest) {
            shard.retain(|_, (until, _)| now < *until);
            if shard.len() >= MOST
                && let Some(any) = shard.keys().next().copied()
            {
                shard.remove(&any);
            }
        }
        shard.insert(digest, (until, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_again_until_it_expires_and_by_nothing_else() {
        let verified = Verified::<u8>::default();
        let digest = verified.digest(&[b"anna", b"secret"]).unwrap();
        verified.insert(digest, 100, 1, 7);
        assert_eq!(verified.get(&digest, 99), Some(7));
        assert_eq!(verified.get(&digest, 100), None);
        for other in [&[&b"annas"[..], b"ecret"][..], &[b"anna", b"secreT"], &[b"annasecret"]] {
            assert_eq!(verified.get(&verified.digest(other).unwrap(), 1), None);
        }
        assert_ne!(
            Verified::<u8>::default().digest(&[b"anna", b"secret"]),
            Some(digest),
            "another node's key"
        );
    }

    #[test]
    fn it_has_a_bound() {
        let verified = Verified::<()>::default();
        for i in 0..100_000u64 {
            verified.insert(verified.digest(&[&i.to_be_bytes()]).unwrap(), 100, 1, ());
        }
        let kept: usize = verified.shards.iter().map(|shard| shard.0.lock().unwrap().len()).sum();
        assert_eq!(kept, SHARDS * MOST);
    }
}

//! Tokens: `weir_` and 256 random bits in hexadecimal digits. A token is shown once; only its SHA-256 is stored, which
//! is sufficient because such a secret cannot be guessed.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use aws_lc_rs::{constant_time, digest, rand::SecureRandom as _};
use tokio_util::sync::CancellationToken;
use weir_admin_api::TokenState;
use weir_snapshot::Problem;

use super::{AccessError, Role};
use crate::time::now_ms;

/// Prefix of every admin API token, by which people and secret scanners recognize one.
pub const PREFIX: &str = "weir_";

/// Maximum length of a token's name.
const MAX_NAME: usize = 64;

pub(super) type Hash = [u8; 32];

/// Generates a new secret with this prefix.
pub(super) fn generate(prefix: &str) -> Result<String, AccessError> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::SystemRandom::new().fill(&mut secret).map_err(|_| AccessError::NoRandomness)?;
    Ok(format!("{prefix}{}", hex(&secret)))
}

/// Formats bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Compares two hashes in constant time.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// Whether a text has the format of a token: the prefix and 64 hexadecimal digits.
pub(super) fn is_well_formed(text: &str, prefix: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix(prefix).is_some_and(|secret| secret.len() == 64 && secret.bytes().all(is_digit))
}

/// Checks a token's name, which appears in paths, logs and revisions.
pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.len() <= MAX_NAME && name.chars().all(is_fine) {
        return Ok(());
    }
    let message = format!(
        "{name:?} is not a name: 1 to {MAX_NAME} letters, digits and -_.@, the first a letter or digit"
    );
    Err(Problem::new("name", message))
}

/// An API token.
#[derive(Debug)]
pub struct Token {
    /// Token id, never reused.
    pub id: i64,
    /// Token name.
    pub name: String,
    /// The role that it grants.
    pub role: Role,
    pub(super) hash: Hash,
    /// Creation time, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Actor that created it.
    pub created_by: String,
    /// Expiry time; `None` means that it does not expire.
    pub expires_ms: Option<i64>,
    /// Revocation time; 0 means that it was not revoked.
    pub(super) revoked_ms: AtomicI64,
    pub(super) last_used_ms: AtomicI64,
    pub(super) ended: CancellationToken,
}

impl Token {
    /// Returns whether the token is valid.
    pub fn state(&self, now_ms: i64) -> TokenState {
        if self.revoked_ms.load(Relaxed) != 0 {
            TokenState::Revoked
        } else if self.expires_ms.is_some_and(|at| at <= now_ms) {
            TokenState::Expired
        } else {
            TokenState::Active
        }
    }

    /// Time of the last use.
    pub fn last_used_ms(&self) -> Option<i64> {
        Some(self.last_used_ms.load(Relaxed)).filter(|at| *at != 0)
    }

    /// Returns when the token is no longer valid.
    pub async fn until_ended(&self) {
        let left = async {
            match self.expires_ms {
                Some(at) => {
                    let left = u64::try_from(at - now_ms()).unwrap_or_default();
                    tokio::time::sleep(std::time::Duration::from_millis(left)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = left => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_recognised_and_unique() {
        let (one, other) = (generate(PREFIX).unwrap(), generate(PREFIX).unwrap());
        assert_ne!(one, other);
        assert!(is_well_formed(&one, PREFIX) && one.len() == PREFIX.len() + 64);
        for wrong in ["", "weir_", &one[1..], &one.to_uppercase(), &format!("{one}0"), "weir_\u{e9}"] {
            assert!(!is_well_formed(wrong, PREFIX), "{wrong}");
        }
        assert!(is_same(&sha256(one.as_bytes()), &sha256(one.as_bytes())));
        assert!(!is_same(&sha256(one.as_bytes()), &sha256(other.as_bytes())));
    }

    #[test]
    fn names_have_only_plain_characters() {
        for fine in ["ci", "anna@example.org", "deploy-7.b_1", &"a".repeat(64)] {
            assert_eq!(check_name(fine), Ok(()), "{fine}");
        }
        for wrong in ["", "-a", "a b", "a/b", "a\nb", "ä", &"a".repeat(65)] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
    }
}

//! The part of a join token that the node reads: its end, the fingerprint of the fleet's authority, which identifies
//! the control plane.

use std::{fmt, path::PathBuf};

use weir_proto::JOIN_PREFIX;

/// The SHA-256 of the certificate of the fleet's authority.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) [u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A join token.
#[derive(Clone)]
pub(super) struct JoinToken {
    pub(super) text: String,
    pub(super) fleet: Fingerprint,
}

/// The source of the join token.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// The token itself.
    Text(String),
    /// A file, which may be written later.
    File(PathBuf),
    /// No token.
    None,
}

impl Source {
    /// Reads the token, each time again, because the file may have changed.
    pub(super) fn read(&self) -> Result<JoinToken, String> {
        match self {
            Self::Text(text) => parse(text).map_err(|why| format!("--node-token {why}")),
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read --token-file {}: {error}", path.display()))?;
                parse(&text).map_err(|why| format!("--token-file {} {why}", path.display()))
            }
            Self::None => Err("a join token is needed: give --token-file or WEIR_NODE_TOKEN \
                                  (an operator makes one with `weir node-tokens create`)"
                .into()),
        }
    }
}

fn parse(text: &str) -> Result<JoinToken, String> {
    let text = text.trim();
    let parts = text.strip_prefix(JOIN_PREFIX).and_then(|rest| rest.split_once('_'));
    let fleet = parts.filter(|(secret, _)| secret.len() == 64).and_then(|(_, fleet)| bytes(fleet));
    match fleet {
        Some(fleet) => Ok(JoinToken { text: text.to_owned(), fleet: Fingerprint(fleet) }),
        // The text is not shown, because it may be another secret.
        None => Err(format!("is no join token ({JOIN_PREFIX}…, made with `weir node-tokens create`)")),
    }
}

/// 64 hexadecimal digits.
pub(super) fn bytes(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_fleet_and_what_is_none_is_not_repeated() {
        let text = format!("weirjoin_{}_{}\n", "a".repeat(64), "0f".repeat(32));
        let token = Source::Text(text.clone()).read().unwrap();
        assert!(token.fleet == Fingerprint([15; 32]) && token.text == text.trim());
        for wrong in ["", "weir_secret", "weirjoin_a_b", &text.trim()[..100], &format!("{}x", text.trim())] {
            let why = Source::Text(wrong.into()).read().err().unwrap();
            assert!(
                why.contains("weir node-tokens create") && (wrong.is_empty() || !why.contains(wrong)),
                "{why}"
            );
        }
        let missing = Source::File("/nowhere/token".into()).read().err().unwrap();
        assert!(missing.contains("/nowhere/token"), "{missing}");
    }
}

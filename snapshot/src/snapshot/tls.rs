//! Checked certificates, and TLS settings for backends.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

/// A certificate that nodes present to clients that request one of its host names. Its private key is not part of a
/// snapshot and is found by [`Chain::key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Unique among the certificates.
    pub name: Arc<str>,
    /// The certificate with its intermediates.
    pub chain: Arc<Chain>,
}

/// A parsed certificate with its intermediates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// DER, the server's certificate first; never empty.
    pub der: Vec<Vec<u8>>,
    /// Host names and addresses for which it is valid.
    pub names: Vec<CertificateName>,
    /// Start of the validity, seconds since the Unix epoch.
    pub not_before: i64,
    /// End of the validity, seconds since the Unix epoch.
    pub not_after: i64,
    /// Identifies the private key.
    pub key: KeyId,
    /// SHA-256 over the server's certificate.
    pub fingerprint: [u8; 32],
    /// Subject, in the authority's notation.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
}

/// Identifies a private key without revealing it: SHA-256 over the SubjectPublicKeyInfo. A certificate that was
/// renewed with the same key finds that key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} does not name a key");
        let mut id = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(id))
    }
}

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CertificateName {
    /// A host name in lower case.
    Host(String),
    /// Every host name with exactly one more label: `*.example.com`.
    Wildcard(String),
    /// An IP address.
    Address(IpAddr),
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Wildcard(name) => write!(f, "*.{name}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl Chain {
    /// Seconds until the certificate expires; negative if it has expired.
    pub fn seconds_left(&self, now: i64) -> i64 {
        self.not_after.saturating_sub(now)
    }

    /// The fingerprint in hexadecimal.
    pub fn fingerprint_text(&self) -> String {
        KeyId(self.fingerprint).to_string()
    }
}

/// TLS settings for the `https://` backends of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Whether a backend's certificate must be valid for its name.
    pub verify: bool,
    /// Server name (SNI); `None`: the host of the backend's URL.
    pub server_name: Option<String>,
    /// Trusted authorities, DER; `None`: those that browsers trust.
    pub ca: Option<Arc<[Vec<u8>]>>,
    /// Client certificate for backends that require one.
    pub client: Option<Arc<Chain>>,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { verify: true, server_name: None, ca: None, client: None }
    }
}

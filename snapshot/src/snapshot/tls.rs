//! Checked certificates, and how backends are spoken to by TLS.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

/// What nodes show to clients that ask for one of its names. Its key is no part of a snapshot: it is found by
/// [`Chain::key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Unique among the certificates.
    pub name: Arc<str>,
    /// The certificate with its chain.
    pub chain: Arc<Chain>,
}

/// A certificate that can be read, and those that lead from it to its authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// DER, its own first; never empty.
    pub der: Vec<Vec<u8>>,
    /// Whom it is good for.
    pub names: Vec<CertificateName>,
    /// From when it is good, seconds since the Unix epoch.
    pub not_before: i64,
    /// Until when it is good, seconds since the Unix epoch.
    pub not_after: i64,
    /// Which private key belongs to it.
    pub key: KeyId,
    /// SHA-256 over the certificate itself.
    pub fingerprint: [u8; 32],
    /// Whose it is, as its authority writes it.
    pub subject: String,
    /// Its authority.
    pub issuer: String,
}

/// Names a private key without telling anything of it: SHA-256 over its public half (the SubjectPublicKeyInfo). A
/// certificate that was renewed with the same key finds that key.
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
    /// A host, in lower case.
    Host(String),
    /// Every host that has one label more than this: `*.example.com`.
    Below(String),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl Chain {
    /// Seconds that it is still good for; less than 0: it has expired.
    pub fn seconds_left(&self, now: i64) -> i64 {
        self.not_after.saturating_sub(now)
    }

    /// The fingerprint as people compare it: hexadecimal digits.
    pub fn fingerprint_text(&self) -> String {
        KeyId(self.fingerprint).to_string()
    }
}

/// How the `https://` backends of a pool are spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Whether a backend's certificate has to be good for its name.
    pub verify: bool,
    /// The name to ask for; `None`: the host of the backend's URL.
    pub server_name: Option<String>,
    /// The authorities that are believed, DER; `None`: those that browsers believe.
    pub ca: Option<Arc<[Vec<u8>]>>,
    /// What to show to backends that ask for a certificate.
    pub client: Option<Arc<Chain>>,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { verify: true, server_name: None, ca: None, client: None }
    }
}

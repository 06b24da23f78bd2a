//! What the file says of certificates and of TLS, towards clients and towards backends.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::is_default;
use crate::units::HumanDuration;

/// What the nodes show to clients that ask for one of its names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// Its name in the configuration, unique among the certificates; the names of hosts are in the certificate.
    pub name: String,
    /// The certificate and those that lead from it to its authority, its own first; PEM.
    pub cert: String,
    /// Its private key, PEM. Read and never written: absent means the one that is stored.
    #[serde(default, skip_serializing)]
    pub key: Option<PrivateKey>,
}

/// A private key as PEM. Nothing prints it, and its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PrivateKey(pub String);

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(hidden)")
    }
}

/// How the `https://` backends of a pool are spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tls {
    /// Whether a backend has to show a certificate that is good for its name; false takes any.
    #[serde(skip_serializing_if = "is_true")]
    pub verify: bool,
    /// The name to ask for and to find in the certificate; absent: the host of the backend's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The authorities that are believed, PEM; absent: those that browsers believe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// What to show to backends that ask for a certificate, PEM, with its chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// The private key of `cert`, PEM. Read and never written: absent means the one that is stored.
    #[serde(skip_serializing)]
    pub key: Option<PrivateKey>,
}

fn is_true(value: &bool) -> bool {
    *value
}

impl Default for Tls {
    fn default() -> Self {
        Self { verify: true, server_name: None, ca: None, cert: None, key: None }
    }
}

/// Tells browsers to come by HTTPS only (RFC 6797).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Hsts {
    /// How long they keep to it; 0: they forget it.
    pub max_age: HumanDuration,
    /// Whether it holds for all hosts below the host, too.
    #[serde(skip_serializing_if = "is_default")]
    pub include_subdomains: bool,
    /// Whether browsers may ship with it.
    #[serde(skip_serializing_if = "is_default")]
    pub preload: bool,
}

impl Default for Hsts {
    fn default() -> Self {
        let max_age = HumanDuration(std::time::Duration::from_secs(365 * 86_400));
        Self { max_age, include_subdomains: false, preload: false }
    }
}

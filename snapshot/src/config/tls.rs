//! Certificates, and TLS towards clients and backends.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::is_default;
use crate::units::HumanDuration;

/// A certificate that nodes present to clients that request one of its host names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
// The admin API has another `Certificate`, with its dates.
#[schemars(rename = "ConfigCertificate")]
pub struct Certificate {
    /// Name in the configuration, unique among the certificates. Host names come from the certificate itself.
    pub name: String,
    /// Certificate chain, PEM: the server's certificate first, then the intermediates.
    pub cert: String,
    /// Private key, PEM. Never returned by the API; absent: the stored key stays.
    #[serde(default, skip_serializing)]
    pub key: Option<PrivateKey>,
}

/// A private key as PEM. It is never printed, and its memory is overwritten when it is dropped.
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

/// TLS settings for the `https://` backends of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tls {
    /// Whether backends must present a valid certificate for their name; false accepts any certificate.
    #[serde(skip_serializing_if = "is_true")]
    pub verify: bool,
    /// Server name (SNI) to send and to verify; absent: the host of the backend's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Certificate authorities to trust, PEM; absent: those that browsers trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Client certificate chain for backends that require one, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// Private key of `cert`, PEM. Never returned by the API; absent: the stored key stays.
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

/// Makes browsers use HTTPS only (HTTP Strict Transport Security, RFC 6797).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Hsts {
    /// How long browsers remember it; 0: they forget it.
    pub max_age: HumanDuration,
    /// Whether it also applies to all subdomains.
    #[serde(skip_serializing_if = "is_default")]
    pub include_subdomains: bool,
    /// Whether the host may be in the browsers' preload lists.
    #[serde(skip_serializing_if = "is_default")]
    pub preload: bool,
}

impl Default for Hsts {
    fn default() -> Self {
        let max_age = HumanDuration(std::time::Duration::from_secs(365 * 86_400));
        Self { max_age, include_subdomains: false, preload: false }
    }
}

//! Certificates: `/certificates`. Private keys are sent to the control plane and never returned.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use weir_snapshot::config::PrivateKey;

/// A certificate, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// Its name in the configuration.
    pub name: String,
    /// Hosts and addresses that it is valid for.
    pub hosts: Vec<String>,
    /// Start of its validity, RFC 3339.
    pub not_before: String,
    /// End of its validity, RFC 3339.
    pub not_after: String,
    /// Whole days until it expires; negative when it has expired.
    pub days_left: i64,
    /// Seconds until it expires; negative when it has expired.
    pub seconds_left: i64,
    /// State of its validity.
    pub state: CertificateState,
    /// Its subject.
    pub subject: String,
    /// The authority that issued it.
    pub issuer: String,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
}

/// Whether a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// Valid, and for some time to come.
    Good,
    /// Valid, but it expires soon.
    Soon,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    Early,
}

names!(CertificateState { Good = "good", Soon = "soon", Expired = "expired", Early = "early" });

/// A certificate with its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoredCertificate {
    /// Its names and dates.
    #[serde(flatten)]
    pub certificate: Certificate,
    /// The certificate and its chain, PEM.
    pub cert: String,
}

/// A certificate to store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewCertificate {
    /// Its name; when present it is the name in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The certificate and its chain, PEM.
    pub cert: String,
    /// Its private key, PEM. When absent the stored key is kept.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "sent")]
    pub key: Option<PrivateKey>,
}

/// Keys have no serialization of their own, so that none is written by accident.
fn sent<S: Serializer>(key: &Option<PrivateKey>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_ref().map(|key| &key.0).serialize(serializer)
}

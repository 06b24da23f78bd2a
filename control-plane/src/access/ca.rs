//! The fleet's own certificate authority. It signs the certificate of the nodes' port, and a certificate for each node
//! that joins. Only members of the fleet trust it; nodes identify it by the fingerprint in their join token.

use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use time::{Duration, OffsetDateTime};
use weir_proto::SERVER_NAME;
use zeroize::Zeroizing;

use super::sha256;
use crate::time::now_ms;

/// How far before their issue time certificates become valid, because nodes' clocks differ.
const BACKDATE: Duration = Duration::DAY;

/// Validity of the authority's certificate. The whole fleet must join again when it ends, so it is long.
const AUTHORITY: Duration = Duration::days(20 * 365);

/// Validity of the port's certificate, and how often it is renewed.
const SERVER: (Duration, i64) = (Duration::days(30), 24 * 3600 * 1000);

/// The certificate authority failed.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A certificate cannot be created.
    #[error("cannot create a certificate: {0}")]
    Sign(#[from] rcgen::Error),
    /// rustls rejected the configuration.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// rustls rejected the verifier of nodes' certificates.
    #[error("cannot set up TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The node sent an invalid public key.
    #[error("invalid public key (expected 65 bytes, an uncompressed point on P-256)")]
    NoKey,
}

/// The certificate authority.
pub struct Ca {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("fingerprint", &super::hex(&self.fingerprint())).finish_non_exhaustive()
    }
}

/// A node's certificate and its validity.
#[derive(Debug)]
pub struct Issued {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// Issue time, milliseconds since the Unix epoch.
    pub issued_ms: i64,
    /// Expiry time, milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Weir fleet");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn lasting(mut params: CertificateParams, lasts: Duration) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + lasts;
    // 122 random bits: serial numbers are unique.
    params.serial_number = Some(SerialNumber::from_slice(uuid::Uuid::new_v4().as_bytes()));
    params
}

/// A node's public key, as sent by the node.
struct NodeKey<'a>(&'a [u8]);

impl PublicKeyData for NodeKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Ca {
    /// Creates a new authority.
    ///
    /// # Errors
    /// A key or certificate cannot be created.
    pub fn new() -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = lasting(authority(), AUTHORITY).self_signed(&key)?.der().clone();
        Self::of(certificate, key)
    }

    /// Loads an authority from its certificate and key, both DER.
    ///
    /// # Errors
    /// The key is invalid.
    pub fn read(certificate: Vec<u8>, key: &[u8]) -> Result<Self, CaError> {
        let key = PrivateKeyDer::Pkcs8(key.into());
        Self::of(certificate.into(), KeyPair::from_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)?)
    }

    fn of(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, CaError> {
        let der = Zeroizing::new(key.serialize_der());
        Ok(Self { certificate, issuer: Issuer::new(authority(), key), key: der })
    }

    /// The authority's certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The authority's private key, PKCS #8.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// SHA-256 of the authority's certificate, by which nodes identify it.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }

    /// Signs a node's public key.
    ///
    /// # Errors
    /// The public key is invalid.
    pub fn issue(
        &self,
        node_id: &str,
        public_key: &[u8],
        lasts: std::time::Duration,
    ) -> Result<Issued, CaError> {
        let curve = &::aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1;
        if public_key.len() != 65 || ::aws_lc_rs::signature::ParsedPublicKey::new(curve, public_key).is_err()
        {
            return Err(CaError::NoKey);
        }
        let lasts = Duration::try_from(lasts).unwrap_or(Duration::WEEK);
        let mut params = lasting(CertificateParams::default(), lasts);
        params.distinguished_name = named(node_id);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let expires_ms = params.not_after.unix_timestamp().saturating_mul(1000);
        let certificate = params.signed_by(&NodeKey(public_key), &self.issuer)?;
        Ok(Issued { certificate: certificate.der().to_vec(), issued_ms: now_ms(), expires_ms })
    }

    fn server(&self, provider: &CryptoProvider) -> Result<CertifiedKey, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = lasting(CertificateParams::new([SERVER_NAME.to_owned()])?, SERVER.0);
        params.distinguished_name = named("Weir control plane");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok(CertifiedKey::from_der(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()), provider)?)
    }
}

/// TLS configuration of the nodes' port: its own certificate, renewed daily, and optional client certificates.
///
/// # Errors
/// rustls rejected the configuration.
pub fn server_config(ca: &Arc<Ca>) -> Result<ServerConfig, CaError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.certificate.clone())?;
    // A node that joins has no certificate yet. The gate of the port decides which calls require one.
    let nodes = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let server = ca.server(&provider)?;
    let fresh = Fresh {
        ca: Arc::clone(ca),
        provider: Arc::clone(&provider),
        current: Mutex::new((now_ms(), Arc::new(server))),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(nodes)
        .with_cert_resolver(Arc::new(fresh));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session shows no client certificate, and nodes connect too rarely to benefit from resumption.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Renews the port's certificate daily.
struct Fresh {
    ca: Arc<Ca>,
    provider: Arc<CryptoProvider>,
    current: Mutex<(i64, Arc<CertifiedKey>)>,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fresh")
    }
}

impl ResolvesServerCert for Fresh {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now_ms();
        if now - current.0 > SERVER.1 {
            match self.ca.server(&self.provider) {
                Ok(fresh) => *current = (now, Arc::new(fresh)),
                // The previous certificate is valid for weeks.
                Err(error) => tracing::error!(%error, "cannot renew the certificate of the nodes' port"),
            }
        }
        Some(Arc::clone(&current.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_the_same_after_it_was_stored() {
        let ca = Ca::new().unwrap();
        let again = Ca::read(ca.certificate().to_vec(), ca.key()).unwrap();
        assert_eq!(ca.fingerprint(), again.fingerprint());
        assert!(Ca::read(ca.certificate().to_vec(), &[1, 2, 3]).is_err());
        server_config(&Arc::new(again)).unwrap();
    }

    #[test]
    fn only_valid_public_keys_are_signed() {
        let ca = Ca::new().unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let hour = std::time::Duration::from_secs(3600);
        let issued = ca.issue("node-1", key.public_key_raw(), hour).unwrap();
        assert!(issued.expires_ms > now_ms() && issued.expires_ms <= now_ms() + 3_600_000);
        let mut off_the_curve = key.public_key_raw().to_vec();
        off_the_curve[64] ^= 1;
        for wrong in [&[][..], &[4; 65], &[0; 65], &off_the_curve, &key.public_key_raw()[1..]] {
            assert!(matches!(ca.issue("node-1", wrong, hour), Err(CaError::NoKey)), "{wrong:?}");
        }
    }
}

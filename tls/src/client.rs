//! TLS settings for connections to backends: trusted authorities, client certificate, server name.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
};
use weir_snapshot::{BackendUrl, Host, KeyId, UpstreamTls};
use zeroize::Zeroizing;

use crate::{certified, provider};

/// Number of backends whose TLS sessions are kept for resumption.
const SESSIONS: usize = 1024;

/// A private key as PEM. Its memory is overwritten once it is no longer used.
pub type KeyPem = Arc<Zeroizing<Vec<u8>>>;

/// A source of private keys.
pub trait Keys {
    /// Returns the private key of a certificate, or `None` if it is unknown.
    fn key(&self, id: &KeyId) -> Option<KeyPem>;
}

/// Builds the TLS configuration for a pool's backends; `alpn` is the only protocol that is offered.
///
/// # Errors
/// The path below the pool's `tls` and what is wrong there: an authority that cannot be used, or a client certificate
/// whose key is missing.
pub fn client_config(
    tls: &UpstreamTls,
    keys: &dyn Keys,
    alpn: &[u8],
) -> Result<ClientConfig, (&'static str, String)> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| ("", error.to_string()))?;
    let builder = if tls.verify {
        let mut roots = RootCertStore::empty();
        match &tls.ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(ca) => {
                for (i, der) in ca.iter().enumerate() {
                    let added = roots.add(CertificateDer::from(der.as_slice()));
                    added
                        .map_err(|error| ("ca", format!("certificate {} cannot be used: {error}", i + 1)))?;
                }
            }
        }
        builder.with_root_certificates(roots)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate::default()))
    };
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(chain) => {
            let key = keys
                .key(&chain.key)
                .ok_or_else(|| ("key", "the key of this certificate is missing".to_owned()))?;
            let certified = certified(chain, &key).map_err(|why| ("key", why))?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// The server name to send to a backend and to verify in its certificate.
///
/// # Errors
/// The name is not a valid server name for TLS.
pub fn server_name(tls: &UpstreamTls, url: &BackendUrl) -> Result<ServerName<'static>, String> {
    let name = match (&tls.server_name, &url.host) {
        (Some(name), _) | (None, Host::Name(name)) => name.trim_end_matches('.').to_owned(),
        (None, Host::Address(address)) => return Ok(ServerName::IpAddress((*address).into())),
    };
    ServerName::try_from(name.clone())
        .map_err(|_| format!("{name:?} is not a valid server name for TLS; set tls.server_name"))
}

/// Accepts any certificate whose key the server has. This protects against eavesdropping but not against an active
/// attacker.
#[derive(Debug)]
pub struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl Default for AnyCertificate {
    fn default() -> Self {
        Self { algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

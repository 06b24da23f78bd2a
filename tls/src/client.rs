//! Connections to backends: whom to believe, what to show, what to ask for.

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

/// Backends whose sessions are kept for the next connection.
const SESSIONS: usize = 1024;

/// A private key as PEM. Its memory is overwritten once nothing uses it.
pub type KeyPem = Arc<Zeroizing<Vec<u8>>>;

/// Where private keys are found, as PEM.
pub trait Keys {
    /// The key that belongs to a certificate, if it is there.
    fn key(&self, id: &KeyId) -> Option<KeyPem>;
}

/// What connections to a pool's backends are made with. `alpn` is the one protocol that is offered.
///
/// # Errors
/// The path below the pool's `tls` and what is wrong there: an authority that cannot be used, a client certificate
/// whose key is not there.
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
                    added.map_err(|error| {
                        ("ca", format!("its certificate {} cannot be used: {error}", i + 1))
                    })?;
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
                .ok_or_else(|| ("key", "the key of this certificate is not here".to_owned()))?;
            let certified = certified(chain, &key).map_err(|why| ("key", why))?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// The name to ask a backend for, and to find in its certificate.
///
/// # Errors
/// There is none that TLS could ask for.
pub fn server_name(tls: &UpstreamTls, url: &BackendUrl) -> Result<ServerName<'static>, String> {
    let name = match (&tls.server_name, &url.host) {
        (Some(name), _) | (None, Host::Name(name)) => name.trim_end_matches('.').to_owned(),
        (None, Host::Address(address)) => return Ok(ServerName::IpAddress((*address).into())),
    };
    ServerName::try_from(name.clone())
        .map_err(|_| format!("{name:?} is no name that a certificate could have; set tls.server_name"))
}

/// Takes any certificate whose key the other side has: it protects from those who listen, not from those who act.
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

//! TLS for the mock, with a given or a newly generated certificate.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use crate::Config;

/// Returns the TLS acceptor, or `None` for cleartext.
///
/// # Errors
/// A file cannot be read or has the wrong content.
pub(crate) fn acceptor(config: &Config) -> anyhow::Result<Option<TlsAcceptor>> {
    let (chain, key) = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("--tls-key {} is not a private key in PEM format", key.display()))?;
            (certificates("--tls-cert", certificate)?, key_der)
        }
        _ if config.tls => {
            let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
            let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
            let key =
                PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
            (vec![made.cert.der().clone()], key)
        }
        _ => {
            anyhow::ensure!(config.tls_client_ca.is_none(), "--tls-client-ca needs --tls or --tls-cert");
            return Ok(None);
        }
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &config.tls_client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("--tls-client-ca", file)? {
                roots.add(certificate).with_context(|| format!("--tls-client-ca {}", file.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_single_cert(chain, key).context("--tls-key and --tls-cert")?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

fn certificates(flag: &str, file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read =
        read.with_context(|| format!("{flag} {} is not a certificate in PEM format", file.display()))?;
    anyhow::ensure!(!read.is_empty(), "{flag} {} contains no certificate", file.display());
    Ok(read)
}

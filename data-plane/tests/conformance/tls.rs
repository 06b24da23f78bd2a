//! A throw-away authority: the certificate of the program under test, and a client that believes in nothing else.

use std::{path::Path, sync::Arc, sync::LazyLock};

use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

struct Identity {
    certificate: String,
    key: String,
    roots: RootCertStore,
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "a.example".to_owned()])
        .expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate that is its own authority");
    Identity { certificate: made.cert.pem(), key: made.signing_key.serialize_pem(), roots }
});

/// Writes `cert.pem`, `key.pem` and both as `both.pem`.
pub(crate) fn write(folder: &Path) -> std::io::Result<()> {
    std::fs::write(folder.join("cert.pem"), &IDENTITY.certificate)?;
    std::fs::write(folder.join("key.pem"), &IDENTITY.key)?;
    std::fs::write(folder.join("both.pem"), format!("{}{}", IDENTITY.certificate, IDENTITY.key))
}

/// A client that offers one protocol.
pub(crate) fn client(alpn: &[u8]) -> Result<ClientConnection, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(IDENTITY.roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("a.example").map_err(|_| rustls::Error::General("a name".into()))?;
    ClientConnection::new(Arc::new(config), name)
}

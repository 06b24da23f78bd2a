//! TLS for the admin port: a certificate and key from files, reloaded on SIGHUP and when the files change.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::CertificateDer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the files are checked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The files and the TLS configuration loaded from them.
#[derive(Debug, Clone)]
pub(crate) struct AdminTls {
    certificate: PathBuf,
    key: PathBuf,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl AdminTls {
    /// Loads the files.
    ///
    /// # Errors
    /// A file cannot be read, or the key does not match the certificate.
    pub(crate) fn open(certificate: PathBuf, key: PathBuf) -> anyhow::Result<Self> {
        let config = read(&certificate, &key)?;
        Ok(Self { certificate, key, config: watch::Sender::new(Arc::new(config)) })
    }

    /// Receives the current TLS configuration and each change of it.
    pub(super) fn config(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.config.subscribe()
    }

    /// Reloads the files. On failure the error is logged and the previous certificate stays in use.
    pub(crate) fn reload(&self) {
        match read(&self.certificate, &self.key) {
            Ok(config) => {
                self.config.send_replace(Arc::new(config));
                tracing::info!(file = %self.certificate.display(), "reloaded the certificate of the admin port");
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "cannot reload the certificate of the admin port; the previous one stays in use"
            ),
        }
    }

    /// Reloads the files whenever they change, until `stop`.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        let mut seen = self.changed();
        let mut again = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = again.tick() => {}
                () = stop.cancelled() => return,
            }
            let now = self.changed();
            if now != seen {
                seen = now;
                self.reload();
            }
        }
    }

    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key]
            .map(|file| std::fs::metadata(file).and_then(|known| known.modified()).ok())
    }
}

fn read(certificate: &PathBuf, key: &PathBuf) -> anyhow::Result<ServerConfig> {
    let file = certificate.display();
    let text = std::fs::read(certificate).with_context(|| format!("cannot read --admin-tls-cert {file}"))?;
    let chain = weir_snapshot::pem::certificates(&String::from_utf8_lossy(&text))
        .map_err(|why| anyhow::anyhow!("--admin-tls-cert {file}: {why}"))?;
    let chain = chain.into_iter().map(|block| CertificateDer::from(block.der)).collect();
    let file = key.display();
    let text = std::fs::read(key).with_context(|| format!("cannot read --admin-tls-key {file}"))?;
    let private =
        weir_tls::private_key(&text).map_err(|why| anyhow::anyhow!("--admin-tls-key {file}: {why}"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| {
            format!("--admin-tls-key {} does not match {}", key.display(), certificate.display())
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

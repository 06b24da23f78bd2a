//! TLS client for probes of `https://` backends, with the same settings as nodes use.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use weir_snapshot::{BackendUrl, HealthProbe, Pool, UpstreamTls, config::Protocol};
use weir_tls::Keys;

/// TLS client of a pool, or the reason why it cannot be built.
#[derive(Debug, Clone, Default)]
pub(super) struct Secured {
    config: Option<Result<Arc<ClientConfig>, String>>,
    /// The pool uses HTTP/2; a backend that does not negotiate it fails the probe.
    demands_http2: bool,
}

impl Secured {
    pub(super) fn new(pool: &Pool, keys: &dyn Keys) -> Self {
        let alpn: &[u8] = match (&pool.health_check.probe, pool.protocol) {
            (Some(HealthProbe::Grpc { .. }), _) | (_, Protocol::Http2) => b"h2",
            (_, Protocol::Http1) => b"http/1.1",
        };
        let made = weir_tls::client_config(&pool.tls, keys, alpn);
        let config = Some(made.map(Arc::new).map_err(|(field, why)| format!("tls.{field}: {why}")));
        Self { config, demands_http2: pool.protocol == Protocol::Http2 }
    }

    /// Performs the TLS handshake.
    ///
    /// # Errors
    /// A description of the failure.
    pub(super) async fn connect(
        &self,
        tls: &UpstreamTls,
        url: &BackendUrl,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let config = match &self.config {
            Some(Ok(config)) => Arc::clone(config),
            Some(Err(why)) => return Err(why.clone()),
            None => return Err("TLS is not configured".into()),
        };
        let name = weir_tls::server_name(tls, url)?;
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        let shaken = shaken.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "TLS: closed within the handshake".to_owned(),
            _ if weir_tls::speaks_no_tls(&error) => {
                "TLS: the backend's answer is not TLS; if its port does not use TLS, its URL must begin with http://"
                    .to_owned()
            }
            _ => format!("TLS: {error}"),
        })?;
        if self.demands_http2 && shaken.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(
                "TLS: the backend does not offer HTTP/2 (ALPN), which protocol: http2 requires".into()
            );
        }
        Ok(shaken)
    }
}

//! TLS settings of connections to `https://` backends.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{ClientConfig, pki_types::ServerName};
use weir_snapshot::{Pool, Problems, Scheme, UpstreamTls, config::Protocol};

use weir_tls::Keys as _;

use super::{H2, HTTP11, Keys, TlsState};

/// TLS settings of one backend.
#[derive(Debug)]
pub(crate) struct BackendTls {
    pub(crate) config: Arc<ClientConfig>,
    /// The host name for SNI and certificate verification.
    pub(crate) name: ServerName<'static>,
}

/// The last TLS client settings of a pool. While its `tls` stays the same, sessions are resumed and open connections
/// are reused.
#[derive(Debug, Default)]
pub(crate) struct ClientConfigCache(Mutex<Option<(UpstreamTls, Protocol, Arc<ClientConfig>)>>);

impl ClientConfigCache {
    /// By backend of the pool: how it is connected to, `None` for one in the clear.
    pub(crate) fn secured(
        &self,
        pool: &Pool,
        index: usize,
        material: &TlsState,
        problems: &mut Problems,
    ) -> Vec<Option<Arc<BackendTls>>> {
        let is_secure = |backend: &weir_snapshot::Backend| backend.url.scheme == Scheme::Https;
        if !pool.backends.iter().any(is_secure) {
            return vec![None; pool.backends.len()];
        }
        let keys = &material.keys;
        let lacks = pool.tls.client.as_ref().is_some_and(|client| keys.key(&client.key).is_none());
        let mut tls = pool.tls.clone();
        if lacks && !self.is_of(&tls, pool.protocol) && material.allows_missing_keys() {
            tracing::warn!(pool = %pool.name, "client certificate left out until its key arrives");
            tls.client = None;
        }
        let config = match self.config(&tls, pool.protocol, keys) {
            Ok(config) => config,
            Err((field, why)) => {
                let field = if field.is_empty() { String::new() } else { format!(".{field}") };
                problems.add(format!("pools[{index}].tls{field}"), format!("pool {:?}: {why}", pool.name));
                return vec![None; pool.backends.len()];
            }
        };
        let secured = |(i, backend): (usize, &weir_snapshot::Backend)| {
            if !is_secure(backend) {
                return None;
            }
            match weir_tls::server_name(&pool.tls, &backend.url) {
                Ok(name) => Some(Arc::new(BackendTls { config: Arc::clone(&config), name })),
                Err(why) => {
                    problems.add(format!("pools[{index}].backends[{i}].url"), why);
                    None
                }
            }
        };
        pool.backends.iter().enumerate().map(secured).collect()
    }

    fn is_of(&self, tls: &UpstreamTls, protocol: Protocol) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_some_and(|last| last.0 == *tls && last.1 == protocol)
    }

    fn config(
        &self,
        tls: &UpstreamTls,
        protocol: Protocol,
        keys: &Keys,
    ) -> Result<Arc<ClientConfig>, (&'static str, String)> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, config)) = last.as_ref().filter(|last| last.0 == *tls && last.1 == protocol) {
            return Ok(Arc::clone(config));
        }
        let alpn = match protocol {
            Protocol::Http1 => HTTP11,
            Protocol::Http2 => H2,
        };
        let config = Arc::new(weir_tls::client_config(tls, keys, alpn)?);
        *last = Some((tls.clone(), protocol, Arc::clone(&config)));
        Ok(config)
    }
}

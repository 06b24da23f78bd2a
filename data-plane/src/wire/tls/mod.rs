//! TLS: keys and certificates, sessions with clients and with backends. rustls does the protocol.

mod certificates;
mod own_certificate;
mod session;
mod tickets;
mod upstream;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use rustls::ServerConfig;
use weir_proto::v1;
use weir_snapshot::KeyId;

pub(crate) use self::{
    certificates::{CertificateTable, Certificates, CertifiedKeys, Keys},
    own_certificate::{OwnCertificate, own_certificate},
    session::Session,
    tickets::Tickets,
    upstream::{BackendTls, ClientConfigCache},
};

/// The name of HTTP/2 in the handshake (RFC 9113, 3.2).
const H2: &[u8] = b"h2";

/// The name of HTTP/1.1 in the handshake (RFC 7301, 6).
const HTTP11: &[u8] = b"http/1.1";

/// TLS state of the node besides the snapshot.
#[derive(Default)]
pub(crate) struct TlsState {
    /// Private keys, by what they belong to.
    pub(crate) keys: Keys,
    /// Certificates that have their key.
    pub(crate) certified_keys: CertifiedKeys,
    /// Keys of session tickets.
    pub(crate) tickets: Arc<Tickets>,
    /// The node runs the state of an earlier start, and the keys have not arrived yet: certificates without a key are
    /// left out.
    restoring: AtomicBool,
    /// Something does without its key.
    incomplete: AtomicBool,
}

impl TlsState {
    /// While it restores, what has no key is no mistake: keys are nowhere on the disk, and a node that serves some
    /// hosts is better than one that serves none.
    pub(crate) fn set_restoring(&self, restoring: bool) {
        self.restoring.store(restoring, Relaxed);
    }

    /// Whether something without its key may be left out, which is noted.
    pub(crate) fn allows_missing_keys(&self) -> bool {
        let may = self.restoring.load(Relaxed);
        if may {
            self.incomplete.store(true, Relaxed);
        }
        may
    }

    /// Whether something was left out since this was asked last.
    pub(crate) fn take_incomplete(&self) -> bool {
        self.incomplete.swap(false, Relaxed)
    }

    /// The control plane tells what tickets are sealed with.
    pub(crate) fn take_tickets(&self, message: &v1::TicketKeys) {
        if !self.tickets.set(message) {
            tracing::error!("invalid session-ticket keys ignored");
        }
    }

    /// The control plane tells the keys that the next snapshot needs.
    pub(crate) fn take_keys(&self, message: v1::CertificateKeys) {
        let key = |message: v1::CertificateKey| {
            let id = message.public_key_sha256.try_into().ok()?;
            Some((KeyId(id), Arc::new(message.key.into())))
        };
        self.keys.set(message.keys.into_iter().filter_map(key).collect());
    }
}

/// The TLS settings of every listener: certificates, protocols and ticket keys.
///
/// # Errors
/// None but what rustls finds wrong with the defaults.
pub(crate) fn server_config(
    certificates: &Arc<Certificates>,
    tickets: &Arc<Tickets>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(weir_tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::<Certificates>::clone(certificates));
    config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
    // Tickets instead of a table of sessions: any worker of any node resumes what another began. No early data: it
    // could be sent again by whoever recorded it (RFC 8446, 8).
    config.ticketer = Arc::<Tickets>::clone(tickets);
    config.send_tls13_tickets = 1;
    // All that is left are good; of these the node's own order holds.
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

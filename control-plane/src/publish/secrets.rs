//! Sends a node the secrets that no revision contains: private keys of certificates, before it needs them, and
//! session-ticket keys.

use std::sync::Arc;

use tokio::sync::watch;
use weir_proto::v1::{self, subscribe_response::Message};
use weir_snapshot::{KeyId, resource::ContentHash};
use weir_tls::KeyPem;

use crate::{
    current::Current,
    secrets::{Secrets, TicketKey, TicketKeys},
};

/// Secrets that were sent on one stream.
pub(super) struct SentSecrets {
    secrets: Secrets,
    tickets: watch::Receiver<Arc<TicketKeys>>,
    /// Keys sent so far; `None` if none were sent.
    keys: Option<Vec<KeyId>>,
    /// The revision for which this was last checked.
    checked_for: Option<(u64, ContentHash)>,
    tickets_sent: bool,
}

impl SentSecrets {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self { tickets: secrets.tickets(), secrets, keys: None, checked_for: None, tickets_sent: false }
    }

    /// Returns the messages to send before the node receives this revision.
    pub(super) fn due(&mut self, current: &Current) -> Vec<Message> {
        let mut due = Vec::new();
        if !self.tickets_sent || self.tickets.has_changed().unwrap_or_default() {
            let current_tickets = Arc::clone(&self.tickets.borrow_and_update());
            self.tickets_sent = true;
            due.push(Message::Tickets(ticket_keys(&current_tickets)));
        }
        // Checked once per revision, because every iteration of every stream calls this.
        if self.checked_for.replace((current.revision, current.hash))
            == Some((current.revision, current.hash))
        {
            return due;
        }
        let needed = self.secrets.needed(&current.snapshot);
        let is_same = |sent: &Vec<KeyId>| sent.iter().eq(needed.iter().map(|(id, _)| id));
        // A stream starts without keys, so an empty list needs no message.
        if !self.keys.as_ref().map_or(needed.is_empty(), is_same) {
            self.keys = Some(needed.iter().map(|(id, _)| *id).collect());
            let key = |(id, key): (KeyId, KeyPem)| v1::CertificateKey {
                public_key_sha256: id.0.to_vec(),
                key: key.to_vec(),
            };
            due.push(Message::CertificateKeys(v1::CertificateKeys {
                keys: needed.into_iter().map(key).collect(),
            }));
        }
        due
    }

    /// Waits until secrets may have to be sent again.
    pub(super) async fn changed(&mut self) {
        if self.tickets.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        // `changed` marked the new ticket keys as seen, but they still have to be sent.
        self.tickets_sent = false;
    }
}

fn ticket_keys(keys: &TicketKeys) -> v1::TicketKeys {
    let key = |key: &TicketKey| v1::TicketKey { name: key.name.to_vec(), key: key.key.to_vec() };
    v1::TicketKeys {
        current: keys.current.as_ref().map(key),
        others: keys.others.iter().map(key).collect(),
        lifetime_seconds: TicketKeys::LIFETIME_SECONDS,
    }
}

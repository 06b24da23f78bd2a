//! What a node is told that is in no revision: the keys of its certificates before it needs them, and the keys of
//! session tickets.

use std::sync::Arc;

use tokio::sync::watch;
use weir_proto::v1::{self, subscribe_response::Message};
use weir_snapshot::{KeyId, resource::ContentHash};
use weir_tls::KeyPem;

use crate::{
    current::Current,
    secrets::{Secrets, TicketKey, TicketKeys},
};

/// What the node behind one stream has been told.
pub(super) struct Confided {
    secrets: Secrets,
    tickets: watch::Receiver<Arc<TicketKeys>>,
    /// `None`: nothing yet.
    keys: Option<Vec<KeyId>>,
    /// For which revision that was looked at.
    looked_at: Option<(u64, ContentHash)>,
    tickets_told: bool,
}

impl Confided {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self { tickets: secrets.tickets(), secrets, keys: None, looked_at: None, tickets_told: false }
    }

    /// What has to be told now, before the node gets this revision.
    pub(super) fn due(&mut self, current: &Current) -> Vec<Message> {
        let mut due = Vec::new();
        if !self.tickets_told || self.tickets.has_changed().unwrap_or_default() {
            let told = Arc::clone(&self.tickets.borrow_and_update());
            self.tickets_told = true;
            due.push(Message::Tickets(ticket_keys(&told)));
        }
        // Looked at once a revision: this is asked at every turn of every stream.
        if self.looked_at.replace((current.revision, current.hash)) == Some((current.revision, current.hash))
        {
            return due;
        }
        let needed = self.secrets.needed(&current.snapshot);
        let is_same = |told: &Vec<KeyId>| told.iter().eq(needed.iter().map(|(id, _)| id));
        // A stream begins with no keys told; that there are none needs no message.
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

    /// Something may be due again.
    pub(super) async fn changed(&mut self) {
        if self.tickets.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        // What `changed` has seen is told all the same.
        self.tickets_told = false;
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

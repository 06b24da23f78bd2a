//! The dashboard's sessions: a browser has a secret of its own, bound to the token that it logged in with. They are kept
//! in memory, bounded, and end with the token, at logout, after their time, and when the control plane is started again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::{
    AccessError,
    token::{Hash, generate, is_well_formed, sha256},
};

/// How long a session lasts.
pub const LASTS_MS: i64 = 12 * 3600 * 1000;

/// Sessions at a time; the oldest gives way.
const MOST: usize = 1000;

const PREFIX: &str = "s_";

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Hash, Session>>);

#[derive(Debug, Clone, Copy)]
struct Session {
    token: i64,
    until_ms: i64,
}

impl Sessions {
    /// Begins a session; its secret.
    pub(super) fn begin(&self, token: i64, now_ms: i64) -> Result<String, AccessError> {
        let secret = generate(PREFIX)?;
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.until_ms > now_ms);
        if sessions.len() >= MOST
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, session)| session.until_ms).map(|(hash, _)| *hash)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(sha256(secret.as_bytes()), Session { token, until_ms: now_ms + LASTS_MS });
        Ok(secret)
    }

    /// The token that a session was begun with.
    pub(super) fn token(&self, secret: &str, now_ms: i64) -> Option<i64> {
        if !is_well_formed(secret, PREFIX) {
            return None;
        }
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions
            .get(&sha256(secret.as_bytes()))
            .filter(|session| session.until_ms > now_ms)
            .map(|one| one.token)
    }

    /// Ends a session.
    pub(super) fn end(&self, secret: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&sha256(secret.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_by_logout_by_time_and_by_number() {
        let sessions = Sessions::default();
        let one = sessions.begin(7, 0).unwrap();
        assert_eq!(sessions.token(&one, 1), Some(7));
        assert_eq!(sessions.token(&one, LASTS_MS), None);
        sessions.end(&one);
        assert_eq!(sessions.token(&one, 1), None);
        assert_eq!(sessions.token("s_nonsense", 1), None);
        let first = sessions.begin(1, 1).unwrap();
        for _ in 0..MOST {
            sessions.begin(2, 2).unwrap();
        }
        assert_eq!(sessions.token(&first, 3), None, "the oldest gave way");
        assert_eq!(sessions.0.lock().unwrap().len(), MOST);
    }
}

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

/// Sessions at a time. When there is no room, the oldest of the token that has the most gives way.
const MOST: usize = 1000;

/// Sessions of one token at a time; the oldest gives way. So a token cannot end the sessions of others.
const OF_ONE_TOKEN: usize = 50;

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
        let mut counts = HashMap::<i64, usize>::new();
        sessions.values().for_each(|session| *counts.entry(session.token).or_default() += 1);
        let full = match counts.get(&token) {
            Some(own) if *own >= OF_ONE_TOKEN => Some(token),
            _ if sessions.len() >= MOST => {
                counts.into_iter().max_by_key(|(_, count)| *count).map(|(token, _)| token)
            }
            _ => None,
        };
        let of_full = sessions.iter().filter(|(_, session)| Some(session.token) == full);
        if let Some(oldest) = of_full.min_by_key(|(_, session)| session.until_ms).map(|(hash, _)| *hash) {
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
    }

    #[test]
    fn a_token_ends_only_its_own_sessions_however_often_it_logs_in() {
        let sessions = Sessions::default();
        let admin = sessions.begin(1, 1).unwrap();
        let first = sessions.begin(2, 2).unwrap();
        for _ in 0..2 * MOST {
            sessions.begin(2, 3).unwrap();
        }
        assert_eq!(sessions.token(&admin, 4), Some(1));
        assert_eq!(sessions.token(&first, 4), None, "the oldest gave way");
        assert_eq!(sessions.0.lock().unwrap().len(), 1 + OF_ONE_TOKEN);
        // With many tokens the oldest session of the one with the most gives way.
        for n in 0..2 * MOST {
            sessions.begin(100 + n as i64 % 30, 5).unwrap();
        }
        assert_eq!(sessions.token(&admin, 6), Some(1));
        assert_eq!(sessions.0.lock().unwrap().len(), MOST);
    }
}

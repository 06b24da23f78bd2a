//! Dashboard sessions: a browser has its own secret, bound to the token it logged in with. Sessions are kept in memory
//! and are limited in number. A session ends at logout, at its time limit, when its token ends, and when the control
//! plane restarts.

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

/// Maximum number of sessions. When it is reached, the oldest session of the token with the most sessions ends.
const MAX_SESSIONS: usize = 1000;

/// Maximum number of sessions per token, so that one token cannot end the sessions of others. The oldest session ends.
const MAX_SESSIONS_PER_TOKEN: usize = 50;

const PREFIX: &str = "s_";

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Hash, Session>>);

#[derive(Debug, Clone, Copy)]
struct Session {
    token: i64,
    until_ms: i64,
}

impl Sessions {
    /// Begins a session and returns its secret.
    pub(super) fn begin(&self, token: i64, now_ms: i64) -> Result<String, AccessError> {
        let secret = generate(PREFIX)?;
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.until_ms > now_ms);
        let mut counts = HashMap::<i64, usize>::new();
        sessions.values().for_each(|session| *counts.entry(session.token).or_default() += 1);
        let full = match counts.get(&token) {
            Some(own) if *own >= MAX_SESSIONS_PER_TOKEN => Some(token),
            _ if sessions.len() >= MAX_SESSIONS => {
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

    /// Returns the id of the session's token.
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

    pub(super) fn end(&self, secret: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&sha256(secret.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_at_logout_after_their_time_and_at_the_limit() {
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
        for _ in 0..2 * MAX_SESSIONS {
            sessions.begin(2, 3).unwrap();
        }
        assert_eq!(sessions.token(&admin, 4), Some(1));
        assert_eq!(sessions.token(&first, 4), None, "the oldest session ended");
        assert_eq!(sessions.0.lock().unwrap().len(), 1 + MAX_SESSIONS_PER_TOKEN);
        // With many tokens, the oldest session of the token with the most sessions ends.
        for n in 0..2 * MAX_SESSIONS {
            sessions.begin(100 + n as i64 % 30, 5).unwrap();
        }
        assert_eq!(sessions.token(&admin, 6), Some(1));
        assert_eq!(sessions.0.lock().unwrap().len(), MAX_SESSIONS);
    }
}

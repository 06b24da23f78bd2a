//! The audit log: every change and every refusal, with its actor, time and outcome. All changes are written. Refusals
//! cost an attacker nothing, so their number per minute is limited; further ones are counted, and the count is written.

use std::sync::{Mutex, PoisonError};

use weir_admin_api::Outcome;

use super::Access;
use crate::{
    store::{AuditEntry, AuditLimits, StoreError},
    time::now_ms,
};

/// Maximum refusals written per minute.
const REFUSALS: u32 = 600;

/// Number of entries to keep.
pub(super) const LIMITS: AuditLimits = AuditLimits { changes: 100_000, refusals: 20_000 };

/// Retention of entries.
pub(super) const KEPT_MS: i64 = 400 * 24 * 3600 * 1000;

/// Maximum length in characters of text that clients control.
const LONGEST: usize = 300;

/// Limits the length of a text and replaces control characters, so that it fits on one line.
pub(super) fn tame(text: &str) -> String {
    let is_visible = |c: char| weir_snapshot::is_visible(c.encode_utf8(&mut [0; 4]));
    text.chars().take(LONGEST).map(|c| if is_visible(c) { c } else { '\u{fffd}' }).collect()
}

/// Counts refusals per minute.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    number: i64,
    written: u32,
    left_out: u64,
}

impl Refusals {
    /// Returns whether one more refusal may be written now, and the number left out in a past minute.
    pub(super) fn admit(&self, now_ms: i64) -> (bool, u64) {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = minute.turn(now_ms);
        if minute.written < REFUSALS {
            minute.written += 1;
            return (true, over);
        }
        minute.left_out += 1;
        (false, over)
    }

    /// Returns the number left out in a past minute.
    pub(super) fn over(&self, now_ms: i64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).turn(now_ms)
    }
}

impl Minute {
    fn turn(&mut self, now_ms: i64) -> u64 {
        let number = now_ms / 60_000;
        if number == self.number {
            return 0;
        }
        let left_out = self.left_out;
        *self = Self { number, written: 0, left_out: 0 };
        left_out
    }
}

/// Returns the audit entry for refusals that were only counted.
pub(super) fn left_out(times: u64, now_ms: i64) -> AuditEntry {
    AuditEntry {
        time_ms: now_ms,
        actor: "anyone".into(),
        source: "audit".into(),
        action: "further refusals within a minute".into(),
        outcome: Outcome::Refused.as_str().into(),
        times,
        ..AuditEntry::default()
    }
}

impl Access {
    /// Writes an audit entry. If that fails, the entry is logged.
    pub async fn record(&self, mut entry: AuditEntry) {
        entry.time_ms = now_ms();
        entry.times = entry.times.max(1);
        entry.actor = tame(&entry.actor);
        entry.action = tame(&entry.action);
        entry.detail = tame(&entry.detail);
        let written = self.shared.store.change(|db| async move {
            db.add_audit(&entry).await.inspect_err(|error| {
                tracing::error!(%error, ?entry, "cannot write to the audit log");
            })
        });
        // A failure was logged.
        let _ = written.await;
    }

    /// Writes a refusal to the audit log, or only counts it when there are too many.
    pub async fn record_refusal(&self, entry: AuditEntry) {
        let now = now_ms();
        let (is_admitted, over) = self.shared.refusals.admit(now);
        if over > 0 {
            self.record(left_out(over, now)).await;
        }
        if is_admitted {
            tracing::warn!(actor = entry.actor, action = entry.action, reason = entry.detail, "refused");
            self.record(AuditEntry { outcome: Outcome::Refused.as_str().into(), ..entry }).await;
        }
    }

    /// Returns the newest audit entries with ids below `before`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.shared.store.audit(before, limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_a_scanner_are_limited_and_counted() {
        let refusals = Refusals::default();
        let begin = 60_000 * 1000;
        let written = (0..1540).filter(|_| refusals.admit(begin).0).count();
        assert_eq!(written, 600);
        assert_eq!(refusals.over(begin + 59_999), 0, "the minute is not over");
        assert_eq!(refusals.admit(begin + 60_000), (true, 940));
        assert_eq!(refusals.over(begin + 120_000), 0);
    }

    #[test]
    fn text_becomes_one_line_of_limited_length() {
        assert_eq!(tame("GET /a\r\nX"), "GET /a\u{fffd}\u{fffd}X");
        assert_eq!(tame("a\u{1b}[2J\u{202e}b"), "a\u{fffd}[2J\u{fffd}b");
        assert_eq!(tame(&"é".repeat(5000)).chars().count(), LONGEST);
    }
}

//! The current time, and times as text.

use jiff::Timestamp;

/// Returns the current time in milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Returns the current time in seconds since the Unix epoch.
pub fn now_s() -> i64 {
    Timestamp::now().as_second()
}

/// Formats a time as RFC 3339, to the second.
pub fn rfc3339(ms: i64) -> String {
    let time = Timestamp::from_second(ms.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_string()
}

/// Formats a time as RFC 3339, to the millisecond.
pub fn rfc3339_ms(ms: i64) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    // Always three digits, so that times align in tables.
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_digits() {
        assert_eq!(
            [1_000, 1_020, 1_009].map(rfc3339_ms),
            ["01.000", "01.020", "01.009"].map(|s| format!("1970-01-01T00:00:{s}Z"))
        );
    }
}

//! Formats numbers and times for display.

/// `12.3k`, with three significant digits.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn count(number: u64) -> String {
    let scales = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    match scales.into_iter().find(|(scale, _)| number >= *scale * 10 || number >= *scale && *scale > 1_000) {
        Some((scale, unit)) => {
            let value = number as f64 / scale as f64;
            if value < 100.0 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
        }
        None => number.to_string(),
    }
}

/// `4.2 MiB`.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(super) fn bytes(number: u64) -> String {
    let scales = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match scales.into_iter().find(|(scale, _)| number >= *scale) {
        Some((scale, unit)) => format!("{:.1} {unit}", number as f64 / scale as f64),
        None => format!("{number} B"),
    }
}

/// `1.2 ms`, `3.4 s`.
pub(super) fn millis(ms: f64) -> String {
    if ms >= 10_000.0 {
        format!("{:.0} s", ms / 1000.0)
    } else if ms >= 1_000.0 {
        format!("{:.1} s", ms / 1000.0)
    } else if ms >= 100.0 || ms == 0.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{ms:.1} ms")
    }
}

/// `0.4 %`: a share of a whole.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(super) fn percent(part: u64, whole: u64) -> String {
    match (part, whole) {
        (_, 0) => "–".to_owned(),
        (0, _) => "0 %".to_owned(),
        (part, whole) => {
            let share = part as f64 / whole as f64 * 100.0;
            if share < 0.1 { "< 0.1 %".to_owned() } else { format!("{share:.1} %") }
        }
    }
}

/// `2026-11-21 10:22` from RFC 3339.
pub(super) fn time(rfc3339: &str) -> String {
    match (rfc3339.get(..10), rfc3339.get(11..16)) {
        (Some(date), Some(time)) => format!("{date} {time}"),
        _ => rfc3339.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_right() {
        assert_eq!(
            [0, 999, 9_999, 12_345, 250_000, 1_500_000].map(count),
            ["0", "999", "9999", "12.3k", "250k", "1.5M"]
        );
        assert_eq!([512, 2048].map(bytes), ["512 B", "2.0 KiB"]);
        assert_eq!([0.0, 1.25, 250.0, 1500.0].map(millis), ["0 ms", "1.2 ms", "250 ms", "1.5 s"]);
        assert_eq!(percent(0, 10), "0 %");
        assert_eq!(percent(1, 100_000), "< 0.1 %");
    }
}

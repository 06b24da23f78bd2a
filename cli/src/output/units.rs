//! Formats numbers for people.

/// Formats a count: `1234`, `12.3 k`, `1.2 M`.
pub(crate) fn count(number: u64) -> String {
    if number < 100_000 {
        return number.to_string();
    }
    scaled(number, 1_000, &["", " k", " M", " G", " T", " P", " E"])
}

/// Formats a size in bytes: `512 B`, `3.4 GiB`.
pub(crate) fn bytes(number: u64) -> String {
    scaled(number, 1_024, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"])
}

#[allow(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let mut value = number as f64;
    let mut unit = 0;
    // A value that would be rounded up to the next unit uses that unit.
    while value >= step as f64 - 0.05 && unit + 1 < units.len() {
        value /= step as f64;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{number}{name}") } else { format!("{value:.1}{name}") }
}

/// Formats milliseconds: `0.42`, `12.3`, `1234`.
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.2}"),
        ..1000.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

/// Formats a fraction as a percentage: 0.125 is `12.5 %`.
pub(crate) fn share(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_one_digit_after_the_point() {
        for (number, text) in [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100.0 k"),
            (999_949, "999.9 k"),
            (999_960, "1.0 M"),
            (1_234_567, "1.2 M"),
            (u64::MAX, "18.4 E"),
        ] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (3_650_722_201, "3.4 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!([0.421, 12.34, 1234.5].map(milliseconds), ["0.42", "12.3", "1234"]);
    }
}

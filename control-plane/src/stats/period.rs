//! Time in reports: what a range parameter means, and where hours and days begin in a time zone.
//!
//! A range is half open. A date means its midnight in the report's zone, and as `to` the midnight after it, so that
//! `from=2026-11-20&to=2026-11-21` covers both days. A negative span (`-2h`, `-7d`, `-30m`, `-90s`) counts back from
//! now. Reports by hours and days are widened to whole periods, and end with the period that is open now.

use jiff::{SignedDuration, Timestamp, ToSpan as _, Unit, Zoned, ZonedRound, civil, tz::TimeZone};

use super::batch::MINUTE_MS;

/// The length of a report's periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Per {
    Minute,
    Hour,
    Day,
}

/// A range of time that begins and ends with a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Zoned,
    pub(crate) to: Zoned,
}

impl Span {
    /// In minutes since the epoch.
    pub(crate) fn minutes(&self) -> (i64, i64) {
        (minute(&self.from), minute(&self.to))
    }

    /// In milliseconds since the epoch.
    pub(crate) fn millis(&self) -> (i64, i64) {
        (self.from.timestamp().as_millisecond(), self.to.timestamp().as_millisecond())
    }
}

fn minute(time: &Zoned) -> i64 {
    // The first minute that begins at or after the time.
    -(-time.timestamp().as_millisecond()).div_euclid(MINUTE_MS)
}

/// RFC 3339, `Z` for UTC.
pub(crate) fn rfc3339(time: &Zoned) -> String {
    if time.offset().is_zero() {
        time.timestamp().to_string()
    } else {
        time.timestamp().display_with_offset(time.offset()).to_string()
    }
}

/// Reads `from` or `to`.
pub(crate) fn parse(text: &str, end: bool, zone: &TimeZone, now: &Zoned) -> Result<Zoned, String> {
    let wrong =
        || format!("{text:?} is not a time (write 2026-11-21T10:00:00Z, 2026-11-21, or -2h, -7d, now)");
    if text == "now" {
        return Ok(now.clone());
    }
    if let Some(span) = text.strip_prefix('-') {
        let (count, unit) = span.split_at_checked(span.len().saturating_sub(1)).ok_or_else(wrong)?;
        let count: i32 = count.parse().ok().filter(|count| *count >= 0).ok_or_else(wrong)?;
        let count = i64::from(count);
        let time = match unit {
            "s" => now.checked_sub(SignedDuration::from_secs(count)),
            "m" => now.checked_sub(SignedDuration::from_mins(count)),
            "h" => now.checked_sub(SignedDuration::from_hours(count)),
            "d" if count <= 100_000 => now.checked_sub(count.days()),
            _ => return Err(wrong()),
        };
        return time.map_err(|_| wrong());
    }
    // An unescaped plus sign in a URL arrives as a space.
    let text = match text.split_once('T') {
        Some((date, time)) => format!("{date}T{}", time.replace(' ', "+")),
        None => text.to_owned(),
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.to_zoned(zone.clone()));
    }
    if text.len() == 10 {
        let date: civil::Date = text.parse().map_err(|_| wrong())?;
        let date = if end { date.tomorrow().map_err(|_| wrong())? } else { date };
        return date.to_zoned(zone.clone()).map_err(|_| wrong());
    }
    if text.contains('T') && !text.contains(['[', 'Z', '+']) {
        let time: civil::DateTime = text.parse().map_err(|_| wrong())?;
        return time.to_zoned(zone.clone()).map_err(|_| wrong());
    }
    Err(wrong())
}

impl Per {
    /// The start of the period that contains a time.
    pub(crate) fn start(self, time: &Zoned) -> Result<Zoned, jiff::Error> {
        match self {
            Self::Minute => time.round(ZonedRound::new().smallest(Unit::Minute).mode(jiff::RoundMode::Trunc)),
            Self::Hour => time.round(ZonedRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Trunc)),
            Self::Day => time.start_of_day(),
        }
    }

    /// The start of the next period, given the start of one.
    pub(crate) fn next(self, start: &Zoned) -> Result<Zoned, jiff::Error> {
        match self {
            Self::Minute => start.checked_add(SignedDuration::from_mins(1)),
            Self::Hour => {
                let hour_later = start.checked_add(SignedDuration::from_hours(1))?;
                // Unless the UTC offset changes, the next hour begins an hour later.
                if hour_later.offset() == start.offset() {
                    return Ok(hour_later);
                }
                // If the offset changes by half an hour, one hour later is not the start of an hour.
                let begun = self.start(&hour_later)?;
                Ok(if begun > *start { begun } else { hour_later })
            }
            Self::Day => start.tomorrow()?.start_of_day(),
        }
    }

    /// The whole periods that a range touches; `None` if there are more than `limit`.
    pub(crate) fn periods(self, span: &Span, limit: usize) -> Result<Option<Vec<Span>>, jiff::Error> {
        let mut periods = Vec::new();
        let mut from = self.start(&span.from)?;
        while from < span.to {
            if periods.len() == limit {
                return Ok(None);
            }
            let to = self.next(&from)?;
            periods.push(Span { from, to: to.clone() });
            from = to;
        }
        Ok(Some(periods))
    }
}

/// Splits a range of minutes into the coarsest grains: `(grain, from, to)`.
pub(crate) fn grains(from: i64, to: i64) -> Vec<(i64, i64, i64)> {
    fn split(from: i64, to: i64, grains: &[i64], spans: &mut Vec<(i64, i64, i64)>) {
        let Some((&grain, finer)) = grains.split_first() else { return };
        let first = -(-from).div_euclid(grain) * grain;
        let last = to.div_euclid(grain) * grain;
        if first < last {
            split(from, first, finer, spans);
            spans.push((grain, first, last));
            split(last, to, finer, spans);
        } else if from < to {
            split(from, to, finer, spans);
        }
    }
    let mut spans = Vec::new();
    split(from, to, &[1440, 60, 1], &mut spans);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str, zone: &str) -> Zoned {
        text.parse::<Timestamp>().unwrap().in_tz(zone).unwrap()
    }

    fn starts(unit: Per, from: &str, to: &str, zone: &str) -> Vec<String> {
        let span = Span { from: at(from, zone), to: at(to, zone) };
        unit.periods(&span, 100).unwrap().unwrap().iter().map(|period| rfc3339(&period.from)).collect()
    }

    #[test]
    fn days_of_berlin_have_23_and_25_hours_when_clocks_change() {
        let hours = |from, to| starts(Per::Hour, from, to, "Europe/Berlin").len();
        assert_eq!(hours("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"), 23);
        assert_eq!(hours("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"), 25);
        assert_eq!(
            starts(Per::Day, "2026-03-28T23:00:00Z", "2026-03-30T00:00:00Z", "Europe/Berlin"),
            ["2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"]
        );
    }

    #[test]
    fn hours_of_kolkata_begin_at_half_past_in_utc() {
        assert_eq!(
            starts(Per::Hour, "2026-01-01T00:00:00Z", "2026-01-01T00:31:00Z", "Asia/Kolkata"),
            ["2026-01-01T05:00:00+05:30", "2026-01-01T06:00:00+05:30"]
        );
    }

    #[test]
    fn hours_never_overlap_where_clocks_change_by_half_an_hour() {
        for day in ["2026-04-04T00:00:00Z", "2026-10-03T00:00:00Z"] {
            let from = at(day, "Australia/Lord_Howe");
            let span = Span { to: from.checked_add(48.hours()).unwrap(), from };
            let periods = Per::Hour.periods(&span, 100).unwrap().unwrap();
            for pair in periods.windows(2) {
                assert_eq!(pair[0].to, pair[1].from);
                assert!(pair[0].from < pair[0].to);
            }
        }
    }

    #[test]
    fn a_date_as_the_end_is_included() {
        let now = at("2026-11-21T10:00:00Z", "UTC");
        let parsed = |text, end| parse(text, end, &TimeZone::UTC, &now).map(|time| rfc3339(&time));
        assert_eq!(parsed("2026-11-20", false).unwrap(), "2026-11-20T00:00:00Z");
        assert_eq!(parsed("2026-11-20", true).unwrap(), "2026-11-21T00:00:00Z");
        assert_eq!(parsed("-2h", false).unwrap(), "2026-11-21T08:00:00Z");
        assert_eq!(parsed("2026-11-20T01:00:00 02:00", false).unwrap(), "2026-11-19T23:00:00Z");
        assert_eq!(parsed("2026-11-20T01:00", false).unwrap(), "2026-11-20T01:00:00Z");
        for wrong in ["", "-", "-h", "--1h", "-2x", "yesterday", "2026-13-01", "2026-11-20T25:00:00Z", "-é"]
        {
            assert!(parsed(wrong, false).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn grains_cover_a_range_once(from in 0i64..5000, length in 0i64..10_000) {
            let mut at = from;
            for (grain, first, last) in grains(from, from + length) {
                prop_assert_eq!(first, at);
                prop_assert!(first < last && first % grain == 0 && last % grain == 0);
                at = last;
            }
            prop_assert_eq!(at, from + length);
        }
    }
}

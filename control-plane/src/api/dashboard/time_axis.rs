//! Labels below a chart: just as much of the time as is needed to distinguish one label from the next.

use jiff::Timestamp;
use weir_admin_api::Period;

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;
/// The most labels that fit below a chart.
const MOST: usize = 8;

/// The format of labels. All labels of a chart have the same format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `14:05`: for up to a day and an hour, so that each time of day occurs once.
    Clock,
    /// `11-21 14:05`.
    DayAndClock,
    /// `11-21`: labels are at least a day apart.
    Day,
    /// `2026-11-21`: labels are at least a day apart, and the year changes between them.
    Date,
}

impl Form {
    fn of(periods: &[Period], every: usize) -> Self {
        let at = |period: Option<&Period>| period.and_then(|period| period.start.parse::<Timestamp>().ok());
        let (Some(first), Some(next), Some(labelled), Some(last)) =
            (at(periods.first()), at(periods.get(1)), at(periods.get(every)), at(periods.last()))
        else {
            return Self::DayAndClock;
        };
        let since = |at: Timestamp| at.as_second() - first.as_second();
        let year =
            |period: Option<&Period>| period.and_then(|period| period.start.get(..4).map(str::to_owned));
        // Days have 23 to 25 hours.
        if since(next) >= DAY_S - HOUR_S || since(labelled) > DAY_S {
            if year(periods.first()) == year(periods.last()) { Self::Day } else { Self::Date }
        } else if since(last) <= DAY_S {
            Self::Clock
        } else {
            Self::DayAndClock
        }
    }

    fn write(self, start: &str) -> Option<String> {
        let (month_and_day, clock) = (start.get(5..10)?, start.get(11..16)?);
        Some(match self {
            Self::Clock => clock.to_owned(),
            Self::DayAndClock => format!("{month_and_day} {clock}"),
            Self::Day => month_and_day.to_owned(),
            Self::Date => start.get(..10)?.to_owned(),
        })
    }
}

/// The periods that have a label, and the label's text.
pub(super) fn labels(periods: &[Period]) -> Vec<(usize, String)> {
    let every = periods.len().div_ceil(MOST).max(1);
    let form = Form::of(periods, every);
    let labelled = periods.iter().enumerate().step_by(every);
    labelled
        .map(|(place, period)| (place, form.write(&period.start).unwrap_or_else(|| period.start.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, civil};
    use weir_admin_api::{Completeness, Measures, ReportingNodes};

    use super::*;

    /// Labels of `number` periods of `minutes` minutes each, from a time in Berlin.
    fn labelled(from: civil::DateTime, minutes: i64, number: usize) -> Vec<String> {
        let from = from.in_tz("Europe/Berlin").expect("a time zone");
        let start = |i: usize| {
            let at = from.checked_add(SignedDuration::from_mins(minutes * i64::try_from(i).expect("few")));
            at.expect("a time").strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
        };
        let period = |i| Period { start: start(i), ..empty() };
        let periods: Vec<Period> = (0..number).map(period).collect();
        labels(&periods).into_iter().map(|(_, label)| label).collect()
    }

    fn empty() -> Period {
        Period {
            start: String::new(),
            state: Completeness::Complete,
            complete: true,
            nodes: ReportingNodes::default(),
            measures: Measures::default(),
        }
    }

    #[test]
    fn minutes_around_midnight_are_told_by_the_clock() {
        let at = civil::date(2026, 11, 21).at(23, 55, 0, 0);
        let labels = labelled(at, 1, 61);
        assert_eq!(labels, ["23:55", "00:03", "00:11", "00:19", "00:27", "00:35", "00:43", "00:51"]);
    }

    #[test]
    fn labels_tell_times_apart_and_say_no_more() {
        let at = civil::date(2026, 11, 21).at(1, 0, 0, 0);
        assert_eq!(labelled(at, 60, 24)[..3], ["01:00", "04:00", "07:00"]);
        assert_eq!(labelled(at, 60, 72)[..3], ["11-21 01:00", "11-21 10:00", "11-21 19:00"]);
        assert_eq!(labelled(at, 60, 240)[..3], ["11-21", "11-22", "11-23"]);
        // One label every 23 hours, so that two labels have the same date.
        assert_eq!(labelled(at, 60, 184)[..2], ["11-21 01:00", "11-22 00:00"]);
        let at = civil::date(2026, 12, 25).at(0, 0, 0, 0);
        assert_eq!(labelled(at, 24 * 60, 7)[..2], ["12-25", "12-26"]);
        assert_eq!(labelled(at, 24 * 60, 14)[..2], ["2026-12-25", "2026-12-27"]);
        assert_eq!(labelled(at, 60, 1), ["12-25 00:00"]);
        assert!(labels(&[]).is_empty());
    }

    #[test]
    fn what_is_no_time_is_written_as_it_is() {
        let periods = [Period { start: "now".to_owned(), ..empty() }];
        assert_eq!(labels(&periods), [(0, "now".to_owned())]);
    }
}

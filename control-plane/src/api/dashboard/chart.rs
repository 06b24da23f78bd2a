//! SVG charts: bars of requests by status class, and lines of percentiles. The code is small enough to need no library.
//! The page's style sheet alone styles the charts, because the content security policy allows no inline styles.
//!
//! A chart is as wide as the page allows, and its text keeps the page's font size: only the drawing is stretched, and
//! its horizontal unit is the period. All bars of a status class are one path, so that a page with thousands of periods
//! stays small. A gap is hatched over the whole height and an open period is pale, so that neither looks like a period
//! with few requests. Every chart also shows its numbers as text: the peak, and a table next to it.

use maud::{Markup, html};

use super::{
    format::{count, millis},
    time_axis,
};
use weir_admin_api::{Completeness, Period};

/// Height of a drawing, in pixels.
const HEIGHT: f64 = 176.0;
/// Width of a period, in the drawing's units.
const STEP: f64 = 100.0;
/// Width of a bar within its period, in the same units.
const BAR: f64 = 78.0;
/// With more periods than this, single periods have no hover area.
const MOST_POINTED: usize = 200;

/// Converts a number for display.
#[allow(clippy::cast_precision_loss, reason = "a chart shows some hundred points, not 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

/// The top of an axis: a round number above all values.
fn nice(highest: f64) -> f64 {
    if highest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(highest.log10().floor());
    let steps = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|top| *top >= highest).unwrap_or(highest)
}

struct Frame<'a> {
    periods: &'a [Period],
    top: f64,
}

impl<'a> Frame<'a> {
    fn new(periods: &'a [Period], highest: f64) -> Self {
        Self { periods, top: nice(highest) }
    }

    /// The middle of a period, as a fraction of the width.
    fn share(&self, period: usize) -> f64 {
        (float(period as u64) + 0.5) / float(self.periods.len().max(1) as u64) * 100.0
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT * (1.0 - value / self.top)
    }

    /// Draws the frame of a chart around a drawing and its labels.
    fn draw(
        &self,
        title: &str,
        said: &str,
        label: &dyn Fn(f64) -> String,
        drawing: &Markup,
        over: &Markup,
    ) -> Markup {
        let times = time_axis::labels(self.periods);
        html! {
            div class="chart" role="group" aria-label=(title) {
                div class="values" aria-hidden="true" {
                    @for share in [1.0, 0.5, 0.0] { span { (label(self.top * share)) } }
                }
                svg class="plot" height=(HEIGHT) role="img" aria-label=(said) {
                    (hatch())
                    @for share in [0.0, 0.5, 1.0] {
                        @let y = px(self.y(self.top * share));
                        line class="grid" x1="0" x2="100%" y1=(y) y2=(y) {}
                    }
                    (self.gaps())
                    svg width="100%" height=(HEIGHT) preserveAspectRatio="none" aria-hidden="true"
                        viewBox=(format!("0 0 {} {HEIGHT}", float(self.periods.len().max(1) as u64) * STEP)) {
                        (drawing)
                    }
                    (over)
                }
                svg class="times" height="18" aria-hidden="true" {
                    @for (place, (i, time)) in times.iter().enumerate() {
                        text class=[(place % 2 == 1).then_some("second")] x=(percent(self.share(*i))) y="14" text-anchor="middle" {
                            (time)
                        }
                    }
                }
            }
        }
    }

    fn gaps(&self) -> Markup {
        let width = 100.0 / float(self.periods.len().max(1) as u64);
        html! {
            @for (i, _) in self.periods.iter().enumerate().filter(|(_, period)| period.state == Completeness::Gap) {
                rect class="gap" x=(percent(float(i as u64) * width)) width=(percent(width)) height=(HEIGHT) {}
            }
        }
    }
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

fn hatch() -> Markup {
    html! {
        defs {
            pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                line class="hatch" x1="0" y1="0" x2="0" y2="6" {}
            }
        }
    }
}

/// Requests by status class, 1xx to 5xx.
fn classes(period: &Period) -> [u64; 5] {
    let mut classes = [0; 5];
    for (status, requests) in &period.measures.status {
        if let Some(class) = classes.get_mut(usize::from(status / 100).saturating_sub(1)) {
            *class += requests;
        }
    }
    classes
}

/// A bar chart of requests, stacked by status class, with the peak marked.
pub(super) fn requests(periods: &[Period], title: &str) -> Markup {
    let peak = periods
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.measures.requests.cmp(&b.1.measures.requests).then(b.0.cmp(&a.0)));
    let peak = peak.filter(|(_, period)| period.measures.requests > 0);
    // At least 2, so that half of it is a whole number of requests.
    let frame = Frame::new(periods, float(peak.map_or(0, |(_, period)| period.measures.requests)).max(2.0));
    let said = match peak {
        Some((_, period)) => {
            format!("{title}. The most is {} at {}.", count(period.measures.requests), period.start)
        }
        None => format!("{title}. There were no requests."),
    };
    let drawing = html! {
        @for (pale, open) in [("", false), (" open", true)] {
            @for (place, path) in bars(&frame, open).into_iter().enumerate().filter(|(_, path)| !path.is_empty()) {
                path class=(format!("s{}{pale}", place + 1)) d=(path) {}
            }
        }
    };
    let over = html! {
        @if periods.len() <= MOST_POINTED {
            @for (i, period) in periods.iter().enumerate().filter(|(_, period)| period.measures.requests > 0) {
                @let width = 100.0 / float(periods.len() as u64);
                rect class="point" x=(percent(float(i as u64) * width)) width=(percent(width)) height=(HEIGHT) { title { (tell(period)) } }
            }
        }
        @if let Some((i, period)) = peak {
            @let (x, y) = (frame.share(i), frame.y(float(period.measures.requests)));
            circle class="mark" cx=(percent(x)) cy=(px(y)) r="3" {}
            text class="peak" x=(percent(x)) y=(px(y - 8.0)) text-anchor=(anchor(x)) { "peak " (count(period.measures.requests)) }
        }
    };
    html! {
        (frame.draw(title, &said, &|value| short(value), &drawing, &over))
        ul class="legend" {
            @for (class, name) in [("s2", "2xx"), ("s3", "3xx"), ("s4", "4xx"), ("s5", "5xx")] {
                li { (swatch(class)) (name) }
            }
            @if periods.iter().any(|period| period.state == Completeness::Gap) {
                li { (swatch("gap")) "not reported" }
            }
        }
    }
}

/// Places a label next to its point if it does not fit above it.
fn anchor(share: f64) -> &'static str {
    match share {
        share if share < 12.0 => "start",
        share if share > 88.0 => "end",
        _ => "middle",
    }
}

fn swatch(class: &str) -> Markup {
    html! { svg viewBox="0 0 10 10" aria-hidden="true" { rect class=(class) width="10" height="10" rx="2" {} } }
}

/// The bars of each status class as a path; each class is stacked on the previous ones. Returns either the bars of open
/// periods or those of all other periods.
fn bars(frame: &Frame<'_>, open: bool) -> [String; 5] {
    let mut paths = [const { String::new() }; 5];
    for (i, period) in frame.periods.iter().enumerate() {
        if (period.state == Completeness::Open) != open {
            continue;
        }
        let x = float(i as u64) * STEP + (STEP - BAR) / 2.0;
        let mut below = 0;
        for (path, requests) in paths.iter_mut().zip(classes(period)).filter(|(_, requests)| *requests > 0) {
            let (base, y) = (frame.y(float(below)), frame.y(float(below + requests)));
            below += requests;
            path.push_str(&format!("M{x} {}h{BAR}v{}h-{BAR}z", px(y), px((base - y).max(0.5))));
        }
    }
    paths
}

/// A line chart of the percentiles.
pub(super) fn latency(periods: &[Period], title: &str) -> Markup {
    let highest = periods.iter().map(|period| period.measures.latency_ms.p99).fold(0.0, f64::max);
    let frame = Frame::new(periods, highest);
    type Value = fn(&Period) -> f64;
    let lines: [(&str, Value); 3] = [
        ("l99", |period| period.measures.latency_ms.p99),
        ("l90", |period| period.measures.latency_ms.p90),
        ("l50", |period| period.measures.latency_ms.p50),
    ];
    let numbered: Vec<(usize, &Period)> = periods.iter().enumerate().collect();
    let runs: Vec<&[(usize, &Period)]> = numbered
        .chunk_by(|a, b| (a.1.measures.requests > 0) == (b.1.measures.requests > 0))
        .filter(|run| run.first().is_some_and(|(_, period)| period.measures.requests > 0))
        .collect();
    let drawing = html! {
        @for (class, value) in lines {
            @for run in runs.iter().filter(|run| run.len() > 1) {
                @let points: Vec<String> = run.iter().map(|(i, period)| {
                    format!("{},{}", (float(*i as u64) + 0.5) * STEP, px(frame.y(value(period))))
                }).collect();
                polyline class=(format!("{class} line")) points=(points.join(" ")) {}
            }
        }
    };
    let over = html! {
        @for (class, value) in lines {
            @for run in &runs {
                @if let [(i, period)] = run {
                    circle class=(format!("dot {class}")) r="2.5" cx=(percent(frame.share(*i))) cy=(px(frame.y(value(period)))) {}
                }
            }
        }
    };
    let said = format!("{title}. The highest 99th percentile is {}.", millis(highest));
    html! {
        (frame.draw(title, &said, &|value| millis(value), &drawing, &over))
        ul class="legend" {
            @for (class, name) in [("l50", "p50"), ("l90", "p90"), ("l99", "p99")] { li { (swatch(class)) (name) } }
            @if periods.iter().any(|period| period.state == Completeness::Gap) { li { (swatch("gap")) "not reported" } }
        }
    }
}

/// A small line chart of requests per period. The line is interrupted where no node reported.
pub(super) fn sparkline(periods: &[Period]) -> Markup {
    let most = periods.iter().map(|period| period.measures.requests).max().unwrap_or(0);
    let highest = float(most).max(1.0);
    let last = float(periods.len().saturating_sub(1) as u64).max(1.0);
    let known: Vec<(usize, &Period)> = periods.iter().enumerate().collect();
    let is_told = |period: &Period| !matches!(period.state, Completeness::Gap | Completeness::None);
    html! {
        svg class="sparkline" viewBox="0 0 120 28" preserveAspectRatio="none" role="img"
            aria-label=(format!("Requests of each of the last {} hours, {} at most.", periods.len(), count(most))) {
            @for run in known.chunk_by(|a, b| is_told(a.1) == is_told(b.1)).filter(|run| run.first().is_some_and(|(_, period)| is_told(period))) {
                @let points: Vec<String> = run.iter().map(|(i, period)| {
                    format!("{},{}", px(float(*i as u64) / last * 120.0), px(26.0 - float(period.measures.requests) / highest * 24.0))
                }).collect();
                polyline points=(points.join(" ")) {}
            }
        }
    }
}

fn tell(period: &Period) -> String {
    let statuses: Vec<String> =
        period.measures.status.iter().map(|(status, requests)| format!("{status}: {requests}")).collect();
    format!("{} · {} requests · {}", period.start, period.measures.requests, statuses.join(", "))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "labels of an axis")]
fn short(value: f64) -> String {
    if value < 10.0 && value.fract() > 0.0 { format!("{value:.1}") } else { count(value as u64) }
}

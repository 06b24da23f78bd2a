//! Charts as SVG: bars of requests by class of status, lines of percentiles. Small enough to be our own, and styled by
//! the page's sheet alone, because the content security policy allows no styles in the page.
//!
//! A chart is as wide as there is room, and its letters stay as large as the page's: what is stretched is the drawing
//! alone, whose unit across is the period. All bars of a class are one path, so that a page with thousands of periods
//! stays light. A gap is hatched over the whole height and an open period is pale, so that neither looks like a quiet
//! one. Every chart has its numbers as text: the peak, and a table beside it.

use maud::{Markup, html};

use super::{
    format::{count, millis},
    time_axis,
};
use weir_admin_api::{Completeness, Period};

/// How high a drawing is, in pixels.
const HEIGHT: f64 = 176.0;
/// How wide a period is, in the drawing's units.
const STEP: f64 = 100.0;
/// The part of it that a bar takes.
const BAR: f64 = 78.0;
/// With more periods than this, single ones cannot be pointed at.
const MOST_POINTED: usize = 200;

/// A number for the eye.
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

    /// Where a period's middle is, as a part of the width.
    fn share(&self, period: usize) -> f64 {
        (float(period as u64) + 0.5) / float(self.periods.len().max(1) as u64) * 100.0
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT * (1.0 - value / self.top)
    }

    /// The chart around a drawing and what is written over it.
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

/// Requests of each class of status, 1xx to 5xx.
fn classes(period: &Period) -> [u64; 5] {
    let mut classes = [0; 5];
    for (status, requests) in &period.measures.status {
        if let Some(class) = classes.get_mut(usize::from(status / 100).saturating_sub(1)) {
            *class += requests;
        }
    }
    classes
}

/// Bars of requests, stacked by class of status, with the peak marked.
pub(super) fn requests(periods: &[Period], title: &str) -> Markup {
    let peak = periods
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.measures.requests.cmp(&b.1.measures.requests).then(b.0.cmp(&a.0)));
    let peak = peak.filter(|(_, period)| period.measures.requests > 0);
    // Half a request is none.
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

/// Beside its point where it would not fit over it.
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

/// The bars of each class of status as a path; each class stands on those before it. Either of the periods that are still
/// open, or of the others.
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

/// Lines of the percentiles.
pub(super) fn latency(periods: &[Period], title: &str) -> Markup {
    let highest = periods.iter().map(|period| period.measures.latency_ms.p99).fold(0.0, f64::max);
    let frame = Frame::new(periods, highest);
    type Value = fn(&Period) -> f64;
    let lines: [(&str, Value); 3] = [
        ("l99", |period| period.measures.latency_ms.p99),
        ("l90", |period| period.measures.latency_ms.p90),
        ("l50", |period| period.measures.latency_ms.p50),
    ];
    let told: Vec<(usize, &Period)> = periods.iter().enumerate().collect();
    let runs: Vec<&[(usize, &Period)]> = told
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

/// Requests of each period as one small line, which breaks where nobody reported.
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

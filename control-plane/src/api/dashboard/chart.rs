//! Charts as SVG: bars of requests by class of status, lines of percentiles. Small enough to be our own, and styled by
//! the page's sheet alone, because the content security policy allows no styles in the page.
//!
//! A gap is hatched over the whole height and an open period is pale, so that neither looks like a quiet one. Every
//! chart has its numbers as text: the peak, and a table beside it.

use maud::{Markup, html};

use super::format::{count, hour_label, millis};
use crate::stats::{Period, State};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 24.0;
const PLOT: f64 = HEIGHT - TOP - BOTTOM;

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

struct Frame {
    step: f64,
    top: f64,
}

impl Frame {
    #[allow(clippy::cast_precision_loss, reason = "periods are few")]
    fn new(periods: usize, highest: f64) -> Self {
        Self { step: (WIDTH - LEFT - RIGHT) / periods.max(1) as f64, top: nice(highest) }
    }

    #[allow(clippy::cast_precision_loss, reason = "periods are few")]
    fn x(&self, period: usize) -> f64 {
        LEFT + self.step * period as f64
    }

    fn y(&self, value: f64) -> f64 {
        TOP + PLOT * (1.0 - value / self.top)
    }

    fn axes(&self, periods: &[Period], label: &dyn Fn(f64) -> String) -> Markup {
        let every = periods.len().div_ceil(8).max(1);
        html! {
            @for share in [0.0, 0.5, 1.0] {
                @let y = self.y(self.top * share);
                line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(px(y)) y2=(px(y)) {}
                text x=(LEFT - 8.0) y=(px(y + 4.0)) text-anchor="end" { (label(self.top * share)) }
            }
            @for (i, period) in periods.iter().enumerate().step_by(every) {
                text x=(px(self.x(i) + self.step / 2.0)) y=(HEIGHT - 6.0) text-anchor="middle" {
                    (hour_label(&period.start, periods))
                }
            }
        }
    }

    fn gaps(&self, periods: &[Period]) -> Markup {
        html! {
            @for (i, _) in periods.iter().enumerate().filter(|(_, period)| period.state == State::Gap) {
                rect class="gap" x=(px(self.x(i))) y=(TOP) width=(px(self.step)) height=(PLOT) {}
            }
        }
    }
}

fn px(value: f64) -> String {
    format!("{value:.1}")
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
    for (status, requests) in &period.status {
        if let Some(class) = classes.get_mut(usize::from(status / 100).saturating_sub(1)) {
            *class += requests;
        }
    }
    classes
}

/// Bars of requests, stacked by class of status, with the peak marked.
pub(super) fn requests(periods: &[Period], title: &str) -> Markup {
    let peak = periods.iter().enumerate().max_by(|a, b| a.1.requests.cmp(&b.1.requests).then(b.0.cmp(&a.0)));
    let peak = peak.filter(|(_, period)| period.requests > 0);
    // Half a request is none.
    let frame = Frame::new(periods.len(), float(peak.map_or(0, |(_, period)| period.requests)).max(2.0));
    let said = match peak {
        Some((_, period)) => format!("{title}. The most is {} at {}.", count(period.requests), period.start),
        None => format!("{title}. There were no requests."),
    };
    html! {
        div class="chart" tabindex="0" role="group" aria-label=(title) {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(said) {
                (hatch())
                (frame.axes(periods, &|value| short(value)))
                (frame.gaps(periods))
                @for (i, period) in periods.iter().enumerate().filter(|(_, period)| period.requests > 0) {
                    g class=(if period.state == State::Open { "open" } else { "" }) {
                        title { (tell(period)) }
                        (bar(&frame, i, period))
                    }
                }
                @if let Some((i, period)) = peak {
                    @let x = frame.x(i) + frame.step / 2.0;
                    @let y = frame.y(float(period.requests));
                    circle class="mark" cx=(px(x)) cy=(px(y)) r="3" {}
                    text class="peak" x=(px(x.clamp(LEFT + 40.0, WIDTH - 48.0))) y=(px(y - 7.0)) text-anchor="middle" {
                        "peak " (count(period.requests))
                    }
                }
            }
        }
        ul class="legend" {
            @for (class, name) in [("s2", "2xx"), ("s3", "3xx"), ("s4", "4xx"), ("s5", "5xx")] {
                li { (swatch(class)) (name) }
            }
            @if periods.iter().any(|period| period.state == State::Gap) {
                li { (swatch("gap")) "not reported" }
            }
        }
    }
}

fn swatch(class: &str) -> Markup {
    html! { svg viewBox="0 0 10 10" aria-hidden="true" { rect class=(class) width="10" height="10" rx="2" {} } }
}

fn bar(frame: &Frame, place: usize, period: &Period) -> Markup {
    // Each class stands on those before it.
    let stacked = classes(period).into_iter().enumerate().scan(0u64, |below, (class, requests)| {
        let at = *below;
        *below += requests;
        Some((class, requests, at))
    });
    html! {
        @for (class, requests, below) in stacked.filter(|(_, requests, _)| *requests > 0) {
            @let base = frame.y(float(below));
            @let y = frame.y(float(below + requests));
            @let width = (frame.step * 0.78).max(1.0);
            rect class=(format!("s{}", class + 1)) x=(px(frame.x(place) + (frame.step - width) / 2.0)) y=(px(y))
                width=(px(width)) height=(px((base - y).max(0.5))) {}
        }
    }
}

/// Lines of the percentiles.
pub(super) fn latency(periods: &[Period], title: &str) -> Markup {
    let highest = periods.iter().map(|period| period.latency_ms.p99).fold(0.0, f64::max);
    let frame = Frame::new(periods.len(), highest);
    type Value = fn(&Period) -> f64;
    let lines: [(&str, Value); 3] = [
        ("l99", |period| period.latency_ms.p99),
        ("l90", |period| period.latency_ms.p90),
        ("l50", |period| period.latency_ms.p50),
    ];
    html! {
        div class="chart" tabindex="0" role="group" aria-label=(title) {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img"
                aria-label=(format!("{title}. The highest 99th percentile is {}.", millis(highest))) {
                (hatch())
                (frame.axes(periods, &|value| millis(value)))
                (frame.gaps(periods))
                @for (class, value) in lines {
                    @for run in periods.iter().enumerate().collect::<Vec<_>>()
                        .chunk_by(|a, b| (a.1.requests > 0) == (b.1.requests > 0))
                        .filter(|run| run.first().is_some_and(|(_, period)| period.requests > 0))
                    {
                        @let points: Vec<String> = run.iter().map(|(i, period)| {
                            format!("{},{}", px(frame.x(*i) + frame.step / 2.0), px(frame.y(value(period))))
                        }).collect();
                        @if let [(i, period)] = run {
                            circle class=(format!("dot {class}")) r="2.5"
                                cx=(px(frame.x(*i) + frame.step / 2.0)) cy=(px(frame.y(value(period)))) {}
                        } @else {
                            polyline class=(format!("{class} line")) points=(points.join(" ")) {}
                        }
                    }
                }
            }
        }
        ul class="legend" {
            @for (class, name) in [("l50", "p50"), ("l90", "p90"), ("l99", "p99")] { li { (swatch(class)) (name) } }
            @if periods.iter().any(|period| period.state == State::Gap) { li { (swatch("gap")) "not reported" } }
        }
    }
}

/// Requests of each period as one small line, which breaks where nobody reported.
pub(super) fn sparkline(periods: &[Period]) -> Markup {
    let most = periods.iter().map(|period| period.requests).max().unwrap_or(0);
    let highest = float(most).max(1.0);
    let last = float(periods.len().saturating_sub(1) as u64).max(1.0);
    let known: Vec<(usize, &Period)> = periods.iter().enumerate().collect();
    let is_told = |period: &Period| !matches!(period.state, State::Gap | State::None);
    html! {
        svg class="sparkline" viewBox="0 0 120 28" preserveAspectRatio="none" role="img"
            aria-label=(format!("Requests of each of the last {} hours, {} at most.", periods.len(), count(most))) {
            @for run in known.chunk_by(|a, b| is_told(a.1) == is_told(b.1)).filter(|run| run.first().is_some_and(|(_, period)| is_told(period))) {
                @let points: Vec<String> = run.iter().map(|(i, period)| {
                    format!("{},{}", px(float(*i as u64) / last * 120.0), px(26.0 - float(period.requests) / highest * 24.0))
                }).collect();
                polyline points=(points.join(" ")) {}
            }
        }
    }
}

fn tell(period: &Period) -> String {
    let statuses: Vec<String> =
        period.status.iter().map(|(status, requests)| format!("{status}: {requests}")).collect();
    format!("{} · {} requests · {}", period.start, period.requests, statuses.join(", "))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "labels of an axis")]
fn short(value: f64) -> String {
    if value < 10.0 && value.fract() > 0.0 { format!("{value:.1}") } else { count(value as u64) }
}

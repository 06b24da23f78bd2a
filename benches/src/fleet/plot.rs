//! Draws how the cost of a change grows: one panel by nodes, one by backends.

use std::fmt::Write as _;

use super::scenario::Outcome;
use crate::picture::Picture;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const PANEL: f64 = 350.0;
const TALL: f64 = 180.0;

const STYLE: &str = ".axis { stroke: #d1d9e0; }
.time { stroke: #0969da; fill: none; stroke-width: 2; }
.time-dot { fill: #0969da; }
.cpu { stroke: #bc4c00; fill: none; stroke-width: 2; stroke-dasharray: 5 3; }
.cpu-dot { fill: #bc4c00; }
";

const DARK: &str = "  .axis { stroke: #3d444d; }
  .time { stroke: #4493f8; } .time-dot { fill: #4493f8; }
  .cpu { stroke: #f0883e; } .cpu-dot { fill: #f0883e; }
";

/// The picture of two series: by nodes, and by backends.
#[must_use]
pub fn svg(by_nodes: &[Outcome], by_backends: &[Outcome]) -> String {
    let mut text = String::new();
    draw(&mut text, by_nodes, "nodes", |outcome| outcome.size.nodes, 64.0);
    draw(&mut text, by_backends, "backends", |outcome| outcome.size.backends, 64.0 + PANEL + 60.0);
    let picture = Picture {
        width: WIDTH,
        height: HEIGHT,
        margin: 24.0,
        title: "Cost of a weight change",
        label: "Cost of a weight change, by nodes and by backends",
        caption: "Solid: milliseconds until all nodes use it (99th percentile). Dashed: CPU milliseconds of the control plane.",
        style: STYLE,
        dark: DARK,
    };
    picture.with(&text)
}

#[expect(clippy::cast_precision_loss, reason = "a size")]
fn draw(text: &mut String, series: &[Outcome], what: &str, size: fn(&Outcome) -> usize, x: f64) {
    let (top, bottom) = (108.0, 108.0 + TALL);
    let most = series.iter().map(|one| one.all_p99_ms.max(one.cpu_per_change_ms)).fold(1.0, f64::max) * 1.1;
    let widest = series.iter().map(size).max().unwrap_or(1).max(1) as f64;
    let across = |outcome: &Outcome| x + (PANEL - 40.0) * size(outcome) as f64 / widest;
    let up = |value: f64| bottom - TALL * value / most;
    // Writing to a string cannot fail.
    let _ = writeln!(text, r#"<text class="panel" x="{x}" y="{}">By {what}</text>"#, top - 18.0);
    for part in [0.0, 0.5, 1.0] {
        let (y, value) = (up(most * part), most * part);
        let _ = writeln!(
            text,
            r#"<path class="axis" d="M{x} {y:.1}h{}"/><text class="quiet" x="{:.1}" y="{:.1}" text-anchor="end">{value:.0} ms</text>"#,
            PANEL - 40.0,
            x - 6.0,
            y + 4.0
        );
    }
    type Line = (&'static str, fn(&Outcome) -> f64);
    let lines: [Line; 2] = [("time", |one| one.all_p99_ms), ("cpu", |one| one.cpu_per_change_ms)];
    for (class, value) in lines {
        let points: Vec<String> =
            series.iter().map(|one| format!("{:.1},{:.1}", across(one), up(value(one)))).collect();
        let _ = writeln!(text, r#"<polyline class="{class}" points="{}"/>"#, points.join(" "));
        for one in series {
            let _ = writeln!(
                text,
                r#"<circle class="{class}-dot" cx="{:.1}" cy="{:.1}" r="3.5"><title>{} {what}: {:.1} ms</title></circle>"#,
                across(one),
                up(value(one)),
                size(one),
                value(one)
            );
        }
    }
    for one in series {
        let _ = writeln!(
            text,
            r#"<text class="quiet" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            across(one),
            bottom + 18.0,
            size(one)
        );
    }
}

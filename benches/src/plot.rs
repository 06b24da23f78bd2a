//! Draws the figures: one panel per workload, one bar per proxy, its length the ratio to the best other proxy.

use std::fmt::Write as _;

use crate::{
    peer::Peer,
    picture::{Picture, escape},
    report::{Outcome, Report},
};

const COLUMNS: usize = 3;
const MARGIN: f64 = 24.0;
const HEAD: f64 = 84.0;
const FOOT: f64 = 40.0;
const PANEL_WIDTH: f64 = 304.0;
const PANEL_HEAD: f64 = 50.0;
const PANEL_GAP: f64 = 26.0;
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
/// Offset of the bars in a panel; names stand before them.
const NAMES: f64 = 66.0;
/// Length of a bar of [`LIMIT`].
const LENGTH: f64 = 138.0;
/// Longer bars are cut here, because one slow proxy would make the others look equal.
const LIMIT: f64 = 2.5;

const STYLE: &str = ".name { text-anchor: end; }
.own { font-weight: 600; }
.bar { fill: #afb8c1; }
.bar.own { fill: #0969da; }
.broken { stroke: #ffffff; stroke-width: 2; }
.best { stroke: #59636e; stroke-dasharray: 2 3; }
";

const DARK: &str = "  .bar { fill: #4d5663; }
  .bar.own { fill: #4493f8; }
  .broken { stroke: #0d1117; }
  .best { stroke: #9198a1; }
";

/// The picture.
#[must_use]
pub fn svg(report: &Report) -> String {
    let workloads = report.names(|outcome| &outcome.workload);
    let panels: Vec<Vec<&Outcome>> = workloads
        .iter()
        .map(|name| report.results.iter().filter(|outcome| outcome.workload == *name).collect())
        .collect();
    let rows = panels.iter().map(Vec::len).max().unwrap_or(0);
    let panel_height = PANEL_HEAD + ROW * count(rows) + PANEL_GAP;
    let lines = count(panels.len().div_ceil(COLUMNS));
    let width = 2.0 * MARGIN + PANEL_WIDTH * count(COLUMNS.min(panels.len()).max(2));
    let height = HEAD + panel_height * lines + FOOT;

    let mut text = String::new();
    for (index, panel) in panels.iter().enumerate() {
        let x = MARGIN + PANEL_WIDTH * count(index % COLUMNS);
        let y = HEAD + panel_height * count(index / COLUMNS);
        draw(&mut text, panel, report.half_load, x, y);
    }
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        r#"<text class="quiet" x="{MARGIN}" y="{}">{}</text>"#,
        height - 20.0,
        escape(&report.subject())
    );
    let caption = format!(
        "Shorter is better. Dotted line: the best other proxy in that workload (1.00). Bars longer than {LIMIT} are cut."
    );
    let picture = Picture {
        width,
        height,
        margin: MARGIN,
        title: "Weir and other proxies",
        label: "Weir and other proxies",
        caption: &caption,
        style: STYLE,
        dark: DARK,
    };
    picture.with(&text)
}

fn draw(text: &mut String, panel: &[&Outcome], half_load: Option<f64>, x: f64, y: f64) {
    let Some(first) = panel.first() else { return };
    let figure = first.compared_by.label();
    let figure = match half_load {
        Some(rate) if first.compared_by == crate::workload::Figure::Latency => {
            format!("{figure}, at {rate:.0} requests/s")
        }
        _ => figure.to_owned(),
    };
    let (begin, top) = (x + NAMES, y + PANEL_HEAD);
    let best = begin + LENGTH / LIMIT;
    let bottom = top + ROW * count(panel.len()) - (ROW - BAR) / 2.0;
    let _ = write!(
        text,
        r#"<text class="panel" x="{x}" y="{:.1}">{}</text>
<text class="quiet" x="{x}" y="{:.1}">{}</text>
"#,
        y + 16.0,
        escape(&first.workload),
        y + 33.0,
        escape(&figure),
    );
    for (row, outcome) in panel.iter().enumerate() {
        let ratio = outcome.ratio_to_best_peer.unwrap_or(1.0);
        let own = if outcome.peer == Peer::Weir.name() { " own" } else { "" };
        let (bar, middle) = (top + ROW * count(row), top + ROW * count(row) + BAR - 3.0);
        let length = LENGTH * ratio.clamp(0.0, LIMIT) / LIMIT;
        let end = begin + length;
        let _ = write!(
            text,
            r#"<text class="name{own}" x="{:.1}" y="{middle:.1}">{}</text>
<rect class="bar{own}" x="{begin:.1}" y="{bar:.1}" width="{length:.1}" height="{BAR}" rx="2"/>
"#,
            begin - 8.0,
            escape(&outcome.peer),
        );
        if ratio > LIMIT {
            for back in [16.0, 10.0] {
                let _ = writeln!(
                    text,
                    r#"<path class="broken" d="M{:.1} {:.1}l-5 {:.1}"/>"#,
                    end - back + 5.0,
                    bar - 1.0,
                    BAR + 2.0
                );
            }
        }
        let _ = writeln!(
            text,
            r#"<text class="figure{own}" x="{:.1}" y="{middle:.1}">{} <tspan class="quiet">{}</tspan></text>"#,
            end.max(best) + 7.0,
            outcome.compared_by.show(outcome.figure),
            show_ratio(ratio),
        );
    }
    let _ =
        writeln!(text, r#"<path class="best" d="M{best:.1} {:.1}V{bottom:.1}"/>"#, top - (ROW - BAR) / 2.0);
}

fn show_ratio(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}×") } else { format!("{ratio:.0}×") }
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn the_picture_contains_every_figure() {
        let text = svg(&report());
        for part in [">small GET<", ">idle connection<", ">haproxy<", ">9.0 <", ">2,700 <", ">3.97×<"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert_eq!(text.matches("class=\"bar own\"").count(), 2);
        assert_eq!(text.matches("class=\"bar\"").count(), 3);
    }

    #[test]
    fn only_long_bars_are_cut() {
        assert_eq!(svg(&report()).matches("class=\"broken\"").count(), 2);
    }
}

//! The experiment as a picture: latencies by percentile on the left, failures on the right.

use super::{Policy, Report, Row};
use crate::svg::{Stroke, Svg};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 400.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 350.0;
/// The left panel, across.
const LEFT: (f64, f64) = (70.0, 520.0);
/// The right panel, across.
const RIGHT: (f64, f64) = (640.0, 920.0);
/// Milliseconds at the top of the left panel.
const MOST: f64 = 2_200.0;
/// The last percentile that is drawn has so many nines.
const NINES: f64 = 4.0;

/// The picture, as SVG.
pub fn plot(report: &Report) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT);
    latencies(&mut svg, report);
    failures(&mut svg, report);
    svg.finish()
}

fn latencies(svg: &mut Svg, report: &Report) {
    svg.text(LEFT.0, 28.0, "start", "Latency by percentile, no timeout; colours as on the right");
    for millis in [0.0, 500.0, 1000.0, 1500.0, 2000.0] {
        let y = latency_y(millis);
        svg.line((LEFT.0, y), (LEFT.1, y), "#ddd");
        svg.text(LEFT.0 - 8.0, y + 4.0, "end", &format!("{:.1} s", millis / 1000.0));
    }
    for (share, label) in
        [(0.0, "0"), (0.9, "90"), (0.95, "95"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99")]
    {
        let x = share_x(share);
        svg.line((x, BOTTOM), (x, BOTTOM + 5.0), "#222");
        svg.text(x, BOTTOM + 20.0, "middle", label);
    }
    svg.text(LEFT.0.midpoint(LEFT.1), BOTTOM + 40.0, "middle", "percentile");
    for row in &report.rows {
        curve(svg, row);
    }
}

fn curve(svg: &mut Svg, row: &Row) {
    let points = (0..=200).map(|step| {
        let share = 1.0 - 10_f64.powf(-NINES * f64::from(step) / 200.0);
        (share_x(share), latency_y(row.latencies.percentile(share).min(MOST)))
    });
    svg.curve(points, stroke(row.policy));
}

fn failures(svg: &mut Svg, report: &Report) {
    svg.text(RIGHT.0 - 70.0, 28.0, "start", "Failed requests, timeout 1 s");
    for (share, label) in [(0.0001, "0.01 %"), (0.001, "0.1 %"), (0.01, "1 %"), (0.05, "5 %")] {
        let x = failed_x(share);
        svg.line((x, TOP), (x, BOTTOM), "#ddd");
        svg.text(x, BOTTOM + 20.0, "middle", label);
    }
    let height = (BOTTOM - TOP) / report.rows.len() as f64;
    for (index, row) in report.rows.iter().enumerate() {
        let y = TOP + height * index as f64;
        let (start, end) = (RIGHT.0 - 70.0, failed_x(1.0 - row.mean));
        let colour = stroke(row.policy).colour;
        svg.rect((start, y + 24.0), end - start, height - 34.0, colour);
        let label = format!("{}: {:.2} % succeed", row.policy.name(), 100.0 * row.mean);
        svg.text(start, y + 18.0, "start", &label);
    }
}

/// One nine is as wide as the next.
fn share_x(share: f64) -> f64 {
    LEFT.0 + (LEFT.1 - LEFT.0) * -(1.0 - share).log10() / NINES
}

fn latency_y(millis: f64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * millis / MOST
}

/// From 0.01 % to 5 %, logarithmic.
fn failed_x(share: f64) -> f64 {
    RIGHT.0 + (RIGHT.1 - RIGHT.0) * (share.max(0.0001) / 0.0001).log10() / 500_f64.log10()
}

/// Where curves lie on each other, the one below shows in the gaps.
fn stroke(policy: Policy) -> Stroke {
    match policy {
        Policy::RoundRobin => Stroke::solid("#d55e00"),
        Policy::LeastLoaded => Stroke::solid("#e69f00"),
        Policy::LinkerdPeakEwma => Stroke::solid("#56b4e9"),
        Policy::Selvedge => Stroke::dashed("#0072b2"),
        Policy::Informed => Stroke { colour: "#999999", dash: "3 5" },
    }
}

//! What a request costs as there is more of everything: it should cost the same.

use std::path::Path;
use std::process::Command;
use std::{array, fs};

use crate::measured::side_by_side;
use crate::svg::{Stroke, Svg, legend};
use crate::valgrind::{Folder, Measure, count};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/scale.svg");

/// Of what, how many, and how it is drawn.
const CURVES: [(&str, &[u64], Stroke); 5] = [
    ("connections", &[1, 10, 100, 1000, 10_000, 100_000], Stroke::solid("#0072b2")),
    ("endpoints", &[1, 10, 100, 1000], Stroke::solid("#009e73")),
    ("services", &[1, 10, 100, 1000], Stroke::dashed("#e69f00")),
    ("routes", &[1, 10, 100, 1000], Stroke::dashed("#56b4e9")),
    ("streams", &[1, 10, 100, 1000, 10_000], Stroke::solid("#cc79a7")),
];
/// Only where somebody has the time.
const MILLION: u64 = 1_000_000;

/// Measures, prints and draws.
pub(crate) fn print(programs: &Path, full: bool) {
    let folder = Folder::new();
    let mut points: Vec<(usize, u64)> = (0..CURVES.len())
        .flat_map(|curve| CURVES[curve].1.iter().map(move |&n| (curve, n)))
        .collect();
    if full {
        points.push((0, MILLION));
    }
    let measured = side_by_side(&points, |_, &(curve, n)| {
        eprintln!("{n} {}", CURVES[curve].0);
        (curve, n, each(CURVES[curve].0, n, programs, &folder))
    });
    println!(
        "\nInstructions of a request among so many (HTTP/1; of streams, a gRPC call in HTTP/2):"
    );
    for (at, (what, ..)) in CURVES.iter().enumerate() {
        let of = measured.iter().filter(|(curve, ..)| *curve == at);
        let (least, most) = of.clone().fold((f64::MAX, 0_f64), |(least, most), &(.., cost)| {
            (least.min(cost), most.max(cost))
        });
        let shown: Vec<String> = of.map(|(_, n, cost)| format!("{n}: {cost:.0}")).collect();
        println!("{what:>12}  {}  (most / least {:.2})", shown.join("  "), most / least);
    }
    fs::write(CHART, draw(&measured)).expect("cannot write the chart");
    println!("drawn in core/benches/scale.svg");
    if full {
        let held = count(
            Measure::Held,
            &programs.join("engine_cost"),
            &["idle", "http1", &MILLION.to_string()],
        );
        println!(
            "{:>12}  bytes on the heap for each of {MILLION} idle connections",
            held / MILLION
        );
    }
}

/// One more request, among so many.
fn each(what: &str, n: u64, programs: &Path, folder: &Folder) -> f64 {
    // Streams are all answered before the next ones are opened.
    let few = if what == "streams" { n.max(1000) } else { 1000 };
    let n = n.to_string();
    let run = |requests: u64| {
        let count_of = requests.to_string();
        if what != "streams" {
            // Each route is for another path, and the request for that of the last.
            let program = if what == "routes" { "exchange_cost" } else { "engine_cost" };
            let program = programs.join(program);
            return count(Measure::Instructions, &program, &[what, &n, &count_of]);
        }
        let (program, file) = (programs.join("hop_cost"), folder.file(&["streams", &n], requests));
        let file = file.to_string_lossy();
        let recorded =
            Command::new(&program).args(["record", "h2", "h2", &n, &count_of, &file]).status();
        assert!(recorded.is_ok_and(|status| status.success()), "cannot record {n} streams");
        count(Measure::Instructions, &program, &["replay", "h2", &n, &file])
    };
    let [few_cost, many_cost] = array::from_fn(|at| run(few * [1, 3][at]));
    (many_cost as f64 - few_cost as f64) / (2 * few) as f64
}

/// Instructions upwards, numbers to the right, ten times as many always as far.
fn draw(measured: &[(usize, u64, f64)]) -> String {
    let (left, right, top, bottom) = (70.0, 690.0, 50.0, 300.0);
    let most = measured.iter().map(|&(.., cost)| cost).fold(0.0, f64::max);
    let step = if most > 30_000.0 { 10_000.0 } else { 5000.0 };
    let upper = step * (most / step).ceil();
    let decades = measured.iter().map(|&(_, n, _)| n.ilog10()).max().unwrap_or(1).max(1);
    let x = |n: u64| left + (right - left) * (n as f64).log10() / f64::from(decades);
    let y = |cost: f64| bottom - (bottom - top) * cost / upper;
    let mut svg = Svg::new(720.0, 370.0);
    svg.text(left, top - 22.0, "start", "Instructions of a request in the core, among so many");
    let ticks = (upper / step) as u32;
    for value in (0..=ticks).map(|tick| f64::from(tick) * step) {
        svg.line((left, y(value)), (right, y(value)), "#ddd");
        svg.text(left - 8.0, y(value) + 4.0, "end", &format!("{value}"));
    }
    for n in (0..=decades).map(|decade| 10_u64.pow(decade)) {
        svg.line((x(n), bottom), (x(n), bottom + 5.0), "#222");
        svg.text(x(n), bottom + 20.0, "middle", &n.to_string());
    }
    for (at, &(_, _, stroke)) in CURVES.iter().enumerate() {
        let of = measured.iter().filter(|(curve, ..)| *curve == at);
        svg.curve(of.map(|&(_, n, cost)| (x(n), y(cost))), stroke);
    }
    legend(&mut svg, (left, bottom + 52.0), &CURVES.map(|(what, _, stroke)| (what, stroke)));
    svg.finish()
}

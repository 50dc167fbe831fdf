//! Small pictures, as SVG.

use std::fmt::Write;

/// A picture.
#[derive(Clone, Debug)]
pub struct Svg {
    text: String,
}

impl Svg {
    /// A white one, so many pixels wide and high.
    pub fn new(width: f64, height: f64) -> Self {
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
        );
        Svg { text }
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let _ = writeln!(
            self.text,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" \
             stroke-width=\"1.5\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    /// A line of text. `anchor`: which part of it is at `x`: `start`, `middle` or `end`.
    pub fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let _ = writeln!(
            self.text,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    /// A filled rectangle, from its upper left corner.
    pub fn rect(&mut self, (x, y): (f64, f64), width: f64, height: f64, colour: &str) {
        let _ = writeln!(
            self.text,
            "<rect x=\"{x}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{colour}\"/>"
        );
    }

    /// A curve.
    pub fn curve(&mut self, points: impl IntoIterator<Item = (f64, f64)>, stroke: Stroke) {
        let points: Vec<String> =
            points.into_iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dash = match stroke.dash {
            "" => String::new(),
            dash => format!(" stroke-dasharray=\"{dash}\""),
        };
        let _ = writeln!(
            self.text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{dash}/>",
            points.join(" "),
            stroke.colour
        );
    }

    /// All of it.
    pub fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// Its colour.
    pub colour: &'static str,
    /// Lengths of dashes and gaps; empty: it has none.
    pub dash: &'static str,
}

impl Stroke {
    /// Without gaps.
    pub const fn solid(colour: &'static str) -> Self {
        Stroke { colour, dash: "" }
    }

    /// Where curves lie on each other, the one below shows in the gaps.
    pub const fn dashed(colour: &'static str) -> Self {
        Stroke { colour, dash: "9 6" }
    }
}

/// A diagram of something over time. Pixels are those of the picture.
#[derive(Clone, Debug)]
pub struct Timeline<'a> {
    /// What is drawn.
    pub title: &'a str,
    /// The left and the right end.
    pub across: (f64, f64),
    /// The upper and the lower end.
    pub down: (f64, f64),
    /// Seconds at the right end.
    pub seconds: usize,
    /// Values that have a line, and what is written beside it; the first is at the lower end.
    pub ticks: &'a [(f64, &'a str)],
    /// The value at the upper end. What is above is drawn there.
    pub most: f64,
    /// Ten times as much is always as far up.
    pub logarithmic: bool,
    /// A time that has a grey ground, in seconds.
    pub shaded: (f64, f64),
}

impl Timeline<'_> {
    /// Draws all but the curves.
    pub fn frame(&self, svg: &mut Svg) {
        let ((left, right), (top, bottom)) = (self.across, self.down);
        let (from, to) = (self.x(self.shaded.0), self.x(self.shaded.1));
        svg.rect((from, top), to - from, bottom - top, "#f2f2f2");
        svg.text(left, top - 14.0, "start", self.title);
        for &(value, label) in self.ticks {
            let y = self.y(value);
            svg.line((left, y), (right, y), "#ddd");
            svg.text(left - 8.0, y + 4.0, "end", label);
        }
        let tens = (0..=self.seconds).step_by(if self.seconds > 60 { 20 } else { 10 });
        for second in tens {
            let x = self.x(second as f64);
            svg.line((x, bottom), (x, bottom + 5.0), "#222");
            svg.text(x, bottom + 20.0, "middle", &format!("{second} s"));
        }
    }

    /// Draws a curve: one value a second, in the middle of it.
    pub fn curve(&self, svg: &mut Svg, values: impl IntoIterator<Item = f64>, stroke: Stroke) {
        let values = values.into_iter().enumerate();
        svg.curve(values.map(|(at, value)| (self.x(at as f64 + 0.5), self.y(value))), stroke);
    }

    fn x(&self, second: f64) -> f64 {
        self.across.0 + (self.across.1 - self.across.0) * second / self.seconds as f64
    }

    fn y(&self, value: f64) -> f64 {
        let least = self.ticks.first().map_or(0.0, |&(value, _)| value);
        let value = value.clamp(least, self.most);
        let share = if self.logarithmic {
            (value / least).log10() / (self.most / least).log10()
        } else {
            (value - least) / (self.most - least)
        };
        self.down.1 - (self.down.1 - self.down.0) * share
    }
}

/// What the curves are, in a row, from `x` on.
pub fn legend(svg: &mut Svg, (mut x, y): (f64, f64), entries: &[(&str, Stroke)]) {
    for &(name, stroke) in entries {
        svg.curve([(x, y - 4.0), (x + 30.0, y - 4.0)], stroke);
        svg.text(x + 36.0, y, "start", name);
        x += 66.0 + 6.8 * name.len() as f64;
    }
}

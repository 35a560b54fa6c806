//! Charts as SVG text: lines over two axes, with a legend.

use std::fmt::Write as _;

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// Along the bottom.
    pub x: Axis,
    /// Up the side.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// One direction of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is counted, and in which unit.
    pub label: String,
    /// Whether equal steps are equal ratios.
    pub log: bool,
    /// Where it begins and ends.
    pub range: (f64, f64),
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Where it goes.
    pub points: Vec<(f64, f64)>,
    /// Whether it is a bound or a comparison, and not what was seen.
    pub dashed: bool,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 380.0;

/// Colours that people who see few colours can tell apart (M. Okabe and K. Ito, "Color Universal Design").
const COLOURS: [&str; 8] = [
    "#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#808080",
];

impl Axis {
    /// Equal steps, from and to.
    pub fn linear(label: &str, range: (f64, f64)) -> Self {
        Self {
            label: label.to_owned(),
            log: false,
            range,
        }
    }

    /// Equal ratios, from and to.
    pub fn log(label: &str, range: (f64, f64)) -> Self {
        Self {
            log: true,
            ..Self::linear(label, range)
        }
    }

    /// Where a value is, from 0 to 1; what is beyond an end is at it.
    fn place(&self, value: f64) -> f64 {
        let (from, to) = self.range;
        let share = if self.log {
            (value.max(from) / from).ln() / (to / from).ln()
        } else {
            (value - from) / (to - from)
        };
        share.clamp(0.0, 1.0)
    }

    /// The values that are written along it.
    fn ticks(&self) -> Vec<f64> {
        let (from, to) = self.range;
        if self.log {
            let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
            let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(decade)));
            return all
                .filter(|tick| (from * 0.999..=to * 1.001).contains(tick))
                .collect();
        }
        // About six of them, at round numbers.
        let rough = (to - from) / 6.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|digit| digit * decade)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(decade * 10.0);
        let first = (from / step).ceil() as i64;
        let last = (to / step + 1e-9).floor() as i64;
        (first..=last).map(|tick| tick as f64 * step).collect()
    }
}

impl Chart {
    /// The file.
    pub fn to_svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n",
            escaped(&self.title)
        );
        self.axes(&mut svg);
        for (place, line) in self.lines.iter().enumerate() {
            self.line(&mut svg, line, place);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self, svg: &mut String) {
        for tick in self.x.ticks() {
            let x = across(self.x.place(tick));
            push(
                svg,
                format_args!(
                    "<path d=\"M{x:.1} {TOP}V{BOTTOM}\" stroke=\"#dddddd\"/><text x=\"{x:.1}\" y=\"{}\" \
                 text-anchor=\"middle\">{}</text>",
                    BOTTOM + 18.0,
                    number(tick)
                ),
            );
        }
        for tick in self.y.ticks() {
            let y = up(self.y.place(tick));
            push(
                svg,
                format_args!(
                    "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                    LEFT - 8.0,
                    y + 4.0,
                    number(tick)
                ),
            );
        }
        push(
            svg,
            format_args!(
                "<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"#444444\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(18 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
                (LEFT + RIGHT) / 2.0,
                BOTTOM + 42.0,
                escaped(&self.x.label),
                (TOP + BOTTOM) / 2.0,
                escaped(&self.y.label)
            ),
        );
    }

    fn line(&self, svg: &mut String, line: &Line, place: usize) {
        let colour = COLOURS[place % COLOURS.len()];
        // More lines than colours are told apart by their strokes.
        let dash = match (line.dashed, place / COLOURS.len()) {
            (true, _) => " stroke-dasharray=\"7 4\"",
            (false, 0) => "",
            (false, _) => " stroke-dasharray=\"2 3\"",
        };
        let mut path = String::new();
        for (step, (x, y)) in line.points.iter().enumerate() {
            let letter = if step == 0 { 'M' } else { 'L' };
            let (x, y) = (across(self.x.place(*x)), up(self.y.place(*y)));
            write!(path, "{letter}{x:.1} {y:.1}").expect("memory takes all text");
        }
        let y = TOP + 8.0 + 20.0 * place as f64;
        push(
            svg,
            format_args!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\
             <path d=\"M{} {y}h26\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
                RIGHT + 14.0,
                RIGHT + 48.0,
                y + 4.0,
                escaped(&line.name)
            ),
        );
    }
}

fn across(share: f64) -> f64 {
    LEFT + share * (RIGHT - LEFT)
}

fn up(share: f64) -> f64 {
    BOTTOM - share * (BOTTOM - TOP)
}

fn push(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").expect("memory takes all text");
}

/// As few digits as it takes.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        let texts = |axis: Axis| axis.ticks().into_iter().map(number).collect::<Vec<_>>();
        assert_eq!(
            texts(Axis::linear("", (0.0, 1.2))),
            ["0", "0.2", "0.4", "0.6", "0.8", "1", "1.2"]
        );
        assert_eq!(texts(Axis::log("", (0.5, 10.0))), ["0.5", "1", "2", "5", "10"]);
    }

    #[test]
    fn a_line_goes_from_corner_to_corner_and_text_is_escaped() {
        let chart = Chart {
            title: "a < b".to_owned(),
            x: Axis::log("load", (0.1, 10.0)),
            y: Axis::linear("share", (0.0, 2.0)),
            lines: vec![Line {
                name: "all & none".to_owned(),
                points: vec![(0.1, 0.0), (1.0, 1.0), (10.0, 2.0), (10.0, 5.0)],
                dashed: false,
            }],
        };
        let svg = chart.to_svg();
        assert!(
            svg.contains("M70.0 380.0L335.0 212.0L600.0 44.0L600.0 44.0"),
            "{svg}"
        );
        assert!(svg.contains("a &lt; b") && svg.contains("all &amp; none"));
    }
}

//! Draws plots as SVG: axes, areas, lines, bars, dots and marks, on a sheet of one size.
//!
//! A sheet is as wide as a phone, so that its text is readable there at its own size and larger anywhere else. Colours
//! come from the style sheet of the page by class, so that they follow the reader's light or dark. Coordinates are
//! written with one decimal.

mod axis;
mod labels;

use super::escaped::Escaped;

pub(super) use axis::Axis;
use labels::Polyline;

/// Width of a sheet.
const WIDTH: f64 = 360.0;
/// Height of a sheet.
const HEIGHT: f64 = 220.0;
/// Where the plot begins from the left, which leaves room for the labels of the y axis.
const LEFT: f64 = 52.0;
/// Where it ends to the right.
const RIGHT: f64 = WIDTH - 12.0;
/// Where it ends below, which leaves room for the labels of the x axis.
const BOTTOM: f64 = HEIGHT - 24.0;
/// Where it begins above, which leaves room for the badges of marks.
const TOP: f64 = 24.0;
/// Height of a row of text.
const ROW: f64 = 15.0;
/// Two marks closer than this share a badge.
const BADGE_DISTANCE: f64 = 19.0;
/// Dots closer than this stand on each other.
const DOT_DISTANCE: f64 = 6.0;
/// More dots than this on each other can not be told apart: of a taller stack some are left out.
const STACK: usize = 30;

/// A colour with a meaning.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ink {
    /// What the plot is about.
    Main,
    /// What it is compared to.
    Other,
    /// What is around it.
    Quiet,
}

impl Ink {
    fn class(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Other => "other",
            Self::Quiet => "quiet",
        }
    }
}

/// A plot under construction.
#[derive(Debug)]
pub(super) struct Plot {
    x: Axis,
    y: Axis,
    top: f64,
    below: String,
    above: String,
    lines: Vec<Polyline>,
    marks: Vec<f64>,
}

impl Plot {
    /// Starts a plot over these axes.
    pub(super) fn new(x: Axis, y: Axis) -> Self {
        let (below, above) = (String::new(), String::new());
        Self {
            x,
            y,
            top: TOP,
            below,
            above,
            lines: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Leaves room for `rows` rows of text above the plot.
    pub(super) fn with_rows_above(mut self, rows: u8) -> Self {
        self.top = 4.0 + ROW * f64::from(rows);
        self
    }

    /// Fills what is below the points.
    pub(super) fn area(&mut self, points: &[(f64, f64)], ink: Ink) {
        let pixels = self.pixels(points);
        let (Some(first), Some(last)) = (pixels.first(), pixels.last()) else {
            return;
        };
        let (from, to, path, ink) = (first.0, last.0, path(&pixels), ink.class());
        self.below.push_str(&format!(
            "<path class=\"area {ink}\" d=\"{path}L{to:.1} {BOTTOM}L{from:.1} {BOTTOM}Z\"/>"
        ));
    }

    /// Draws a line through the points; one with a name is labelled where there is room.
    pub(super) fn line(&mut self, points: &[(f64, f64)], ink: Ink, name: &'static str) {
        let points = self.pixels(points);
        self.below.push_str(&format!(
            "<path class=\"line {}\" d=\"{}\"/>",
            ink.class(),
            path(&points)
        ));
        self.lines.push(Polyline { points, ink, name });
    }

    /// Draws a bar between two places of the x axis, told as `story` to who points at it, with a label above.
    pub(super) fn bar(&mut self, ends: (f64, f64), height: f64, story: &str, label: &str) {
        let (from, to, top) = (self.across(ends.0), self.across(ends.1), self.up(height));
        // What is there at all is seen.
        let top = if height > 0.0 {
            top.min(BOTTOM - 1.0)
        } else {
            top
        };
        let gap = ((to - from) * 0.12).min(4.0);
        let (x, width, tall) = (from + gap / 2.0, to - from - gap, BOTTOM - top);
        self.below.push_str(&format!(
            "<rect class=\"area bar\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{tall:.1}\"><title>{}</title></rect>",
            Escaped(story)
        ));
        if !label.is_empty() {
            self.above.push_str(&text(
                (f64::midpoint(from, to), top - 5.0),
                "middle",
                "small",
                label,
            ));
        }
    }

    /// Marks moments with vertical lines, numbered from 1 at their upper end.
    pub(super) fn marks(&mut self, moments: &[f64]) {
        let mut badges: Vec<(usize, usize, f64, f64)> = Vec::new();
        for (index, moment) in moments.iter().enumerate() {
            let x = self.across(*moment);
            if self.marks.last().is_none_or(|last| x - last >= 1.0) {
                self.below.push_str(&vertical("mark", x, self.top - 6.0));
                self.marks.push(x);
            }
            match badges.last_mut() {
                Some((_, last, _, to)) if x - *to < BADGE_DISTANCE => (*last, *to) = (index, x),
                Some(_) | None => badges.push((index, index, x, x)),
            }
        }
        for (first, last, from, to) in badges {
            let label = if first == last {
                format!("{}", first + 1)
            } else {
                format!("{}–{}", first + 1, last + 1)
            };
            let half = labels::width(&label) / 2.0 + 4.0;
            let (x, y) = (
                f64::midpoint(from, to).clamp(half, WIDTH - half),
                self.top - 13.0,
            );
            let (left, top, width) = (x - half, y - 7.5, half * 2.0);
            self.above.push_str(&format!(
                "<rect class=\"badge\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"15\" rx=\"7.5\"/>"
            ));
            self.above
                .push_str(&text((x, y + 4.0), "middle", "badge", &label));
        }
    }

    /// Marks a value of the x axis with a vertical line and a text, in a row of text above the plot.
    ///
    /// The text stands to the left of the line, where it crosses no line of a smaller value in a lower row.
    pub(super) fn value(&mut self, value: f64, row: u8, label: &str) {
        let x = self.across(value);
        let y = 12.0 + ROW * f64::from(row);
        self.below.push_str(&vertical("value", x, y - 9.0));
        let room = x > labels::width(label) + 5.0;
        let (x, anchor) = if room {
            (x - 5.0, "end")
        } else {
            (x + 5.0, "start")
        };
        self.above.push_str(&text((x, y), anchor, "halo", label));
    }

    /// Stacks a dot for each value of the x axis in one of several rows, with a label above them.
    pub(super) fn dots(&mut self, values: &[f64], row: (usize, usize), label: &str) {
        let height = (BOTTOM - self.top) / row.1.max(1) as f64;
        let top = self.top + height * row.0 as f64;
        self.above
            .push_str(&text((2.0, top + 11.0), "start", "strong", label));
        let floor = top + height - 6.0;
        let base = top + height;
        self.below.push_str(&format!(
            "<path class=\"grid\" d=\"M{LEFT} {base:.1}H{RIGHT}\"/>"
        ));
        let mut sorted: Vec<f64> = values.iter().map(|value| self.across(*value)).collect();
        sorted.sort_by(f64::total_cmp);
        let stacks: Vec<&[f64]> = sorted
            .chunk_by(|left, right| column(*left) == column(*right))
            .collect();
        let tallest = stacks.iter().map(|stack| stack.len()).max().unwrap_or(1);
        let apart = ((height - 24.0) / tallest as f64).min(DOT_DISTANCE);
        let mut dots = String::new();
        for stack in stacks {
            let x = column(stack[0]);
            for level in (0..stack.len()).step_by(tallest.div_ceil(STACK)) {
                let y = floor - apart * level as f64;
                dots.push_str(&format!("M{x:.1} {y:.1}h0"));
            }
        }
        // A line of no length with round ends is a dot, in a tenth of the bytes of a circle.
        self.below
            .push_str(&format!("<path class=\"dots\" d=\"{dots}\"/>"));
    }

    /// Returns the SVG element, which says `description` to who can't see it.
    pub(super) fn svg(self, description: &str) -> String {
        let mut named = String::new();
        for (place, line) in labels::places(&self.lines, &self.marks, self.top) {
            named.push_str(&text(
                place,
                "start",
                &format!("name {}", line.ink.class()),
                line.name,
            ));
        }
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">{}{}{}{}{named}</svg>",
            Escaped(description),
            self.y_ticks(),
            self.below,
            self.x_ticks(),
            self.above,
        )
    }

    fn y_ticks(&self) -> String {
        let line = |y: f64| format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
        let tick = |(value, label): &(f64, String)| {
            let y = self.up(*value);
            line(y) + &text((LEFT - 6.0, y + 4.0), "end", "", label)
        };
        self.y.ticks.iter().map(tick).collect()
    }

    fn x_ticks(&self) -> String {
        let base = format!("<path class=\"base\" d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/>");
        let tick = |(value, label): &(f64, String)| {
            let x = self.across(*value);
            let half = labels::width(label) / 2.0;
            let place = (x.min(WIDTH - 2.0 - half), BOTTOM + 18.0);
            let foot = BOTTOM + 4.0;
            format!("<path class=\"base\" d=\"M{x:.1} {BOTTOM}V{foot}\"/>")
                + &text(place, "middle", "", label)
        };
        base + &self.x.ticks.iter().map(tick).collect::<String>()
    }

    fn pixels(&self, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        points
            .iter()
            .map(|(x, y)| (self.across(*x), self.up(*y)))
            .collect()
    }

    fn across(&self, value: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * self.x.part(value)
    }

    fn up(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - self.top) * self.y.part(value)
    }
}

/// Returns the middle of the column of dots that a place is in.
fn column(x: f64) -> f64 {
    (x / DOT_DISTANCE).round() * DOT_DISTANCE
}

fn path(points: &[(f64, f64)]) -> String {
    let step = |(index, (x, y)): (usize, &(f64, f64))| {
        format!("{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' })
    };
    points.iter().enumerate().map(step).collect()
}

fn vertical(class: &str, x: f64, top: f64) -> String {
    format!("<path class=\"{class}\" d=\"M{x:.1} {top:.1}V{BOTTOM}\"/>")
}

fn text(place: (f64, f64), anchor: &str, class: &str, label: &str) -> String {
    let (x, y) = place;
    let class = if class.is_empty() {
        String::new()
    } else {
        format!(" class=\"{class}\"")
    };
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{class}>{}</text>",
        Escaped(label)
    )
}

//! Finds a place for the name of a line: beside that line, on no line, and nearer to it than to others.

use super::{BOTTOM, Ink, LEFT, RIGHT};

/// Width of a character, about; the browser's font is not known here.
const CHARACTER: f64 = 7.0;
/// Height of a name from its top to its base line.
const HEIGHT: f64 = 11.0;
/// Distance of the places that are tried.
const STEP: f64 = 4.0;
/// A name keeps this distance from all lines.
const CLEARANCE: f64 = 5.0;
/// How much nearer to its line a name may be for not standing on a mark.
const MARK_COST: f64 = 12.0;

/// A line as drawn, with its name.
#[derive(Debug)]
pub(super) struct Polyline {
    pub(super) points: Vec<(f64, f64)>,
    pub(super) ink: Ink,
    pub(super) name: &'static str,
}

/// A rectangle.
#[derive(Debug, Clone, Copy)]
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// Returns about how wide a text is.
pub(super) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// Returns the lower left corner of the name of each line that has one.
pub(super) fn places<'a>(
    lines: &'a [Polyline],
    marks: &[f64],
    top: f64,
) -> Vec<((f64, f64), &'a Polyline)> {
    let mut taken: Vec<Frame> = Vec::new();
    let mut places = Vec::new();
    for (index, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.name.is_empty())
    {
        let best = frames(width(line.name), top)
            .filter(|frame| taken.iter().all(|other| !frame.touches(other)))
            .filter_map(|frame| Some((cost(&frame, index, lines)? + frame.cost_of(marks), frame)))
            .min_by(|left, right| left.0.total_cmp(&right.0));
        // Where all is full of lines, the names stand in the corner; their colours say whose they are.
        let (left, top) = (LEFT + 6.0, top + (HEIGHT + STEP) * index as f64);
        let corner = Frame {
            left,
            right: left + width(line.name),
            top,
            bottom: top + HEIGHT,
        };
        let frame = best.map_or(corner, |best| best.1);
        places.push(((frame.left, frame.bottom), line));
        taken.push(frame);
    }
    places
}

/// Returns all frames of that width inside the plot, in steps.
fn frames(width: f64, top: f64) -> impl Iterator<Item = Frame> {
    let steps = |from: f64, to: f64| {
        std::iter::successors(Some(from), |at| Some(at + STEP)).take_while(move |at| *at <= to)
    };
    let lefts = steps(LEFT + 6.0, RIGHT - width);
    lefts.flat_map(move |left| {
        steps(top, BOTTOM - HEIGHT - CLEARANCE).map(move |top| Frame {
            left,
            right: left + width,
            top,
            bottom: top + HEIGHT,
        })
    })
}

/// Returns how bad a frame is for the name of a line, unless it is none.
fn cost(frame: &Frame, index: usize, lines: &[Polyline]) -> Option<f64> {
    let own = frame.distance(&lines[index].points);
    let others = lines
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != index);
    let other = others
        .map(|(_, line)| frame.distance(&line.points))
        .fold(f64::INFINITY, f64::min);
    (own >= CLEARANCE && other >= CLEARANCE && own <= other)
        .then(|| own - other.min(4.0 * HEIGHT) / 2.0)
}

impl Frame {
    /// Returns how far above or below the frame a line passes at the least, 0 if it goes through.
    fn distance(&self, line: &[(f64, f64)]) -> f64 {
        let beside = line
            .windows(2)
            .filter(|ends| ends[1].0 >= self.left && ends[0].0 <= self.right);
        beside
            .map(|ends| self.distance_of_piece(ends[0], ends[1]))
            .fold(f64::INFINITY, f64::min)
    }

    fn distance_of_piece(&self, from: (f64, f64), to: (f64, f64)) -> f64 {
        let at = |x: f64| {
            let part = if to.0 > from.0 {
                ((x - from.0) / (to.0 - from.0)).clamp(0.0, 1.0)
            } else {
                0.0
            };
            from.1 + part * (to.1 - from.1)
        };
        let (one, two) = if to.0 > from.0 {
            (at(self.left), at(self.right))
        } else {
            (from.1, to.1)
        };
        let (high, low) = (one.min(two), one.max(two));
        (self.top - low).max(high - self.bottom).max(0.0)
    }

    fn touches(&self, other: &Self) -> bool {
        self.left < other.right + STEP
            && other.left < self.right + STEP
            && self.top < other.bottom + STEP
            && other.top < self.bottom + STEP
    }

    fn cost_of(&self, marks: &[f64]) -> f64 {
        let crossed = marks
            .iter()
            .filter(|mark| (self.left - STEP..self.right + STEP).contains(*mark))
            .count();
        crossed as f64 * MARK_COST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &'static str, heights: [f64; 2]) -> Polyline {
        Polyline {
            points: vec![(LEFT, heights[0]), (RIGHT, heights[1])],
            ink: Ink::Main,
            name,
        }
    }

    #[test]
    fn names_stand_beside_their_own_line() {
        let lines = [line("upper", [150.0, 60.0]), line("lower", [180.0, 110.0])];
        let places = places(&lines, &[200.0], 24.0);
        assert_eq!(places.len(), 2);
        for (index, ((x, y), _)) in places.iter().enumerate() {
            let frame = Frame {
                left: *x,
                right: x + width(lines[index].name),
                top: y - HEIGHT,
                bottom: *y,
            };
            let (own, other) = (
                frame.distance(&lines[index].points),
                frame.distance(&lines[1 - index].points),
            );
            assert!(own >= CLEARANCE && own < other && frame.cost_of(&[200.0]) == 0.0);
        }
    }

    #[test]
    fn names_of_equal_lines_do_not_stand_on_each_other() {
        let lines = [line("one", [100.0, 100.0]), line("two", [100.0, 100.0])];
        let places = places(&lines, &[], 24.0);
        assert!((places[0].0.1 - places[1].0.1).abs() >= HEIGHT || places[0].0.0 != places[1].0.0);
    }
}

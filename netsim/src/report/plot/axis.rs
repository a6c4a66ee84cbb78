//! Axes: where a value stands between the ends, and which values are labelled.

use super::super::quantity::Quantity;
use super::labels;
use super::{LEFT, RIGHT};

/// About as many distances between ticks has an axis.
const PARTS: f64 = 4.0;
/// Between the labels of two ticks there is at least this.
const TICK_GAP: f64 = 12.0;

/// One axis of a plot.
#[derive(Debug)]
pub(crate) struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Goes from 0 to a round value that is at least `largest`.
    pub(crate) fn upright(quantity: Quantity, largest: f64) -> Self {
        let ticks = quantity.ticks(largest, PARTS);
        let to = ticks.last().map_or(largest, |tick| tick.0);
        Self {
            from: 0.0,
            to,
            logarithmic: false,
            ticks,
        }
    }

    /// Goes from 0 to `end` seconds.
    pub(crate) fn time(end: f64) -> Self {
        let mut ticks = Quantity::Seconds.ticks(end, PARTS);
        ticks.retain(|tick| tick.0 <= end * 1.000_001);
        Self {
            from: 0.0,
            to: end,
            logarithmic: false,
            ticks,
        }
    }

    /// Goes by equal factors from one positive value to another.
    pub(crate) fn logarithmic(quantity: Quantity, from: f64, to: f64) -> Self {
        let mut axis = Self {
            from,
            to,
            logarithmic: true,
            ticks: Vec::new(),
        };
        let lists = quantity.logarithmic_ticks(from, to);
        let finest = lists.iter().rev().find(|list| axis.has_room_for(list));
        axis.ticks = finest
            .or_else(|| lists.first())
            .cloned()
            .unwrap_or_default();
        axis
    }

    /// Has one place for each label, the first from 0 to 1.
    pub(crate) fn places(labels: Vec<String>) -> Self {
        let to = labels.len() as f64;
        let ticks = labels
            .into_iter()
            .enumerate()
            .map(|(index, label)| (index as f64 + 0.5, label))
            .collect();
        Self {
            from: 0.0,
            to,
            logarithmic: false,
            ticks,
        }
    }

    /// Has no ticks.
    pub(crate) fn bare() -> Self {
        Self {
            from: 0.0,
            to: 1.0,
            logarithmic: false,
            ticks: Vec::new(),
        }
    }

    /// Returns where a value stands: 0 at one end, 1 at the other, never outside.
    pub(super) fn part(&self, value: f64) -> f64 {
        let (low, high, value) = if self.logarithmic {
            (
                libm::log(self.from),
                libm::log(self.to),
                libm::log(value.max(self.from)),
            )
        } else {
            (self.from, self.to, value)
        };
        if high > low {
            ((value - low) / (high - low)).clamp(0.0, 1.0)
        } else {
            0.5
        }
    }

    fn has_room_for(&self, ticks: &[(f64, String)]) -> bool {
        ticks.windows(2).all(|pair| {
            let apart = (self.part(pair[1].0) - self.part(pair[0].0)) * (RIGHT - LEFT);
            apart >= f64::midpoint(labels::width(&pair[0].1), labels::width(&pair[1].1)) + TICK_GAP
        })
    }
}

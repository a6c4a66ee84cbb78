//! Numbers as people read them: three digits and a unit of fitting size.

/// What a number measures, so how it is written and where an axis has its ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// A number of things.
    Count,
    /// A part of a whole, 1 being all.
    Share,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// A name of a unit and how many of the base unit it is.
type Unit = (&'static str, f64);

const COUNT_UNITS: &[Unit] = &[("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)];
const SHARE_UNITS: &[Unit] = &[("%", 0.01)];
const SECOND_UNITS: &[Unit] = &[
    (" µs", 1e-6),
    (" ms", 1e-3),
    (" s", 1.0),
    (" min", 60.0),
    (" h", 3600.0),
    (" d", 86_400.0),
];
const BYTE_UNITS: &[Unit] = &[
    (" B", 1.0),
    (" KiB", 1024.0),
    (" MiB", 1_048_576.0),
    (" GiB", 1_073_741_824.0),
    (" TiB", 1_099_511_627_776.0),
];

impl Quantity {
    fn units(self) -> &'static [Unit] {
        match self {
            Self::Count => COUNT_UNITS,
            Self::Share => SHARE_UNITS,
            Self::Seconds => SECOND_UNITS,
            Self::Bytes => BYTE_UNITS,
        }
    }

    /// Returns the largest unit of which `value` has at least `least`, else the smallest.
    fn unit(self, value: f64, least: f64) -> Unit {
        let units = self.units();
        units
            .iter()
            .rev()
            .find(|unit| value.abs() >= unit.1 * least)
            .copied()
            .unwrap_or(units[0])
    }

    /// Writes a value: "12.3 s", "1.05 MiB", "83%", "12.4k".
    pub(super) fn text(self, value: f64) -> String {
        if value == 0.0 {
            return match self {
                Self::Count => "0".to_owned(),
                Self::Share => "0%".to_owned(),
                Self::Seconds => "0 s".to_owned(),
                Self::Bytes => "0 B".to_owned(),
            };
        }
        // 999.96 of a unit would round to 1000 of it and is one of the next; 66 min says more than 1.1 h.
        let long = self == Self::Seconds && value.abs() > 1.0;
        let (name, size) = self.unit(value * 1.0005, if long { 2.0 } else { 1.0 });
        format!("{}{name}", three_digits(value / size))
    }

    /// Returns ticks from 0 to at least `largest` at about `parts` equal distances, with their labels.
    pub(super) fn ticks(self, largest: f64, parts: f64) -> Vec<(f64, String)> {
        assert!(largest.is_finite() && parts >= 1.0, "an axis has an end");
        // Nobody thinks of two hours as of 0.08 days: times stay in a unit until there are a few of the next.
        let (name, size) = match self {
            Self::Seconds => self.unit(largest, 2.5),
            Self::Count | Self::Bytes => self.unit(largest, 1.0),
            Self::Share => SHARE_UNITS[0],
        };
        let step = self.step(largest / size / parts, name);
        let steps = (largest / size / step - 1e-9).ceil().max(1.0);
        let mut ticks = Vec::new();
        let mut number = 0.0;
        while number <= steps {
            let value = number * step;
            let label = if value == 0.0 && self != Self::Share {
                "0".to_owned()
            } else {
                format!("{}{name}", three_digits(value))
            };
            ticks.push((value * size, label));
            number += 1.0;
        }
        ticks
    }

    /// Returns the round step that is at least `least`, in the unit of that name.
    fn step(self, least: f64, unit: &str) -> f64 {
        let round: &[f64] = match (self, unit) {
            (Self::Count, "") => &[
                1.0, 2.0, 5.0, 10.0, 20.0, 25.0, 50.0, 100.0, 200.0, 250.0, 500.0,
            ],
            (Self::Share, _) => &[5.0, 10.0, 25.0],
            (Self::Seconds, " s" | " min") => {
                &[0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0]
            }
            (Self::Seconds, " h") => &[0.5, 1.0, 2.0, 3.0, 6.0, 12.0, 24.0],
            (Self::Count | Self::Seconds | Self::Bytes, _) => &[
                0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 25.0, 50.0, 100.0, 200.0, 250.0,
                500.0,
            ],
        };
        let largest = round[round.len() - 1];
        round
            .iter()
            .copied()
            .find(|step| *step >= least - 1e-9)
            .unwrap_or_else(|| (least / largest).ceil() * largest)
    }

    /// Returns round values between two positive ones for a logarithmic axis, with their labels, ever finer lists.
    pub(super) fn logarithmic_ticks(self, from: f64, to: f64) -> Vec<Vec<(f64, String)>> {
        let multiples: [&[f64]; 3] = match self {
            Self::Seconds => [
                &[1.0, 10.0],
                &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0],
                &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 100.0, 200.0, 500.0],
            ],
            Self::Bytes => [
                &[1.0, 32.0],
                &[1.0, 4.0, 16.0, 64.0, 256.0],
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
            ],
            Self::Count | Self::Share => [
                &[1.0, 10.0, 100.0],
                &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0],
                &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0],
            ],
        };
        multiples
            .map(|multiples| self.round_values(multiples, from, to))
            .into()
    }

    fn round_values(self, multiples: &[f64], from: f64, to: f64) -> Vec<(f64, String)> {
        let units = self.units();
        let mut ticks = Vec::new();
        for (index, (name, size)) in units.iter().enumerate() {
            let next = units.get(index + 1).map_or(f64::INFINITY, |unit| unit.1);
            let values = multiples.iter().map(|multiple| (multiple, multiple * size));
            let fitting = values.filter(|(_, value)| *value < next && (from..=to).contains(value));
            ticks.extend(fitting.map(|(multiple, value)| (value, format!("{multiple}{name}"))));
        }
        ticks
    }
}

/// Writes a whole number with commas between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a number with three significant digits at least before the point, without zeros at the end of a fraction.
fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 {
        text
    } else {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(quantity: Quantity, largest: f64) -> Vec<String> {
        quantity
            .ticks(largest, 4.0)
            .into_iter()
            .map(|(_, label)| label)
            .collect()
    }

    #[test]
    fn values_have_three_digits_and_a_fitting_unit() {
        let seconds = [
            0.0, 0.0005, 0.25, 1.0, 12.345, 59.99, 90.0, 5400.0, 172_800.0,
        ];
        assert_eq!(
            seconds.map(|value| Quantity::Seconds.text(value)),
            [
                "0 s", "500 µs", "250 ms", "1 s", "12.3 s", "60 s", "90 s", "90 min", "2 d"
            ]
        );
        assert_eq!(
            [1.0, 1023.9, 1_200_000.0].map(|value| Quantity::Bytes.text(value)),
            ["1 B", "1 KiB", "1.14 MiB"]
        );
        assert_eq!(
            [0.8349, 1.0].map(|value| Quantity::Share.text(value)),
            ["83.5%", "100%"]
        );
        assert_eq!(
            [3.0, 12_400.0].map(|value| Quantity::Count.text(value)),
            ["3", "12.4k"]
        );
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn ticks_are_round_and_reach_the_largest_value() {
        assert_eq!(
            labels(Quantity::Seconds, 7200.0),
            ["0", "30 min", "60 min", "90 min", "120 min"]
        );
        assert_eq!(
            labels(Quantity::Seconds, 86_400.0),
            ["0", "6 h", "12 h", "18 h", "24 h"]
        );
        assert_eq!(labels(Quantity::Count, 1.0), ["0", "1"]);
        assert_eq!(
            labels(Quantity::Count, 39_000.0),
            ["0", "10k", "20k", "30k", "40k"]
        );
        assert_eq!(
            labels(Quantity::Bytes, 700_000.0),
            ["0", "200 KiB", "400 KiB", "600 KiB", "800 KiB"]
        );
        assert_eq!(
            labels(Quantity::Share, 1.0),
            ["0%", "25%", "50%", "75%", "100%"]
        );
    }

    #[test]
    fn every_axis_has_few_ticks_whatever_its_length() {
        for quantity in [Quantity::Count, Quantity::Seconds, Quantity::Bytes] {
            for power in 0..60 {
                let largest = 1.37 * 1.6_f64.powi(power);
                let ticks = quantity.ticks(largest, 4.0);
                assert!(
                    (2..=5).contains(&ticks.len()),
                    "{quantity:?} to {largest}: {ticks:?}"
                );
                assert!(ticks[ticks.len() - 1].0 >= largest * 0.999_999);
            }
        }
    }

    #[test]
    fn logarithmic_ticks_get_finer() {
        let lists = Quantity::Seconds.logarithmic_ticks(0.5, 4000.0);
        let labels =
            |list: &[(f64, String)]| list.iter().map(|tick| tick.1.clone()).collect::<Vec<_>>();
        assert_eq!(labels(&lists[0]), ["1 s", "10 s", "1 min", "10 min", "1 h"]);
        assert!(lists[0].len() < lists[1].len() && lists[1].len() < lists[2].len());
    }
}

//! The points of the latest days as bars, and as a table for whoever does not see them.

use maud::{Markup, html};
use tally_ledger::wallet::EarnedDay;
use tally_protocol::points::Points;

use super::money::exact;

/// The width of a day; seven fit on a telephone without being made smaller.
const WIDTH: u64 = 48;
/// Where bars stand.
const BASE: u64 = 120;
/// How high the highest is.
const HEIGHT: u64 = 95;

pub(super) fn bars(days: &[EarnedDay]) -> Markup {
    let highest = days.iter().map(|day| day.earned.points.as_micro()).max();
    let highest = highest.unwrap_or(0).max(1);
    let count = days.len() as u64;
    html! {
        svg viewBox=(format!("0 0 {} 140", count.saturating_mul(WIDTH))) role="img" aria-labelledby="graph-title graph-text" {
            title #graph-title { "Points by day" }
            desc #graph-text { @for day in days { (day.date) ": " (exact(day.earned.points)) ". " } }
            @for (place, day) in (0..).zip(days) {
                (bar(day, place, highest))
                text x=(place * WIDTH + WIDTH / 2) y="137" {
                    @if place + 1 == count { "today" } @else { (day.date.get(5..).unwrap_or_default()) }
                }
            }
            line.base x1="0" x2=(count * WIDTH) y1=(BASE) y2=(BASE) {}
        }
    }
}

fn bar(day: &EarnedDay, place: u64, highest: u64) -> Markup {
    let points = day.earned.points;
    let part = u128::from(points.as_micro()) * u128::from(HEIGHT) / u128::from(highest);
    let least = u64::from(points > Points::ZERO);
    let high = u64::try_from(part).unwrap_or(HEIGHT).max(least);
    let top = BASE.saturating_sub(high);
    html! {
        rect.bar x=(place * WIDTH + 6) y=(top) width=(WIDTH - 12) height=(high) rx="2" {}
        @if points > Points::ZERO {
            text x=(place * WIDTH + WIDTH / 2) y=(top.saturating_sub(5)) { (rounded(points)) }
        }
    }
}

pub(super) fn table(days: &[EarnedDay]) -> Markup {
    html! {
        thead { tr {
            th scope="col" { "day" } th.number scope="col" { "units" } th.number scope="col" { "points" }
        } }
        tbody { @for day in days.iter().rev() { tr {
            td { (day.date) } td.number { (day.earned.units) } td.number { (exact(day.earned.points)) }
        } } }
    }
}

/// Shows as many digits as fit above a bar.
fn rounded(points: Points) -> String {
    let micro = points.as_micro();
    let (whole, rest) = (micro / 1_000_000, micro % 1_000_000);
    match whole {
        0 if rest < 100 => "<.0001".to_owned(),
        0 => format!("0.{:04}", rest / 100),
        1..10 => format!("{whole}.{:02}", rest / 10_000),
        10..1_000 => format!("{whole}.{}", rest / 100_000),
        1_000..100_000 => whole.to_string(),
        100_000..100_000_000 => format!("{}k", whole / 1_000),
        100_000_000.. => format!("{}M", whole / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_a_bar_is_room_for_six_signs() {
        for (micro, shown) in [
            (1, "<.0001"),
            (1_900, "0.0019"),
            (9_999_999, "9.99"),
            (12_345_678, "12.3"),
            (99_999_000_000, "99999"),
            (123_456_000_000, "123k"),
            (u64::MAX, "18446744M"),
        ] {
            assert_eq!(rounded(Points::from_micro(micro)), shown);
        }
    }

    #[test]
    fn a_bar_stands_on_the_line_and_a_little_is_seen() {
        let day = |micro| EarnedDay {
            date: "2026-01-31".to_owned(),
            since: tally_protocol::time::Timestamp::default(),
            earned: tally_ledger::wallet::Earned {
                points: Points::from_micro(micro),
                ..Default::default()
            },
        };
        let text = bars(&[day(0), day(1), day(u64::MAX)]).into_string();
        for bar in [
            "y=\"120\" width=\"36\" height=\"0\"",
            "y=\"119\" width=\"36\" height=\"1\"",
            "y=\"25\" width=\"36\" height=\"95\"",
        ] {
            assert!(text.contains(bar), "{text}");
        }
        assert!(bars(&[]).into_string().contains("<svg"));
    }
}

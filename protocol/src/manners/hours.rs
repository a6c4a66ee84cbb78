//! Hours of the week, in the local time of a computer: `mon-fri 18:00-08:00`.
//!
//! Invariants: spans are sorted, not empty, do not touch, and lie within one week, which begins on Monday at midnight; one
//! that goes over the end of the week is kept as two.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// Minutes of a week.
pub const WEEK: u16 = 7 * DAY;
/// The days as they are written.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A minute of the week in local time: 0 is Monday 00:00, 10,079 is Sunday 23:59.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MinuteOfWeek(u16);

impl MinuteOfWeek {
    /// Takes days since Monday and minutes since midnight; what is too large begins another week.
    #[must_use]
    pub const fn new(day: u8, minute: u16) -> Self {
        Self(((day % 7) as u16 * DAY + minute % DAY) % WEEK)
    }
}

impl fmt::Display for MinuteOfWeek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, minute) = (usize::from(self.0 / DAY), self.0 % DAY);
        write!(f, "{} {:02}:{:02}", DAYS[day], minute / 60, minute % 60)
    }
}

/// Some hours of each week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// As they were written.
    text: String,
    spans: Vec<(u16, u16)>,
}

impl Hours {
    /// Returns all hours.
    #[must_use]
    pub fn always() -> Self {
        Self {
            text: "*".to_owned(),
            spans: vec![(0, WEEK)],
        }
    }

    /// Reads spans, such as `mon-fri 18:00-08:00` or `sat-sun`; together they are all hours that any of them names.
    ///
    /// # Errors
    /// What is wrong, with the text.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let (mut spans, mut written) = (Vec::new(), Vec::new());
        for text in texts.into_iter().map(str::trim) {
            add(text, &mut spans)?;
            written.push(text);
        }
        if spans.is_empty() {
            return Err(r#"hours is empty: say run = "never" if no hour is meant"#.to_owned());
        }
        spans.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (start, end) in spans {
            match merged.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => merged.push((start, end)),
            }
        }
        Ok(Self {
            text: written.join(", "),
            spans: merged,
        })
    }

    /// Returns whether a minute is one of them.
    #[must_use]
    pub fn contains(&self, at: MinuteOfWeek) -> bool {
        self.span_at(at.0).is_some()
    }

    /// Returns how many minutes after `at` the next of these hours begins: 0 if they have begun.
    #[must_use]
    pub fn begin_in(&self, at: MinuteOfWeek) -> u16 {
        if self.contains(at) {
            return 0;
        }
        let starts = self.spans.iter().map(|(start, _)| *start);
        let left = starts.map(|start| (start + WEEK - at.0) % WEEK);
        left.min().unwrap_or(WEEK)
    }

    fn span_at(&self, minute: u16) -> Option<&(u16, u16)> {
        let holds = |(start, end): &&(u16, u16)| (*start..*end).contains(&minute);
        self.spans.iter().find(holds)
    }
}

/// Adds what one text names.
fn add(text: &str, spans: &mut Vec<(u16, u16)>) -> Result<(), String> {
    let wrong = |why: &str| {
        Err(format!(
            "hours {text:?}: {why}; write them as \"mon-fri 18:00-08:00\", \"sat-sun\" or \"*\""
        ))
    };
    let (days, times) = text.split_once(' ').unwrap_or((text, ""));
    let (first, last) = match days.split_once('-') {
        _ if days == "*" => (Some(0), Some(6)),
        Some((first, last)) => (day(first), day(last)),
        None => (day(days), day(days)),
    };
    let (Some(first), Some(last)) = (first, last) else {
        return wrong("the days are mon, tue, wed, thu, fri, sat and sun");
    };
    let (start, end) = match times.trim() {
        "" | "*" => (0, DAY),
        times => {
            let both = times.split_once('-');
            let both = both.and_then(|(from, to)| Some((time(from)?, time(to)?)));
            match both {
                Some((from, to)) if from == to => {
                    return wrong("begin and end are the same; leave the times out for whole days");
                }
                Some((DAY, _)) => return wrong("24:00 is no time to begin"),
                Some((from, to)) if from < to => (from, to),
                // Over midnight, into the next day.
                Some((from, to)) => (from, to + DAY),
                None => return wrong("a time is written as 18:00"),
            }
        }
    };
    let count = (last + 7 - first) % 7 + 1;
    for day in (0..count).map(|step| (first + step) % 7) {
        let (start, end) = (day * DAY + start, day * DAY + end);
        spans.push((start, end.min(WEEK)));
        if end > WEEK {
            spans.push((0, end - WEEK));
        }
    }
    Ok(())
}

fn day(text: &str) -> Option<u16> {
    let place = DAYS.iter().position(|day| *day == text)?;
    u16::try_from(place).ok()
}

/// Reads `HH:MM`, up to 24:00, as minutes.
fn time(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let digits = |text: &str| text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY).then_some(minute)
}

impl FromStr for Hours {
    type Err = String;

    /// Reads spans with commas between.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.split(','))
    }
}

impl fmt::Display for Hours {
    /// Writes them as they were written, with commas between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(day: u8, hour: u16, minute: u16) -> MinuteOfWeek {
        MinuteOfWeek::new(day, hour * 60 + minute)
    }

    #[test]
    fn nights_belong_to_the_day_on_which_they_begin() {
        let hours = Hours::parse(["mon-fri 18:00-08:00", "sun"]).unwrap();
        let (in_hours, outside) = (
            [
                at(0, 18, 0),
                at(1, 7, 59),
                at(5, 7, 59),
                at(6, 0, 0),
                at(6, 23, 59),
            ],
            [
                at(0, 0, 0),
                at(0, 17, 59),
                at(1, 8, 0),
                at(5, 8, 0),
                at(5, 18, 0),
            ],
        );
        assert!(in_hours.iter().all(|at| hours.contains(*at)));
        assert!(!outside.iter().any(|at| hours.contains(*at)));
        assert_eq!(hours.begin_in(at(0, 17, 0)), 60);
        assert_eq!(
            hours.begin_in(at(5, 8, 0)),
            16 * 60,
            "Saturday, until Sunday"
        );
    }

    #[test]
    fn a_span_goes_over_the_end_of_the_week() {
        let hours: Hours = "sun 22:00-06:00".parse().unwrap();
        assert!(hours.contains(at(6, 23, 0)) && hours.contains(at(0, 5, 59)));
        assert!(!hours.contains(at(0, 6, 0)) && !hours.contains(at(6, 21, 59)));
        assert_eq!("*".parse::<Hours>(), Ok(Hours::always()));
        assert_eq!(
            "fri-mon".parse::<Hours>().unwrap().spans,
            [(0, DAY), (4 * DAY, WEEK)]
        );
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, says) in [
            ("", "the days are"),
            ("monday", "\"monday\""),
            ("mon 8-9", "18:00"),
            ("mon 08:00-08:00", "the same"),
            ("mon 25:00-26:00", "18:00"),
            ("mon 24:00-06:00", "no time to begin"),
            ("mon +8:00-09:00", "18:00"),
        ] {
            let error = text.parse::<Hours>().unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        assert!(Hours::parse([]).unwrap_err().contains("never"));
    }

    proptest! {
        #[test]
        fn the_next_begin_is_the_first_minute_inside(
            first in 0u16..7, last in 0u16..7, from in 0u16..1440, to in 0u16..1440, now in 0u16..WEEK
        ) {
            prop_assume!(from != to);
            let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            let (first, last) = (DAYS[usize::from(first)], DAYS[usize::from(last)]);
            let text = format!("{first}-{last} {}-{}", time(from), time(to));
            let hours: Hours = text.parse().unwrap();
            let left = hours.begin_in(MinuteOfWeek(now));
            prop_assert!(hours.contains(MinuteOfWeek((now + left) % WEEK)));
            for minute in 0..left {
                prop_assert!(!hours.contains(MinuteOfWeek((now + minute) % WEEK)));
            }
        }
    }
}

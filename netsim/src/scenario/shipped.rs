//! The scenarios that come with the program, as part of it.

use super::{Scenario, ScenarioError};

/// A scenario that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

impl Shipped {
    /// Reads it.
    ///
    /// # Errors
    /// [`ScenarioError`], if the program was built with a scenario that makes no sense.
    pub fn scenario(&self) -> Result<Scenario, ScenarioError> {
        Scenario::parse(self.name, self.text)
    }
}

/// All of them, from the simplest to the largest.
pub const ALL: [Shipped; 18] = [
    shipped("hello", include_str!("../../scenarios/hello.toml")),
    shipped("office", include_str!("../../scenarios/office.toml")),
    shipped("partition", include_str!("../../scenarios/partition.toml")),
    shipped("churn", include_str!("../../scenarios/churn.toml")),
    shipped(
        "liars-10-percent",
        include_str!("../../scenarios/liars-10-percent.toml"),
    ),
    shipped("slow-tail", include_str!("../../scenarios/slow-tail.toml")),
    shipped(
        "coordinator-crash",
        include_str!("../../scenarios/coordinator-crash.toml"),
    ),
    shipped(
        "lossy-mobile",
        include_str!("../../scenarios/lossy-mobile.toml"),
    ),
    shipped("owners", include_str!("../../scenarios/owners.toml")),
    shipped("receipts", include_str!("../../scenarios/receipts.toml")),
    shipped(
        "redemption",
        include_str!("../../scenarios/redemption.toml"),
    ),
    shipped(
        "double-redemption",
        include_str!("../../scenarios/double-redemption.toml"),
    ),
    shipped(
        "app-server-crashes",
        include_str!("../../scenarios/app-server-crashes.toml"),
    ),
    shipped(
        "owing-coordinator",
        include_str!("../../scenarios/owing-coordinator.toml"),
    ),
    shipped(
        "forked-log",
        include_str!("../../scenarios/forked-log.toml"),
    ),
    shipped(
        "everything",
        include_str!("../../scenarios/everything.toml"),
    ),
    shipped(
        "flash-crowd",
        include_str!("../../scenarios/flash-crowd.toml"),
    ),
    shipped("scale", include_str!("../../scenarios/scale.toml")),
];

const fn shipped(name: &'static str, text: &'static str) -> Shipped {
    Shipped { name, text }
}

/// Returns the one of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Shipped> {
    ALL.iter().find(|shipped| shipped.name == name)
}

/// Returns the names that look most like this one, the best first.
#[must_use]
pub fn near(name: &str) -> Vec<&'static str> {
    let mut near: Vec<(usize, &str)> = ALL
        .iter()
        .map(|shipped| (distance(name, shipped.name), shipped.name))
        .filter(|(distance, known)| *distance <= known.len() / 2 || known.contains(name))
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, known)| known).collect()
}

/// Returns how many letters have to be put in, left out or changed to come from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (place, b) in to.chars().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[place + 1];
            row[place + 1] = changed.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_read_and_says_what_it_is_about() {
        for shipped in &ALL {
            let scenario = shipped.scenario().unwrap();
            assert!(shipped.text.starts_with("# "), "{}", shipped.name);
            assert!(scenario.about.len() <= 120, "{}", shipped.name);
            assert_eq!(find(shipped.name), Some(shipped));
        }
    }

    #[test]
    fn a_name_that_is_not_known_is_like_one_that_is() {
        assert_eq!(near("helo"), ["hello"]);
        assert_eq!(near("liars"), ["liars-10-percent"]);
        assert_eq!(near("coordinator_crash"), ["coordinator-crash"]);
        assert!(near("zebra").is_empty());
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

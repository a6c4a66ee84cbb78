//! The form with the preferences: which there are, and what a browser sends of them.

use std::collections::BTreeMap;

use tally_protocol::manners::{Hours, Percent, Preset};

use super::desk::Action;

/// How a preference is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of a few, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// Yes or no.
    Switch,
    /// A number.
    Number {
        /// The least.
        least: i64,
        /// The most.
        most: i64,
        /// What is counted.
        unit: &'static str,
    },
    /// Hours of the week.
    Hours,
}

/// A preference that the page can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its key, with a dot where `preferences.toml` has a table.
    pub key: &'static str,
    /// What it is called.
    pub label: &'static str,
    /// A word of help.
    pub help: &'static str,
    /// How it is asked for.
    pub kind: Kind,
}

/// The preferences of the page, in their order.
pub const FIELDS: [Field; 6] = [
    Field {
        key: "run",
        label: "Compute",
        help: "",
        kind: Kind::Choice(&[
            ("idle", "while nobody uses this computer"),
            ("always", "also while somebody uses it"),
            ("never", "never"),
        ]),
    },
    Field {
        key: "idle_minutes",
        label: "Not in use after",
        help: "without keyboard and mouse",
        kind: Kind::Number {
            least: 1,
            most: 1_440,
            unit: "minutes",
        },
    },
    Field {
        key: "in_use.cpu",
        label: "Processor while in use",
        help: "of all processors together, while somebody uses the computer",
        kind: Kind::Number {
            least: 1,
            most: 100,
            unit: "%",
        },
    },
    Field {
        key: "idle.cpu",
        label: "Processor while idle",
        help: "of all processors together, while nobody does",
        kind: Kind::Number {
            least: 1,
            most: 100,
            unit: "%",
        },
    },
    Field {
        key: "hours",
        label: "Hours",
        help: "such as mon-fri 18:00-08:00, sat-sun; * for all",
        kind: Kind::Hours,
    },
    Field {
        key: "on_battery",
        label: "Also on battery",
        help: "",
        kind: Kind::Switch,
    },
];

/// What stands in the fields, by key.
pub type Values = BTreeMap<String, String>;

/// Why values will not do, by key.
pub type Faults = BTreeMap<String, String>;

/// Takes the preferences out of what a browser sent: what is not one of them is left out.
#[must_use]
pub fn values(sent: &[(String, String)]) -> Values {
    let value = |field: &Field| {
        let found = sent.iter().find(|(key, _)| key == field.key);
        let text = found.map(|(_, value)| value.trim()).unwrap_or_default();
        match field.kind {
            // A switch that is off is not sent.
            Kind::Switch => (text == "true").to_string(),
            Kind::Choice(_) | Kind::Number { .. } | Kind::Hours => text.to_owned(),
        }
    };
    let values = FIELDS
        .iter()
        .map(|field| (field.key.to_owned(), value(field)));
    values.collect()
}

/// Returns the change from what is in force to what was sent; or which values will not do.
///
/// # Errors
/// The keys with a reason each.
pub fn change(sent: &Values, in_force: &Values) -> Result<Action, Faults> {
    let mut faults = Faults::new();
    let mut changed = Vec::new();
    for field in &FIELDS {
        let value = sent.get(field.key).map_or("", String::as_str);
        if in_force.get(field.key).map(String::as_str) == Some(value) {
            continue;
        }
        match check(field, value) {
            Ok(()) => changed.push((field.key.to_owned(), value.to_owned())),
            Err(fault) => drop(faults.insert(field.key.to_owned(), fault)),
        }
    }
    if faults.is_empty() {
        Ok(Action::Set(changed))
    } else {
        Err(faults)
    }
}

/// Returns the preset of this name.
#[must_use]
pub fn preset(name: &str) -> Option<Preset> {
    let all = [Preset::Light, Preset::Medium, Preset::Full];
    all.into_iter().find(|preset| preset.to_string() == name)
}

fn check(field: &Field, value: &str) -> Result<(), String> {
    match field.kind {
        Kind::Choice(choices) => {
            let known = choices.iter().any(|(name, _)| *name == value);
            known
                .then_some(())
                .ok_or_else(|| "choose one of these".to_owned())
        }
        Kind::Switch => Ok(()),
        Kind::Number { unit: "%", .. } => {
            let number = value.parse().map_err(|_| not_a_number(value))?;
            Percent::new(number).map(|_| ())
        }
        Kind::Number { least, most, unit } => {
            let number: i64 = value.parse().map_err(|_| not_a_number(value))?;
            let within = (least..=most).contains(&number);
            let fault = || format!("{number} will not do: {least} to {most} {unit}");
            within.then_some(()).ok_or_else(fault)
        }
        Kind::Hours => Hours::parse(value.split(',')).map(|_| ()),
    }
}

fn not_a_number(value: &str) -> String {
    if value.is_empty() {
        "a number is missing".to_owned()
    } else {
        format!("{value:?} is not a whole number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    const GOOD: [(&str, &str); 6] = [
        ("run", "idle"),
        ("idle_minutes", "3"),
        ("in_use.cpu", "25"),
        ("idle.cpu", "100"),
        ("hours", "mon-fri 18:00-08:00, sat-sun"),
        ("on_battery", "true"),
    ];

    #[test]
    fn only_what_differs_is_changed() {
        let in_force = values(&of(&GOOD));
        assert_eq!(change(&in_force, &in_force), Ok(Action::Set(vec![])));
        let mut sent = of(&GOOD);
        sent[2].1 = " 30 ".to_owned();
        sent.pop();
        sent.push(("units.hourly_min".to_owned(), "1".to_owned()));
        let changed = of(&[("in_use.cpu", "30"), ("on_battery", "false")]);
        assert_eq!(change(&values(&sent), &in_force), Ok(Action::Set(changed)));
    }

    #[test]
    fn what_will_not_do_is_named_by_its_key() {
        for (key, value, says) in [
            ("run", "sometimes", "choose one of these"),
            ("idle_minutes", "0", "1 to 1440 minutes"),
            ("idle_minutes", "", "a number is missing"),
            ("in_use.cpu", "101", "101 is not a percentage"),
            ("idle.cpu", "<b>", "\"<b>\" is not a whole number"),
            ("hours", "mon 9-17", "mon 9-17"),
            ("hours", "", "hours"),
        ] {
            let mut sent = values(&of(&GOOD));
            sent.insert(key.to_owned(), value.to_owned());
            let faults = change(&sent, &Values::new()).unwrap_err();
            assert_eq!(faults.keys().collect::<Vec<_>>(), [key]);
            assert!(faults[key].contains(says), "{faults:?}");
        }
        assert_eq!(preset("light"), Some(Preset::Light));
        assert_eq!(preset("heavy"), None);
    }
}

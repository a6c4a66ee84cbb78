//! A unit is credited once, to those who computed it.

use super::table::UnitTable;
use super::{Check, Oracle};
use crate::happening::{Gave, Happening, Unit};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;

/// Follows each unit from its leases over its votes to its validation, as far as it is durable.
#[derive(Debug, Default)]
pub(super) struct Credited(UnitTable<Credit>);

/// What is known of a unit; nothing but the flag once it is validated.
#[derive(Debug, Clone, Default)]
struct Credit {
    leased: Vec<Peer>,
    reported: Vec<(Peer, Gave)>,
    votes: Vec<(Peer, Gave)>,
    validated: bool,
}

impl Oracle for Credited {
    fn name(&self) -> &'static str {
        "credited once"
    }

    fn claim(&self) -> &'static str {
        "A unit is validated once, by as many equal votes as must agree, each of another device that was leased \
         the unit and said so."
    }

    fn see(&mut self, reference: &Reference, _: Moment, what: &Happening) -> Check {
        match what {
            Happening::Leased {
                by,
                to,
                task,
                leases,
                ..
            } => {
                for lease in leases {
                    let (task, unit) = (*task, lease.unit);
                    let credit = self.open(reference, *by, Unit { task, unit });
                    if let Some(credit) = credit.filter(|credit| !credit.leased.contains(to)) {
                        credit.leased.push(*to);
                    }
                }
                Check::Nothing
            }
            Happening::Reported {
                by, to, unit, gave, ..
            } => {
                let said = (*by, *gave);
                let credit = self.open(reference, *to, *unit);
                if let Some(credit) = credit.filter(|credit| !credit.reported.contains(&said)) {
                    credit.reported.push(said);
                }
                Check::Nothing
            }
            Happening::Voted { at, by, unit, gave } => match self.0.get(reference, *at, *unit) {
                Some(credit) => credit.vote(*unit, (*by, *gave), reference.is_honest(*by)),
                None => Check::Nothing,
            },
            Happening::Validated {
                by,
                unit,
                gave,
                agreed,
                outvoted,
            } => {
                let agree = reference.tasks().get(&unit.task).map(|task| task.agree);
                match (self.0.get(reference, *by, *unit), agree) {
                    (Some(credit), Some(agree)) => {
                        let needed = usize::from(agree);
                        credit.validate((*unit, *gave), needed, (agreed, outvoted))
                    }
                    _ => Check::Nothing,
                }
            }
            _ => Check::Nothing,
        }
    }
}

impl Credited {
    fn open(&mut self, reference: &Reference, at: Peer, unit: Unit) -> Option<&mut Credit> {
        let credit = self.0.get(reference, at, unit)?;
        (!credit.validated).then_some(credit)
    }
}

impl Credit {
    fn vote(&mut self, unit: Unit, vote: (Peer, Gave), is_honest: bool) -> Check {
        let (by, gave) = vote;
        let wrong = |what: &str| Check::Breaks(format!("a vote of {by} on {unit} {what}"));
        if self.validated {
            return wrong("counts although the unit is validated");
        }
        if self.votes.iter().any(|(voter, _)| *voter == by) {
            return wrong("is its second one");
        }
        if !self.leased.contains(&by) {
            return wrong("counts although it was never leased to it");
        }
        // What a dishonest one sent of its own accord is not known.
        let mut said = self.reported.iter().filter(|(device, _)| *device == by);
        let knows = is_honest || said.clone().next().is_some();
        if knows && !said.any(|(_, said)| *said == gave) {
            return wrong(&format!("says {gave}, which it never reported"));
        }
        self.votes.push(vote);
        Check::Holds
    }

    fn validate(
        &mut self,
        (unit, gave): (Unit, Gave),
        needed: usize,
        (agreed, outvoted): (&[Peer], &[Peer]),
    ) -> Check {
        let wrong = |what: String| Check::Breaks(format!("{unit} is validated {what}"));
        if self.validated {
            return wrong("a second time".to_owned());
        }
        if agreed.len() < needed {
            return wrong(format!("by {} votes, not {needed}", agreed.len()));
        }
        let named = |same: bool| {
            let votes = self.votes.iter();
            let mut named: Vec<Peer> = votes
                .filter(|(_, other)| (*other == gave) == same)
                .map(|(device, _)| *device)
                .collect();
            named.sort_unstable();
            named
        };
        let sorted = |devices: &[Peer]| {
            let mut devices = devices.to_vec();
            devices.sort_unstable();
            devices
        };
        if sorted(agreed) != named(true) || sorted(outvoted) != named(false) {
            return wrong(format!(
                "by {agreed:?} against {outvoted:?}, the durable votes are {:?} and {:?}",
                named(true),
                named(false)
            ));
        }
        *self = Self {
            validated: true,
            ..Self::default()
        };
        Check::Holds
    }
}

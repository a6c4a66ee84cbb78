//! Units that were validated, with who is paid for them; units as bits; and leaves of batches that were cited.

use std::collections::BTreeMap;
use std::ops::Range;

use tally_protocol::account::Holder;
use tally_protocol::entry::ValidatedUnit;
use tally_protocol::id::NodeId;
use tally_protocol::receipt::{LeafRun, Validation};

use super::finding::ReceiptProblem;

/// Units of one task: a bit each, in blocks of 1,024.
#[derive(Debug, Default)]
pub(super) struct UnitSet(BTreeMap<u32, [u64; 16]>);

impl UnitSet {
    /// Adds `unit`, returns whether it was not there before.
    pub(super) fn insert(&mut self, unit: u32) -> bool {
        let block = self.0.entry(unit >> 10).or_default();
        let word = &mut block[(unit >> 6) as usize & 15];
        let bit = 1 << (unit & 63);
        let added = *word & bit == 0;
        *word |= bit;
        added
    }

    pub(super) fn contains(&self, unit: u32) -> bool {
        let block = self.0.get(&(unit >> 10));
        block.is_some_and(|block| block[(unit >> 6) as usize & 15] & (1 << (unit & 63)) != 0)
    }
}

/// Leaves of one batch, as runs in order that do not touch: few, since a device is paid for neighbours together.
#[derive(Debug, Default)]
pub(super) struct Leaves(Vec<Range<u32>>);

impl Leaves {
    /// Adds the leaves of a run, which are none that there cannot be; the first that was there before is the error.
    pub(super) fn insert(&mut self, run: LeafRun) -> Result<(), u32> {
        let new = run.leaf..run.leaf.saturating_add(run.count);
        let place = self.0.partition_point(|there| there.end < new.start);
        // Those that overlap the new run or touch it.
        let near = self.0.iter().skip(place);
        let count = near.take_while(|there| there.start <= new.end).count();
        let near = place..place.saturating_add(count);
        let joined = &self.0[near.clone()];
        let twice = |there: &&Range<u32>| there.start < new.end && there.end > new.start;
        if let Some(there) = joined.iter().find(twice) {
            return Err(there.start.max(new.start));
        }
        let start = joined
            .first()
            .map_or(new.start, |first| first.start.min(new.start));
        let end = joined.last().map_or(new.end, |last| last.end.max(new.end));
        self.0.splice(near, std::iter::once(start..end));
        Ok(())
    }
}

/// The validated units of a task that is not settled. A unit stays when all who agreed are paid: others may be paid
/// for giving the known answer.
#[derive(Debug, Default)]
pub(super) struct OpenUnits(BTreeMap<u32, OpenUnit>);

/// What one run of a unit counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) fuel: u64,
    pub(super) bytes: u64,
    pub(super) pixels: u64,
    pub(super) points: u64,
}

#[derive(Debug)]
struct OpenUnit {
    counted: Counted,
    /// Devices that agreed and have no receipt.
    owed: Vec<NodeId>,
    /// Owners who have a receipt.
    paid: Vec<NodeId>,
}

impl OpenUnits {
    pub(super) fn add(&mut self, unit: &ValidatedUnit, counted: Counted) {
        let open = OpenUnit {
            counted,
            owed: unit.agreed.clone(),
            paid: Vec::new(),
        };
        self.0.insert(unit.unit, open);
    }

    /// Notes that a holder is paid for a unit that was validated, and returns what it counts. One of those who agreed
    /// is paid for that, and nobody else; anybody else may be paid for giving the known answer.
    pub(super) fn pay(
        &mut self,
        unit: u32,
        holder: Holder,
        validation: Validation,
    ) -> Result<Counted, ReceiptProblem> {
        let not_agreed = ReceiptProblem::NotAgreed { unit };
        let open = self.0.get_mut(&unit).ok_or(not_agreed.clone())?;
        if open.paid.contains(&holder.owner) {
            return Err(ReceiptProblem::PaidTwice { unit });
        }
        let place = open.owed.iter().position(|owed| *owed == holder.device);
        match (validation, place) {
            (Validation::Quorum(_), Some(place)) => drop(open.owed.swap_remove(place)),
            (Validation::KnownAnswer, None) => {}
            (Validation::Quorum(_), None) | (Validation::KnownAnswer, Some(_)) => {
                return Err(not_agreed);
            }
        }
        open.paid.push(holder.owner);
        Ok(open.counted)
    }
}

impl Counted {
    /// Adds what another run counts; none if the sums do not fit.
    pub(super) fn and(self, other: Self) -> Option<Self> {
        Some(Self {
            fuel: self.fuel.checked_add(other.fuel)?,
            bytes: self.bytes.checked_add(other.bytes)?,
            pixels: self.pixels.checked_add(other.pixels)?,
            points: self.points.checked_add(other.points)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use tally_protocol::task::BlobRef;
    use tally_protocol::unit::Outcome;

    use super::*;

    fn holder(owner: u8, device: u8) -> Holder {
        let [owner, device] = [owner, device].map(|number| NodeId::from_bytes([number; 32]));
        Holder { owner, device }
    }

    /// Whoever agreed is paid for that and no owner twice; others may be paid for the known answer, before or after.
    #[test]
    fn each_owner_is_paid_once_for_a_unit_and_by_the_right_kind_of_receipt() {
        let mut units = OpenUnits::default();
        let (first, second) = (holder(1, 11), holder(2, 12));
        let (third, other_of_first) = (holder(3, 13), holder(1, 14));
        let validated = ValidatedUnit {
            unit: 7,
            outcome: Outcome::Done,
            fuel: 5,
            input_bytes: 0,
            pixels: 0,
            output: BlobRef::of(b""),
            agreed: vec![first.device, second.device],
            outvoted: Vec::new(),
        };
        let counted = Counted {
            fuel: 5,
            ..Counted::default()
        };
        units.add(&validated, counted);
        let (agreed, known) = (Validation::Quorum(2), Validation::KnownAnswer);
        let not_agreed = Err(ReceiptProblem::NotAgreed { unit: 7 });
        let twice = Err(ReceiptProblem::PaidTwice { unit: 7 });
        assert_eq!(units.pay(7, first, known), not_agreed);
        assert_eq!(units.pay(7, third, agreed), not_agreed);
        assert_eq!(units.pay(7, third, known), Ok(counted));
        assert_eq!(units.pay(7, third, known), twice);
        assert_eq!(units.pay(7, first, agreed), Ok(counted));
        assert_eq!(units.pay(7, other_of_first, known), twice);
        assert_eq!(units.pay(7, second, agreed), Ok(counted));
        assert_eq!(units.pay(7, second, agreed), twice);
        assert_eq!(
            units.pay(8, second, agreed),
            Err(ReceiptProblem::NotAgreed { unit: 8 })
        );
    }

    proptest! {
        #[test]
        fn a_unit_set_is_a_set(units in prop::collection::vec(0..5_000_u32, 0..500)) {
            let (mut set, mut model) = (UnitSet::default(), BTreeSet::new());
            for unit in units {
                prop_assert_eq!(set.contains(unit), model.contains(&unit));
                prop_assert_eq!(set.insert(unit), model.insert(unit));
            }
        }

        #[test]
        fn a_leaf_is_cited_once(runs in prop::collection::vec((0..60_u32, 1..5_u32), 0..60)) {
            let (mut leaves, mut model) = (Leaves::default(), BTreeSet::new());
            for (leaf, count) in runs {
                let end = leaf.saturating_add(count);
                let run = LeafRun { leaf, unit: 0, count };
                match (leaf..end).find(|leaf| model.contains(leaf)) {
                    Some(twice) => prop_assert_eq!(leaves.insert(run), Err(twice)),
                    None => {
                        prop_assert_eq!(leaves.insert(run), Ok(()));
                        model.extend(leaf..end);
                    }
                }
                let there: Vec<u32> = leaves.0.iter().cloned().flatten().collect();
                prop_assert_eq!(&there, &model.iter().copied().collect::<Vec<_>>());
                prop_assert!(leaves.0.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }
    }
}

//! Results that are wrong.

use tally_protocol::task::BlobRef;
use tally_protocol::terminal::Ran;

use super::{Answer, Conduct};
use crate::chance::Chance;
use crate::execution::content;
use crate::happening::Unit;

/// The shortest output that a liar writes: long enough that no two are equal by chance.
const LIE_BYTES_MIN: u64 = 8;

/// Reports a wrong output for one unit in three, right ones else, in the hope of not being noticed.
#[derive(Debug)]
pub(super) struct WrongOutput;

impl Conduct for WrongOutput {
    fn answer(&mut self, mut right: Ran, _: Unit, chance: &mut Chance) -> Answer {
        if chance.happens(1.0 / 3.0) {
            let bytes = right.output.bytes.max(LIE_BYTES_MIN);
            (right.output, right.inline) = content(&chance.bytes(), bytes);
        }
        Answer::Reports(right)
    }
}

/// Reports the right output of every unit, and for every other one more fuel than it took: fuel is what is paid.
#[derive(Debug)]
pub(super) struct WrongFuel;

impl Conduct for WrongFuel {
    fn answer(&mut self, mut right: Ran, _: Unit, chance: &mut Chance) -> Answer {
        if chance.happens(0.5) {
            right.fuel = right.fuel.saturating_add(1 + chance.below(right.fuel));
        }
        Answer::Reports(right)
    }
}

/// Reports the same for every unit, at once and without computing anything.
#[derive(Debug, Default)]
pub(super) struct Lazy {
    constant: Option<(BlobRef, Option<Vec<u8>>)>,
}

impl Conduct for Lazy {
    fn answer(&mut self, mut right: Ran, _: Unit, chance: &mut Chance) -> Answer {
        let bytes = right.output.bytes.max(LIE_BYTES_MIN);
        let constant = self
            .constant
            .get_or_insert_with(|| content(&chance.bytes(), bytes));
        (right.output, right.inline) = constant.clone();
        Answer::ReportsAtOnce(right)
    }
}

/// Reports for every unit the wrong output on which all of its kind have agreed.
#[derive(Debug)]
pub(super) struct Colluding;

impl Conduct for Colluding {
    fn answer(&mut self, mut right: Ran, unit: Unit, _: &mut Chance) -> Answer {
        let mut agreed = blake3::Hasher::new_derive_key("tally netsim 1 collusion");
        agreed.update(unit.task.as_bytes());
        agreed.update(&unit.unit.to_be_bytes());
        let bytes = right.output.bytes.max(LIE_BYTES_MIN);
        (right.output, right.inline) = content(agreed.finalize().as_bytes(), bytes);
        Answer::Reports(right)
    }
}

//! Results that are wrong.

use tally_protocol::terminal::Ran;

use super::{Answer, Conduct};
use crate::chance::Chance;
use crate::execution::content;
use crate::happening::Unit;

/// Reports a wrong output for one unit in three, right ones else, in the hope of not being noticed.
#[derive(Debug)]
pub(super) struct WrongOutput;

impl Conduct for WrongOutput {
    fn answer(&mut self, mut right: Ran, _: Unit, chance: &mut Chance) -> Answer {
        if chance.happens(1.0 / 3.0) {
            (right.output, right.inline) = content(&chance.bytes(), right.output.bytes.max(8));
        }
        Answer::Reports(right)
    }
}

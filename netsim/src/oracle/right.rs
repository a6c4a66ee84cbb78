//! Results are right.

use super::{Check, Oracle};
use crate::conduct::Kind;
use crate::happening::Happening;
use crate::peer::Peer;
use crate::reference::Reference;

/// A result that is validated is the right one, unless as many colluding devices as must agree told the same lie.
#[derive(Debug)]
pub(super) struct Right;

impl Oracle for Right {
    fn name(&self) -> &'static str {
        "right"
    }

    fn claim(&self) -> &'static str {
        "A validated result is what an honest device computes, unless enough colluding ones told the same lie."
    }

    fn see(&mut self, reference: &Reference, what: &Happening) -> Check {
        let Happening::Validated {
            unit, gave, agreed, ..
        } = what
        else {
            return Check::Nothing;
        };
        let colludes = |peer: &Peer| reference.conduct(*peer) == Kind::Colluding;
        let task = reference.tasks().get(&unit.task);
        let needed = task.map_or(usize::MAX, |task| usize::from(task.agree));
        let colluded = agreed.len() >= needed && agreed.iter().all(colludes);
        let is_right = reference.right(*unit) == Some(*gave);
        Check::that(is_right || colluded, || {
            format!("{unit} was validated as {gave}, which is wrong")
        })
    }
}

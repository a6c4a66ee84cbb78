//! Results are right.

use super::{Check, Oracle};
use crate::happening::Happening;
use crate::reference::Reference;

/// A result that is validated is the right one, unless as many devices as must agree told the same lie.
#[derive(Debug)]
pub(super) struct Right;

impl Oracle for Right {
    fn name(&self) -> &'static str {
        "right"
    }

    fn claim(&self) -> &'static str {
        "A validated result is what an honest device computes, unless enough dishonest ones told the same lie."
    }

    fn see(&mut self, reference: &Reference, what: &Happening) -> Check {
        let Happening::Validated {
            unit, gave, agreed, ..
        } = what
        else {
            return Check::Nothing;
        };
        let honest = agreed.iter().any(|peer| reference.is_honest(*peer));
        let is_right = reference.right(*unit) == Some(*gave);
        Check::that(is_right || !honest, || {
            format!("{unit} was validated as {gave}, which is wrong")
        })
    }
}

//! Bugs of terminals whose owner is not obeyed, or of coordinators that hold it against them.

use tally_netsim::wrap::TerminalWrap;
use tally_protocol::coordinator::Input as CoordinatorInput;
use tally_protocol::terminal::{Effect, Input, PullOut, Terminal};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::Fault;

use super::bugs::Bug;

/// Reports what its owner took back as a fault.
#[derive(Debug)]
pub(crate) struct SaysKilled;

impl TerminalWrap for SaysKilled {
    fn handle(
        &mut self,
        machine: &mut Terminal,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Effect>,
    ) {
        machine.handle(now, input, out);
        for pull in pulls(out) {
            for back in &mut pull.abandoned {
                back.fault = Fault::Killed;
            }
        }
    }
}

/// Renews no leases of what is suspended.
#[derive(Debug)]
pub(crate) struct ForgetsSuspended;

impl TerminalWrap for ForgetsSuspended {
    fn handle(
        &mut self,
        machine: &mut Terminal,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Effect>,
    ) {
        machine.handle(now, input, out);
        if machine.suspended().is_some() {
            pulls(out).for_each(|pull| pull.renew.clear());
        }
    }
}

/// Is not told that its owner has come.
#[derive(Debug)]
pub(crate) struct HearsNothing;

impl TerminalWrap for HearsNothing {
    fn handle(
        &mut self,
        machine: &mut Terminal,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Effect>,
    ) {
        let is_told = matches!(&input, Input::Allowed(allowance) if !allowance.run);
        if !is_told {
            machine.handle(now, input, out);
        }
    }
}

fn pulls(out: &mut [Effect]) -> impl Iterator<Item = &mut PullOut> {
    out.iter_mut().filter_map(|effect| {
        if let Effect::Pull(pull) = effect {
            return Some(pull.as_mut());
        }
        None
    })
}

/// A coordinator that counts what owners take back as faults.
#[derive(Debug)]
pub(crate) struct CountsWithdrawn;

impl Bug for CountsWithdrawn {
    fn before(&mut self, input: &mut CoordinatorInput) {
        if let CoordinatorInput::Pulled { pull, .. } = input {
            for back in &mut pull.abandoned {
                back.fault = Fault::Killed;
            }
        }
    }
}

//! Nothing grows without a bound.

use tally_protocol::coordinator::Gauges;
use tally_protocol::message::customer::CUSTOMER_BYTES_MAX;
use tally_protocol::message::log::LOG_BYTES_MAX;
use tally_protocol::message::work::{GRANT_UNITS_MAX, WORK_BYTES_MAX};
use tally_protocol::terminal::{RESULTS_MAX, STORE_UNITS_MAX};

use super::{Check, Oracle};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::reference::Reference;
use crate::stage::FRAME_BYTES;
use crate::world::World;

/// Looks at every message, and into every node now and then.
#[derive(Debug)]
pub(super) struct Bounded;

impl Oracle for Bounded {
    fn name(&self) -> &'static str {
        "bounded"
    }

    fn claim(&self) -> &'static str {
        "No node is ever in a state in which none may be, and messages, grants, stores and tables keep their bounds."
    }

    fn see(&mut self, reference: &Reference, _: Moment, what: &Happening) -> Check {
        match what {
            Happening::Breached { by, what } => Check::Breaks(format!("{by}: {what}")),
            Happening::Sent {
                from, kind, bytes, ..
            } => {
                let fits = bytes.saturating_sub(FRAME_BYTES) <= bytes_max(kind);
                Check::that(fits || !reference.is_honest(*from), || {
                    format!("{from} sends a {kind} of {bytes} bytes")
                })
            }
            Happening::Leased { by, leases, .. } => {
                let units = leases.len();
                let fits = (1..=GRANT_UNITS_MAX as usize).contains(&units);
                Check::that(fits, || format!("{by} grants {units} units at once"))
            }
            _ => Check::Nothing,
        }
    }

    fn sample(&mut self, _: &Reference, world: &World) -> Check {
        for (peer, machine, _) in world.coordinators() {
            if let Some((what, value, most)) = exceeded(&machine.gauges()) {
                return Check::Breaks(format!(
                    "{peer} has {value} {what}, at most {most} are allowed"
                ));
            }
        }
        for (peer, machine) in world.terminals() {
            let gauges = machine.gauges();
            // What runs when the last result was kept may still come.
            let results_max = RESULTS_MAX + gauges.jobs * GRANT_UNITS_MAX as usize;
            if gauges.stored > STORE_UNITS_MAX || gauges.results > results_max {
                return Check::Breaks(format!("{peer} keeps too much: {gauges:?}"));
            }
        }
        Check::Holds
    }
}

fn bytes_max(kind: &str) -> u64 {
    let most = match kind {
        "submit" | "watch" | "list" | "cancel" | "terms" | "status" | "tasks" => CUSTOMER_BYTES_MAX,
        "ask log" | "log" => LOG_BYTES_MAX,
        _ => WORK_BYTES_MAX,
    };
    most as u64
}

/// Returns the first gauge that is over its bound, with its value and the bound.
fn exceeded(gauges: &Gauges) -> Option<(&'static str, usize, usize)> {
    let bounds = [
        ("devices", gauges.devices, Gauges::DEVICES_MAX),
        ("devices that wait", gauges.waiting, gauges.devices),
        (
            "grants that are over",
            gauges.over_grants,
            Gauges::OVER_GRANTS_MAX,
        ),
        (
            "timers",
            gauges.timers,
            gauges.tasks * 4 + gauges.live_grants + 3,
        ),
    ];
    bounds.into_iter().find(|(_, value, most)| value > most)
}

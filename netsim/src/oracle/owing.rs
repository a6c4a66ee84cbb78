//! Who does not pay gets no more work.

use std::collections::BTreeSet;

use super::{Check, Oracle};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;
use crate::world::World;

/// Remembers, from each look at the world, which terminals are owed more than they give on credit, and by whom.
#[derive(Debug, Default)]
pub(super) struct Owing(BTreeSet<(Peer, Peer)>);

impl Oracle for Owing {
    fn name(&self) -> &'static str {
        "no work for nothing"
    }

    fn claim(&self) -> &'static str {
        "An honest terminal asks for no work where more is owed than it gives on credit, until it has been paid."
    }

    fn see(&mut self, _: &Reference, _: Moment, what: &Happening) -> Check {
        match what {
            Happening::Started { node, .. } => {
                self.0.retain(|(by, _)| by != node);
                Check::Nothing
            }
            // It has paid, or what it owed is declared unpaid, of which it may leave more.
            Happening::ReceiptKept { by, from, .. } | Happening::GivenUp { by, from, .. } => {
                self.0.remove(&(*by, *from));
                Check::Nothing
            }
            Happening::Pulled { by, to, want, .. } if *want > 0 => {
                Check::that(!self.0.contains(&(*by, *to)), || {
                    format!("{by} wants {want} units of {to}, which owes it too much")
                })
            }
            _ => Check::Nothing,
        }
    }

    fn sample(&mut self, reference: &Reference, world: &World) -> Check {
        let honest = world.terminals();
        let honest = honest.filter(|(peer, _)| reference.is_honest(*peer));
        self.0 = honest
            .flat_map(|(peer, machine)| {
                let owing = machine.credits().filter(|(_, credit)| credit.owing);
                owing.filter_map(move |(node, _)| Some((peer, world.peer(&node)?)))
            })
            .collect();
        Check::Nothing
    }
}

//! Who is not registered gets no work where that is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use tally_ledger::store::Change;
use tally_protocol::entry::Event;
use tally_protocol::id::NodeId;
use tally_protocol::time::Timestamp;

use super::paid::{content, network};
use super::{Check, Oracle};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;
use crate::scenario::Admits;
use crate::stage::Clock;

/// How far the clock of a coordinator may be behind.
const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(60);

/// Follows who is registered, from what coordinators write.
#[derive(Debug, Default)]
pub(super) struct Registered(BTreeMap<Peer, Register>);

/// What the log of a coordinator says.
#[derive(Debug, Default)]
struct Register {
    /// Groups of records so far.
    groups: u64,
    /// The app servers with an agreement, by the group in which that was written.
    agreements: BTreeMap<NodeId, u64>,
    /// By device and app server: the serial, until when, and the group in which it ended.
    known: BTreeMap<(NodeId, NodeId), Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    serial: u64,
    expires: Timestamp,
    ended: Option<u64>,
}

impl Oracle for Registered {
    fn name(&self) -> &'static str {
        "registered only"
    }

    fn claim(&self) -> &'static str {
        "A coordinator with an agreement leases units only to terminals that are registered at an app server with one, as \
         its log says."
    }

    fn see(&mut self, reference: &Reference, at: Moment, what: &Happening) -> Check {
        let Happening::Leased { by, to, .. } = what else {
            return Check::Nothing;
        };
        let admits = reference.admits(*by);
        let Some((register, device)) = self.0.get(by).zip(reference.id(*to)) else {
            return Check::that(admits != Admits::Registered, || {
                format!("{by} leases to {to}, and nobody is registered")
            });
        };
        // What was leased with the first agreement was asked for before.
        let mut agreements = register.agreements.values();
        let is_needed = match admits {
            Admits::Open => false,
            Admits::Registered => true,
            Admits::ByAgreement => agreements.any(|group| *group < register.groups),
        };
        if !is_needed {
            return Check::Nothing;
        }
        let now = Clock::default().read(at);
        Check::that(register.admits(device, now), || {
            format!("{by} leases to {to}, which is not registered")
        })
    }

    fn commits(&mut self, _: &Reference, coordinator: Peer, change: &Change) -> Check {
        let register = self.0.entry(coordinator).or_default();
        register.groups += 1;
        for draft in &change.events {
            if let Err(what) = register.read(&draft.event) {
                return Check::Breaks(format!("{coordinator} writes {what}"));
            }
        }
        Check::Nothing
    }
}

impl Register {
    fn read(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::AgreementMade { agreement } => {
                let app_server = content(&agreement.statement)?.app_server;
                self.agreements.entry(app_server).or_insert(self.groups);
            }
            Event::DeviceRegistered { registration } => {
                let shown = registration.clone().verify_with(&network(), |_| true);
                let shown = shown.map_err(|error| error.to_string())?;
                let name = (shown.holder.device, shown.signer());
                let known = Known {
                    serial: shown.serial,
                    expires: shown.expires,
                    ended: None,
                };
                self.known.insert(name, known);
            }
            Event::RegistrationRevoked { revocation } => {
                let shown = revocation.clone().verify_with(&network(), |_| true);
                let shown = shown.map_err(|error| error.to_string())?;
                let known = self.known.get_mut(&(shown.device, shown.signer()));
                if let Some(known) = known.filter(|known| known.serial <= shown.serial) {
                    known.ended = Some(self.groups);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns whether a device may be leased something.
    fn admits(&self, device: NodeId, now: Timestamp) -> bool {
        let first = (device, NodeId::from_bytes([0; 32]));
        let last = (device, NodeId::from_bytes([0xff; 32]));
        let mut of = self.known.range(first..=last);
        of.any(|((_, app_server), known)| {
            let holds = now < known.expires + CLOCK_BEHIND_MAX;
            // What was leased in the group in which it ended was asked for before.
            let stands = known.ended.is_none_or(|group| group == self.groups);
            holds && stands && self.agreements.contains_key(app_server)
        })
    }
}

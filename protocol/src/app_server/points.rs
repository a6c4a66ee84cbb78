//! What devices have earned is asked of coordinators: after a restart, when their owner orders something, when its points
//! were taken or could not be, and when the operator wants to know. Otherwise coordinators tell it themselves.
//!
//! Which devices are to be asked about is not recorded: after a restart it is all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::errands::{Errand, Heard};
use super::{AppServer, Effect};
use crate::id::NodeId;
use crate::message::registry::{RegistryReply, RegistryRequest, STATEMENTS_MAX};
use crate::signed::Verified;
use crate::time::Timestamp;

/// The most devices of which one coordinator is still to be asked; if there are more, it is asked of all.
const WANTED_MAX: usize = 1_024;

/// Which devices each coordinator is to be asked about.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    of: BTreeMap<NodeId, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    devices: BTreeSet<NodeId>,
    /// All devices after this one are to be asked about, too.
    sweep: Option<Bound<NodeId>>,
    asked: Asked,
}

/// The question that is open.
#[derive(Debug, Default)]
enum Asked {
    #[default]
    Nothing,
    /// About devices of the list.
    Listed(Vec<NodeId>),
    /// About all devices up to this one.
    UpTo(NodeId),
}

impl AppServer {
    /// Asks coordinators what the devices of an owner have.
    pub(super) fn ask_points(&mut self, now: Timestamp, owner: NodeId, out: &mut Vec<Effect>) {
        let partners: Vec<NodeId> = self.state.agreements.partners(now).collect();
        for coordinator in partners {
            self.ask_points_at(now, (owner, coordinator), out);
        }
    }

    /// Asks a coordinator what the devices of an owner have.
    pub(super) fn ask_points_at(
        &mut self,
        now: Timestamp,
        (owner, coordinator): (NodeId, NodeId),
        out: &mut Vec<Effect>,
    ) {
        let devices: Vec<NodeId> = self.devices_of(owner).map(|of| of.holder.device).collect();
        if devices.is_empty() {
            return;
        }
        let queue = self.wanted.of.entry(coordinator).or_default();
        if queue.devices.len() + devices.len() > WANTED_MAX {
            queue.devices.clear();
            queue.sweep = Some(Bound::Unbounded);
        } else {
            queue.devices.extend(&devices);
        }
        self.run_errand(now, Errand::Points(coordinator), out);
    }

    /// Asks a coordinator what all devices have.
    pub(super) fn ask_all_points(
        &mut self,
        now: Timestamp,
        coordinator: NodeId,
        out: &mut Vec<Effect>,
    ) {
        let queue = self.wanted.of.entry(coordinator).or_default();
        queue.sweep = Some(Bound::Unbounded);
        self.run_errand(now, Errand::Points(coordinator), out);
    }

    /// Returns the next question about points; none if nothing is to be asked.
    pub(super) fn points_request(
        &mut self,
        now: Timestamp,
        coordinator: NodeId,
    ) -> Option<RegistryRequest> {
        let mut partners = self.state.agreements.partners(now);
        partners.find(|partner| *partner == coordinator)?;
        let queue = self.wanted.of.get_mut(&coordinator)?;
        let listed = queue.devices.iter().take(STATEMENTS_MAX);
        let mut devices: Vec<NodeId> = listed.copied().collect();
        queue.asked = Asked::Listed(devices.clone());
        if let Some(after) = queue.sweep.filter(|_| devices.is_empty()) {
            let registered = self.state.users.registered_after(after);
            devices = registered.take(STATEMENTS_MAX).collect();
            queue.asked = devices
                .last()
                .map_or(Asked::Nothing, |last| Asked::UpTo(*last));
        }
        if devices.is_empty() {
            self.wanted.of.remove(&coordinator);
            return None;
        }
        Some(RegistryRequest::Points(devices))
    }

    /// A coordinator says what devices have.
    pub(super) fn points_answered(
        &mut self,
        now: Timestamp,
        coordinator: NodeId,
        reply: RegistryReply,
        out: &mut Vec<Effect>,
    ) -> Heard {
        let RegistryReply::Points(statements) = reply else {
            return Heard::Wait;
        };
        let network = &self.config.network;
        let statements = statements.into_iter().take(STATEMENTS_MAX);
        let verified = statements.filter_map(|statement| statement.verify(network).ok());
        let verified = verified.filter(|statement| statement.signer() == coordinator);
        let verified: Vec<Verified<_>> = verified.collect();
        self.told(now, verified, out);
        if let Some(queue) = self.wanted.of.get_mut(&coordinator) {
            match std::mem::take(&mut queue.asked) {
                Asked::Nothing => {}
                Asked::Listed(devices) => queue.devices.retain(|device| !devices.contains(device)),
                Asked::UpTo(last) => queue.sweep = Some(Bound::Excluded(last)),
            }
        }
        Heard::Done
    }
}

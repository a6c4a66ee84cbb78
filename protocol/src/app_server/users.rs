//! The user database: whose computers are registered, and what coordinators say that they have earned.
//!
//! A registration, or its end, is told to every coordinator with an agreement: a row in the outbox comes with the fact
//! and stays until the coordinator has acknowledged that very statement.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::errands::{Errand, Heard};
use super::{AppServer, Effect, Fact, Fault};
use crate::account::Holder;
use crate::certificate::{self, DeviceCertificate};
use crate::countersignature::hash_of;
use crate::id::{Hash, NodeId};
use crate::issuer::is_line;
use crate::message::registry::{RegistryReply, RegistryRequest, STATEMENTS_MAX};
use crate::registration::{Enrolment, PointStatement, REASON_BYTES_MAX, Registration, Revocation};
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;

/// The most devices that are known, some 4 KB each.
pub const DEVICES_MAX: usize = 200_000;
/// How old the word of a device may be, or how far ahead its clock.
const ENROLMENT_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Devices, and what is still to be told of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Users {
    devices: BTreeMap<NodeId, Device>,
    of_owner: BTreeSet<(NodeId, NodeId)>,
    /// What coordinators have not acknowledged.
    outbox: BTreeMap<NodeId, Queue>,
    /// The next place in a queue.
    next: u64,
}

/// Devices of which a coordinator is to be told, each once, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Queue {
    places: BTreeMap<NodeId, u64>,
    order: BTreeMap<u64, NodeId>,
}

impl Queue {
    /// Puts a device at the end.
    fn push(&mut self, device: NodeId, place: u64) {
        if let Some(earlier) = self.places.insert(device, place) {
            self.order.remove(&earlier);
        }
        self.order.insert(place, device);
    }

    /// Takes a row out. If a newer statement of the device came meanwhile, that one has a place of its own.
    fn remove(&mut self, device: NodeId, place: u64) {
        if self.places.get(&device) == Some(&place) {
            self.places.remove(&device);
            self.order.remove(&place);
        }
    }
}

/// A computer. It works for one product of the app server at a time: the one that it enrolled for last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The computer and whose it is.
    pub holder: Holder,
    /// The highest serial of its registrations.
    pub serial: u64,
    /// How it stands.
    pub standing: Standing,
    /// The newest word of each coordinator.
    pub points: BTreeMap<NodeId, PointStatement>,
}

/// Whether a computer is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is.
    Registered {
        /// The registration.
        registration: Signed<Registration>,
        /// The word of the device that it answers.
        enrolment: Hash,
        /// Until when.
        expires: Timestamp,
    },
    /// Not any more.
    Revoked {
        /// The revocation.
        revocation: Signed<Revocation>,
        /// Since when.
        at: Timestamp,
    },
}

/// What happens to users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserFact {
    /// A device is registered.
    Registered {
        /// The computer and whose it is.
        holder: Holder,
        /// The serial of the registration.
        serial: u64,
        /// The registration.
        registration: Signed<Registration>,
        /// The word of the device that it answers.
        enrolment: Hash,
        /// When.
        at: Timestamp,
        /// Until when.
        expires: Timestamp,
    },
    /// It is not any more.
    Revoked {
        /// The computer.
        device: NodeId,
        /// The revocation.
        revocation: Signed<Revocation>,
        /// When.
        at: Timestamp,
    },
    /// A coordinator has acknowledged rows of the outbox, and may have refused one, which goes to the end.
    Delivered {
        /// The coordinator.
        coordinator: NodeId,
        /// Device and place of each row.
        rows: Vec<(NodeId, u64)>,
        /// The device of the row that it refused.
        refused: Option<NodeId>,
    },
    /// A coordinator said what a device has.
    Told(NodeId, Box<PointStatement>),
}

impl Users {
    /// Changes the users. `partners` are the coordinators to be told.
    pub(super) fn apply(&mut self, fact: &UserFact, partners: &[NodeId]) {
        match fact {
            UserFact::Registered {
                holder,
                serial,
                registration,
                enrolment,
                expires,
                ..
            } => {
                let standing = Standing::Registered {
                    registration: registration.clone(),
                    enrolment: *enrolment,
                    expires: *expires,
                };
                self.register(*holder, *serial, standing);
                self.enqueue(holder.device, partners);
            }
            UserFact::Revoked {
                device,
                revocation,
                at,
            } => {
                if let Some(known) = self.devices.get_mut(device) {
                    let (revocation, at) = (revocation.clone(), *at);
                    known.standing = Standing::Revoked { revocation, at };
                    self.enqueue(*device, partners);
                }
            }
            UserFact::Delivered {
                coordinator,
                rows,
                refused,
            } => {
                let queue = self.outbox.entry(*coordinator).or_default();
                for (device, place) in rows {
                    queue.remove(*device, *place);
                }
                if let Some(device) = refused {
                    self.enqueue(*device, &[*coordinator]);
                }
            }
            UserFact::Told(coordinator, statement) => {
                if let Some(known) = self.devices.get_mut(&statement.holder.device) {
                    known.points.insert(*coordinator, **statement);
                }
            }
        }
    }

    fn register(&mut self, holder: Holder, serial: u64, standing: Standing) {
        let mut points = BTreeMap::new();
        if let Some(known) = self.devices.remove(&holder.device) {
            let Holder { owner, device } = known.holder;
            self.of_owner.remove(&(owner, device));
            if owner == holder.owner {
                points = known.points;
            }
        }
        self.of_owner.insert((holder.owner, holder.device));
        let device = Device {
            holder,
            serial,
            standing,
            points,
        };
        self.devices.insert(holder.device, device);
    }

    fn enqueue(&mut self, device: NodeId, coordinators: &[NodeId]) {
        for coordinator in coordinators {
            let queue = self.outbox.entry(*coordinator).or_default();
            queue.push(device, self.next);
            self.next += 1;
        }
    }

    /// Tells a new partner of all devices that are registered.
    pub(super) fn enqueue_all(&mut self, coordinator: NodeId) {
        let registered = self
            .devices
            .iter()
            .filter(|(_, device)| matches!(device.standing, Standing::Registered { .. }));
        let registered: Vec<NodeId> = registered.map(|(device, _)| *device).collect();
        for device in registered {
            self.enqueue(device, &[coordinator]);
        }
    }

    /// Returns the devices that are registered, by their ids, from one on.
    pub(super) fn registered_after(&self, from: Bound<NodeId>) -> impl Iterator<Item = NodeId> {
        let devices = self.devices.range((from, Bound::Unbounded));
        let registered =
            devices.filter(|(_, device)| matches!(device.standing, Standing::Registered { .. }));
        registered.map(|(device, _)| *device)
    }

    /// Returns the next statements for a coordinator, all of one kind, with their rows.
    pub(super) fn batch(
        &self,
        coordinator: NodeId,
    ) -> Option<(RegistryRequest, Vec<(NodeId, u64)>)> {
        let queue = self.outbox.get(&coordinator)?;
        let (mut registered, mut revoked, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for (place, device) in &queue.order {
            match &self.devices.get(device)?.standing {
                Standing::Registered { registration, .. } if revoked.is_empty() => {
                    registered.push(registration.clone());
                }
                Standing::Revoked { revocation, .. } if registered.is_empty() => {
                    revoked.push(revocation.clone());
                }
                Standing::Registered { .. } | Standing::Revoked { .. } => break,
            }
            sent.push((*device, *place));
            if sent.len() == STATEMENTS_MAX {
                break;
            }
        }
        let request = if registered.is_empty() {
            RegistryRequest::Revoke(revoked)
        } else {
            RegistryRequest::Register(registered)
        };
        (!sent.is_empty()).then_some((request, sent))
    }

    pub(super) fn device(&self, device: NodeId) -> Option<&Device> {
        self.devices.get(&device)
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// Returns whether a computer is registered for an owner.
    pub(super) fn is_registered(&self, holder: Holder, now: Timestamp) -> bool {
        let known = self.devices.get(&holder.device);
        known.is_some_and(|known| known.holder == holder && known.is_registered(now))
    }
}

impl Device {
    /// Returns whether its registration holds.
    #[must_use]
    pub fn is_registered(&self, now: Timestamp) -> bool {
        matches!(&self.standing, Standing::Registered { expires, .. } if now < *expires)
    }
}

impl AppServer {
    /// Returns what is known of a computer.
    #[must_use]
    pub fn device(&self, device: NodeId) -> Option<&Device> {
        self.state.users.device(device)
    }

    /// Returns the computers of an owner.
    pub fn devices_of(&self, owner: NodeId) -> impl Iterator<Item = &Device> {
        let first = (owner, NodeId::from_bytes([0; 32]));
        let last = (owner, NodeId::from_bytes([0xff; 32]));
        let of = self.state.users.of_owner.range(first..=last);
        of.filter_map(|(_, device)| self.state.users.device(*device))
    }

    /// Returns how many statements a coordinator has not acknowledged.
    #[must_use]
    pub fn untold(&self, coordinator: NodeId) -> usize {
        let outbox = &self.state.users.outbox;
        outbox
            .get(&coordinator)
            .map_or(0, |queue| queue.places.len())
    }

    /// Registers a device that asks for it. The same word again has the same answer.
    pub(super) fn enrol(
        &mut self,
        now: Timestamp,
        enrolment: &Verified<Enrolment>,
        certificate: Option<&Verified<DeviceCertificate>>,
        out: &mut Vec<Effect>,
    ) -> Result<Signed<Registration>, Fault> {
        let device = enrolment.signer();
        let holder = certificate::holder(device, certificate, now);
        let holder = holder.map_err(|_| Fault::Stale)?;
        if (enrolment.app_server, enrolment.owner) != (self.config.me, holder.owner) {
            return Err(Fault::OtherAudience);
        }
        let product = self.state.catalogue.product(&enrolment.product)?;
        let (mut serial, asked) = (1, hash_of(enrolment.signed()));
        if let Some(known) = self.state.users.device(device) {
            serial = known.serial + 1;
            match &known.standing {
                Standing::Registered {
                    registration,
                    enrolment,
                    expires,
                } if *enrolment == asked && now < *expires => return Ok(registration.clone()),
                // Somebody who has kept the word of a device does not undo a revocation with it.
                Standing::Revoked { at, .. } if enrolment.at <= *at => return Err(Fault::Stale),
                Standing::Registered { .. } | Standing::Revoked { .. } => {}
            }
        } else if self.state.users.devices.len() >= DEVICES_MAX {
            return Err(Fault::Full);
        }
        let age = now.since(enrolment.at).max(enrolment.at.since(now));
        if age > ENROLMENT_AGE_MAX {
            return Err(Fault::Stale);
        }
        let life = Duration::from_secs(product.enrolment_seconds);
        let certified = certificate.map_or(now + life, |shown| shown.not_after);
        let expires = certified.min(now + life);
        let registration = Registration {
            product: product.id.clone(),
            holder,
            certificate: certificate.map(|shown| shown.signed().clone()),
            enrolment: enrolment.signed().clone(),
            issued: now,
            expires,
            serial,
        };
        let registration = Verified::sign(registration, &self.config.network, &self.config.key);
        let registration = registration.signed().clone();
        let fact = UserFact::Registered {
            holder,
            serial,
            registration: registration.clone(),
            enrolment: asked,
            at: now,
            expires,
        };
        self.record(Fact::User(fact), out);
        self.run_outbox(now, out);
        Ok(registration)
    }

    /// Ends the registrations of a device.
    pub(super) fn revoke(
        &mut self,
        now: Timestamp,
        (device, reason): (NodeId, String),
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        if !is_line(&reason, REASON_BYTES_MAX) {
            let what = "reason: 1 to 140 bytes".to_owned();
            return Err(Fault::Invalid { what });
        }
        let known = self.state.users.device(device);
        let known = known.ok_or(Fault::UnknownDevice)?;
        if matches!(known.standing, Standing::Revoked { .. }) {
            return Ok(());
        }
        let revocation = Revocation {
            device,
            serial: known.serial,
            at: now,
            reason,
        };
        let revocation = Verified::sign(revocation, &self.config.network, &self.config.key);
        let fact = UserFact::Revoked {
            device,
            revocation: revocation.signed().clone(),
            at: now,
        };
        self.record(Fact::User(fact), out);
        self.run_outbox(now, out);
        Ok(())
    }

    fn run_outbox(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let partners: Vec<NodeId> = self.state.agreements.partners(now).collect();
        for coordinator in partners {
            self.run_errand(now, Errand::Outbox(coordinator), out);
        }
    }

    /// A coordinator has acknowledged what it was told.
    pub(super) fn outbox_answered(
        &mut self,
        coordinator: NodeId,
        reply: &RegistryReply,
        out: &mut Vec<Effect>,
    ) -> Heard {
        let sent = self.sent.remove(&coordinator).unwrap_or_default();
        let RegistryReply::Kept(count) = reply else {
            return Heard::Wait;
        };
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        let (kept, rest) = sent.split_at(count.min(sent.len()));
        let refused = rest.first().map(|(device, _)| *device);
        let fact = UserFact::Delivered {
            coordinator,
            rows: kept.to_vec(),
            refused,
        };
        self.record(Fact::User(fact), out);
        if refused.is_some() {
            Heard::Wait
        } else {
            Heard::Done
        }
    }

    /// A coordinator says what devices have: of words that differ, the one with the longest log counts.
    pub(super) fn told(
        &mut self,
        now: Timestamp,
        statements: Vec<Verified<PointStatement>>,
        out: &mut Vec<Effect>,
    ) {
        for statement in statements.into_iter().take(STATEMENTS_MAX) {
            let coordinator = statement.signer();
            let has_agreement = self.state.agreements.in_force(coordinator, now).is_some();
            let known = self.state.users.device(statement.holder.device);
            let Some(known) = known.filter(|known| known.holder == statement.holder) else {
                continue;
            };
            let last = known.points.get(&coordinator);
            // What says the same once more is not recorded again.
            let said = |of: &PointStatement| (of.earned, of.escrowed, of.spendable, of.redeemed);
            let is_newer = last.is_none_or(|last| {
                last.size < statement.size && said(last) != said(statement.value())
            });
            if has_agreement && is_newer && statement.app_server == self.config.me {
                let fact = UserFact::Told(coordinator, Box::new(*statement.value()));
                self.record(Fact::User(fact), out);
            }
        }
    }
}

//! Who is registered at which app server, who may work here, and what app servers are told of points.
//!
//! Which statements an app server has heard is not recorded: after a restart it is told again what its devices have, and
//! the newest statement counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::timers::Timer;
use super::{Coordinator, Effect, Fact};
use crate::account::{Account, Commodity, Holder, Lot};
use crate::books::{Books, Posting};
use crate::entry::Event;
use crate::id::NodeId;
use crate::message::Refusal;
use crate::message::registry::RegistryReply;
use crate::points::Points;
use crate::registration::{Registration, Revocation, is_reason};
use crate::signed::Verified;
use crate::time::Timestamp;

/// The most registrations that are kept, some 3 KB each.
const REGISTRATIONS_MAX: usize = 200_000;
/// The most app servers at which one device is registered.
const OF_DEVICE_MAX: usize = 16;
/// How long changes of points wait until app servers are told, all in one.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// The most statements at once.
const TOLD_AT_ONCE: usize = 1_024;

/// Whose results a coordinator takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Those of devices that are registered at an app server with an agreement.
    Registered,
    /// Everybody's.
    Open,
    /// Those of registered devices as soon as an agreement is in force, until then everybody's.
    ByAgreement,
}

/// What a holder has, in points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// All that was ever issued and not taken back.
    pub earned: Points,
    /// What cannot be spent yet.
    pub escrowed: Points,
    /// What can be spent.
    pub spendable: Points,
    /// What was spent or is reserved to be.
    pub redeemed: Points,
}

/// Registrations by device, then by app server.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    of: BTreeMap<NodeId, BTreeMap<NodeId, Verified<Registration>>>,
    /// Of (app server, device), the highest serial that was revoked, with its statement.
    revoked: BTreeMap<(NodeId, NodeId), Verified<Revocation>>,
    count: usize,
    /// How many devices of each app server are registered or were.
    supplied: BTreeMap<NodeId, u32>,
    /// Holders whose points have changed since their app servers were told.
    untold: BTreeSet<Holder>,
}

impl Registrations {
    /// Returns whether the registration would change anything.
    fn is_news(&self, registration: &Verified<Registration>) -> bool {
        let (app_server, device) = (registration.signer(), registration.holder.device);
        let revoked = self.revoked.get(&(app_server, device));
        let known = self.of.get(&device).and_then(|of| of.get(&app_server));
        revoked.is_none_or(|revoked| revoked.serial < registration.serial)
            && known.is_none_or(|known| known.serial < registration.serial)
    }

    fn has_room(&self, registration: &Verified<Registration>) -> bool {
        let of = self.of.get(&registration.holder.device);
        let is_known = of.is_some_and(|of| of.contains_key(&registration.signer()));
        let fits = of.is_none_or(|of| of.len() < OF_DEVICE_MAX);
        is_known || fits && self.count < REGISTRATIONS_MAX
    }

    pub(super) fn add(&mut self, registration: Verified<Registration>) {
        self.untold.insert(registration.holder);
        self.note_device(registration.signer(), registration.holder.device);
        let of = self.of.entry(registration.holder.device).or_default();
        if of.insert(registration.signer(), registration).is_none() {
            self.count += 1;
        }
    }

    pub(super) fn revoke(&mut self, revocation: Verified<Revocation>) {
        let (app_server, device) = (revocation.signer(), revocation.device);
        self.note_device(app_server, device);
        let is_over = |known: &Verified<Registration>| known.serial <= revocation.serial;
        if let Some(of) = self.of.get_mut(&device) {
            if of.get(&app_server).is_some_and(is_over) {
                of.remove(&app_server);
                self.count -= 1;
            }
            if of.is_empty() {
                self.of.remove(&device);
            }
        }
        let known = self.revoked.get(&(app_server, device));
        if known.is_none_or(|known| known.serial < revocation.serial) {
            self.revoked.insert((app_server, device), revocation);
        }
    }

    /// Counts a device if it is new to its app server. Called before anything else is known of it.
    fn note_device(&mut self, app_server: NodeId, device: NodeId) {
        let of = self.of.get(&device);
        let is_registered = of.is_some_and(|of| of.contains_key(&app_server));
        if !is_registered && !self.revoked.contains_key(&(app_server, device)) {
            let count = self.supplied.entry(app_server).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Returns how many devices an app server has ever registered.
    pub(super) fn supplied_by(&self, app_server: NodeId) -> u32 {
        self.supplied.get(&app_server).copied().unwrap_or(0)
    }

    /// Returns everything as facts, for a snapshot.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        let registered = self.of.values().flat_map(BTreeMap::values);
        let registered = registered.map(|of| Fact::Registered(of.signed().clone()));
        let revoked = self.revoked.values();
        registered.chain(revoked.map(|of| Fact::Revoked(of.signed().clone())))
    }

    /// Returns the app servers at which a holder is registered.
    fn of(&self, holder: Holder, now: Timestamp) -> impl Iterator<Item = NodeId> {
        let of = self.of.get(&holder.device).into_iter().flatten();
        let is_its =
            move |known: &Verified<Registration>| known.holder == holder && known.expires > now;
        let its = of.filter(move |(_, known)| is_its(known));
        its.map(|(app_server, _)| *app_server)
    }

    /// Notes whose points a posting changes.
    pub(super) fn note(&mut self, posting: &Posting) {
        let accounts = posting.transfers.iter();
        let accounts = accounts.flat_map(|transfer| [transfer.from, transfer.to]);
        let holders = accounts.filter_map(|account| account.holder());
        let registered = holders.filter(|holder| self.of.contains_key(&holder.device));
        self.untold.extend(registered);
    }
}

impl Coordinator {
    /// Returns how many registrations are kept.
    #[must_use]
    pub const fn registered(&self) -> usize {
        self.registrations.count
    }

    /// Keeps registrations that an app server tells, as far as there is room.
    pub(super) fn register(
        &mut self,
        now: Timestamp,
        from: NodeId,
        told: Vec<Verified<Registration>>,
        out: &mut Vec<Effect>,
    ) -> RegistryReply {
        if self.agreements.in_force(from, now).is_none() {
            return RegistryReply::Refused(Refusal::NoAgreement);
        }
        let mut kept = 0;
        for registration in told {
            if registration.signer() != from || !self.keep_registration(now, registration, out) {
                break;
            }
            kept += 1;
        }
        RegistryReply::Kept(kept)
    }

    /// Keeps a registration if it is news. Returns whether there is room for it.
    fn keep_registration(
        &mut self,
        now: Timestamp,
        registration: Verified<Registration>,
        out: &mut Vec<Effect>,
    ) -> bool {
        if registration.expires <= now || !self.registrations.is_news(&registration) {
            return true;
        }
        if !self.registrations.has_room(&registration) {
            return false;
        }
        let signed = registration.signed().clone();
        self.registrations.add(registration);
        out.push(Effect::Record(Fact::Registered(signed.clone())));
        let event = Event::DeviceRegistered {
            registration: signed,
        };
        self.append(now, event, None, out);
        self.timers.set_at_latest(Timer::Tell, now + TELL_EVERY);
        true
    }

    /// Ends registrations. What their devices have leased is free for others.
    pub(super) fn revoke(
        &mut self,
        now: Timestamp,
        from: NodeId,
        told: Vec<Verified<Revocation>>,
        out: &mut Vec<Effect>,
    ) -> RegistryReply {
        let mut kept = 0;
        for revocation in told {
            if revocation.signer() != from || !is_reason(&revocation.reason) {
                break;
            }
            kept += 1;
            let (app_server, device) = (from, revocation.device);
            let known = self.registrations.revoked.get(&(app_server, device));
            if known.is_some_and(|known| known.serial >= revocation.serial) {
                continue;
            }
            // A revocation of what was never registered here is no news either.
            let of = self.registrations.of.get(&device);
            if of.is_none_or(|of| !of.contains_key(&app_server)) {
                continue;
            }
            let signed = revocation.signed().clone();
            self.registrations.revoke(revocation);
            out.push(Effect::Record(Fact::Revoked(signed.clone())));
            let event = Event::RegistrationRevoked { revocation: signed };
            self.append(now, event, None, out);
            self.end_leases(now, device, out);
        }
        RegistryReply::Kept(kept)
    }

    /// Returns whether a holder may work here; a registration that it shows is kept.
    pub(super) fn admits(
        &mut self,
        now: Timestamp,
        holder: Holder,
        shown: Option<Verified<Registration>>,
        out: &mut Vec<Effect>,
    ) -> bool {
        let is_open = match self.config.admission {
            Admission::Open => true,
            Admission::Registered => false,
            Admission::ByAgreement => !self.agreements.is_any_in_force(now),
        };
        if let Some(shown) = shown.filter(|shown| shown.holder == holder)
            && self.agreements.in_force(shown.signer(), now).is_some()
        {
            self.keep_registration(now, shown, out);
        }
        let mut app_servers = self.registrations.of(holder, now);
        let mut agreed =
            || app_servers.any(|app_server| self.agreements.in_force(app_server, now).is_some());
        is_open || agreed()
    }

    /// Returns what the devices of an app server have, of those that are registered there.
    pub(super) fn points_of(
        &self,
        now: Timestamp,
        from: NodeId,
        devices: &[NodeId],
    ) -> Vec<(Holder, Totals)> {
        let holder = |device: &NodeId| {
            let holder = self.registrations.of.get(device)?.get(&from)?.holder;
            let is_its = self.registrations.of(holder, now).any(|of| of == from);
            is_its.then(|| (holder, self.totals(holder)))
        };
        devices.iter().filter_map(holder).collect()
    }

    /// Returns what a holder has.
    #[must_use]
    pub fn totals(&self, holder: Holder) -> Totals {
        let sum = |account: fn(Lot) -> Account| posted(&self.books, lines_of(holder, account));
        let gone = |account| posted(&self.books, (account, account));
        let reserved = self.redemptions.reserved_of(holder);
        let (escrowed, spendable) = (sum(Account::Escrow), sum(Account::Spendable));
        let redeemed = gone(Account::Redeemed(holder)).saturating_add(reserved);
        let parts = [
            escrowed,
            spendable,
            redeemed,
            gone(Account::Expired(holder)),
        ];
        Totals {
            earned: Points::from_micro(parts.into_iter().fold(0, u64::saturating_add)),
            escrowed: Points::from_micro(escrowed),
            spendable: Points::from_micro(spendable),
            redeemed: Points::from_micro(redeemed),
        }
    }

    /// Tells app servers of the points of their devices that have changed.
    pub(super) fn tell(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let mut told = 0;
        while told < TOLD_AT_ONCE
            && let Some(holder) = self.registrations.untold.pop_first()
        {
            let totals = self.totals(holder);
            for app_server in self.registrations.of(holder, now) {
                told += 1;
                out.push(Effect::Tell {
                    app_server,
                    holder,
                    totals,
                });
            }
        }
        self.set_tell_timer(now);
    }

    /// Lets app servers be told if points of their devices have changed.
    pub(super) fn set_tell_timer(&mut self, now: Timestamp) {
        if !self.registrations.untold.is_empty() {
            self.timers.set_at_latest(Timer::Tell, now + TELL_EVERY);
        }
    }
}

/// Returns the first and the last line that the lots of a holder may have.
fn lines_of(holder: Holder, account: fn(Lot) -> Account) -> (Account, Account) {
    let lot = |millis, card| Lot {
        holder,
        since: Timestamp::from_millis(millis),
        card,
    };
    (account(lot(0, 0)), account(lot(u64::MAX, u32::MAX)))
}

/// Returns the points that stand on a range of accounts.
fn posted(books: &Books, (first, last): (Account, Account)) -> u64 {
    let lines = books.range((first, Commodity::Points)..=(last, Commodity::Points));
    let points = lines.map(|(_, balance)| u64::try_from(balance.posted()).unwrap_or(0));
    points.fold(0, u64::saturating_add)
}

//! Where a terminal is registered, and what of it each coordinator is shown.
//!
//! An app server tells its coordinators itself whom it has registered; a terminal shows it as well, so that it need not
//! wait for that. Each coordinator is shown one registration with the first pull, a new one with the next pull, and the
//! next one in turn when it refuses the terminal as not registered: never one with every pull.

use std::collections::BTreeMap;

use super::Terminal;
use crate::account::Holder;
use crate::id::NodeId;
use crate::registration::Registration;
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;

/// The most app servers at which a terminal is registered: as many as a coordinator keeps of one device.
pub const REGISTRATIONS_MAX: usize = 16;

/// The registrations of a terminal, the newest of each app server.
#[derive(Debug, Default)]
pub(super) struct Registrations(BTreeMap<NodeId, Verified<Registration>>);

impl Registrations {
    pub(super) fn of(all: Vec<Verified<Registration>>) -> Self {
        let mut kept = Self::default();
        for registration in all {
            kept.add(registration);
        }
        kept
    }

    /// Keeps a registration; of too many, the one that ends first goes. Returns whether it is kept and was not before.
    fn add(&mut self, registration: Verified<Registration>) -> bool {
        let app_server = registration.signer();
        let known = self.0.get(&app_server);
        if known.is_some_and(|known| known.serial >= registration.serial) {
            return false;
        }
        self.0.insert(app_server, registration);
        if self.0.len() > REGISTRATIONS_MAX {
            let first = self.0.iter().min_by_key(|(_, known)| known.expires);
            let first = first.map(|(app_server, _)| *app_server);
            first.and_then(|first| self.0.remove(&first));
        }
        self.0.contains_key(&app_server)
    }

    /// Returns the registration to be shown, with its app server.
    fn pick(
        &self,
        turn: Turn,
        (holder, now): (Holder, Timestamp),
    ) -> Option<(NodeId, &Verified<Registration>)> {
        let counts = |known: &Verified<Registration>| known.holder == holder && known.expires > now;
        let own = self.0.iter().filter(|(_, known)| counts(known));
        let mut own = own.map(|(app_server, known)| (*app_server, known));
        let last = match turn {
            Turn::Nothing => return None,
            Turn::This(app_server) => return own.find(|(known, _)| *known == app_server),
            Turn::After(last) => last,
        };
        let mut again = own.clone();
        let behind = own.find(|(app_server, _)| last.is_none_or(|last| *app_server > last));
        behind.or_else(|| again.next())
    }
}

/// What the next question to a coordinator shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing.
    Nothing,
    /// The registration at this app server.
    This(NodeId),
    /// The next one after that at this app server, or the first one.
    After(Option<NodeId>),
}

/// What a coordinator was shown.
#[derive(Debug)]
pub(super) struct Showing {
    turn: Turn,
    /// The app server of the last registration that it was shown.
    last: Option<NodeId>,
}

impl Showing {
    /// With the first question it is shown one.
    pub(super) const fn new() -> Self {
        let (turn, last) = (Turn::After(None), None);
        Self { turn, last }
    }

    /// Lets the registration at an app server be shown with the next question.
    pub(super) const fn show(&mut self, app_server: NodeId) {
        self.turn = Turn::This(app_server);
    }

    /// Lets the registration at an app server be shown again: nobody knows whether it came.
    pub(super) const fn show_again(&mut self, app_server: NodeId) {
        if matches!(self.turn, Turn::Nothing) {
            self.turn = Turn::This(app_server);
        }
    }

    /// Lets the next registration be shown: the coordinator does not admit the terminal.
    pub(super) const fn show_next(&mut self) {
        if matches!(self.turn, Turn::Nothing) {
            self.turn = Turn::After(self.last);
        }
    }

    /// Takes what the next question shows, with its app server.
    pub(super) fn take(
        &mut self,
        registrations: &Registrations,
        to_whom: (Holder, Timestamp),
    ) -> Option<(NodeId, Signed<Registration>)> {
        let turn = std::mem::replace(&mut self.turn, Turn::Nothing);
        let (app_server, registration) = registrations.pick(turn, to_whom)?;
        self.last = Some(app_server);
        Some((app_server, registration.signed().clone()))
    }
}

impl Terminal {
    /// Keeps a registration, and lets all coordinators be shown it.
    pub(super) fn registered(&mut self, now: Timestamp, registration: Verified<Registration>) {
        let app_server = registration.signer();
        if self.registrations.add(registration) {
            for link in self.links.values_mut() {
                link.register(now, app_server);
            }
        }
    }
}

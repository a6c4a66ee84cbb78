//! A terminal's connections to coordinators: found by look-ups and offers, dialled, made to show their role, dialled
//! again when they are gone.

use std::collections::btree_map::Entry;
use std::time::Duration;

use tally_protocol::message::announce::{Role, RoleStatement};
use tally_protocol::signed::Signed;
use tally_protocol::terminal::Input;
use tally_protocol::witness;

use super::{Asked, TerminalNode, Within};
use crate::happening::Happening;
use crate::overlay::figures::BUCKETS;
use crate::peer::Peer;
use crate::stage::{Body, Stage};
use tally_protocol::message::work::WorkRequest;

/// Bounds of the time between two dials of a coordinator (node/src/network/discovery/kept.rs).
const REDIAL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Failures after which a coordinator is not dialled any more (node/src/network/discovery.rs).
const FAILURES_MAX: u32 = 16;
/// Time between two looks for coordinators while none is connected, and how many such looks there are before they
/// become rarer (node/src/network/discovery.rs).
const SWEEP_HUNGRY: (Duration, u32) = (Duration::from_secs(3), 20);
/// The same after many looks.
const SWEEP_PATIENT: Duration = Duration::from_secs(10);
/// The same while one is connected, and the keys that such a look asks for.
const SWEEP_CONTENT: (Duration, usize) = (Duration::from_secs(60), 4);
/// Round trips until a connection is made: TCP, noise, yamux, and that it is heard who is there.
const DIAL_ROUND_TRIPS: u32 = 4;
/// After so long without an answer nobody is there.
const DIAL_MAX: Duration = Duration::from_secs(5);

/// How it stands with one coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    /// Dialled again after a pause, for the so manieth time.
    Waiting(u32),
    /// On the way.
    Dialling(u32),
    /// Connected, its role not shown yet.
    Strange(u32),
    Connected,
}

impl Tie {
    const fn failures(self) -> u32 {
        match self {
            Self::Waiting(failures) | Self::Dialling(failures) | Self::Strange(failures) => {
                failures
            }
            Self::Connected => 0,
        }
    }
}

impl TerminalNode {
    /// Looks for coordinators.
    pub(super) fn sweep(&mut self, stage: &mut Stage) {
        let Some(up) = &mut self.up else {
            return;
        };
        let content = up.ties.values().any(|tie| matches!(tie, Tie::Connected));
        up.sweeps = if content { 0 } else { up.sweeps + 1 };
        let (pause, keys) = match up.sweeps {
            0 => SWEEP_CONTENT,
            sweeps if sweeps <= SWEEP_HUNGRY.1 => (SWEEP_HUNGRY.0, usize::from(BUCKETS)),
            _ => (SWEEP_PATIENT, usize::from(BUCKETS)),
        };
        let mut buckets: Vec<u8> = (0..BUCKETS).collect();
        self.chance.shuffle(&mut buckets);
        let (mut found, mut requests) = (Vec::new(), 0);
        let (mut answered, mut took) = (Duration::ZERO, Duration::ZERO);
        for bucket in buckets.into_iter().take(keys) {
            let (links, me) = (&mut stage.links, self.peer);
            let mut round_trip = || links.latency(me, me) * 2;
            let looked = stage.kademlia.look_up(stage.now, bucket, &mut round_trip);
            requests += looked.requests;
            answered = answered.max(looked.answered.unwrap_or(looked.took));
            took = took.max(looked.took);
            found.extend(looked.providers);
        }
        found.sort_unstable();
        found.dedup();
        stage.note(&Happening::LookedUp {
            by: self.peer,
            requests,
            found: u32::try_from(found.len()).unwrap_or(u32::MAX),
        });
        self.plan(stage, stage.now + answered, Within::Found(found));
        let pause = pause.mul_f64(0.75 + self.chance.part() / 2.0);
        self.plan(stage, stage.now + took + pause, Within::Sweep);
    }

    pub(super) fn found(&mut self, stage: &mut Stage, peers: Vec<Peer>) {
        for peer in peers {
            self.know(stage, peer);
        }
    }

    /// Dials a coordinator that was not known.
    pub(super) fn know(&mut self, stage: &mut Stage, to: Peer) {
        let Some(up) = self.up.as_mut().filter(|_| to != self.peer) else {
            return;
        };
        if let Entry::Vacant(vacant) = up.ties.entry(to) {
            vacant.insert(Tie::Waiting(0));
            self.plan(stage, stage.now, Within::Dial(to));
        }
    }

    pub(super) fn dial(&mut self, stage: &mut Stage, to: Peer) {
        let Some(tie) = self.up.as_mut().and_then(|up| up.ties.get_mut(&to)) else {
            return;
        };
        if let Tie::Waiting(failures) = *tie {
            *tie = Tie::Dialling(failures);
            let took = if stage.can_talk(self.peer, to) {
                (stage.links.latency(self.peer, to) * 2 * DIAL_ROUND_TRIPS).min(DIAL_MAX)
            } else {
                DIAL_MAX
            };
            self.plan(stage, stage.now + took, Within::Dialled(to));
        }
    }

    pub(super) fn dialled(&mut self, stage: &mut Stage, to: Peer) {
        let Some(tie) = self.up.as_mut().and_then(|up| up.ties.get_mut(&to)) else {
            return;
        };
        let Tie::Dialling(failures) = *tie else {
            return;
        };
        if !stage.can_talk(self.peer, to) {
            return self.fail_tie(stage, to);
        }
        *tie = Tie::Strange(failures);
        let ask = stage.ask(self.peer, to, Body::WorkAsked(WorkRequest::Hello));
        if let Some(up) = &mut self.up {
            up.asks.insert(ask, Asked::Hello(to));
        }
    }

    /// Takes the role that the other end shows.
    pub(super) fn shown(&mut self, stage: &mut Stage, to: Peer, role: Signed<RoleStatement>) {
        let now = self.setup.clock.read(stage.now);
        let id = stage.directory.id(to);
        let shown = stage.signatures.verify(role, &stage.network);
        let is_coordinator = shown.is_ok_and(|role| {
            role.signer() == id && role.expires > now && role.roles.contains(&Role::Coordinator)
        });
        let tie = self.up.as_mut().and_then(|up| up.ties.get_mut(&to));
        let Some(tie @ Tie::Strange(_)) = tie else {
            return;
        };
        if !is_coordinator {
            self.refuse(stage, to, "role_unverified");
            return self.fail_tie(stage, to);
        }
        if !stage.can_talk(self.peer, to) {
            return self.fail_tie(stage, to);
        }
        *tie = Tie::Connected;
        stage.connect(self.peer, to);
        self.feed(stage, Input::Found(id));
        self.watch(stage, witness::Input::Found(id));
        self.plan_look(stage, to, None);
    }

    /// Pauses before the next dial, longer with each failure.
    pub(super) fn fail_tie(&mut self, stage: &mut Stage, to: Peer) {
        let Some(up) = &mut self.up else {
            return;
        };
        let Some(tie) = up.ties.get_mut(&to) else {
            return;
        };
        let failures = tie.failures() + 1;
        if failures > FAILURES_MAX {
            up.ties.remove(&to);
            return;
        }
        *tie = Tie::Waiting(failures);
        let pause = (REDIAL.0 * 2_u32.pow((failures - 1).min(6))).min(REDIAL.1);
        let pause = pause.mul_f64(0.75 + self.chance.part() / 2.0);
        self.plan(stage, stage.now + pause, Within::Dial(to));
    }

    /// Notes that the connection is gone.
    pub(super) fn lost(&mut self, stage: &mut Stage, from: Peer) {
        let Some(up) = &mut self.up else {
            return;
        };
        if !matches!(up.ties.get(&from), Some(Tie::Connected)) {
            return;
        }
        stage.disconnect(self.peer, from);
        let open: Vec<u64> = up
            .asks
            .iter()
            .filter(|(_, asked)| asked.to() == from)
            .map(|(ask, _)| *ask)
            .collect();
        let asked: Vec<Asked> = open.iter().filter_map(|ask| up.asks.remove(ask)).collect();
        self.fail_tie(stage, from);
        let id = stage.directory.id(from);
        self.feed(stage, Input::Lost(id));
        self.watch(stage, witness::Input::Lost(id));
        for asked in asked {
            self.failed(stage, asked, None);
        }
    }
}

//! With which coordinators a terminal is in touch: who is found, lost, distrusted or offers something.

use std::time::Duration;

use super::link::Link;
use super::{DISTRUSTED_MAX, Effect, LINKS_MAX, Terminal, discard};
use crate::id::NodeId;
use crate::message::announce::Offer;
use crate::signed::Verified;
use crate::time::Timestamp;

impl Terminal {
    pub(super) fn found(&mut self, now: Timestamp, node: NodeId) {
        if self.distrusted.contains(&node) {
            return;
        }
        if self.links.len() >= LINKS_MAX && !self.links.contains_key(&node) {
            let gone = self.links.iter().find(|(node, link)| {
                !link.is_connected() && link.is_done() && self.work.count_of(**node) == 0
            });
            let Some(gone) = gone.map(|(node, _)| *node) else {
                return;
            };
            self.links.remove(&gone);
        }
        self.links
            .entry(node)
            .or_insert_with(|| Link::new(now))
            .connect(now);
    }

    /// Drops what is for coordinators that are gone for so long that they have leased it to others.
    pub(super) fn give_up_lost(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let given_up = |link: &Link| link.given_up_at().is_some_and(|at| at <= now);
        let links = self.links.iter().filter(|(_, link)| given_up(link));
        let nodes: Vec<NodeId> = links.map(|(node, _)| *node).collect();
        for node in nodes {
            self.give_up(node, out);
        }
    }

    /// Drops a coordinator with all that is for it: units, jobs and results.
    pub(super) fn give_up(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        if let Some(link) = self.links.remove(&node) {
            discard(link.give_up(), out);
        }
        self.questions.retain(|_, asked| asked.to != node);
        for grant in self.work.of(node) {
            self.work.end(grant, out);
        }
    }

    pub(super) fn distrust(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        if self.distrusted.len() >= DISTRUSTED_MAX {
            self.distrusted.pop_first();
        }
        self.distrusted.insert(node);
        self.give_up(node, out);
    }

    pub(super) fn heard(
        &mut self,
        now: Timestamp,
        offer: Box<Verified<Offer>>,
        out: &mut Vec<Effect>,
    ) {
        if offer.profile != self.config.profile
            || self.distrusted.contains(&offer.signer())
            || !self.takes_work()
        {
            return;
        }
        let (task, program, limits) = (offer.task, offer.program, offer.limits);
        if self.wishes().misfit_of(task, program, limits).is_some() {
            return;
        }
        let draw = blake3::keyed_hash(
            offer.task.as_bytes(),
            &[&self.config.me.as_bytes()[..], &offer.epoch.to_be_bytes()].concat(),
        );
        let [high, low, spread_high, spread_low, ..] = *draw.as_bytes();
        if u16::from_be_bytes([high, low]) > offer.sortition {
            return;
        }
        let part = u64::from(u16::from_be_bytes([spread_high, spread_low]));
        let pause =
            Duration::from_millis(u64::from(offer.spread_millis) * part / u64::from(u16::MAX));
        match self.links.get_mut(&offer.signer()) {
            Some(link) if link.is_connected() => link.nudge(now + pause),
            _ => out.push(Effect::Dial(offer)),
        }
    }
}

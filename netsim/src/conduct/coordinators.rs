//! Coordinators that do not give what they owe, or give what nobody asked for.

use std::time::Duration;

use tally_ledger::store::Store;
use tally_protocol::account::Holder;
use tally_protocol::id::{GrantId, NodeId};
use tally_protocol::message::Refusal;
use tally_protocol::message::log::{LogReply, LogRequest};
use tally_protocol::message::work::{Grant, PullReply, ResultVerdict};
use tally_protocol::points::Points;
use tally_protocol::receipt::Receipt;
use tally_protocol::signed::{Signed, Verified};

use super::{Conduct, Me};
use crate::chance::Chance;
use crate::peer::Peer;

/// Takes results and gives nothing for them: no receipt, and now and then no verdict, or always the same bad one.
#[derive(Debug)]
pub(super) struct Owing;

impl Conduct for Owing {
    fn reply(
        &mut self,
        reply: &mut PullReply,
        _: &Me<'_>,
        chance: &mut Chance,
    ) -> Option<&'static str> {
        let receipts = std::mem::take(&mut reply.receipts);
        if reply.verdicts.is_empty() || chance.happens(0.7) {
            return (!receipts.is_empty()).then_some("keeps receipts back");
        }
        let (how, verdict) = match chance.below(4) {
            0 => {
                reply.verdicts.clear();
                return Some("gives no verdicts");
            }
            1 => ("finds all redundant", ResultVerdict::Redundant),
            2 => ("wants all grants", ResultVerdict::ShowGrant),
            _ => ("misses all outputs", ResultVerdict::OutputMissing),
        };
        reply.verdicts.fill(verdict);
        Some(how)
    }

    fn tell_log(
        &mut self,
        reply: &mut LogReply,
        _: (&LogRequest, Peer),
        _: (&Store, &Me<'_>),
    ) -> Option<&'static str> {
        *reply = LogReply::Refused(Refusal::UnknownEntry);
        Some("hides its log")
    }
}

/// Sends receipts that are not what it has written: one in two is forged, or of before.
#[derive(Debug, Default)]
pub(super) struct Swindling {
    /// A receipt that it sent before, to whomever.
    old: Option<Signed<Receipt>>,
}

impl Conduct for Swindling {
    fn reply(
        &mut self,
        reply: &mut PullReply,
        me: &Me<'_>,
        chance: &mut Chance,
    ) -> Option<&'static str> {
        let sent = reply.receipts.first_mut()?;
        if chance.happens(0.5) {
            return None;
        }
        let old = self.old.replace(sent.clone());
        let right = sent.clone().verify(me.network).ok()?;
        let mut receipt = right.value().clone();
        let how = match chance.below(6) {
            0 => {
                *sent = old?;
                return Some("sends a receipt of before");
            }
            1 => {
                receipt.points = Points::from_micro(receipt.points.as_micro() / 2);
                "halves the points of a receipt"
            }
            2 => {
                receipt.fuel += 1;
                "changes the fuel of a receipt"
            }
            3 => {
                receipt.holder = Holder::alone(NodeId::from_bytes(chance.bytes()));
                "sends a receipt for another device"
            }
            4 => {
                let run = receipt.shares.first_mut()?.runs.first_mut()?;
                run.leaf += 5_000;
                "names leaves that are not there"
            }
            _ => {
                let mut bytes = sent.as_bytes().to_vec();
                *bytes.last_mut()? ^= 1;
                *sent = Signed::from_bytes(bytes);
                return Some("breaks the signature of a receipt");
            }
        };
        *sent = Verified::sign(receipt, me.network, me.key).signed().clone();
        Some(how)
    }
}

/// Changes one answer in two: the grant, or what comes with it.
#[derive(Debug, Default)]
pub(super) struct Tampering {
    /// A grant that it gave before.
    old: Option<Signed<Grant>>,
}

impl Conduct for Tampering {
    fn reply(
        &mut self,
        reply: &mut PullReply,
        me: &Me<'_>,
        chance: &mut Chance,
    ) -> Option<&'static str> {
        if chance.happens(0.5) {
            return None;
        }
        if reply.leased.is_some() {
            return self.tamper_with_grant(reply, me, chance);
        }
        Some(match chance.below(6) {
            0 => {
                let others = me.wire.pulls.iter();
                reply.ended = others.flat_map(|(_, pull)| pull.renew.clone()).collect();
                "ends grants of others"
            }
            1 => {
                let made_up = |_| GrantId::from_bytes(first_half(chance.bytes()));
                reply.ended = (0..100).map(made_up).collect();
                "ends grants that were never given"
            }
            2 => {
                reply.verdicts.extend([ResultVerdict::Counted; 50]);
                "gives too many verdicts"
            }
            3 => {
                reply.verdicts.pop()?;
                "gives too few verdicts"
            }
            4 => {
                reply.retry_millis = u64::MAX;
                "says come back never"
            }
            _ => {
                reply.retry_millis = 0;
                "says come back at once"
            }
        })
    }
}

impl Tampering {
    fn tamper_with_grant(
        &mut self,
        reply: &mut PullReply,
        me: &Me<'_>,
        chance: &mut Chance,
    ) -> Option<&'static str> {
        let leased = reply.leased.as_mut()?;
        let right = leased.grant.clone().verify(me.network).ok()?;
        let mut grant = right.value().clone();
        let unit = grant.units.first()?.clone();
        let how = match chance.below(9) {
            0 => {
                let mut bytes = leased.grant.as_bytes().to_vec();
                *bytes.last_mut()? ^= 1;
                leased.grant = Signed::from_bytes(bytes);
                return Some("breaks the signature of a grant");
            }
            1 => {
                let old = self.old.replace(leased.grant.clone())?;
                leased.grant = old;
                return Some("gives an old grant");
            }
            2 => {
                grant.device = NodeId::from_bytes(chance.bytes());
                "gives a grant for another device"
            }
            3 => {
                grant.units.extend(vec![unit; 2_000]);
                "gives more units than are wanted"
            }
            4 => {
                let all = grant.units.len();
                grant.units.fill(unit);
                if all < 2 {
                    return None;
                }
                "gives one unit many times"
            }
            5 => {
                grant.profile = "another".parse().ok()?;
                "gives a grant of another profile"
            }
            6 => {
                grant.units.clear();
                "gives a grant without units"
            }
            7 => {
                grant.deadline = grant.issued - Duration::from_secs(3_600);
                "gives a grant that has ended"
            }
            _ => {
                grant.limits.memory_bytes = u64::MAX;
                "gives a grant that needs too much memory"
            }
        };
        leased.grant = Verified::sign(grant, me.network, me.key).signed().clone();
        Some(how)
    }
}

fn first_half(bytes: [u8; 32]) -> [u8; 16] {
    bytes.first_chunk().copied().unwrap_or_default()
}

//! Settlements: what a coordinator owes at the end of a period, signed by both.
//!
//! The app server states what is due, with the redemptions and reversals that it counts since the last settlement (see
//! [`crate::settlement`]). The coordinator countersigns, or names the redemptions that it does not know; those are left
//! out of the next statement and listed there as disputed until the operators have found out.
//!
//! Invariants: a redemption is in at most one settlement that both signed, and its reversal as well; what is due is what
//! the books have for these.

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::errands::{Errand, Heard};
use super::{AppServer, Effect, Fact, Fault};
use crate::agreement::Agreement;
use crate::countersignature::{Countersigned, hash_of};
use crate::id::{NodeId, RedemptionId};
use crate::issuer::is_line;
use crate::settlement::{
    self, Counted, DISPUTED_MAX, SETTLED_MAX, SettleFault, SettleReply, SettleRequest, Settlement,
};
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;

/// The longest reference of a payment, in bytes.
const REFERENCE_BYTES_MAX: usize = 140;

/// What is known of redemptions that coordinators owe for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settlements {
    claims: BTreeMap<(NodeId, RedemptionId), Claim>,
    of: BTreeMap<NodeId, Account>,
}

/// A redemption that a coordinator owes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    minor: u64,
    /// Whether it was given back.
    is_reversed: bool,
    /// Whether a settlement has it.
    is_settled: bool,
    /// Whether the coordinator does not know it.
    is_disputed: bool,
}

/// The settlements with one coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    last_number: u32,
    open: Option<Open>,
    /// Why the coordinator did not agree with the last statement, if it was for another reason than its redemptions.
    fault: Option<SettleFault>,
    agreed: Vec<Agreed>,
    /// Of each device, what it had earned when it was counted last.
    earned: BTreeMap<NodeId, u64>,
    /// When devices were counted last.
    supplied: Option<Timestamp>,
}

/// A statement that the coordinator has not answered, and what it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The statement.
    pub value: Settlement,
    /// As it was signed.
    pub signed: Signed<Settlement>,
    /// The redemptions that it counts.
    pub redeemed: Vec<settlement::Claim>,
    /// The reversals that it counts.
    pub reversed: Vec<settlement::Claim>,
    /// Devices that it counts, with what they had earned.
    pub devices: Vec<(NodeId, u64)>,
}

/// A settlement that both signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// What they agree on.
    pub value: Settlement,
    /// Both signatures.
    pub signed: Countersigned<Settlement>,
    /// How the outside names its payment.
    pub paid: Option<String>,
}

/// What happens to settlements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettlementFact {
    /// One is stated, instead of any earlier one that the coordinator has not answered.
    Stated(Box<Open>),
    /// The coordinator agrees.
    Agreed(NodeId, Countersigned<Settlement>),
    /// The coordinator does not know some of its redemptions: it came to nothing.
    Disputed(NodeId, Vec<RedemptionId>),
    /// The coordinator cannot agree: it came to nothing.
    Refused(NodeId, SettleFault),
    /// The operators have found out: the redemption counts again.
    Resolved(NodeId, RedemptionId),
    /// It is paid.
    Paid(NodeId, u32, String),
}

impl Account {
    /// Returns how many devices the coordinator counts at most, if the last statement had too many.
    const fn supply_max(&self) -> Option<u32> {
        match self.fault {
            Some(SettleFault::Supply { most }) => Some(most),
            Some(SettleFault::Agreement | SettleFault::Number { .. }) | None => None,
        }
    }

    /// Takes note that the coordinator cannot agree with the open statement.
    fn refuse(&mut self, fault: SettleFault) {
        (self.open, self.fault) = (None, Some(fault));
        if let SettleFault::Number { last } = fault {
            self.last_number = self.last_number.max(last);
        }
    }
}

impl Settlements {
    pub(super) fn charge(&mut self, coordinator: NodeId, id: RedemptionId, minor: u64) {
        let claim = Claim {
            minor,
            is_reversed: false,
            is_settled: false,
            is_disputed: false,
        };
        self.claims.insert((coordinator, id), claim);
    }

    /// Notes that points were given back. What no settlement has need not get into one.
    pub(super) fn reverse(&mut self, coordinator: NodeId, id: RedemptionId) {
        if let Some(claim) = self.claims.get_mut(&(coordinator, id)) {
            claim.is_reversed = true;
        }
    }

    /// Changes the settlements; returns one that was agreed or paid by it.
    pub(super) fn apply(&mut self, fact: &SettlementFact) -> Option<Settlement> {
        match fact {
            SettlementFact::Stated(open) => {
                let account = self.of.entry(open.value.coordinator).or_default();
                account.last_number = open.value.number;
                account.open = Some(open.as_ref().clone());
                account.fault = None;
                None
            }
            SettlementFact::Agreed(coordinator, signed) => {
                let open = self.of.get_mut(coordinator)?.open.take()?;
                self.settle(*coordinator, &open);
                let account = self.of.get_mut(coordinator)?;
                account.agreed.push(Agreed {
                    value: open.value.clone(),
                    signed: signed.clone(),
                    paid: None,
                });
                Some(open.value)
            }
            SettlementFact::Disputed(coordinator, disputed) => {
                self.of.get_mut(coordinator)?.open = None;
                for id in disputed {
                    if let Some(claim) = self.claims.get_mut(&(*coordinator, *id)) {
                        claim.is_disputed = true;
                    }
                }
                None
            }
            SettlementFact::Refused(coordinator, fault) => {
                self.of.get_mut(coordinator)?.refuse(*fault);
                None
            }
            SettlementFact::Resolved(coordinator, id) => {
                self.claims.get_mut(&(*coordinator, *id))?.is_disputed = false;
                None
            }
            SettlementFact::Paid(coordinator, number, reference) => {
                let agreed = &mut self.of.get_mut(coordinator)?.agreed;
                let agreed = agreed.iter_mut().find(|of| of.value.number == *number)?;
                agreed.paid = Some(reference.clone());
                Some(agreed.value.clone())
            }
        }
    }

    fn settle(&mut self, coordinator: NodeId, open: &Open) {
        for (id, _) in &open.redeemed {
            if let Some(claim) = self.claims.get_mut(&(coordinator, *id)) {
                claim.is_settled = true;
            }
        }
        for (id, _) in &open.reversed {
            self.claims.remove(&(coordinator, *id));
        }
        let Some(account) = self.of.get_mut(&coordinator) else {
            return;
        };
        if !open.devices.is_empty() {
            account.supplied = Some(open.value.until);
            account.earned.extend(open.devices.iter().copied());
        }
    }

    /// Returns the statement that a coordinator has not answered.
    fn waiting(&self, coordinator: NodeId) -> Option<&Signed<Settlement>> {
        Some(&self.of.get(&coordinator)?.open.as_ref()?.signed)
    }

    /// Returns the statement that a coordinator has not answered, with what it counts.
    pub(super) fn request(&self, coordinator: NodeId) -> Option<SettleRequest> {
        let open = self.of.get(&coordinator)?.open.as_ref()?;
        Some(SettleRequest {
            settlement: open.signed.clone(),
            redeemed: open.redeemed.clone(),
            reversed: open.reversed.clone(),
        })
    }

    /// Returns the redemptions and the reversals that the statement counts that a coordinator has not answered.
    pub(super) fn counted(&self, of: NodeId) -> Option<(Vec<RedemptionId>, Vec<RedemptionId>)> {
        let open = self.of.get(&of)?.open.as_ref()?;
        let ids = |claims: &[settlement::Claim]| claims.iter().map(|(id, _)| *id).collect();
        Some((ids(&open.redeemed), ids(&open.reversed)))
    }

    /// Returns what the next statement counts: redemptions that are in none yet, and reversals of what is in one.
    fn to_settle(&self, coordinator: NodeId) -> (Vec<settlement::Claim>, Vec<settlement::Claim>) {
        let claims = || {
            self.claims(coordinator)
                .filter(|(_, claim)| !claim.is_disputed)
        };
        let listed = |(id, claim): (RedemptionId, &Claim)| (id, claim.minor);
        let redeemed = claims().filter(|(_, claim)| !claim.is_settled);
        let redeemed: Vec<_> = redeemed.take(SETTLED_MAX).map(listed).collect();
        let taken: BTreeSet<RedemptionId> = redeemed.iter().map(|(id, _)| *id).collect();
        let reversed = claims()
            .filter(|(id, claim)| claim.is_reversed && (claim.is_settled || taken.contains(id)));
        (redeemed, reversed.take(SETTLED_MAX).map(listed).collect())
    }

    fn claims(&self, of: NodeId) -> impl Iterator<Item = (RedemptionId, &Claim)> {
        let edge = |byte: u8| (of, RedemptionId::from_bytes([byte; 16]));
        let claims = self.claims.range(edge(0)..=edge(0xff));
        claims.map(|((_, id), claim)| (*id, claim))
    }

    /// Returns whether something is not settled with a coordinator, or its settlement not answered.
    pub(super) fn has_open(&self, coordinator: NodeId) -> bool {
        let open = |(_, claim): (RedemptionId, &Claim)| !claim.is_settled || claim.is_reversed;
        self.waiting(coordinator).is_some() || self.claims(coordinator).any(open)
    }

    /// Returns whether a redemption is or may be in a settlement at this moment.
    fn is_counted(&self, coordinator: NodeId, id: RedemptionId) -> bool {
        let claim = self.claims.get(&(coordinator, id));
        claim.is_some_and(|claim| !claim.is_disputed)
    }
}

impl AppServer {
    /// Returns the settlements that both signed, the oldest first.
    #[must_use]
    pub fn settlements(&self, coordinator: NodeId) -> &[Agreed] {
        let account = self.state.settlements.of.get(&coordinator);
        account.map_or(&[], |account| &account.agreed)
    }

    /// Returns why a coordinator does not agree with the last statement, if that is for another reason than that it does
    /// not know its redemptions.
    #[must_use]
    pub fn settlement_fault(&self, coordinator: NodeId) -> Option<SettleFault> {
        self.state.settlements.of.get(&coordinator)?.fault
    }

    /// Returns the redemptions that a coordinator does not know.
    pub fn disputed(&self, coordinator: NodeId) -> impl Iterator<Item = RedemptionId> {
        let claims = self.state.settlements.claims(coordinator);
        let disputed = claims.filter(|(_, claim)| claim.is_disputed);
        disputed.map(|(id, _)| id)
    }

    /// States what a coordinator owes. One that waits for its answer stays as it is.
    pub(super) fn settle(
        &mut self,
        now: Timestamp,
        coordinator: NodeId,
        out: &mut Vec<Effect>,
    ) -> Result<Signed<Settlement>, Fault> {
        if let Some(waiting) = self.state.settlements.waiting(coordinator) {
            return Ok(waiting.clone());
        }
        let made = self.state.agreements.last(coordinator);
        let made = made.ok_or(Fault::NoAgreement)?;
        let (agreement, hash) = (made.agreement.clone(), made.hash);
        let (redeemed, reversed) = self.state.settlements.to_settle(coordinator);
        let devices = self.supplied(now, coordinator, &agreement);
        let account = self.state.settlements.of.get(&coordinator);
        let number = account.map_or(0, |account| account.last_number);
        let most = account.and_then(Account::supply_max).unwrap_or(u32::MAX);
        let supply_devices = u32::try_from(devices.len()).unwrap_or(u32::MAX);
        let supply_devices = supply_devices.min(agreement.supply_devices_max).min(most);
        let value = Settlement {
            app_server: self.config.me,
            coordinator,
            agreement: hash,
            number: number.checked_add(1).ok_or(Fault::Full)?,
            until: now,
            redeemed: Counted::of(&redeemed).ok_or(Fault::Full)?,
            reversed: Counted::of(&reversed).ok_or(Fault::Full)?,
            supply_devices,
            supply_fee: u64::from(supply_devices)
                .checked_mul(agreement.supply_fee)
                .ok_or(Fault::Full)?,
            disputed: self.disputed(coordinator).take(DISPUTED_MAX).collect(),
            currency: agreement.currency,
            due: 0,
        };
        let due = value.sum().ok_or(Fault::Full)?;
        let value = Settlement { due, ..value };
        let signed = Verified::sign(value.clone(), &self.config.network, &self.config.key);
        let signed = signed.signed().clone();
        let open = Open {
            value,
            signed: signed.clone(),
            redeemed,
            reversed,
            devices,
        };
        let fact = SettlementFact::Stated(Box::new(open));
        self.record(Fact::Settlement(fact), out);
        self.run_errand(now, Errand::Settle(coordinator), out);
        Ok(signed)
    }

    /// Returns the devices that have earned something with a coordinator since they were counted last, which they are
    /// once a period of the agreement, with what they have earned. These are at most all that are known.
    fn supplied(
        &self,
        now: Timestamp,
        coordinator: NodeId,
        agreement: &Agreement,
    ) -> Vec<(NodeId, u64)> {
        let account = self.state.settlements.of.get(&coordinator);
        let last = account.and_then(|account| account.supplied);
        let is_over = last.is_none_or(|last| agreement.period(last) < agreement.period(now));
        if !is_over || !agreement.holds(now) {
            return Vec::new();
        }
        let before = |device| {
            let earned = account.and_then(|account| account.earned.get(&device));
            earned.copied().unwrap_or(0)
        };
        let devices = self.state.users.devices().filter_map(|device| {
            let (id, points) = (device.holder.device, device.points.get(&coordinator)?);
            let earned = points.earned.as_micro();
            (earned > before(id)).then_some((id, earned))
        });
        devices.collect()
    }

    /// A coordinator answers a statement.
    pub(super) fn settle_answered(
        &mut self,
        coordinator: NodeId,
        reply: SettleReply,
        out: &mut Vec<Effect>,
    ) -> Heard {
        let Some(waiting) = self.state.settlements.waiting(coordinator) else {
            return Heard::Done;
        };
        let fact = match reply {
            SettleReply::Later => return Heard::Wait,
            SettleReply::Agreed(signed) => {
                let pair = signed.clone().verify(&self.config.network);
                let signers = (self.config.me, coordinator);
                let asked = hash_of(waiting);
                if pair.is_ok_and(|pair| pair.hash() == asked && pair.signers() == signers) {
                    SettlementFact::Agreed(coordinator, signed)
                } else {
                    return Heard::Wait;
                }
            }
            SettleReply::Disputed(mut ids) => {
                let settlements = &self.state.settlements;
                ids.truncate(DISPUTED_MAX);
                ids.retain(|id| settlements.is_counted(coordinator, *id));
                if ids.is_empty() {
                    return Heard::Wait;
                }
                SettlementFact::Disputed(coordinator, ids)
            }
            SettleReply::Not(fault) => SettlementFact::Refused(coordinator, fault),
        };
        self.record(Fact::Settlement(fact), out);
        Heard::Done
    }

    /// A disputed redemption counts again.
    pub(super) fn resolve(
        &mut self,
        (coordinator, id): (NodeId, RedemptionId),
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        if self.disputed(coordinator).any(|disputed| disputed == id) {
            let fact = SettlementFact::Resolved(coordinator, id);
            self.record(Fact::Settlement(fact), out);
            Ok(())
        } else {
            Err(Fault::UnknownSettlement)
        }
    }

    /// A settlement is paid, by whoever owes it.
    pub(super) fn settlement_paid(
        &mut self,
        (coordinator, number): (NodeId, u32),
        reference: String,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        if !is_line(&reference, REFERENCE_BYTES_MAX) {
            let what = "reference: 1 to 140 bytes".to_owned();
            return Err(Fault::Invalid { what });
        }
        let mut agreed = self.settlements(coordinator).iter();
        let agreed = agreed.find(|agreed| agreed.value.number == number);
        match &agreed.ok_or(Fault::UnknownSettlement)?.paid {
            Some(paid) if *paid == reference => Ok(()),
            Some(_) => Err(Fault::ReferenceUsed),
            None => {
                let fact = SettlementFact::Paid(coordinator, number, reference);
                self.record(Fact::Settlement(fact), out);
                Ok(())
            }
        }
    }
}

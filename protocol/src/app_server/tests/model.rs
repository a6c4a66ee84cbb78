//! A coordinator as an app server sees it, in as few words as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::countersignature::{Countersigned, VerifiedPair};
use crate::id::RedemptionId;
use crate::message::redeem::{RedeemFault, RedeemReply, RedeemRequest, Reserved};
use crate::message::registry::{Proposal, RegistryReply, RegistryRequest};
use crate::redemption::Redemption;
use crate::settlement::{SettleFault, SettleReply, SettleRequest};

/// The points of one coordinator.
pub(super) struct Bank {
    number: u8,
    /// Whether it does not answer at all.
    pub(super) is_down: bool,
    /// What owners can spend, in upt.
    pub(super) points: BTreeMap<NodeId, u64>,
    pub(super) known: BTreeMap<RedemptionId, Held>,
    /// What it owes the app server, in cents.
    pub(super) payable: i128,
    /// By device, the serial of its registration.
    pub(super) registered: BTreeMap<NodeId, u64>,
    pub(super) revoked: BTreeMap<NodeId, u64>,
    /// So many registrations it keeps of each message.
    pub(super) keeps: u32,
    /// The operator has not decided about agreements.
    pub(super) is_undecided: bool,
    /// How long it sets points aside.
    pub(super) hold_seconds: u64,
    /// So much more than agreed it says that points are worth, in cents.
    pub(super) bonus: u64,
    /// So much less than it reserved it says that it owes, in cents.
    pub(super) withholds: u64,
    /// Its redemptions are by somebody else.
    pub(super) is_forging: bool,
    /// It has not the funds to give anything back.
    pub(super) is_broke: bool,
    /// Redemptions that it says it does not know.
    pub(super) forgot: Vec<RedemptionId>,
    /// Why it does not agree with the next statement.
    pub(super) refuses: Option<SettleFault>,
    /// What it says that devices have.
    pub(super) told: BTreeMap<NodeId, Signed<PointStatement>>,
    /// What it agreed with, by number, and what that counts.
    settled: BTreeMap<u32, Countersigned<Settlement>>,
    redeemed: BTreeSet<RedemptionId>,
    reversed: BTreeSet<RedemptionId>,
    /// What all of that comes to, in cents.
    pub(super) due: i128,
}

pub(super) struct Held {
    redeem: Signed<Redeem>,
    owner: NodeId,
    points: u64,
    value: u64,
    until: Timestamp,
    pub(super) state: HeldState,
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) enum HeldState {
    Reserved,
    Over,
    Posted(Box<Signed<Redemption>>),
    Reversed,
}

impl Bank {
    pub(super) fn new(number: u8) -> Self {
        Self {
            number,
            is_down: false,
            points: BTreeMap::new(),
            known: BTreeMap::new(),
            payable: 0,
            registered: BTreeMap::new(),
            revoked: BTreeMap::new(),
            keeps: u32::MAX,
            is_undecided: false,
            hold_seconds: 86_400,
            bonus: 0,
            withholds: 0,
            is_forging: false,
            is_broke: false,
            forgot: Vec::new(),
            refuses: None,
            told: BTreeMap::new(),
            settled: BTreeMap::new(),
            redeemed: BTreeSet::new(),
            reversed: BTreeSet::new(),
            due: 0,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        node(self.number)
    }

    pub(super) fn answer(&mut self, now: Timestamp, request: Request) -> Option<Reply> {
        if self.is_down {
            return None;
        }
        Some(match request {
            Request::Registry(request) => Reply::Registry(self.registry(request)),
            Request::Redeem(request) => {
                Reply::Redeem(self.redeem(now, request).unwrap_or_else(RedeemReply::Not))
            }
        })
    }

    fn registry(&mut self, request: RegistryRequest) -> RegistryReply {
        match request {
            RegistryRequest::Agree(_) if self.is_undecided => {
                RegistryReply::Agreement(Proposal::Waiting)
            }
            RegistryRequest::Agree(signed) => {
                let agreement = signed.verify(&network()).unwrap();
                let pair = VerifiedPair::agree(agreement, &network(), &key(self.number));
                RegistryReply::Agreement(Proposal::Made(pair.signed()))
            }
            RegistryRequest::Register(told) => {
                let mut kept = 0;
                for signed in told.into_iter().take(self.keeps as usize) {
                    let registration = signed.verify(&network()).unwrap();
                    crate::registration::check(&registration, &network()).unwrap();
                    let device = registration.holder.device;
                    self.registered.insert(device, registration.serial);
                    kept += 1;
                }
                RegistryReply::Kept(kept)
            }
            RegistryRequest::Revoke(told) => {
                for signed in &told {
                    let revocation = signed.clone().verify(&network()).unwrap();
                    self.revoked.insert(revocation.device, revocation.serial);
                }
                RegistryReply::Kept(u32::try_from(told.len()).unwrap())
            }
            RegistryRequest::Points(devices) => RegistryReply::Points(
                devices
                    .iter()
                    .filter_map(|device| self.told.get(device).cloned())
                    .collect(),
            ),
            RegistryRequest::Settle(request) => RegistryReply::Settlement(self.settle(*request)),
            other => panic!("{other:?}"),
        }
    }

    /// Agrees with what it knows, as it knows it, each once.
    fn settle(&mut self, request: SettleRequest) -> SettleReply {
        let stated = request.check(&network()).unwrap();
        let statement = stated.statement().clone();
        if let Some(made) = self.settled.get(&statement.number) {
            assert_eq!(made.statement, *statement.signed(), "numbers are used once");
            return SettleReply::Agreed(made.clone());
        }
        if let Some(fault) = self.refuses.take() {
            return SettleReply::Not(fault);
        }
        let mut disputed = std::mem::take(&mut self.forgot);
        let (mut redeemed, mut reversed) = (self.redeemed.clone(), self.reversed.clone());
        for (id, minor) in stated.redeemed() {
            let held = self.known.get(id);
            let is_posted = held.is_some_and(|held| {
                let was_taken = matches!(held.state, HeldState::Posted(_) | HeldState::Reversed);
                was_taken && held.value == *minor
            });
            if !is_posted || !redeemed.insert(*id) {
                disputed.push(*id);
            }
        }
        for (id, minor) in stated.reversed() {
            let held = self.known.get(id);
            let is_reversed =
                held.is_some_and(|held| held.state == HeldState::Reversed && held.value == *minor);
            if !is_reversed || !redeemed.contains(id) || !reversed.insert(*id) {
                disputed.push(*id);
            }
        }
        if !disputed.is_empty() {
            return SettleReply::Disputed(disputed);
        }
        (self.redeemed, self.reversed) = (redeemed, reversed);
        self.due += i128::from(statement.due);
        let number = statement.number;
        let pair = VerifiedPair::agree(statement, &network(), &key(self.number));
        self.settled.insert(number, pair.signed());
        SettleReply::Agreed(pair.signed())
    }

    /// Frees what nobody has decided in time.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for held in self.known.values_mut() {
            if held.state == HeldState::Reserved && held.until <= now {
                held.state = HeldState::Over;
                *self.points.entry(held.owner).or_default() += held.points;
            }
        }
    }

    fn redeem(
        &mut self,
        now: Timestamp,
        request: RedeemRequest,
    ) -> Result<RedeemReply, RedeemFault> {
        self.expire(now);
        match request {
            RedeemRequest::Reserve { redeem, .. } => self.reserve(now, redeem),
            RedeemRequest::Post(id) => self.post(now, id),
            RedeemRequest::Void(id) => match self.known.get_mut(&id) {
                None => Ok(RedeemReply::Voided),
                Some(held) => match held.state {
                    HeldState::Reserved => {
                        held.state = HeldState::Over;
                        *self.points.entry(held.owner).or_default() += held.points;
                        Ok(RedeemReply::Voided)
                    }
                    HeldState::Over | HeldState::Reversed => Ok(RedeemReply::Voided),
                    HeldState::Posted(_) => Err(RedeemFault::Posted),
                },
            },
            RedeemRequest::Reverse(reversal) => {
                let id = reversal.verify(&network()).unwrap().redemption;
                let held = self.known.get_mut(&id).ok_or(RedeemFault::Unknown)?;
                match held.state {
                    HeldState::Posted(_) if self.is_broke => Err(RedeemFault::Unfunded),
                    HeldState::Posted(_) => {
                        held.state = HeldState::Reversed;
                        self.payable -= i128::from(held.value);
                        *self.points.entry(held.owner).or_default() += held.points;
                        Ok(RedeemReply::Reversed)
                    }
                    HeldState::Reversed => Ok(RedeemReply::Reversed),
                    HeldState::Reserved | HeldState::Over => Err(RedeemFault::Unknown),
                }
            }
        }
    }

    fn reserve(
        &mut self,
        now: Timestamp,
        redeem: Signed<Redeem>,
    ) -> Result<RedeemReply, RedeemFault> {
        let id = RedemptionId::of(&redeem);
        let redeem = redeem.verify(&network()).unwrap();
        if !self.known.contains_key(&id) {
            if redeem.expires <= now {
                return Err(RedeemFault::Expired);
            }
            let points = redeem.points.as_micro();
            let there = self.points.entry(redeem.owner).or_default();
            let Some(left) = there.checked_sub(points) else {
                let available = Points::from_micro(*there);
                return Err(RedeemFault::TooFewPoints { available });
            };
            *there = left;
            let held = Held {
                redeem: redeem.signed().clone(),
                owner: redeem.owner,
                points,
                value: points / 1_000 + self.bonus,
                until: redeem
                    .expires
                    .min(now + Duration::from_secs(self.hold_seconds)),
                state: HeldState::Reserved,
            };
            self.known.insert(id, held);
        }
        let held = &self.known[&id];
        match held.state {
            HeldState::Reserved | HeldState::Posted(_) => Ok(RedeemReply::Reserved(Reserved {
                redemption: id,
                value: euro(held.value),
                until: held.until,
            })),
            HeldState::Over | HeldState::Reversed => Err(RedeemFault::Over),
        }
    }

    fn post(&mut self, now: Timestamp, id: RedemptionId) -> Result<RedeemReply, RedeemFault> {
        let held = self.known.get_mut(&id).ok_or(RedeemFault::Unknown)?;
        let signer = if self.is_forging { 1 } else { self.number };
        let posted = match &held.state {
            HeldState::Posted(redemption) if self.is_forging => {
                let redemption = redemption.as_ref().clone().verify(&network()).unwrap();
                sign(redemption.value().clone(), signer).signed().clone()
            }
            HeldState::Posted(redemption) => redemption.as_ref().clone(),
            HeldState::Over | HeldState::Reversed => return Err(RedeemFault::Over),
            HeldState::Reserved => {
                held.value = held.value.saturating_sub(self.withholds);
                let redemption = Redemption {
                    redeem: held.redeem.clone(),
                    certificate: None,
                    agreement: crate::id::Hash::from_bytes([0; 32]),
                    value: euro(held.value),
                    at: now,
                };
                let signed = sign(redemption.clone(), self.number).signed().clone();
                held.state = HeldState::Posted(Box::new(signed));
                self.payable += i128::from(held.value);
                sign(redemption, signer).signed().clone()
            }
        };
        Ok(RedeemReply::Posted(posted))
    }

    /// Returns all points that an owner has spent, in upt.
    pub(super) fn spent(&self, owner: NodeId) -> u64 {
        let spent = self
            .known
            .values()
            .filter(|held| held.owner == owner && matches!(held.state, HeldState::Posted(_)));
        spent.map(|held| held.points).sum()
    }

    /// Returns whether points were taken and not given back.
    pub(super) fn has_taken(&self, id: RedemptionId) -> bool {
        let held = self.known.get(&id);
        held.is_some_and(|held| matches!(held.state, HeldState::Posted(_)))
    }
}

//! No point is spent twice.

use std::collections::BTreeMap;

use tally_ledger::store::Change;
use tally_protocol::app_server::{Effect, Fact, LegState, OrderChange};
use tally_protocol::entry::Event;
use tally_protocol::id::{NodeId, RedemptionId};
use tally_protocol::redemption::{Redeem, Redemption, Reversal};
use tally_protocol::signed::Signed;

use super::paid::{content, network};
use super::{Check, Oracle};
use crate::peer::Peer;
use crate::reference::Reference;
use crate::world::World;

/// Follows what coordinators and app servers write of points.
#[derive(Debug, Default)]
pub(super) struct Spent {
    banks: BTreeMap<Peer, Bank>,
    /// By whom each redemption is counted.
    bank_of: BTreeMap<RedemptionId, Peer>,
}

/// What the log of a coordinator says.
#[derive(Debug, Default)]
struct Bank {
    /// Of each owner, in micro-points.
    earned: BTreeMap<NodeId, u64>,
    spent: BTreeMap<NodeId, u64>,
    redemptions: BTreeMap<RedemptionId, (Redeem, Standing)>,
}

/// What has become of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Reserved,
    Free,
    Taken,
    GivenBack,
}

impl Oracle for Spent {
    fn name(&self) -> &'static str {
        "spent once"
    }

    fn claim(&self) -> &'static str {
        "Owners never redeem more points than they have earned; points are set aside before they are taken, and each \
         redemption has one outcome, the same at the coordinator and at the app server."
    }

    fn commits(&mut self, _: &Reference, coordinator: Peer, change: &Change) -> Check {
        let mut check = Check::Nothing;
        for draft in &change.events {
            let bank = self.banks.entry(coordinator).or_default();
            match bank.read(&draft.event) {
                Ok(None) => {}
                Ok(Some(id)) => {
                    self.bank_of.insert(id, coordinator);
                    check = Check::Holds;
                }
                Err(what) => return Check::Breaks(format!("{coordinator} writes {what}")),
            }
        }
        check
    }

    fn sells(
        &mut self,
        _: &Reference,
        app_server: Peer,
        (effects, _): (&[Effect], &Change),
    ) -> Check {
        let mut check = Check::Nothing;
        for effect in effects {
            let Effect::Record(Fact::Order { change, .. }) = effect else {
                continue;
            };
            let (id, is_right, what) = match change {
                OrderChange::Taken(id, _) => {
                    let taken = matches!(
                        self.standing(*id),
                        Some(Standing::Taken | Standing::GivenBack)
                    );
                    (id, taken, "takes points that are not taken")
                }
                OrderChange::LegEnded(id) => {
                    let free = matches!(
                        self.standing(*id),
                        None | Some(Standing::Free | Standing::GivenBack)
                    );
                    (id, free, "lets points go that are not free")
                }
                _ => continue,
            };
            if !is_right {
                let standing = self.standing(*id);
                return Check::Breaks(format!(
                    "{app_server} {what}: redemption {id} is {standing:?}"
                ));
            }
            check = Check::Holds;
        }
        check
    }

    fn at_end(&mut self, _: &Reference, world: &World) -> Check {
        if !world.has_settled() {
            return Check::Nothing;
        }
        let mut check = Check::Nothing;
        let mut taken: BTreeMap<RedemptionId, Peer> = BTreeMap::new();
        for (peer, machine, _) in world.app_servers() {
            for leg in machine.orders().flat_map(|order| &order.legs) {
                if matches!(leg.state, LegState::Posted { .. }) {
                    taken.insert(leg.id, peer);
                }
            }
        }
        for bank in self.banks.values() {
            for (id, (_, standing)) in &bank.redemptions {
                check = Check::Holds;
                let by_shop = taken.remove(id);
                if by_shop.is_some() != (*standing == Standing::Taken) {
                    return Check::Breaks(format!(
                        "redemption {id} is {standing:?} at its coordinator, at the app server it is {}",
                        if by_shop.is_some() { "taken" } else { "not" }
                    ));
                }
                if *standing == Standing::Reserved {
                    return Check::Breaks(format!("redemption {id} is set aside for nobody"));
                }
            }
        }
        match taken.first_key_value() {
            Some((id, peer)) => Check::Breaks(format!("only {peer} knows of redemption {id}")),
            None => check,
        }
    }
}

impl Spent {
    fn standing(&self, id: RedemptionId) -> Option<Standing> {
        let bank = self.banks.get(self.bank_of.get(&id)?)?;
        let (_, standing) = bank.redemptions.get(&id)?;
        Some(*standing)
    }
}

impl Bank {
    /// Reads an event. Returns the redemption that it is about.
    fn read(&mut self, event: &Event) -> Result<Option<RedemptionId>, String> {
        match event {
            Event::Receipted { receipt, .. } => {
                let receipt = content(receipt)?;
                let earned = self.earned.entry(receipt.holder.owner).or_default();
                *earned += receipt.points.as_micro();
                Ok(None)
            }
            Event::PointsReserved { redeem, .. } => self.reserve(redeem).map(Some),
            Event::ReservationEnded { redemption } => {
                self.go_on(*redemption, Standing::Reserved, Standing::Free)?;
                Ok(Some(*redemption))
            }
            Event::PointsRedeemed { redemption } => self.take(redemption).map(Some),
            Event::RedemptionReversed { reversal } => self.give_back(reversal).map(Some),
            _ => Ok(None),
        }
    }

    fn reserve(&mut self, signed: &Signed<Redeem>) -> Result<RedemptionId, String> {
        let id = RedemptionId::of(signed);
        let redeem = content(signed)?;
        let reserved = (redeem, Standing::Reserved);
        if self.redemptions.insert(id, reserved).is_some() {
            return Err(format!("that redemption {id} is set aside a second time"));
        }
        Ok(id)
    }

    fn take(&mut self, signed: &Signed<Redemption>) -> Result<RedemptionId, String> {
        let id = RedemptionId::of(&content(signed)?.redeem);
        let redeem = self.go_on(id, Standing::Reserved, Standing::Taken)?;
        let earned = self.earned.get(&redeem.owner).copied().unwrap_or(0);
        let spent = self.spent.entry(redeem.owner).or_default();
        *spent += redeem.points.as_micro();
        if *spent > earned {
            let owner = redeem.owner.short();
            return Err(format!(
                "that {owner} has spent {spent} upt, and has earned {earned}"
            ));
        }
        Ok(id)
    }

    fn give_back(&mut self, signed: &Signed<Reversal>) -> Result<RedemptionId, String> {
        let reversal = signed.clone().verify_with(&network(), |_| true);
        let reversal = reversal.map_err(|error| error.to_string())?;
        let id = reversal.redemption;
        let redeem = self.go_on(id, Standing::Taken, Standing::GivenBack)?;
        if reversal.signer() != redeem.app_server {
            return Err(format!("that somebody else gives redemption {id} back"));
        }
        let spent = self.spent.entry(redeem.owner).or_default();
        *spent -= redeem.points.as_micro();
        Ok(id)
    }

    fn go_on(&mut self, id: RedemptionId, from: Standing, to: Standing) -> Result<Redeem, String> {
        match self.redemptions.get_mut(&id) {
            Some((redeem, standing)) if *standing == from => {
                *standing = to;
                Ok(*redeem)
            }
            known => {
                let standing = known.map(|(_, standing)| *standing);
                Err(format!(
                    "that redemption {id} is {to:?}, which was {standing:?}"
                ))
            }
        }
    }
}

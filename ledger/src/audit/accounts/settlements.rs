//! Settlements between the coordinator and app servers, and their payments.

use std::collections::HashMap;

use tally_protocol::books::Posting;
use tally_protocol::countersignature::Countersigned;
use tally_protocol::id::{NodeId, RedemptionId};
use tally_protocol::posting;
use tally_protocol::settlement::{Claim, Counted, Settlement};
use tally_protocol::time::Timestamp;

use super::{Accounts, check_time};
use crate::audit::finding::Problem;

/// What was agreed on to be due.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    /// The highest number, by app server.
    last: HashMap<NodeId, u32>,
    /// Until when devices were counted last, by app server.
    supplied: HashMap<NodeId, Timestamp>,
    /// What is not paid.
    unpaid: HashMap<(NodeId, u32), Settlement>,
}

impl Accounts {
    pub(super) fn settlement_made(
        &mut self,
        written: Timestamp,
        settlement: &Countersigned<Settlement>,
        (redeemed, reversed): (&[RedemptionId], &[RedemptionId]),
    ) -> Result<Option<Posting>, Problem> {
        let pair = settlement.clone().verify(&self.network);
        let pair = pair.map_err(|error| refused(format!("failed to {error}")))?;
        let (signers, settled) = (pair.signers(), pair.value());
        let between = (settled.app_server, settled.coordinator);
        if between != signers || ![between.0, between.1].contains(&self.node) {
            let (one, other) = signers;
            return Err(refused(format!("{one} and {other} signed it")));
        }
        if settled.coordinator != self.node {
            return self.stated(written, settled, (redeemed, reversed));
        }
        check_time(settled.until, written)?;
        let app_server = settled.app_server;
        let last = self.settlements.last.insert(app_server, settled.number);
        let last = last.unwrap_or(0);
        if settled.number <= last {
            let number = settled.number;
            return Err(refused(format!(
                "its number is {number}, that of the one before is {last}"
            )));
        }
        self.check_supply(settled)?;
        let partners = &mut self.partners;
        let mut claims = Vec::new();
        for id in redeemed {
            let minor = partners.count_redeemed(app_server, *id);
            claims.push((*id, minor.map_err(refused)?));
        }
        check_counted("redemptions", &claims, settled.redeemed)?;
        let mut claims = Vec::new();
        for id in reversed {
            let minor = partners.count_reversed(app_server, *id);
            claims.push((*id, minor.map_err(refused)?));
        }
        check_counted("reversals", &claims, settled.reversed)?;
        if settled.sum() != Some(settled.due) {
            return Err(refused(
                "what is due is not the sum of its parts".to_owned(),
            ));
        }
        let of = (app_server, settled.number);
        self.settlements.unpaid.insert(of, settled.clone());
        Ok(posting::supply_fee(settled))
    }

    /// Checks that devices are counted once a period, for the fee of an agreement that held, and no more than it allows
    /// and were ever registered.
    fn check_supply(&mut self, settled: &Settlement) -> Result<(), Problem> {
        let app_server = settled.app_server;
        let agreement = self.partners.agreement(app_server, settled.agreement);
        let agreement = agreement.filter(|agreement| agreement.currency == settled.currency);
        let agreement = agreement.ok_or_else(|| {
            refused("it is by an agreement that does not stand before it".to_owned())
        })?;
        let (devices, until) = (settled.supply_devices, settled.until);
        let fee = u64::from(devices).checked_mul(agreement.supply_fee);
        if fee != Some(settled.supply_fee) {
            let fee = settled.supply_fee;
            return Err(refused(format!("its fee for {devices} devices is {fee}")));
        }
        if devices == 0 {
            return Ok(());
        }
        let registered = self.partners.supplied_by(app_server);
        let most = agreement.supply_devices_max.min(registered);
        if devices > most || !agreement.holds(until) {
            return Err(refused(format!(
                "it counts {devices} devices, the agreement allows {most}"
            )));
        }
        let last = self.settlements.supplied.insert(app_server, until);
        if last.is_some_and(|last| agreement.period(last) >= agreement.period(until)) {
            return Err(refused("it counts devices twice in a period".to_owned()));
        }
        Ok(())
    }

    pub(super) fn settlement_paid(
        &mut self,
        (with, number): (NodeId, u32),
    ) -> Result<Posting, Problem> {
        let settled = self.settlements.unpaid.remove(&(with, number));
        let posting = settled.as_ref().and_then(posting::settlement_paid);
        let posting = posting.or_else(|| self.stated_paid((with, number)));
        posting.ok_or_else(|| refused(format!("nothing is due by number {number} with {with}")))
    }
}

fn check_counted(what: &str, claims: &[Claim], says: Counted) -> Result<(), Problem> {
    if Counted::of(claims) == Some(says) {
        Ok(())
    } else {
        Err(refused(format!(
            "the {what} beside it are not those that it counts"
        )))
    }
}

const fn refused(reason: String) -> Problem {
    Problem::Settlement { reason }
}

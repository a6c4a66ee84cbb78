//! Settlements with app servers: stated by them, compared with what was taken, countersigned here, and paid by order of
//! the operator.
//!
//! Invariants: a redemption is in at most one settlement, and its reversal as well; what is in one is what was posted;
//! devices are counted once a period; each settlement is paid once; the same statement has the same answer for ever.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Coordinator, Effect, Fact, OrderFault};
use crate::agreement::Agreement;
use crate::books::Posting;
use crate::countersignature::{Countersigned, VerifiedPair, hash_of};
use crate::entry::Event;
use crate::id::{Hash, NodeId, PostingId, RedemptionId};
use crate::message::Refusal;
use crate::message::registry::RegistryReply;
use crate::posting;
use crate::settlement::{Claim, SettleFault, SettleReply, Settlement, Stated};
use crate::time::Timestamp;

/// The most settlements with one app server that are agreed on and not paid.
const UNPAID_MAX: usize = 64;

/// A settlement that both signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeSettlement {
    /// What both agree on.
    pub pair: VerifiedPair<Settlement>,
    /// The posting that will pay it; none once it is paid, or if nothing is due.
    pub unpaid: Option<PostingId>,
}

/// A settlement as a fact has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementRecord {
    /// As both signed it.
    pub settlement: Countersigned<Settlement>,
    /// The redemptions that it counts. In a snapshot those of earlier ones stand with the newest.
    pub redeemed: Vec<RedemptionId>,
    /// The reversals that it counts, in the same way.
    pub reversed: Vec<RedemptionId>,
}

/// Of each app server, by number: what is not paid, the newest, and the last one that counts devices.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    of: BTreeMap<NodeId, BTreeMap<u32, MadeSettlement>>,
}

impl Settlements {
    /// Notes a settlement. `paid` are the postings of all orders that were carried out.
    pub(super) fn make(&mut self, pair: VerifiedPair<Settlement>, paid: &BTreeSet<PostingId>) {
        let payment = posting::settlement_paid(pair.value()).map(|posting| posting.id);
        let unpaid = payment.filter(|payment| !paid.contains(payment));
        let (app_server, number) = (pair.value().app_server, pair.value().number);
        let made = self.of.entry(app_server).or_default();
        made.insert(number, MadeSettlement { pair, unpaid });
        forget(made);
    }

    /// Notes that an order was carried out: it may have paid one.
    pub(super) fn pay(&mut self, posting: PostingId) {
        for made in self.of.values_mut() {
            let mut of = made.values_mut();
            if let Some(paid) = of.find(|made| made.unpaid == Some(posting)) {
                paid.unpaid = None;
                forget(made);
                return;
            }
        }
    }

    fn find(&self, app_server: NodeId, statement: Hash) -> Option<&VerifiedPair<Settlement>> {
        let mut pairs = self.of.get(&app_server)?.values().map(|made| &made.pair);
        pairs.find(|pair| pair.hash() == statement)
    }

    fn newest(&self, app_server: NodeId) -> u32 {
        let made = self.of.get(&app_server);
        let newest = made.and_then(|made| made.last_key_value());
        newest.map_or(0, |(number, _)| *number)
    }

    /// Returns until when devices were counted last.
    fn supplied(&self, app_server: NodeId) -> Option<Timestamp> {
        let mut made = self.of.get(&app_server)?.values().rev();
        let last = made.find(|made| made.pair.value().supply_devices > 0)?;
        Some(last.pair.value().until)
    }

    fn unpaid(&self, app_server: NodeId) -> usize {
        let made = self.of.get(&app_server).into_iter().flatten();
        made.filter(|(_, made)| made.unpaid.is_some()).count()
    }
}

/// Forgets what is paid and of no use any more: it stands in the log.
fn forget(made: &mut BTreeMap<u32, MadeSettlement>) {
    let newest = made.last_key_value().map(|(number, _)| *number);
    let counts = |(_, made): &(&u32, &MadeSettlement)| made.pair.value().supply_devices > 0;
    let supplied = made.iter().rfind(counts).map(|(number, _)| *number);
    made.retain(|number, made| {
        made.unpaid.is_some() || [newest, supplied].contains(&Some(*number))
    });
}

impl Coordinator {
    /// Returns the settlements that are not paid, and of each app server the newest.
    pub fn settlements(&self) -> impl Iterator<Item = &MadeSettlement> {
        self.settlements.of.values().flat_map(BTreeMap::values)
    }

    /// Returns all settlements as facts, for a snapshot. The newest of each app server says what all of them count.
    pub(super) fn settlement_facts(&self) -> impl Iterator<Item = Fact> {
        self.settlements
            .of
            .iter()
            .flat_map(move |(app_server, made)| {
                let newest = self.settlements.newest(*app_server);
                made.iter().map(move |(number, made)| {
                    let (redeemed, reversed) = if *number == newest {
                        self.redemptions.counted(*app_server)
                    } else {
                        Default::default()
                    };
                    Fact::SettlementMade(Box::new(SettlementRecord {
                        settlement: made.pair.signed(),
                        redeemed,
                        reversed,
                    }))
                })
            })
    }

    /// Agrees with a statement, or says why not. `from` is who asks.
    pub(super) fn settle_with(
        &mut self,
        now: Timestamp,
        from: NodeId,
        stated: &Stated,
        out: &mut Vec<Effect>,
    ) -> RegistryReply {
        let statement = stated.statement();
        let is_between = statement.signer() == from
            && (statement.app_server, statement.coordinator) == (from, self.config.me);
        if !is_between {
            return RegistryReply::Refused(Refusal::Unverified);
        }
        let known = self.settlements.find(from, hash_of(statement.signed()));
        if let Some(pair) = known {
            return RegistryReply::Settlement(SettleReply::Agreed(pair.signed()));
        }
        RegistryReply::Settlement(match self.compare(now, from, stated) {
            Ok(posting) => self.agree(now, stated, posting, out),
            Err(reply) => reply,
        })
    }

    /// Compares a statement with what stands here. Returns what agreeing with it does to the books.
    fn compare(
        &self,
        now: Timestamp,
        from: NodeId,
        stated: &Stated,
    ) -> Result<Option<Posting>, SettleReply> {
        let statement = stated.statement();
        let last = self.settlements.newest(from);
        if statement.number <= last {
            return Err(SettleReply::Not(SettleFault::Number { last }));
        }
        let agreement = self.agreements.find(statement.agreement);
        let agreement = agreement.map(VerifiedPair::value);
        let agreement = agreement.filter(|agreement| {
            (agreement.app_server, agreement.currency) == (from, statement.currency)
        });
        let agreement = agreement.ok_or(SettleReply::Not(SettleFault::Agreement))?;
        if now < statement.until || self.settlements.unpaid(from) >= UNPAID_MAX {
            return Err(SettleReply::Later);
        }
        self.check_supply(statement, agreement)
            .map_err(SettleReply::Not)?;
        let unknown = self.redemptions.unknown(from, stated);
        if !unknown.is_empty() {
            return Err(SettleReply::Disputed(unknown));
        }
        let posting = posting::supply_fee(statement);
        if let Some(posting) = &posting {
            let possible = self.books.excerpt(posting).post(now, posting);
            // Nobody may be owed what is not earned.
            possible.map_err(|_| SettleReply::Later)?;
        }
        Ok(posting)
    }

    /// Checks that no more devices are counted than the agreement allows and were ever registered, once a period, for the
    /// fee of the agreement.
    fn check_supply(
        &self,
        statement: &Settlement,
        agreement: &Agreement,
    ) -> Result<(), SettleFault> {
        let app_server = agreement.app_server;
        let last = self.settlements.supplied(app_server);
        let period = |at| agreement.period(at);
        let is_over = last.is_none_or(|last| period(last) < period(statement.until));
        let most = if is_over && agreement.holds(statement.until) {
            let registered = self.registrations.supplied_by(app_server);
            agreement.supply_devices_max.min(registered)
        } else {
            0
        };
        let devices = u64::from(statement.supply_devices);
        let fee = devices.checked_mul(agreement.supply_fee);
        if statement.supply_devices > most || fee != Some(statement.supply_fee) {
            return Err(SettleFault::Supply { most });
        }
        Ok(())
    }

    fn agree(
        &mut self,
        now: Timestamp,
        stated: &Stated,
        posting: Option<Posting>,
        out: &mut Vec<Effect>,
    ) -> SettleReply {
        let statement = stated.statement().clone();
        let pair = VerifiedPair::agree(statement, &self.config.network, &self.config.key);
        let settlement = pair.signed();
        let ids = |claims: &[Claim]| claims.iter().map(|(id, _)| *id).collect();
        let record = SettlementRecord {
            settlement: settlement.clone(),
            redeemed: ids(stated.redeemed()),
            reversed: ids(stated.reversed()),
        };
        self.note_settlement(pair, &record);
        out.push(Effect::Record(Fact::SettlementMade(Box::new(
            record.clone(),
        ))));
        let event = Event::SettlementMade {
            settlement: record.settlement,
            redeemed: record.redeemed,
            reversed: record.reversed,
        };
        self.append(now, event, posting, out);
        SettleReply::Agreed(settlement)
    }

    /// Notes a settlement and what it counts: the only place where that changes.
    pub(super) fn note_settlement(
        &mut self,
        pair: VerifiedPair<Settlement>,
        record: &SettlementRecord,
    ) {
        self.settlements.make(pair, &self.orders);
        self.redemptions.count(&record.redeemed, &record.reversed);
    }

    /// Returns what paying a settlement does.
    pub(super) fn pay_settlement(
        &self,
        (app_server, number): (NodeId, u32),
        reference: String,
    ) -> Result<(Event, Posting), OrderFault> {
        let unknown = || OrderFault::NoSettlement { app_server, number };
        let made = self.settlements.of.get(&app_server);
        let made = made
            .and_then(|made| made.get(&number))
            .ok_or_else(unknown)?;
        let posting = posting::settlement_paid(made.pair.value()).ok_or_else(unknown)?;
        let event = Event::SettlementPaid {
            with: app_server,
            number,
            reference,
        };
        Ok((event, posting))
    }
}

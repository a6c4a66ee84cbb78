//! What is issued for an order: licenses with their status, and vouchers that are used once.
//!
//! Invariants: a place in the status lists is given once and never again; renewals of one license form a line in which
//! each begins where the one before ends; a voucher is used for at most one request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::errands::Due;
use super::order::{Goods, Order, Subject};
use super::{AppServer, Effect, Fact, Fault, IdempotencyKey};
use crate::account::{Currency, Money};
use crate::countersignature::hash_of;
use crate::id::{Hash, LicenseId, NodeId, OrderId, VoucherId};
use crate::license::{
    Basis, License, LicenseOrder, LicenseTerms, Renewal, STATUS_BYTES_MAX, Status, StatusList,
};
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;
use crate::voucher::{Split, Voucher, VoucherOrder};

/// All licenses that were ever issued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Licenses {
    of: BTreeMap<LicenseId, Known>,
    /// By the first license of each line: until when its last one holds.
    lines: BTreeMap<LicenseId, Timestamp>,
    /// The next place in the status lists.
    next_index: u32,
    /// The last status list.
    sequence: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    order: OrderId,
    index: u32,
    status: Status,
    /// The first license of its line.
    line: LicenseId,
    not_before: Timestamp,
    expires: Timestamp,
    /// What its order had, if that is not known any more and the license can be renewed.
    sold: Option<Box<Sold>>,
}

/// What a renewal needs to know of the order of a license.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sold {
    owner: NodeId,
    terms: LicenseTerms,
    devices: Vec<NodeId>,
    currency: Currency,
}

impl Sold {
    fn of(order: &Order) -> Option<Self> {
        match &order.subject {
            Subject::License { terms, devices } | Subject::Renewal { terms, devices, .. } => {
                Some(Self {
                    owner: order.owner,
                    terms: terms.as_ref().clone(),
                    devices: devices.clone(),
                    currency: order.fee.currency,
                })
            }
            Subject::Voucher { .. } => None,
        }
    }
}

impl Licenses {
    /// Notes the goods of an order, if they are a license.
    pub(super) fn fulfil(&mut self, me: NodeId, order: &Order, goods: &Goods) {
        let Goods::License {
            order: issued,
            expires,
            ..
        } = goods
        else {
            return;
        };
        let id = LicenseId::of(me, order.id);
        let line = match &order.subject {
            Subject::Renewal { line, .. } => *line,
            Subject::License { .. } | Subject::Voucher { .. } => id,
        };
        self.next_index = self.next_index.max(issued.status_index.saturating_add(1));
        self.lines.insert(line, *expires);
        let known = Known {
            order: order.id,
            index: issued.status_index,
            status: Status::Valid,
            line,
            not_before: issued.not_before,
            expires: *expires,
            sold: None,
        };
        self.of.insert(id, known);
    }

    /// Keeps what a renewal of a license needs, since its order is being forgotten.
    pub(super) fn keep(&mut self, id: LicenseId, order: &Order) {
        if let Some(known) = self.of.get_mut(&id) {
            let sold = Sold::of(order).filter(|sold| sold.terms.renewal.is_some());
            known.sold = sold.map(Box::new);
        }
    }

    pub(super) fn set(&mut self, id: LicenseId, status: Status) {
        if let Some(known) = self.of.get_mut(&id) {
            known.status = status;
        }
    }

    /// Ends the license of an order that is undone. The line ends where this one began, if it was its last.
    pub(super) fn refund(&mut self, id: LicenseId) {
        self.set(id, Status::Revoked);
        if let Some(known) = self.of.get(&id)
            && self.lines.get(&known.line) == Some(&known.expires)
        {
            self.lines.insert(known.line, known.not_before);
        }
    }

    /// Notes that a status list was issued.
    pub(super) fn list(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// Returns the first license of the line that a license is in.
    pub(super) fn line(&self, id: LicenseId) -> Option<LicenseId> {
        self.of.get(&id).map(|known| known.line)
    }

    fn bits(&self) -> Vec<u8> {
        let mut bits = Vec::new();
        for known in self.of.values() {
            let set = known.status.set(&mut bits, known.index);
            set.expect("no license is issued beyond the bound of the list");
        }
        bits
    }
}

/// All vouchers that were ever issued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vouchers {
    of: BTreeMap<VoucherId, KnownVoucher>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownVoucher {
    statement: Hash,
    state: VoucherState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum VoucherState {
    Unused,
    Used(VoucherUse),
    Over,
}

/// How a voucher was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherUse {
    /// On which fee.
    pub fee: Money,
    /// By which request of the shop.
    pub key: IdempotencyKey,
    /// When.
    pub at: Timestamp,
}

impl Vouchers {
    /// Notes the goods of an order, if they are a voucher.
    pub(super) fn fulfil(&mut self, me: NodeId, order: OrderId, goods: &Goods) {
        if let Goods::Voucher { voucher, .. } = goods {
            let known = KnownVoucher {
                statement: hash_of(voucher),
                state: VoucherState::Unused,
            };
            self.of.insert(VoucherId::of(me, order), known);
        }
    }

    pub(super) fn use_up(&mut self, id: VoucherId, used: VoucherUse) {
        if let Some(known) = self.of.get_mut(&id) {
            known.state = VoucherState::Used(used);
        }
    }

    pub(super) fn refund(&mut self, id: VoucherId) {
        if let Some(known) = self.of.get_mut(&id) {
            known.state = VoucherState::Over;
        }
    }

    pub(super) fn is_used(&self, id: VoucherId) -> bool {
        let known = self.of.get(&id);
        known.is_some_and(|known| matches!(known.state, VoucherState::Used(_)))
    }
}

impl AppServer {
    /// Returns the status of a license.
    #[must_use]
    pub fn license_status(&self, license: LicenseId) -> Option<Status> {
        let known = self.state.licenses.of.get(&license)?;
        Some(known.status)
    }

    /// Returns the newest status list since the start.
    #[must_use]
    pub const fn status_list(&self) -> Option<&Signed<StatusList>> {
        self.status_list.as_ref()
    }

    /// Returns what a renewal of a license is, and that it costs nothing but points.
    pub(super) fn renewal(
        &self,
        owner: NodeId,
        license: LicenseId,
    ) -> Result<(Subject, Money), Fault> {
        let known = self.state.licenses.of.get(&license);
        let known = known.ok_or(Fault::UnknownLicense)?;
        let order = self.state.orders.get(known.order).ok();
        let sold = known.sold.as_deref().cloned();
        let sold = sold.or_else(|| order.and_then(Sold::of));
        let sold = sold.ok_or(Fault::NotRenewable)?;
        if sold.owner != owner {
            return Err(Fault::OtherAudience);
        }
        let mut terms = sold.terms;
        let (Some(rule), Status::Valid) = (terms.renewal, known.status) else {
            return Err(Fault::NotRenewable);
        };
        let Renewal {
            points,
            period_seconds: life_seconds,
        } = rule;
        terms.life_seconds = life_seconds;
        let subject = Subject::Renewal {
            line: known.line,
            terms: Box::new(terms),
            devices: sold.devices,
            points,
        };
        let fee = Money {
            minor: 0,
            currency: sold.currency,
        };
        Ok((subject, fee))
    }

    /// Issues what was ordered, as a function of what is known now; none if it cannot be issued at the moment.
    pub(super) fn goods(&self, now: Timestamp, order: &Order) -> Option<Box<Goods>> {
        let redemptions = order.legs.iter().map(|leg| leg.id).collect();
        let basis = Basis::of(redemptions, Vec::new());
        let issuer = &self.config.issuer;
        let goods = match &order.subject {
            Subject::License { terms, devices } | Subject::Renewal { terms, devices, .. } => {
                let status_index = self.state.licenses.next_index;
                // Beyond this no list could revoke it.
                if usize::try_from(status_index / 4).ok()? >= STATUS_BYTES_MAX {
                    return None;
                }
                let issued = LicenseOrder {
                    order: order.id,
                    holder: order.owner,
                    devices: devices.clone(),
                    issued: now,
                    not_before: self.begins(now, &order.subject),
                    status_index,
                    basis,
                };
                let license =
                    License::issue(issued.clone(), terms.as_ref().clone(), issuer).ok()?;
                Goods::License {
                    order: issued,
                    expires: license.expires,
                    license: license.signed().clone(),
                }
            }
            Subject::Voucher { terms, .. } => {
                let issued = VoucherOrder {
                    order: order.id,
                    holder: order.owner,
                    value: Money {
                        minor: order.discount(),
                        ..order.fee
                    },
                    issued: now,
                    basis,
                };
                let voucher =
                    Voucher::issue(issued.clone(), terms.as_ref().clone(), issuer).ok()?;
                Goods::Voucher {
                    order: issued,
                    voucher: voucher.signed().clone(),
                }
            }
        };
        Some(Box::new(goods))
    }

    /// Returns from when on a license holds: from now, or from where the last of its line ends.
    fn begins(&self, now: Timestamp, subject: &Subject) -> Timestamp {
        match subject {
            Subject::Renewal { line, .. } => {
                let ends = self.state.licenses.lines.get(line).copied();
                ends.map_or(now, |ends| ends.max(now))
            }
            Subject::License { .. } | Subject::Voucher { .. } => now,
        }
    }

    /// Suspends a license, lets it hold again, or revokes it for ever.
    pub(super) fn set_status(
        &mut self,
        now: Timestamp,
        (license, status): (LicenseId, Status),
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let known = self.license_status(license);
        match known.ok_or(Fault::UnknownLicense)? {
            known if known == status => Ok(()),
            Status::Revoked => Err(Fault::NotRenewable),
            Status::Valid | Status::Suspended => {
                self.record(Fact::Status(license, status), out);
                self.publish(now, out);
                Ok(())
            }
        }
    }

    /// Issues a status list, and sets the time for the next one.
    pub(super) fn publish(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.errands
            .set(Due::StatusList, now + self.config.status_every);
        let (sequence, bits) = (self.state.licenses.sequence + 1, self.state.licenses.bits());
        // Without a certificate that holds there is none; the applications' grace runs.
        let Ok(list) = StatusList::issue(now, sequence, bits, &self.config.issuer) else {
            return;
        };
        self.record(Fact::Listed(sequence), out);
        self.status_list = Some(list.signed().clone());
        out.push(Effect::Publish(list.signed().clone()));
    }

    /// A shop uses a voucher on a fee. The same key again has the same answer.
    pub(super) fn use_voucher(
        &mut self,
        now: Timestamp,
        voucher: &Verified<Voucher>,
        (fee, key): (Money, IdempotencyKey),
        out: &mut Vec<Effect>,
    ) -> Result<Split, Fault> {
        let known = self.state.vouchers.of.get(&voucher.id);
        let known = known.filter(|known| known.statement == hash_of(voucher.signed()));
        let split = voucher.split(fee).ok_or(Fault::OtherFee);
        match &known.ok_or(Fault::UnknownVoucher)?.state {
            VoucherState::Over => Err(Fault::VoucherOver),
            VoucherState::Used(used) if used.key != key => Err(Fault::VoucherUsed),
            VoucherState::Used(used) if used.fee != fee => Err(Fault::KeyUsed),
            VoucherState::Used(_) => split,
            VoucherState::Unused if voucher.expires <= now => Err(Fault::VoucherOver),
            VoucherState::Unused => {
                let split = split?;
                let at = now;
                let used = VoucherUse { fee, key, at };
                self.record(Fact::VoucherUsed(voucher.id, used), out);
                Ok(split)
            }
        }
    }
}

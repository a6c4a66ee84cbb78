//! Whom and what an entry is about, to find it.

use tally_protocol::account::Account;
use tally_protocol::entry::{Entry, Event, Payee, ValidatedUnit};
use tally_protocol::id::{NetworkId, NodeId, ReceiptId, TaskId};
use tally_protocol::signed::{self, Signed, Verified};

/// Reads a statement without looking at its signature: to find entries, never to believe them.
pub(super) fn unchecked<T: signed::Statement>(
    signed: Signed<T>,
    network: &NetworkId,
) -> Option<Verified<T>> {
    signed.verify_with(network, |_| true).ok()
}

/// Whom and what an entry is about, by what it says; signatures are not checked.
#[derive(Debug, Default)]
pub(crate) struct Parties {
    pub(crate) task: Option<TaskId>,
    pub(crate) receipt: Option<ReceiptId>,
    pub(crate) owners: Vec<NodeId>,
    pub(crate) devices: Vec<NodeId>,
}

impl Parties {
    pub(crate) fn of(entry: &Entry, network: &NetworkId) -> Self {
        let mut parties = Self::default();
        parties.add_event(&entry.event, network);
        let transfers = entry.posting.iter().flat_map(|posting| &posting.transfers);
        for account in transfers.flat_map(|transfer| [transfer.from, transfer.to]) {
            if let Some(holder) = account.holder() {
                parties.owners.push(holder.owner);
                parties.devices.push(holder.device);
            }
            match account {
                Account::Credit(owner) => parties.owners.push(owner),
                Account::Held(task) => parties.task = Some(task),
                Account::Redeemed(holder) | Account::Expired(holder) => {
                    parties.owners.push(holder.owner);
                    parties.devices.push(holder.device);
                }
                Account::Issued
                | Account::Escrow(_)
                | Account::Spendable(_)
                | Account::Outside
                | Account::Customer(_)
                | Account::Subsidy
                | Account::Revenue
                | Account::Reserve
                | Account::Reserved(_)
                | Account::Payable(_)
                | Account::Receivable(_)
                | Account::Sales => {}
            }
        }
        parties
    }

    fn add_event(&mut self, event: &Event, network: &NetworkId) {
        match event {
            Event::TaskAccepted { task, .. }
            | Event::TaskEnded { task, .. }
            | Event::TaskSettled { task, .. } => self.task = Some(*task),
            Event::BatchValidated {
                task,
                device,
                units,
                ..
            } => {
                self.task = Some(*task);
                self.devices.push(*device);
                let reported = |unit: &ValidatedUnit| [unit.agreed.clone(), unit.outvoted.clone()];
                self.devices
                    .extend(units.iter().flat_map(reported).flatten());
                self.devices.sort_unstable();
                self.devices.dedup();
            }
            Event::DeviceCertified { certificate } => {
                if let Some(certificate) = unchecked(certificate.clone(), network) {
                    self.owners.push(certificate.signer());
                    self.devices.push(certificate.device);
                }
            }
            Event::Receipted { receipt, .. } => {
                self.receipt = Some(receipt.id());
                if let Some(receipt) = unchecked(receipt.clone(), network) {
                    self.task = Some(receipt.task);
                    self.owners.push(receipt.holder.owner);
                    self.devices.push(receipt.holder.device);
                }
            }
            Event::PaidOut {
                to: Payee::Owner(owner),
                ..
            } => self.owners.push(*owner),
            Event::ClawedBack { receipt, .. } => self.receipt = Some(*receipt),
            Event::DeviceRegistered { registration } => {
                if let Some(registration) = unchecked(registration.clone(), network) {
                    self.owners.push(registration.holder.owner);
                    self.devices.push(registration.holder.device);
                }
            }
            Event::RegistrationRevoked { revocation } => {
                let revocation = unchecked(revocation.clone(), network);
                self.devices.extend(revocation.map(|of| of.device));
            }
            Event::OrderCharged { user, .. }
            | Event::OrderPaid { user, .. }
            | Event::OrderRefunded { user, .. } => self.owners.push(*user),
            Event::RateCardPublished { .. }
            | Event::AgreementMade { .. }
            | Event::PointsReserved { .. }
            | Event::ReservationEnded { .. }
            | Event::PointsRedeemed { .. }
            | Event::RedemptionReversed { .. }
            | Event::SettlementMade { .. }
            | Event::SettlementPaid { .. }
            | Event::Deposited { .. }
            | Event::PaidOut { .. }
            | Event::Refunded { .. }
            | Event::Released { .. }
            | Event::Expired { .. } => {}
        }
    }
}

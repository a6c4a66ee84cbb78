//! What has to do with app servers: agreements, registrations, redemptions, as they are told.

use serde::{Deserialize, Serialize};

use tally_protocol::account::{Currency, Holder, Money};
use tally_protocol::agreement::Agreement;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::countersignature::Countersigned;
use tally_protocol::id::{Hash, NetworkId, NodeId, RedemptionId};
use tally_protocol::product::ProductId;
use tally_protocol::redemption::{Redeem, Redemption};
use tally_protocol::registration::{Enrolment, Registration, Revocation};
use tally_protocol::settlement::Settlement;
use tally_protocol::signed::Signed;
use tally_protocol::time::Timestamp;

use super::detail::{Checking, Statement};

/// An agreement in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementSummary {
    /// With whom.
    pub app_server: NodeId,
    /// Its number.
    pub number: u32,
}

/// A registration, or its end, in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationSummary {
    /// Where.
    pub app_server: NodeId,
    /// The computer.
    pub device: NodeId,
}

/// Points that are set aside, in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedeemSummary {
    /// Whose points.
    pub owner: NodeId,
    /// Who takes them.
    pub app_server: NodeId,
}

/// A redemption in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedemptionSummary {
    /// Its name.
    pub redemption: RedemptionId,
    /// Whose points.
    pub owner: NodeId,
    /// Who took them.
    pub app_server: NodeId,
    /// What they are worth there.
    pub value: Money,
}

/// A settlement in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementSummary {
    /// Who stated it.
    pub app_server: NodeId,
    /// Who agreed.
    pub coordinator: NodeId,
    /// Its number.
    pub number: u32,
    /// The currency.
    pub currency: Currency,
    /// What the coordinator owes, in minor units; below zero if the app server does.
    pub due: i64,
}

impl SettlementSummary {
    pub(super) fn of(settlement: Countersigned<Settlement>, network: &NetworkId) -> Option<Self> {
        let pair = settlement.verify(network).ok()?;
        let settled = pair.value();
        Some(Self {
            app_server: settled.app_server,
            coordinator: settled.coordinator,
            number: settled.number,
            currency: settled.currency,
            due: settled.due,
        })
    }
}

impl AgreementSummary {
    pub(super) fn of(agreement: Countersigned<Agreement>, network: &NetworkId) -> Option<Self> {
        let pair = agreement.verify(network).ok()?;
        Some(Self {
            app_server: pair.value().app_server,
            number: pair.value().number,
        })
    }
}

/// Tells a registration in short, if its signature holds.
pub(super) fn registered(
    signed: Signed<Registration>,
    network: &NetworkId,
) -> Option<RegistrationSummary> {
    let registration = signed.verify(network).ok()?;
    Some(RegistrationSummary {
        app_server: registration.signer(),
        device: registration.holder.device,
    })
}

/// Tells the end of a registration in short, if its signature holds.
pub(super) fn revoked(
    signed: Signed<Revocation>,
    network: &NetworkId,
) -> Option<RegistrationSummary> {
    let revocation = signed.verify(network).ok()?;
    Some(RegistrationSummary {
        app_server: revocation.signer(),
        device: revocation.device,
    })
}

impl RedeemSummary {
    pub(super) fn of(signed: Signed<Redeem>, network: &NetworkId) -> Option<Self> {
        let redeem = signed.verify(network).ok()?;
        Some(Self {
            owner: redeem.owner,
            app_server: redeem.app_server,
        })
    }
}

impl RedemptionSummary {
    pub(super) fn of(signed: Signed<Redemption>, network: &NetworkId) -> Option<Self> {
        let redemption = signed.verify(network).ok()?;
        let of = RedeemSummary::of(redemption.redeem.clone(), network)?;
        Some(Self {
            redemption: RedemptionId::of(&redemption.redeem),
            owner: of.owner,
            app_server: of.app_server,
            value: redemption.value,
        })
    }
}

/// What a registration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationDetail {
    /// The product.
    pub product: ProductId,
    /// The computer and who earns with it.
    pub holder: Holder,
    /// What the owner signed; none if the computer is its own owner.
    pub certificate: Option<Statement<DeviceCertificate>>,
    /// What the computer signed.
    pub enrolment: Statement<Enrolment>,
    /// When it was made.
    pub issued: Timestamp,
    /// Until when it holds.
    pub expires: Timestamp,
    /// Rises with each registration of the computer there.
    pub serial: u64,
}

/// What a redemption says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedemptionDetail {
    /// Its name.
    pub redemption: RedemptionId,
    /// What the owner, or its device, signed.
    pub redeem: Statement<Redeem>,
    /// What allows the device that signed; none if the owner did.
    pub certificate: Option<Statement<DeviceCertificate>>,
    /// The agreement by which the points are worth something.
    pub agreement: Hash,
    /// What the coordinator owes the app server for them.
    pub value: Money,
    /// When.
    pub at: Timestamp,
}

impl RegistrationDetail {
    pub(super) fn of(
        signed: Signed<Registration>,
        network: &NetworkId,
        checking: Checking,
    ) -> Statement<Self> {
        Statement::of(signed, network, checking).map(|registration| Self {
            product: registration.product,
            holder: registration.holder,
            certificate: registration
                .certificate
                .map(|shown| Statement::of(shown, network, checking)),
            enrolment: Statement::of(registration.enrolment, network, checking),
            issued: registration.issued,
            expires: registration.expires,
            serial: registration.serial,
        })
    }
}

impl RedemptionDetail {
    pub(super) fn of(
        signed: Signed<Redemption>,
        network: &NetworkId,
        checking: Checking,
    ) -> Statement<Self> {
        Statement::of(signed, network, checking).map(|redemption| Self {
            redemption: RedemptionId::of(&redemption.redeem),
            redeem: Statement::of(redemption.redeem, network, checking),
            certificate: redemption
                .certificate
                .map(|shown| Statement::of(shown, network, checking)),
            agreement: redemption.agreement,
            value: redemption.value,
            at: redemption.at,
        })
    }
}

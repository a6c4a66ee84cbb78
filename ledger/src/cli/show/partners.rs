//! What there is between the coordinator and app servers, as text for people.

use tally_protocol::account::Money;
use tally_protocol::agreement::Agreement;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::countersignature::Countersignature;
use tally_protocol::id::RedemptionId;
use tally_protocol::redemption::{Redeem, Reversal};
use tally_protocol::registration::Revocation;
use tally_protocol::settlement::{Counted, Settlement};

use super::{amount, certificate, grouped, statement_of};
use crate::cli::table::due;
use crate::cli::text::Text;
use crate::cli::view::{EventDetail, RedemptionDetail, RegistrationDetail, Statement};

#[expect(clippy::too_many_lines, reason = "an arm for each event")]
pub(super) fn event(text: &mut Text, event: &EventDetail) {
    match event {
        EventDetail::AgreementMade { statement, agreed } => {
            statement_of(text, statement, agreement);
            coordinator_agreed(text, agreed);
        }
        EventDetail::DeviceRegistered { statement } => {
            signer(text, "app server", statement);
            statement_of(text, statement, registration);
        }
        EventDetail::RegistrationRevoked { statement } => {
            signer(text, "app server", statement);
            statement_of(text, statement, revocation);
        }
        EventDetail::PointsReserved {
            redemption,
            statement,
            certificate,
            at,
            until,
        } => {
            text.field("redemption", &redemption.to_string());
            text.field("due", &at.to_string());
            text.field("until", &until.to_string());
            statement_of(text, statement, redeem);
            allowed(text, certificate.as_ref());
        }
        EventDetail::ReservationEnded { redemption } => {
            text.field("redemption", &redemption.to_string());
        }
        EventDetail::PointsRedeemed { statement } => statement_of(text, statement, redeemed),
        EventDetail::RedemptionReversed { statement } => {
            signer(text, "app server", statement);
            statement_of(text, statement, reversal);
        }
        EventDetail::SettlementMade {
            statement,
            agreed,
            redeemed,
            reversed,
        } => {
            statement_of(text, statement, settlement);
            counted(text, "redemption", redeemed);
            counted(text, "given back", reversed);
            coordinator_agreed(text, agreed);
        }
        EventDetail::SettlementPaid {
            with,
            number,
            reference,
        } => {
            text.field("with", &with.to_string());
            text.field("number", &number.to_string());
            text.field("reference", reference);
        }
        EventDetail::TaskAccepted { .. }
        | EventDetail::BatchValidated { .. }
        | EventDetail::TaskEnded { .. }
        | EventDetail::TaskSettled { .. }
        | EventDetail::RateCardPublished { .. }
        | EventDetail::DeviceCertified { .. }
        | EventDetail::Receipted { .. }
        | EventDetail::Deposited { .. }
        | EventDetail::PaidOut { .. }
        | EventDetail::Refunded { .. }
        | EventDetail::ClawedBack { .. }
        | EventDetail::OrderCharged { .. }
        | EventDetail::OrderPaid { .. }
        | EventDetail::OrderRefunded { .. }
        | EventDetail::Released { .. }
        | EventDetail::Expired { .. } => {}
    }
}

fn counted(text: &mut Text, name: &str, ids: &[RedemptionId]) {
    for id in ids {
        text.field(name, &id.to_string());
    }
}

fn coordinator_agreed(text: &mut Text, agreed: &Statement<Countersignature>) {
    text.line("");
    text.line("The coordinator agreed:");
    statement_of(text, agreed, |text, agreed| {
        text.field("statement", &agreed.of.to_string());
    });
}

/// Names the signer of a statement, if its signature holds.
fn signer<T>(text: &mut Text, name: &str, statement: &Statement<T>) {
    if let Some(says) = statement.verified() {
        text.field(name, &says.signer.to_string());
    }
}

fn agreement(text: &mut Text, agreement: &Agreement) {
    text.field("number", &agreement.number.to_string());
    text.field("app server", &agreement.app_server.to_string());
    text.field("from", &agreement.not_before.to_string());
    text.field("until", &agreement.not_after.to_string());
    text.field("value", &amount(agreement.currency, &agreement.value));
    let currency = agreement.currency;
    let money = |minor| Money { currency, minor };
    let period = format!("{} seconds", grouped(agreement.period_seconds.into()));
    text.field("period", &period);
    text.field("cap", &format!("{} in a period", money(agreement.cap)));
    let credit = format!("{} before it is settled", money(agreement.credit));
    text.field("credit", &credit);
    let supply = format!(
        "{} for each of up to {} devices in a period",
        money(agreement.supply_fee),
        grouped(agreement.supply_devices_max.into())
    );
    text.field("supply", &supply);
}

fn registration(text: &mut Text, registration: &RegistrationDetail) {
    text.field("product", &registration.product.to_string());
    text.field("owner", &registration.holder.owner.to_string());
    text.field("device", &registration.holder.device.to_string());
    text.field("issued", &registration.issued.to_string());
    text.field("until", &registration.expires.to_string());
    text.field("serial", &registration.serial.to_string());
    text.line("");
    text.line("The device agreed:");
    statement_of(text, &registration.enrolment, |text, enrolment| {
        text.field("at", &enrolment.at.to_string());
    });
    allowed(text, registration.certificate.as_ref());
}

fn revocation(text: &mut Text, revocation: &Revocation) {
    text.field("device", &revocation.device.to_string());
    text.field("serial", &format!("up to {}", revocation.serial));
    text.field("at", &revocation.at.to_string());
    text.field("reason", &revocation.reason);
}

fn redeem(text: &mut Text, redeem: &Redeem) {
    text.field("owner", &redeem.owner.to_string());
    text.field("app server", &redeem.app_server.to_string());
    text.field("points", &redeem.points.to_string());
    text.field("order", &redeem.order.to_string());
    text.field("expires", &redeem.expires.to_string());
}

fn redeemed(text: &mut Text, redemption: &RedemptionDetail) {
    text.field("redemption", &redemption.redemption.to_string());
    text.field("value", &redemption.value.to_string());
    text.field("agreement", &redemption.agreement.to_string());
    text.field("at", &redemption.at.to_string());
    text.line("");
    text.line("The owner ordered it:");
    statement_of(text, &redemption.redeem, redeem);
    allowed(text, redemption.certificate.as_ref());
}

fn reversal(text: &mut Text, reversal: &Reversal) {
    text.field("redemption", &reversal.redemption.to_string());
    text.field("at", &reversal.at.to_string());
    text.field("reason", &reversal.reason);
}

fn settlement(text: &mut Text, settled: &Settlement) {
    let currency = settled.currency;
    let money = |minor| Money { currency, minor }.to_string();
    text.field("app server", &settled.app_server.to_string());
    text.field("coordinator", &settled.coordinator.to_string());
    text.field("number", &settled.number.to_string());
    text.field("agreement", &settled.agreement.to_string());
    text.field("until", &settled.until.to_string());
    let counted = |counted: &Counted| {
        let count = grouped(counted.count.into());
        format!("{} for {count}", money(counted.minor))
    };
    text.field("redeemed", &counted(&settled.redeemed));
    text.field("given back", &counted(&settled.reversed));
    let devices = grouped(settled.supply_devices.into());
    let supply = format!("{} for {devices} devices", money(settled.supply_fee));
    text.field("supply", &supply);
    for id in &settled.disputed {
        text.field("disputed", &id.to_string());
    }
    text.field("due", &due(settled.currency, settled.due));
}

/// The certificate of the device that signed, if it was a device.
fn allowed(text: &mut Text, shown: Option<&Statement<DeviceCertificate>>) {
    if let Some(shown) = shown {
        text.line("");
        text.line("The owner allowed the device:");
        statement_of(text, shown, certificate);
    }
}

//! Lists and verdicts as text for people: ids short in tables and full where one thing is shown.

use tally_protocol::account::{Commodity, Currency, Money};
use tally_protocol::entry::{Ending, Fund, Payee};

use super::text::{TIME_CHARS, Text, blob, grouped, time};
use super::view::{
    AgreementSummary, EntryRow, EventRow, RedeemSummary, RedemptionSummary, RegistrationSummary,
    SettlementSummary,
};
use super::{EntriesPage, LedgerAnswer, LogHead, balance, checks, prove, receipt, show};

/// Returns the answer as lines of text.
#[must_use]
pub fn render(answer: &LedgerAnswer) -> String {
    match answer {
        LedgerAnswer::Entries(page) => entries(page),
        LedgerAnswer::Entry(entry) => show::render(entry),
        LedgerAnswer::Receipt(receipt) => receipt::render(receipt),
        LedgerAnswer::Balance(page) => balance::render(page),
        LedgerAnswer::Proof(proof) => prove::render(proof),
        LedgerAnswer::Head(head) => log_head(head),
        LedgerAnswer::Bytes(page) => format!("{} entries\n", grouped(page.entries.len() as u64)),
        LedgerAnswer::Verify(report) => checks::verdict(report),
        LedgerAnswer::Audit(report) => checks::audit(report),
        LedgerAnswer::Rebuild(rebuilt) => checks::rebuilt(rebuilt),
    }
}

fn entries(page: &EntriesPage) -> String {
    let width = |row: &EntryRow| row.sequence.to_string().len();
    let places = page.rows.iter().map(width).max().unwrap_or(0).max(5);
    let mut text = Text::default();
    if !page.rows.is_empty() {
        let (entry, time) = ("ENTRY", "TIME (UTC)");
        text.line(&format!(
            "{entry:>places$}  {time:<TIME_CHARS$}  WHAT       TASK      ABOUT"
        ));
    }
    for row in &page.rows {
        let at = row.at.map(time).unwrap_or_default();
        let (what, about) = (row.event.what(), row.event.about());
        let task = row.task().map_or_else(String::new, |task| task.short());
        text.line(&format!(
            "{:>places$}  {at:<TIME_CHARS$}  {what:<9}  {task:<8}  {about}",
            row.sequence
        ));
    }
    let (shown, all) = (page.rows.len() as u64, page.size);
    text.line(&format!("{} of {} entries", grouped(shown), grouped(all)));
    text.line(&format!("root {}", page.root));
    text.into_string()
}

impl EventRow {
    /// Returns the word for what happened, of at most 9 characters.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        match self {
            Self::TaskAccepted { .. } => "accepted",
            Self::BatchValidated { .. } => "validated",
            Self::TaskEnded { .. } => "ended",
            Self::TaskSettled { .. } => "settled",
            Self::RateCardPublished { .. } => "rate card",
            Self::DeviceCertified { .. } => "certified",
            Self::Receipted { .. } => "receipt",
            Self::Deposited { .. } => "deposit",
            Self::PaidOut { .. } => "payout",
            Self::Refunded { .. } => "refund",
            Self::ClawedBack { .. } => "clawback",
            Self::AgreementMade { .. } => "agreement",
            Self::DeviceRegistered { .. } => "enrolled",
            Self::RegistrationRevoked { .. } => "revoked",
            Self::PointsReserved { .. } => "set aside",
            Self::ReservationEnded { .. } => "let go",
            Self::PointsRedeemed { .. } => "redeemed",
            Self::RedemptionReversed { .. } => "reversed",
            Self::SettlementMade { .. } => "due",
            Self::SettlementPaid { .. } => "due paid",
            Self::OrderCharged { .. } => "charged",
            Self::OrderPaid { .. } => "paid",
            Self::OrderRefunded { .. } => "undone",
            Self::Released { .. } => "released",
            Self::Expired { .. } => "expired",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// Returns the rest in a few words.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "an arm for each event")]
    pub fn about(&self) -> String {
        match self {
            Self::TaskAccepted { summary, .. } => match summary {
                Some(task) => format!("{} for {}", task.name, task.customer.short()),
                None => NOT_SIGNED.to_owned(),
            },
            Self::BatchValidated {
                device,
                units,
                done,
                ..
            } => {
                let failed = match units.saturating_sub(*done) {
                    0 => String::new(),
                    failed => format!(", {} failed", grouped(failed)),
                };
                format!("{} units by {}{failed}", grouped(*units), device.short())
            }
            Self::TaskEnded { ending, .. } => match ending {
                Ending::Done(result) => format!("done: {}", blob(result)),
                Ending::Failed(reason) => format!("failed: {reason}"),
                Ending::Cancelled => "cancelled".to_owned(),
            },
            Self::TaskSettled { freed, .. } => match freed {
                Some(money) => format!("{money} free again"),
                None => "nothing was held".to_owned(),
            },
            Self::RateCardPublished { version, .. } => match version {
                Some(version) => format!("version {version}"),
                None => NOT_SIGNED.to_owned(),
            },
            Self::DeviceCertified { holder } => match holder {
                Some(holder) => {
                    let (device, owner) = (holder.device.short(), holder.owner.short());
                    format!("{device} belongs to {owner}")
                }
                None => NOT_SIGNED.to_owned(),
            },
            Self::Receipted { summary, .. } => match summary {
                Some(receipt) => {
                    format!("{} points to {}", receipt.points, receipt.device.short())
                }
                None => NOT_SIGNED.to_owned(),
            },
            Self::Deposited {
                to,
                money,
                reference,
            } => format!("{money} {}: {reference}", fund(to)),
            Self::PaidOut {
                to,
                money,
                reference,
            } => format!("{money} {}: {reference}", payee(to)),
            Self::Refunded {
                customer,
                money,
                reference,
            } => format!("{money} to {}: {reference}", customer.short()),
            Self::ClawedBack { receipt, reason } => format!("{}: {reason}", receipt.short()),
            Self::AgreementMade { .. }
            | Self::DeviceRegistered { .. }
            | Self::RegistrationRevoked { .. }
            | Self::PointsReserved { .. }
            | Self::ReservationEnded { .. }
            | Self::PointsRedeemed { .. }
            | Self::RedemptionReversed { .. }
            | Self::SettlementMade { .. }
            | Self::SettlementPaid { .. } => self.about_partner().unwrap_or(NOT_SIGNED.into()),
            Self::OrderCharged { user, fee, due, .. } => {
                format!("{fee}, {due} of it to {}", user.short())
            }
            Self::OrderPaid {
                user,
                money,
                reference,
                ..
            } => format!("{money} by {}: {reference}", user.short()),
            Self::OrderRefunded { user, paid, .. } => {
                format!("{paid} back to {}", user.short())
            }
            Self::Released { points } => format!("{points} points from escrow"),
            Self::Expired { card, points } => format!("{points} points of card {card}"),
            Self::Unreadable { reason } => reason.clone(),
        }
    }
}

impl EventRow {
    /// Returns in a few words what there is between the coordinator and an app server; none if its statement does not
    /// verify, or it is something else.
    fn about_partner(&self) -> Option<String> {
        Some(match self {
            Self::AgreementMade { summary } => {
                let AgreementSummary { app_server, number } = (*summary)?;
                format!("number {number} with {}", app_server.short())
            }
            Self::DeviceRegistered { summary } | Self::RegistrationRevoked { summary } => {
                let RegistrationSummary { app_server, device } = (*summary)?;
                format!("{} at {}", device.short(), app_server.short())
            }
            Self::PointsReserved {
                points, summary, ..
            } => {
                let RedeemSummary { app_server, .. } = (*summary)?;
                format!("{points} points for {}", app_server.short())
            }
            Self::ReservationEnded { points, .. } => format!("{points} points"),
            Self::PointsRedeemed { summary, .. } => {
                let RedemptionSummary {
                    app_server, value, ..
                } = (*summary)?;
                format!("{value} owed to {}", app_server.short())
            }
            Self::RedemptionReversed { points, summary } => {
                format!("{points} points: {}", summary.as_ref()?.reason)
            }
            Self::SettlementMade { summary } => {
                let SettlementSummary {
                    number,
                    currency,
                    due: minor,
                    ..
                } = (*summary)?;
                format!("number {number}: {}", due(currency, minor))
            }
            Self::SettlementPaid {
                with,
                number,
                reference,
            } => format!("number {number} with {}: {reference}", with.short()),
            Self::TaskAccepted { .. }
            | Self::BatchValidated { .. }
            | Self::TaskEnded { .. }
            | Self::TaskSettled { .. }
            | Self::RateCardPublished { .. }
            | Self::DeviceCertified { .. }
            | Self::Receipted { .. }
            | Self::Deposited { .. }
            | Self::PaidOut { .. }
            | Self::Refunded { .. }
            | Self::ClawedBack { .. }
            | Self::OrderCharged { .. }
            | Self::OrderPaid { .. }
            | Self::OrderRefunded { .. }
            | Self::Released { .. }
            | Self::Expired { .. }
            | Self::Unreadable { .. } => return None,
        })
    }
}

/// Returns who owes what by a settlement.
pub(super) fn due(currency: Currency, minor: i64) -> String {
    let money = Money {
        currency,
        minor: minor.unsigned_abs(),
    };
    if minor < 0 {
        format!("{money} by the app server")
    } else {
        format!("{money} by the coordinator")
    }
}

/// What is said of a statement that does not verify.
const NOT_SIGNED: &str = "its signature does not hold";

fn fund(to: &Fund) -> String {
    match to {
        Fund::Customer(customer) => format!("for {}", customer.short()),
        Fund::Subsidy => "as subsidy".to_owned(),
    }
}

fn payee(to: &Payee) -> String {
    match to {
        Payee::Customer(node) | Payee::Owner(node) => format!("to {}", node.short()),
        Payee::Operator => "to the operator".to_owned(),
    }
}

/// Returns how people call a commodity.
pub(super) fn unit(commodity: Commodity) -> String {
    match commodity {
        Commodity::Points => "points".to_owned(),
        Commodity::Money(currency) => currency.to_string(),
    }
}

fn log_head(head: &LogHead) -> String {
    let mut text = Text::default();
    text.field("network", &head.network.to_string());
    text.field("node", &head.coordinator.to_string());
    text.field("entries", &grouped(head.size));
    text.field("root", &head.root.to_string());
    text.into_string()
}

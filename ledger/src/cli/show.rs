//! One entry whole, as text for people.

mod orders;
mod partners;

use tally_protocol::account::{Account, Currency, Holder, Lot, Money};
use tally_protocol::books::{Posting, Step, Transfer};
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::entry::{Ending, Fund, Payee, ValidatedUnit};
use tally_protocol::message::work::Batch;
use tally_protocol::points::Points;
use tally_protocol::rate_card::{Price, RateCard, Rates};
use tally_protocol::receipt::{Receipt, Validation};
use tally_protocol::task::Task;

use super::table::unit;
use super::text::{Text, blob, fit, grouped, nodes, scaled, time};
use super::view::{EntryDetail, EventDetail, Statement};

pub(super) fn render(entry: &EntryDetail) -> String {
    let mut text = Text::default();
    text.field("entry", &entry.sequence.to_string());
    text.field("time", &entry.at.to_string());
    text.field("leaf", &entry.leaf.to_string());
    text.field("bytes", &grouped(entry.bytes));
    event(&mut text, &entry.event);
    if let Some(posted) = &entry.posting {
        posting(&mut text, posted);
    }
    text.into_string()
}

#[expect(clippy::too_many_lines, reason = "an arm for each event")]
fn event(text: &mut Text, event: &EventDetail) {
    text.field("what", what(event));
    match event {
        EventDetail::TaskAccepted { task, statement } => {
            text.field("task", &task.to_string());
            statement_of(text, statement, signed_task);
        }
        EventDetail::BatchValidated {
            task,
            device,
            batch,
            units,
        } => {
            text.field("task", &task.to_string());
            text.field("device", &device.to_string());
            text.field("batch", &batch.to_string());
            unit_table(text, units);
        }
        EventDetail::TaskEnded { task, ending } => {
            text.field("task", &task.to_string());
            task_ending(text, ending);
        }
        EventDetail::TaskSettled { task, at } => {
            text.field("task", &task.to_string());
            text.field("due", &at.to_string());
        }
        EventDetail::RateCardPublished { card, statement } => {
            text.field("card", &card.to_string());
            statement_of(text, statement, rate_card);
        }
        EventDetail::DeviceCertified { statement } => {
            if let Some(says) = statement.verified() {
                text.field("owner", &says.signer.to_string());
            }
            statement_of(text, statement, certificate);
        }
        EventDetail::Receipted {
            receipt: id,
            statement,
            batches,
        } => {
            text.field("receipt", &id.to_string());
            statement_of(text, statement, receipt);
            for statement in batches {
                batch(text, statement);
            }
        }
        EventDetail::Deposited { .. }
        | EventDetail::PaidOut { .. }
        | EventDetail::Refunded { .. } => payment(text, event),
        EventDetail::ClawedBack {
            receipt: id,
            reason,
        } => {
            text.field("receipt", &id.to_string());
            text.field("reason", reason);
        }
        EventDetail::AgreementMade { .. }
        | EventDetail::DeviceRegistered { .. }
        | EventDetail::RegistrationRevoked { .. }
        | EventDetail::PointsReserved { .. }
        | EventDetail::ReservationEnded { .. }
        | EventDetail::PointsRedeemed { .. }
        | EventDetail::RedemptionReversed { .. }
        | EventDetail::SettlementMade { .. }
        | EventDetail::SettlementPaid { .. } => partners::event(text, event),
        EventDetail::OrderCharged { .. }
        | EventDetail::OrderPaid { .. }
        | EventDetail::OrderRefunded { .. } => orders::event(text, event),
        EventDetail::Released { at } => text.field("due", &at.to_string()),
        EventDetail::Expired { card, at } => {
            text.field("due", &at.to_string());
            text.field("rate card", &format!("version {card}"));
        }
    }
}

const fn what(event: &EventDetail) -> &'static str {
    match event {
        EventDetail::TaskAccepted { .. } => "task accepted",
        EventDetail::BatchValidated { .. } => "units validated",
        EventDetail::TaskEnded { .. } => "task ended",
        EventDetail::TaskSettled { .. } => "task settled",
        EventDetail::RateCardPublished { .. } => "rate card published",
        EventDetail::DeviceCertified { .. } => "device certified",
        EventDetail::Receipted { .. } => "receipt issued",
        EventDetail::Deposited { .. } => "money came in",
        EventDetail::PaidOut { .. } => "money went out",
        EventDetail::Refunded { .. } => "refund",
        EventDetail::ClawedBack { .. } => "receipt taken back",
        EventDetail::AgreementMade { .. } => "agreement made",
        EventDetail::DeviceRegistered { .. } => "device registered",
        EventDetail::RegistrationRevoked { .. } => "registration revoked",
        EventDetail::PointsReserved { .. } => "points set aside",
        EventDetail::ReservationEnded { .. } => "points free again",
        EventDetail::PointsRedeemed { .. } => "points redeemed",
        EventDetail::RedemptionReversed { .. } => "points given back",
        EventDetail::SettlementMade { .. } => "settlement made",
        EventDetail::SettlementPaid { .. } => "settlement paid",
        EventDetail::OrderCharged { .. } => "order charged",
        EventDetail::OrderPaid { .. } => "order paid",
        EventDetail::OrderRefunded { .. } => "order undone",
        EventDetail::Released { .. } => "points left escrow",
        EventDetail::Expired { .. } => "points expired",
    }
}

fn task_ending(text: &mut Text, ending: &Ending) {
    match ending {
        Ending::Done(result) => {
            text.field("ending", "done");
            text.field("result", &result.id.to_string());
            text.field("", &format!("{} bytes", grouped(result.bytes)));
        }
        Ending::Failed(reason) => text.field("ending", &format!("failed: {reason}")),
        Ending::Cancelled => text.field("ending", "cancelled by the customer"),
    }
}

/// Says with whom, how much, and what it is called.
fn payment(text: &mut Text, event: &EventDetail) {
    let (who, name, money, reference) = match event {
        EventDetail::Deposited {
            to,
            money,
            reference,
        } => {
            let (who, name) = match to {
                Fund::Customer(customer) => ("customer", customer.to_string()),
                Fund::Subsidy => ("for", "points that no customer pays".to_owned()),
            };
            (who, name, money, reference)
        }
        EventDetail::PaidOut {
            to,
            money,
            reference,
        } => {
            let (who, name) = match to {
                Payee::Customer(customer) => ("customer", customer.to_string()),
                Payee::Owner(owner) => ("owner", owner.to_string()),
                Payee::Operator => ("to", "the operator".to_owned()),
            };
            (who, name, money, reference)
        }
        EventDetail::Refunded {
            customer,
            money,
            reference,
        } => ("customer", customer.to_string(), money, reference),
        EventDetail::TaskAccepted { .. }
        | EventDetail::BatchValidated { .. }
        | EventDetail::TaskEnded { .. }
        | EventDetail::TaskSettled { .. }
        | EventDetail::RateCardPublished { .. }
        | EventDetail::DeviceCertified { .. }
        | EventDetail::Receipted { .. }
        | EventDetail::ClawedBack { .. }
        | EventDetail::AgreementMade { .. }
        | EventDetail::DeviceRegistered { .. }
        | EventDetail::RegistrationRevoked { .. }
        | EventDetail::PointsReserved { .. }
        | EventDetail::ReservationEnded { .. }
        | EventDetail::PointsRedeemed { .. }
        | EventDetail::RedemptionReversed { .. }
        | EventDetail::SettlementMade { .. }
        | EventDetail::SettlementPaid { .. }
        | EventDetail::OrderCharged { .. }
        | EventDetail::OrderPaid { .. }
        | EventDetail::OrderRefunded { .. }
        | EventDetail::Released { .. }
        | EventDetail::Expired { .. } => return,
    };
    text.field(who, &name);
    text.field("amount", &money.to_string());
    text.field("reference", reference);
}

fn statement_of<T>(text: &mut Text, statement: &Statement<T>, show: impl FnOnce(&mut Text, &T)) {
    match statement {
        Statement::Verified(says) => {
            text.field("signature", "holds");
            show(text, &says.content);
        }
        Statement::Unchecked(says) => {
            text.field("signature", "not checked");
            show(text, &says.content);
        }
        Statement::Refused(reason) => {
            text.field("signature", &format!("does not hold: failed to {reason}"));
        }
    }
}

fn signed_task(text: &mut Text, task: &Task) {
    text.field("name", &task.name);
    text.field("customer", &task.customer.to_string());
    text.field("created", &task.created.to_string());
    text.field("program", &task.program.id.to_string());
    text.field("args", &task.args.join(" "));
    text.field("input", &task.input.id.to_string());
    text.field("", &format!("{} bytes", grouped(task.input.bytes)));
    let (agree, most) = (task.quorum.agree, task.quorum.total_max);
    text.field(
        "quorum",
        &format!("{agree} must agree, of at most {most} results"),
    );
    let limits = &task.limits;
    text.field("fuel", &format!("at most {} a unit", grouped(limits.fuel)));
    text.field(
        "memory",
        &format!("at most {} bytes", grouped(limits.memory_bytes)),
    );
    text.field("rate card", &task.rate_card.to_string());
    let price = format!(
        "at most {} minor units of the card's currency",
        grouped(task.max_price)
    );
    text.field("price", &price);
}

fn rate_card(text: &mut Text, card: &RateCard) {
    let Rates {
        fuel_per_byte,
        fuel_min,
        fuel_per_micro_point,
        escrow_permille,
        escrow_seconds,
        life_seconds,
        currency,
        price,
        reserve,
        ..
    } = &card.rates;
    text.field("version", &card.version.to_string());
    text.field("published", &card.published.to_string());
    text.field(
        "a point",
        &format!(
            "{} fuel",
            grouped(fuel_per_micro_point.saturating_mul(1_000_000))
        ),
    );
    text.field("a byte", &format!("{} fuel", grouped(*fuel_per_byte)));
    text.field("a unit", &format!("at least {} fuel", grouped(*fuel_min)));
    let share = format!(
        "{escrow_permille} in 1,000, for {} seconds",
        grouped(*escrow_seconds)
    );
    text.field("escrow", &share);
    let life = match life_seconds {
        0 => "points do not expire".to_owned(),
        seconds => format!("points expire after {} seconds", grouped(*seconds)),
    };
    text.field("life", &life);
    if card.rates.is_free() {
        text.field("price", &format!("free (in {currency})"));
    } else {
        text.field("price", &amount(*currency, price));
        text.field("reserve", &amount(*currency, reserve));
    }
}

/// Returns what points are worth.
fn amount(currency: Currency, price: &Price) -> String {
    let minor = price.minor;
    let points = Points::from_micro(price.micro_points);
    format!("{} for {points} points", Money { currency, minor })
}

fn certificate(text: &mut Text, certificate: &DeviceCertificate) {
    text.field("device", &certificate.device.to_string());
    text.field("from", &certificate.not_before.to_string());
    text.field("until", &certificate.not_after.to_string());
    text.field("serial", &certificate.serial.to_string());
    let may = certificate.redeem_points;
    if may > Points::ZERO {
        text.field("redeems", &format!("up to {may} points in 24 hours"));
    }
}

/// The fields of a receipt.
pub(super) fn receipt(text: &mut Text, receipt: &Receipt) {
    text.field(
        "number",
        &format!("{} of this device and task", receipt.sequence),
    );
    text.field("owner", &receipt.holder.owner.to_string());
    text.field("device", &receipt.holder.device.to_string());
    text.field("task", &receipt.task.to_string());
    let validation = match receipt.validation {
        Validation::Quorum(agreed) => format!("a quorum of {agreed} said the same"),
        Validation::KnownAnswer => "the answer was known before".to_owned(),
    };
    text.field("because", &validation);
    text.field("units", &grouped(receipt.units.into()));
    text.field("fuel", &grouped(receipt.fuel));
    text.field("bytes", &grouped(receipt.bytes));
    if receipt.pixels > 0 {
        text.field("pixels", &grouped(receipt.pixels));
    }
    text.field("points", &receipt.points.to_string());
    text.field("rate card", &receipt.rate_card.to_string());
    text.field("leased", &receipt.leased_at.to_string());
    text.field("done", &receipt.done_at.to_string());
}

/// A batch that a receipt cites.
pub(super) fn batch(text: &mut Text, statement: &Statement<Batch>) {
    let says = match statement {
        Statement::Verified(says) | Statement::Unchecked(says) => says,
        Statement::Refused(reason) => {
            return text.field("batch", &format!("does not hold: failed to {reason}"));
        }
    };
    text.field("batch", &says.content.root.to_string());
    let signature = match statement {
        Statement::Verified(_) => "its signature holds",
        Statement::Unchecked(_) | Statement::Refused(_) => "its signature was not checked",
    };
    let about = format!(
        "{} results signed by {}: {signature}",
        grouped(says.content.count.into()),
        says.signer.short()
    );
    text.field("", &about);
}

fn unit_table(text: &mut Text, units: &[ValidatedUnit]) {
    text.field("units", &grouped(units.len() as u64));
    text.line("");
    text.line("   UNIT  OUTCOME          FUEL  OUTPUT             AGREED        OUTVOTED");
    for unit in units {
        text.line(&format!(
            "{:>7}  {:<12}  {:>7}  {:<17}  {:<12}  {}",
            unit.unit,
            fit(&unit.outcome.to_string(), 12),
            scaled(unit.fuel),
            blob(&unit.output),
            nodes(&unit.agreed),
            nodes(&unit.outvoted),
        ));
    }
}

/// The transfers of a posting, two lines each.
pub(super) fn posting(text: &mut Text, posting: &Posting) {
    text.field("posting", &posting.id.to_string());
    for transfer in &posting.transfers {
        let Transfer {
            from,
            to,
            commodity,
            amount,
            step,
        } = transfer;
        let amount = commodity.show(i128::from(*amount));
        let unit = unit(*commodity);
        text.line(&format!("{amount:>18} {unit:<6}  {}", short(*from)));
        let step = match step {
            Step::Move => String::new(),
            Step::Hold { until } => format!(", held until {}", time(*until)),
            Step::Post(_) => ", posted from the hold".to_owned(),
            Step::Void(_) => ", no longer held".to_owned(),
            Step::Expire(_) => ", the hold expired".to_owned(),
        };
        text.line(&format!("{:>25}  -> {}{step}", "", short(*to)));
    }
}

/// Returns the name of an account with short ids, of at most 48 characters.
pub(super) fn short(account: Account) -> String {
    let lot = |state: &str, lot: Lot| {
        let (owner, device) = (lot.holder.owner.short(), lot.holder.device.short());
        format!("{state} {owner}/{device} {} card {}", day(lot), lot.card)
    };
    let gone = |how: &str, of: Holder| format!("{how} {}/{}", of.owner.short(), of.device.short());
    match account {
        Account::Escrow(of) => lot("escrow", of),
        Account::Spendable(of) => lot("spendable", of),
        Account::Redeemed(of) => gone("redeemed", of),
        Account::Expired(of) => gone("expired", of),
        Account::Issued
        | Account::Outside
        | Account::Customer(_)
        | Account::Held(_)
        | Account::Subsidy
        | Account::Revenue
        | Account::Reserve
        | Account::Credit(_)
        | Account::Reserved(_)
        | Account::Payable(_)
        | Account::Receivable(_)
        | Account::Sales => path(account).join(" "),
    }
}

/// Returns the day from which on a lot may be spent.
fn day(lot: Lot) -> String {
    lot.since.to_string().chars().take(10).collect()
}

/// Returns the name of an account from the general to the particular, with short ids.
pub(super) fn path(account: Account) -> Vec<String> {
    let lot = |state: &str, lot: Lot| {
        vec![
            format!("owner {}", lot.holder.owner.short()),
            format!("device {}", lot.holder.device.short()),
            format!("{state} {} card {}", day(lot), lot.card),
        ]
    };
    let gone = |how: &str, of: Holder| {
        vec![
            format!("owner {}", of.owner.short()),
            format!("device {}", of.device.short()),
            how.to_owned(),
        ]
    };
    let one = |name: &str| vec![name.to_owned()];
    match account {
        Account::Issued => one("issued"),
        Account::Escrow(of) => lot("escrow", of),
        Account::Spendable(of) => lot("spendable", of),
        Account::Redeemed(of) => gone("redeemed", of),
        Account::Expired(of) => gone("expired", of),
        Account::Outside => one("outside"),
        Account::Customer(customer) => vec![format!("customer {}", customer.short())],
        Account::Held(task) => vec![format!("held for task {}", task.short())],
        Account::Subsidy => one("subsidy"),
        Account::Revenue => one("revenue"),
        Account::Reserve => one("reserve"),
        Account::Credit(owner) => vec![format!("credit of {}", owner.short())],
        Account::Reserved(redemption) => vec![format!("set aside for {}", redemption.short())],
        Account::Payable(app_server) => vec![format!("owed to {}", app_server.short())],
        Account::Receivable(of) => vec![format!("owed by {}", of.short())],
        Account::Sales => one("sales"),
    }
}

//! `tally ledger reconcile`: what the books say came in and went out, against what a bank says.
//!
//! The bank's file is CSV (RFC 4180) with a head line; of its columns `reference`, `amount` and `currency` are read.
//! Amounts have a point before the decimals; what went out is below zero. A payment of the books and one of the bank
//! are the same if their references and their directions are; each is matched at most once.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use tally_protocol::account::{Account, Commodity, Currency, Money};
use tally_protocol::books::Posting;
use tally_protocol::entry::{Event, REFERENCE_BYTES_MAX};
use tally_protocol::time::Timestamp;

use super::amount;
use super::statement::{Period, StatementError};
use super::text::{Text, grouped, time};
use crate::store::StoredEntry;

/// The most payments of a file: about 100 MB of memory.
pub const PAYMENTS_MAX: usize = 1_000_000;
/// The longest line of a file in bytes: many columns that are not read.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// A payment as the bank tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankPayment {
    /// The line of the file, from 1.
    pub line: u64,
    /// What it is called.
    pub reference: String,
    /// How much came in, below zero what went out, in minor units.
    #[serde(with = "amount")]
    pub minor: i128,
    /// The currency.
    pub currency: Currency,
}

/// A payment as the books have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPayment {
    /// The entry.
    pub sequence: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What it is called.
    pub reference: String,
    /// How much came in, below zero what went out, in minor units.
    #[serde(with = "amount")]
    pub minor: i128,
    /// The currency.
    pub currency: Currency,
}

/// A payment on which the two do not agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Different {
    /// What the books say.
    pub here: RecordedPayment,
    /// What the bank says.
    pub there: BankPayment,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// Payments on which both agree.
    pub matched: u64,
    /// Payments that the bank has and the books have not.
    pub missing_here: Vec<BankPayment>,
    /// Payments that the books have and the bank has not.
    pub missing_there: Vec<RecordedPayment>,
    /// Payments with different amounts or currencies.
    pub different: Vec<Different>,
}

impl Reconciliation {
    /// Returns whether both agree on everything.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.missing_here.is_empty() && self.missing_there.is_empty() && self.different.is_empty()
    }
}

/// Why a file of payments cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PaymentsError {
    /// The disk failed.
    #[error("read the payments")]
    Io(#[from] io::Error),
    /// The head line lacks a column.
    #[error("read the payments: the first line names no column {0:?}")]
    Column(&'static str),
    /// A line is not as it should be.
    #[error("read the payments: line {line}: {problem}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// There are too many.
    #[error("read more than {PAYMENTS_MAX} payments")]
    TooMany,
}

/// Reads the payments of a bank.
///
/// # Errors
/// [`PaymentsError`].
pub fn read_payments(mut file: impl BufRead) -> Result<Vec<BankPayment>, PaymentsError> {
    let mut payments = Vec::new();
    let mut columns = None;
    for number in 1_u64.. {
        let Some(text) = read_line(&mut file, number)? else {
            break;
        };
        if text.trim().is_empty() {
            continue;
        }
        let fields = split_fields(&text).ok_or_else(|| PaymentsError::Line {
            line: number,
            problem: "a quoted field does not end".to_owned(),
        })?;
        match &columns {
            None => columns = Some(Columns::of(&fields)?),
            Some(columns) => {
                if payments.len() == PAYMENTS_MAX {
                    return Err(PaymentsError::TooMany);
                }
                let payment = columns.payment(number, &fields);
                payments.push(payment.map_err(|problem| PaymentsError::Line {
                    line: number,
                    problem,
                })?);
            }
        }
    }
    match columns {
        Some(_) => Ok(payments),
        None => Err(PaymentsError::Column("reference")),
    }
}

fn read_line(file: &mut impl BufRead, number: u64) -> Result<Option<String>, PaymentsError> {
    let mut line = Vec::new();
    let count = file.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    let refused = |problem: &str| PaymentsError::Line {
        line: number,
        problem: problem.to_owned(),
    };
    if count as u64 == LINE_BYTES_MAX {
        return Err(refused("it is too long"));
    }
    let text = String::from_utf8(line).map_err(|_| refused("it is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok((count > 0).then(|| text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Splits a line of CSV; `None` if a quoted field does not end.
fn split_fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(c),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

/// Where the fields stand that are read.
struct Columns {
    reference: usize,
    amount: usize,
    currency: usize,
}

impl Columns {
    fn of(head: &[String]) -> Result<Self, PaymentsError> {
        let column = |name: &'static str| {
            let named = |field: &String| field.trim().eq_ignore_ascii_case(name);
            head.iter()
                .position(named)
                .ok_or(PaymentsError::Column(name))
        };
        Ok(Self {
            reference: column("reference")?,
            amount: column("amount")?,
            currency: column("currency")?,
        })
    }

    fn payment(&self, line: u64, fields: &[String]) -> Result<BankPayment, String> {
        let field = |column: usize, name: &str| {
            let field = fields.get(column).map(|field| field.trim());
            field.ok_or_else(|| format!("it has no {name}"))
        };
        let reference = field(self.reference, "reference")?;
        if reference.len() > REFERENCE_BYTES_MAX {
            return Err(format!(
                "its reference has more than {REFERENCE_BYTES_MAX} bytes"
            ));
        }
        let (amount, currency) = (
            field(self.amount, "amount")?,
            field(self.currency, "currency")?,
        );
        let (sign, digits) = match amount.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, amount.strip_prefix('+').unwrap_or(amount)),
        };
        let money: Money = format!("{digits} {currency}")
            .parse()
            .map_err(|error| format!("{error}"))?;
        Ok(BankPayment {
            line,
            reference: reference.to_owned(),
            minor: i128::from(money.minor).saturating_mul(sign),
            currency: money.currency,
        })
    }
}

/// Compares the payments of the books with those of a bank. Entries outside of the period are passed over.
///
/// # Errors
/// [`StatementError::Unreadable`], or the first error among the entries.
pub fn reconcile<E: From<StatementError>>(
    period: Period,
    payments: Vec<BankPayment>,
    entries: impl Iterator<Item = Result<StoredEntry, E>>,
) -> Result<Reconciliation, E> {
    let mut there: HashMap<(bool, String), Vec<BankPayment>> = HashMap::new();
    // The first of equal ones is taken first.
    for payment in payments.into_iter().rev() {
        let key = (payment.minor < 0, payment.reference.clone());
        there.entry(key).or_default().push(payment);
    }
    let mut found = Reconciliation::default();
    for stored in entries {
        let Some(here) = recorded(&stored?, period)? else {
            continue;
        };
        let key = (here.minor < 0, here.reference.clone());
        match there.get_mut(&key).and_then(Vec::pop) {
            None => found.missing_there.push(here),
            Some(there) if (there.minor, there.currency) == (here.minor, here.currency) => {
                found.matched = found.matched.saturating_add(1);
            }
            Some(there) => found.different.push(Different { here, there }),
        }
    }
    found.missing_here = there.into_values().flatten().collect();
    found.missing_here.sort_by_key(|payment| payment.line);
    Ok(found)
}

/// Returns the payment of an entry, if it tells one.
fn recorded(
    stored: &StoredEntry,
    period: Period,
) -> Result<Option<RecordedPayment>, StatementError> {
    let entry = stored
        .decode()
        .map_err(|error| StatementError::Unreadable {
            sequence: stored.sequence,
            reason: error.to_string(),
        })?;
    if !period.has_begun(entry.at) || period.is_over(entry.at) {
        return Ok(None);
    }
    let (sign, money, reference) = match entry.event {
        Event::Deposited {
            money, reference, ..
        } => (1, money, reference),
        Event::PaidOut {
            money, reference, ..
        } => (-1, money, reference),
        Event::SettlementPaid { reference, .. } | Event::OrderPaid { reference, .. } => {
            let Some((sign, money)) = outside(entry.posting.as_ref()) else {
                return Ok(None);
            };
            (sign, money, reference)
        }
        Event::TaskAccepted { .. }
        | Event::BatchValidated { .. }
        | Event::TaskEnded { .. }
        | Event::TaskSettled { .. }
        | Event::RateCardPublished { .. }
        | Event::DeviceCertified { .. }
        | Event::Receipted { .. }
        | Event::Refunded { .. }
        | Event::ClawedBack { .. }
        | Event::AgreementMade { .. }
        | Event::DeviceRegistered { .. }
        | Event::RegistrationRevoked { .. }
        | Event::PointsReserved { .. }
        | Event::ReservationEnded { .. }
        | Event::PointsRedeemed { .. }
        | Event::RedemptionReversed { .. }
        | Event::SettlementMade { .. }
        | Event::OrderCharged { .. }
        | Event::OrderRefunded { .. }
        | Event::Released { .. }
        | Event::Expired { .. } => return Ok(None),
    };
    Ok(Some(RecordedPayment {
        sequence: stored.sequence,
        at: entry.at,
        reference,
        minor: i128::from(money.minor).saturating_mul(sign),
        currency: money.currency,
    }))
}

/// Returns what a posting brings from outside, or takes there, with the sign that it has there.
fn outside(posting: Option<&Posting>) -> Option<(i128, Money)> {
    let mut transfers = posting?.transfers.iter();
    transfers.find_map(|transfer| {
        let Commodity::Money(currency) = transfer.commodity else {
            return None;
        };
        let money = Money {
            currency,
            minor: transfer.amount,
        };
        match (transfer.from, transfer.to) {
            (Account::Outside, _) => Some((1, money)),
            (_, Account::Outside) => Some((-1, money)),
            _ => None,
        }
    })
}

impl Reconciliation {
    /// Returns what was found as lines of text of at most [`super::COLUMNS`] columns.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text::default();
        let amount = |minor: i128, currency: Currency| {
            let amount = Commodity::Money(currency).show(minor);
            format!("{amount:>14} {currency}")
        };
        if self.is_clean() {
            text.line("The books and the bank agree.");
        } else {
            text.line("The books and the bank do NOT agree.");
        }
        if !self.missing_here.is_empty() {
            text.line("");
            text.line("Missing in the books:");
            for there in &self.missing_here {
                let amount = amount(there.minor, there.currency);
                text.line(&format!(
                    "  line {:>7}  {amount}  {}",
                    grouped(there.line),
                    there.reference
                ));
            }
        }
        if !self.missing_there.is_empty() {
            text.line("");
            text.line("Missing at the bank:");
            for here in &self.missing_there {
                let amount = amount(here.minor, here.currency);
                text.line(&format!(
                    "  entry {:>6}  {amount}  {}",
                    grouped(here.sequence),
                    here.reference
                ));
            }
        }
        if !self.different.is_empty() {
            text.line("");
            text.line("Different amounts:");
            for Different { here, there } in &self.different {
                let (ours, theirs) = (
                    amount(here.minor, here.currency),
                    amount(there.minor, there.currency),
                );
                text.line(&format!(
                    "  entry {:>6}  {ours}  {}, {}",
                    grouped(here.sequence),
                    here.reference,
                    time(here.at)
                ));
                text.line(&format!("  line {:>7}  {theirs}", grouped(there.line)));
            }
        }
        text.line("");
        let problems = [
            ("matched", self.matched),
            ("missing in the books", self.missing_here.len() as u64),
            ("missing at the bank", self.missing_there.len() as u64),
            ("different", self.different.len() as u64),
        ]
        .map(|(name, count)| format!("{} {name}", grouped(count)));
        text.line(&problems.join(", "));
        text.into_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<BankPayment>, PaymentsError> {
        read_payments(text.as_bytes())
    }

    #[test]
    fn payments_are_read_by_the_names_of_their_columns() {
        let text = "\u{feff}date,Amount,currency,Reference\r\n2026-01-01,12.50,EUR,\"a, \"\"b\"\"\"\r\n\r\n,-3,EUR,c\n";
        let found = read(text).unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|payment| (payment.line, payment.minor, payment.reference.as_str()))
            .collect();
        assert_eq!(told, [(2, 1_250, "a, \"b\""), (4, -300, "c")]);
    }

    #[test]
    fn what_is_no_payment_is_refused_with_its_line() {
        for (text, message) in [
            ("", "names no column \"reference\""),
            ("reference,amount\n", "names no column \"currency\""),
            (
                "reference,amount,currency\na,1.005,EUR\n",
                "line 2: \"1.005 EUR\" is not",
            ),
            ("reference,amount,currency\na,--1,EUR\n", "line 2"),
            (
                "reference,amount,currency\na,1\n",
                "line 2: it has no currency",
            ),
            (
                "reference,amount,currency\n\"a,1,EUR\n",
                "line 2: a quoted field",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text:?}: {error}");
        }
        let long = format!("reference,amount,currency\n{}", "a".repeat(1 << 17));
        assert!(read(&long).unwrap_err().to_string().contains("too long"));
    }
}

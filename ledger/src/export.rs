//! The ledger as a file, for other programs and for people who trust nobody.
//!
//! - `jsonl` is the whole log: a head with the signed checkpoint, then one line an entry with its very bytes beside a
//!   readable form. [`check_export`] needs it and the coordinator's public key, nothing else.
//! - `csv` has a line for each transfer, for spreadsheets.
//! - `hledger` is a journal for [hledger](https://hledger.org), for accountants.
//!
//! Invariants: an export is written entry by entry and never held in memory as a whole; one written by [`PartFile`] is
//! there whole or not at all.

mod check;
mod csv;
mod file;
mod hledger;
mod jsonl;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use tally_protocol::entry::{Entry, Event};
use tally_protocol::id::Hash;

use crate::cli::{LogHead, Parties, Period};
use crate::store::StoredEntry;

pub use check::{ExportProblem, ExportReport, check_export};
pub use file::PartFile;
pub use jsonl::{EXPORT_FORMAT, LINE_BYTES_MAX};

/// In what form the ledger is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Entries with their bytes, to be verified.
    Jsonl,
    /// Transfers, one a line.
    Csv,
    /// A journal of hledger.
    Hledger,
}

/// A name that no format has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no format of an export (jsonl, csv, hledger)")]
pub struct ParseFormatError(String);

impl FromStr for Format {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, ParseFormatError> {
        match text {
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            "hledger" => Ok(Self::Hledger),
            _ => Err(ParseFormatError(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Hledger => "hledger",
        })
    }
}

/// Why an export was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The disk failed.
    #[error("write the export")]
    Io(#[from] io::Error),
    /// The coordinator's key is not at hand to sign the checkpoint.
    #[error("export a log without a signed checkpoint")]
    NoCheckpoint,
    /// The first entries are to be left out of what only the whole proves.
    #[error("export jsonl from a later entry on: it is the whole log that can be verified")]
    NotWhole,
    /// An entry cannot be read.
    #[error("export entry {sequence}: {reason}")]
    Unreadable {
        /// The entry.
        sequence: u64,
        /// Why not.
        reason: String,
    },
    /// The entries are not those of the head.
    #[error("export the log: the root over its entries is {computed}, the log says {stated}")]
    Root {
        /// What the entries give.
        computed: Hash,
        /// What the log says.
        stated: Hash,
    },
}

impl ExportError {
    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Io(_) => "check the disk, its free space and the rights to the folder",
            Self::NoCheckpoint => {
                "ask the running node, or name the coordinator's key file with --key-file"
            }
            Self::NotWhole => "leave out --from, or use --format csv or hledger",
            Self::Unreadable { .. } | Self::Root { .. } => {
                "`tally ledger verify` names the first bad entry"
            }
        }
    }
}

/// Writes the entries of the log under `head`, which must be all of them from the first on, in a format. Of csv and
/// hledger only what falls in the period is told. Returns how many entries were told.
///
/// # Errors
/// [`ExportError`], or the first error among the entries.
pub fn export<E: From<ExportError>>(
    (format, period): (Format, Period),
    head: &LogHead,
    entries: impl Iterator<Item = Result<StoredEntry, E>>,
    out: &mut dyn Write,
) -> Result<u64, E> {
    let mut writer: Box<dyn EntryWriter> = match format {
        Format::Jsonl => {
            if period.from.is_some() {
                return Err(ExportError::NotWhole.into());
            }
            Box::new(jsonl::Writer::new(head))
        }
        Format::Csv => Box::new(csv::Writer),
        Format::Hledger => Box::new(hledger::Writer::new(period)),
    };
    writer.begin(head, out)?;
    let mut told: u64 = 0;
    for stored in entries {
        let stored = stored?;
        let entry = stored.decode().map_err(|error| ExportError::Unreadable {
            sequence: stored.sequence,
            reason: error.to_string(),
        })?;
        if period.is_over(entry.at) {
            break;
        }
        let told_now = period.has_begun(entry.at);
        if told_now {
            let parties = Parties::of(&entry, &head.network);
            let of = Told {
                stored: &stored,
                entry: &entry,
                parties: &parties,
            };
            writer.write(&of, out)?;
            told = told.saturating_add(1);
        } else {
            writer.pass(&entry)?;
        }
    }
    writer.end(out)?;
    Ok(told)
}

/// An entry that is told.
struct Told<'a> {
    stored: &'a StoredEntry,
    entry: &'a Entry,
    parties: &'a Parties,
}

/// Writes entries in one format.
trait EntryWriter {
    /// Writes what stands before the first entry.
    fn begin(&mut self, head: &LogHead, out: &mut dyn Write) -> Result<(), ExportError>;

    /// Takes note of an entry before the period.
    fn pass(&mut self, _entry: &Entry) -> Result<(), ExportError> {
        Ok(())
    }

    /// Writes an entry.
    fn write(&mut self, told: &Told<'_>, out: &mut dyn Write) -> Result<(), ExportError>;

    /// Writes what stands behind the last entry.
    fn end(&mut self, out: &mut dyn Write) -> Result<(), ExportError>;
}

/// Returns the word for an event, as it stands in JSON.
const fn kind(event: &Event) -> &'static str {
    match event {
        Event::TaskAccepted { .. } => "task_accepted",
        Event::BatchValidated { .. } => "batch_validated",
        Event::TaskEnded { .. } => "task_ended",
        Event::TaskSettled { .. } => "task_settled",
        Event::RateCardPublished { .. } => "rate_card_published",
        Event::DeviceCertified { .. } => "device_certified",
        Event::Receipted { .. } => "receipted",
        Event::Deposited { .. } => "deposited",
        Event::PaidOut { .. } => "paid_out",
        Event::Refunded { .. } => "refunded",
        Event::ClawedBack { .. } => "clawed_back",
        Event::AgreementMade { .. } => "agreement_made",
        Event::DeviceRegistered { .. } => "device_registered",
        Event::RegistrationRevoked { .. } => "registration_revoked",
        Event::PointsReserved { .. } => "points_reserved",
        Event::ReservationEnded { .. } => "reservation_ended",
        Event::PointsRedeemed { .. } => "points_redeemed",
        Event::RedemptionReversed { .. } => "redemption_reversed",
        Event::SettlementMade { .. } => "settlement_made",
        Event::SettlementPaid { .. } => "settlement_paid",
        Event::OrderCharged { .. } => "order_charged",
        Event::OrderPaid { .. } => "order_paid",
        Event::OrderRefunded { .. } => "order_refunded",
        Event::Released { .. } => "released",
        Event::Expired { .. } => "expired",
    }
}

/// Returns what an event is called outside, or why it took place.
fn reference(event: &Event) -> Option<&str> {
    match event {
        Event::Deposited { reference, .. }
        | Event::PaidOut { reference, .. }
        | Event::Refunded { reference, .. }
        | Event::SettlementPaid { reference, .. }
        | Event::OrderPaid { reference, .. } => Some(reference),
        Event::ClawedBack { reason, .. } => Some(reason),
        Event::TaskAccepted { .. }
        | Event::BatchValidated { .. }
        | Event::TaskEnded { .. }
        | Event::TaskSettled { .. }
        | Event::RateCardPublished { .. }
        | Event::DeviceCertified { .. }
        | Event::Receipted { .. }
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
        | Event::Expired { .. } => None,
    }
}

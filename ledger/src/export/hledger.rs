//! A journal for hledger.
//!
//! What is debited has an amount above zero there and what is credited one below, as accountants have it: money that
//! came in is an asset, what a customer has is a debt. So an account shows what `tally ledger balance` shows as posted,
//! with the other sign.
//!
//! What is held stands in balanced virtual postings, whose accounts are in brackets: `hledger -R` passes over them and
//! shows what is posted, `hledger` alone shows what is available.
//!
//! All accounts and commodities are declared, behind the transactions, because only then are they known; their place
//! does not matter to hledger.

use std::collections::BTreeSet;
use std::io::Write;

use tally_protocol::account::{Account, Commodity};
use tally_protocol::books::{Books, Step, Transfer};
use tally_protocol::entry::Entry;
use tally_protocol::time::Timestamp;

use super::{EntryWriter, ExportError, Told, kind, reference};
use crate::cli::{LogHead, Period};

/// Writes an export.
pub(super) struct Writer {
    period: Period,
    accounts: BTreeSet<Account>,
    commodities: BTreeSet<Commodity>,
    /// What stands on the accounts before the period, until it is written.
    opening: Option<Books>,
}

impl Writer {
    pub(super) fn new(period: Period) -> Self {
        Self {
            period,
            accounts: BTreeSet::new(),
            commodities: BTreeSet::new(),
            opening: period.from.map(|_| Books::default()),
        }
    }

    /// Writes what stands on the accounts when the period begins.
    fn open(&mut self, out: &mut dyn Write) -> Result<(), ExportError> {
        let (Some(books), Some(from)) = (self.opening.take(), self.period.from) else {
            return Ok(());
        };
        if books.balances().next().is_none() {
            return Ok(());
        }
        write!(out, "\n{} opening balances\n", date(from))?;
        for ((account, commodity), balance) in books.balances() {
            let (debits, credits) = (balance.pending_debits, balance.pending_credits);
            let held = i128::from(debits).saturating_sub(i128::from(credits));
            let posted = balance.posted().saturating_neg();
            for (kind, amount) in [(Kind::Real, posted), (Kind::Virtual, held)] {
                if amount != 0 {
                    self.posting(kind, (*account, *commodity), amount, out)?;
                }
            }
        }
        Ok(())
    }

    fn transfer(&mut self, transfer: &Transfer, out: &mut dyn Write) -> Result<(), ExportError> {
        let amount = i128::from(transfer.amount);
        let less = amount.saturating_neg();
        let (real, held) = match transfer.step {
            Step::Move => (Some(amount), None),
            Step::Hold { .. } => (None, Some(amount)),
            Step::Post(_) => (Some(amount), Some(less)),
            Step::Void(_) | Step::Expire(_) => (None, Some(less)),
        };
        let commodity = transfer.commodity;
        for (kind, amount) in [(Kind::Real, real), (Kind::Virtual, held)] {
            let Some(amount) = amount else { continue };
            self.posting(kind, (transfer.from, commodity), amount, out)?;
            self.posting(kind, (transfer.to, commodity), amount.saturating_neg(), out)?;
        }
        Ok(())
    }

    fn posting(
        &mut self,
        kind: Kind,
        (account, commodity): (Account, Commodity),
        amount: i128,
        out: &mut dyn Write,
    ) -> Result<(), ExportError> {
        self.accounts.insert(account);
        self.commodities.insert(commodity);
        let name = match kind {
            Kind::Real => account.to_string(),
            Kind::Virtual => format!("[{account}]"),
        };
        Ok(writeln!(out, "    {name}  {}", shown(commodity, amount))?)
    }
}

/// How a posting counts.
#[derive(Clone, Copy)]
enum Kind {
    Real,
    Virtual,
}

impl EntryWriter for Writer {
    fn begin(&mut self, head: &LogHead, out: &mut dyn Write) -> Result<(), ExportError> {
        writeln!(
            out,
            "; The books of coordinator {} in network {}.",
            head.coordinator, head.network
        )?;
        writeln!(out, "; {} entries, root {}.", head.size, head.root)?;
        writeln!(
            out,
            "; Debits are above zero. With -R what is posted, without what is available."
        )?;
        Ok(writeln!(out, "decimal-mark .")?)
    }

    fn pass(&mut self, entry: &Entry) -> Result<(), ExportError> {
        if let (Some(books), Some(posting)) = (&mut self.opening, &entry.posting) {
            let posted = books.post(entry.at, posting);
            posted.map_err(|fault| ExportError::Unreadable {
                sequence: entry.sequence,
                reason: fault.to_string(),
            })?;
        }
        Ok(())
    }

    fn write(&mut self, told: &Told<'_>, out: &mut dyn Write) -> Result<(), ExportError> {
        let (entry, parties) = (told.entry, told.parties);
        let Some(posting) = &entry.posting else {
            return Ok(());
        };
        self.open(out)?;
        let mut tags = vec![format!("entry:{}", entry.sequence)];
        tags.extend(parties.receipt.map(|receipt| format!("receipt:{receipt}")));
        tags.extend(parties.task.map(|task| format!("task:{task}")));
        tags.push(format!("posting:{}", posting.id));
        let mut description = kind(&entry.event).replace('_', " ");
        if let Some(reference) = reference(&entry.event) {
            description.push_str(": ");
            description.extend(reference.chars().map(plain));
        }
        write!(
            out,
            "\n{} ({}) {description}  ; {}\n",
            date(entry.at),
            entry.sequence,
            tags.join(", ")
        )?;
        for transfer in &posting.transfers {
            self.transfer(transfer, out)?;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> Result<(), ExportError> {
        self.open(out)?;
        writeln!(out)?;
        for commodity in &self.commodities {
            // A point behind an amount without decimals tells hledger that there are none.
            let decimals = match commodity {
                Commodity::Points => 0,
                Commodity::Money(currency) => currency.decimals(),
            };
            let zeros = "0".repeat(decimals.into());
            writeln!(out, "commodity 1000.{zeros} {commodity}")?;
        }
        for account in &self.accounts {
            writeln!(out, "account {account}{}", kind_of(*account))?;
        }
        Ok(())
    }
}

/// Returns what an account is to hledger's statements. Points are no money: they have no type.
const fn kind_of(account: Account) -> &'static str {
    match account {
        Account::Outside => "  ; type:C",
        Account::Receivable(_) => "  ; type:A",
        Account::Customer(_)
        | Account::Held(_)
        | Account::Reserve
        | Account::Credit(_)
        | Account::Payable(_) => "  ; type:L",
        Account::Subsidy => "  ; type:E",
        Account::Revenue | Account::Sales => "  ; type:R",
        Account::Issued
        | Account::Escrow(_)
        | Account::Spendable(_)
        | Account::Redeemed(_)
        | Account::Expired(_)
        | Account::Reserved(_) => "",
    }
}

/// Returns an amount as hledger reads it: micro-points whole, money with the decimals of its currency.
fn shown(commodity: Commodity, amount: i128) -> String {
    match commodity {
        Commodity::Points => format!("{amount} {commodity}"),
        Commodity::Money(_) => format!("{} {commodity}", commodity.show(amount)),
    }
}

fn date(at: Timestamp) -> String {
    at.to_string().chars().take_while(|c| *c != 'T').collect()
}

/// Returns the character, or one that means nothing to hledger.
fn plain(c: char) -> char {
    match c {
        ';' => ',',
        '|' => '/',
        c if c.is_control() => ' ',
        c => c,
    }
}

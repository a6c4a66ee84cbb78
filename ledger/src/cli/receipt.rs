//! `tally ledger receipt`: both halves of one receipt, and what became of it.

use serde::{Deserialize, Serialize};

use tally_protocol::account::{Account, Commodity, Lot, Money};
use tally_protocol::books::Posting;
use tally_protocol::entry::Event;
use tally_protocol::id::{NodeId, ReceiptId};
use tally_protocol::message::work::Batch;
use tally_protocol::points::Points;
use tally_protocol::posting::posting_id;
use tally_protocol::receipt::Receipt;
use tally_protocol::time::Timestamp;

use super::AnswerError;
use super::show;
use super::text::{Text, grouped, time};
use super::view::{Checking, Statement};
use crate::store::{Projection, ReadError, Reader};

/// A receipt with all that the log says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptDetail {
    /// Its id.
    pub receipt: ReceiptId,
    /// The entry that holds it.
    pub sequence: u64,
    /// When it was written there.
    pub at: Timestamp,
    /// The half that the coordinator signed.
    pub statement: Statement<Receipt>,
    /// The half that the device signed: the batches whose results are paid.
    pub batches: Vec<Statement<Batch>>,
    /// Whether each half is signed by whom it should.
    pub halves: Halves,
    /// What was posted.
    pub posting: Option<Posting>,
    /// What the customer, or the subsidy, paid.
    pub paid: Option<Paid>,
    /// The lots that its points went to, as they are now.
    pub lots: Vec<LotState>,
    /// The entry that took it back, if one did.
    pub clawed_back: Option<u64>,
}

/// Who signed what of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halves {
    /// The receipt verifies, and the coordinator of this log signed it.
    pub coordinator: bool,
    /// All batches that it cites are there, verify, and its device signed them for this coordinator.
    pub device: bool,
}

/// Money for a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// From which account.
    pub from: Account,
    /// How much.
    pub price: Money,
    /// What of it stands behind the points.
    pub reserve: Money,
    /// What of it the coordinator has earned.
    pub revenue: Money,
}

/// A lot that points of a receipt went to. Points of other receipts may be in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LotState {
    /// The lot.
    pub lot: Lot,
    /// How many points of this receipt went there.
    pub credited: Points,
    /// What the lot has in escrow now.
    pub escrow: Points,
    /// What of the lot can be spent now.
    pub spendable: Points,
}

pub(super) fn detail(reader: &Reader, receipt: ReceiptId) -> Result<ReceiptDetail, AnswerError> {
    let (log, books) = reader.log_and_books()?;
    let no_such = || AnswerError::NoSuchReceipt { receipt };
    let sequence = books.receipt_entry(receipt)?.ok_or_else(no_such)?;
    let stored = log.entry(sequence)?.ok_or_else(no_such)?;
    let clawed_back = books.posting_entry(posting_id("clawback", receipt.as_bytes()))?;
    let entry = stored.decode().map_err(ReadError::from)?;
    let Event::Receipted {
        receipt: signed,
        batches,
    } = entry.event
    else {
        return Err(no_such());
    };
    let (network, coordinator) = (&reader.identity().network, reader.identity().node);
    let statement = Statement::of(signed, network, Checking::Signatures);
    let batches: Vec<Statement<Batch>> = batches
        .into_iter()
        .map(|batch| Statement::of(batch, network, Checking::Signatures))
        .collect();
    Ok(ReceiptDetail {
        receipt,
        sequence: stored.sequence,
        at: entry.at,
        halves: Halves {
            coordinator: statement
                .verified()
                .is_some_and(|says| says.signer == coordinator),
            device: device_signed(&statement, &batches, coordinator),
        },
        statement,
        batches,
        paid: entry.posting.as_ref().and_then(paid),
        lots: match &entry.posting {
            None => Vec::new(),
            Some(posting) => lots(posting, &books)?,
        },
        posting: entry.posting,
        clawed_back,
    })
}

fn device_signed(
    statement: &Statement<Receipt>,
    batches: &[Statement<Batch>],
    coordinator: NodeId,
) -> bool {
    let Some(receipt) = statement.verified() else {
        return false;
    };
    let of_device = |batch: &&Statement<Batch>| {
        batch.verified().is_some_and(|says| {
            says.signer == receipt.content.holder.device && says.content.coordinator == coordinator
        })
    };
    let good: Vec<&Batch> = batches
        .iter()
        .filter(of_device)
        .filter_map(|batch| batch.verified().map(|says| &says.content))
        .collect();
    let cited = |root| good.iter().any(|batch| batch.root == root);
    good.len() == batches.len()
        && receipt
            .content
            .shares
            .iter()
            .all(|share| cited(share.batch))
}

/// Returns what was paid for a receipt.
fn paid(posting: &Posting) -> Option<Paid> {
    let money = |to: fn(Account) -> bool| {
        let transfers = posting.transfers.iter();
        transfers
            .filter(|transfer| to(transfer.to))
            .find_map(|transfer| match transfer.commodity {
                Commodity::Money(currency) => Some((
                    transfer.from,
                    Money {
                        currency,
                        minor: transfer.amount,
                    },
                )),
                Commodity::Points => None,
            })
    };
    let reserve = money(|to| to == Account::Reserve);
    let revenue = money(|to| to == Account::Revenue);
    let posted = money(|to| matches!(to, Account::Held(_)));
    // What the subsidy gives goes to the reserve at once.
    let (from, price) = posted.or(reserve)?;
    let part = |found: Option<(Account, Money)>| {
        found.map_or(
            Money {
                currency: price.currency,
                minor: 0,
            },
            |(_, money)| money,
        )
    };
    Some(Paid {
        from,
        price,
        reserve: part(reserve),
        revenue: part(revenue),
    })
}

fn lots(posting: &Posting, books: &Projection) -> Result<Vec<LotState>, ReadError> {
    let points = |account| {
        let balance = books.balance((account, Commodity::Points))?;
        let posted = u64::try_from(balance.posted()).unwrap_or(0);
        Ok::<_, ReadError>(Points::from_micro(posted))
    };
    let mut lots = Vec::new();
    for transfer in &posting.transfers {
        let (Account::Escrow(lot) | Account::Spendable(lot)) = transfer.to else {
            continue;
        };
        lots.push(LotState {
            lot,
            credited: Points::from_micro(transfer.amount),
            escrow: points(Account::Escrow(lot))?,
            spendable: points(Account::Spendable(lot))?,
        });
    }
    Ok(lots)
}

pub(super) fn render(detail: &ReceiptDetail) -> String {
    let mut text = Text::default();
    text.field("receipt", &detail.receipt.to_string());
    text.field("entry", &format!("{} at {}", detail.sequence, detail.at));
    let half = |holds, who| {
        if holds {
            format!("by the {who}, the signature holds")
        } else {
            format!("NOT by the {who} as it should be")
        }
    };
    text.field("signed", &half(detail.halves.coordinator, "coordinator"));
    text.field("", &half(detail.halves.device, "device"));
    match &detail.statement {
        Statement::Verified(says) | Statement::Unchecked(says) => {
            show::receipt(&mut text, &says.content);
        }
        Statement::Refused(reason) => text.field("problem", &format!("failed to {reason}")),
    }
    for batch in &detail.batches {
        show::batch(&mut text, batch);
    }
    if let Some(paid) = &detail.paid {
        text.field(
            "paid",
            &format!("{} by {}", paid.price, show::short(paid.from)),
        );
        text.field(
            "",
            &format!("{} to the reserve, {} earned", paid.reserve, paid.revenue),
        );
    } else {
        text.field("paid", "nothing");
    }
    for lot in &detail.lots {
        text.field("lot", &lot_line(lot));
    }
    if let Some(sequence) = detail.clawed_back {
        text.field("taken back", &format!("by entry {}", grouped(sequence)));
    }
    text.into_string()
}

fn lot_line(state: &LotState) -> String {
    let LotState {
        lot,
        credited,
        escrow,
        spendable,
    } = state;
    let since = time(lot.since);
    let now = if *escrow > Points::ZERO {
        format!("in escrow until {since}; the lot has {escrow}")
    } else if *spendable > Points::ZERO {
        format!("can be spent since {since}; the lot has {spendable}")
    } else {
        "nothing is left of the lot".to_owned()
    };
    format!("{credited} points, card {}, {now}", lot.card)
}

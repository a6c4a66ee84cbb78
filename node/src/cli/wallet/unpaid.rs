//! `tally wallet unpaid`: what is not paid, or cannot be spent yet, and why.

use tally_ledger::wallet::{PointsAt, Unpaid, UnpaidBy, WalletAnswer, WalletQuery};
use tally_protocol::points::Points;

use super::super::output::{grouped, table};
use super::super::{Common, Failure};
use super::{Source, day, misunderstood, why};
use crate::clock;

pub(super) async fn run(common: &Common, source: &Source) -> Result<(), Failure> {
    let query = WalletQuery::Unpaid { now: clock::now() };
    let WalletAnswer::Unpaid(unpaid) = source.answer(common, query).await? else {
        return Err(misunderstood());
    };
    common.output().result(&unpaid, || text(&unpaid))
}

fn text(unpaid: &Unpaid) -> String {
    let mut text = String::new();
    for by in &unpaid.coordinators {
        add_coordinator(by, &mut text);
    }
    if text.is_empty() {
        text += "nothing that was done waits for a receipt\n";
    }
    text += &format!("{} points can be spent\n", unpaid.spendable);
    for PointsAt { at, points } in &unpaid.expiring {
        text += &format!("{points} of them are lost on {}\n", day(*at));
    }
    let mut rows: Vec<Vec<String>> = unpaid
        .escrow
        .iter()
        .map(|PointsAt { at, points }| vec![day(*at), points.to_string()])
        .collect();
    for (name, points) in [
        ("later", unpaid.escrow_later),
        ("not known", unpaid.undated),
    ] {
        if points > Points::ZERO {
            rows.push(vec![name.to_owned(), points.to_string()]);
        }
    }
    if !rows.is_empty() {
        text += &table(&["released", "in escrow"], &rows);
    }
    text
}

fn add_coordinator(by: &UnpaidBy, text: &mut String) {
    let name = by.coordinator.short();
    if by.waiting > 0 {
        let since = by.waiting_since.map(|since| format!(" since {since}"));
        let (waiting, since) = (grouped(by.waiting), since.unwrap_or_default());
        *text += &format!("..{name}: {waiting} results wait for a receipt{since}\n");
    }
    for (reason, count) in &by.declared {
        let (count, why) = (grouped(*count), why(*reason));
        *text += &format!("..{name}: {count} results are not paid: {why}\n");
    }
    if by.disputed > 0 {
        let disputed = grouped(by.disputed);
        *text +=
            &format!("..{name}: {disputed} wrong receipts were not taken: see `tally wallet`\n");
    }
}

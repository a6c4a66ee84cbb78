//! `tally wallet earnings`: what receipts brought, by day.

use tally_ledger::wallet::{Earned, EarnedDay, Earnings, WalletAnswer, WalletQuery};

use super::super::output::{grouped, table};
use super::super::{Common, Failure};
use super::{Source, misunderstood};
use crate::clock;

pub(super) async fn run(common: &Common, source: &Source, days: u32) -> Result<(), Failure> {
    let now = clock::now();
    let query = WalletQuery::Earnings {
        now,
        days,
        offset: clock::utc_offset(now),
    };
    let WalletAnswer::Earnings(earnings) = source.answer(common, query).await? else {
        return Err(misunderstood());
    };
    common.output().result(&earnings, || text(&earnings))
}

/// Days on which nothing came are left out, but today.
fn text(earnings: &Earnings) -> String {
    let mut rows = Vec::new();
    let days = earnings.days.len();
    for (place, EarnedDay { date, earned, .. }) in (1..).zip(&earnings.days) {
        if earned.receipts > 0 || place == days {
            rows.push(row(date, earned));
        }
    }
    rows.push(row(&format!("{days} days"), &earnings.latest(days)));
    rows.push(row("in all", &earnings.total));
    table(&["day", "units", "receipts", "points"], &rows)
}

fn row(name: &str, earned: &Earned) -> Vec<String> {
    vec![
        name.to_owned(),
        grouped(earned.units),
        grouped(earned.receipts),
        earned.points.to_string(),
    ]
}

//! Agreements with coordinators, and a coordinator's agreements with app servers.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tally_protocol::account::Money;
use tally_protocol::agreement;
use tally_protocol::app_server::{Command as Order, Declined};
use tally_protocol::id::NodeId;
use tally_protocol::points::Points;
use tally_protocol::rate_card::Price;

use super::{DAY_SECONDS, command, put};
use crate::admin::{Request, ask};
use crate::app_server::operator::{AgreementState, AgreementView, AppAsk};
use crate::cli::output::table_or;
use crate::cli::{Common, Exit, Failure};
use crate::clock;
use crate::node::operator::NodeStatus;

/// `tally app agreement`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Agreement {
    /// Propose to a coordinator what its points are worth; its operator decides.
    Propose(Propose),
    /// List agreements and proposals.
    List,
}

/// `tally app agreement propose`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Propose {
    /// The coordinator.
    coordinator: NodeId,
    /// What points are worth: at most what the coordinator puts aside for them.
    #[arg(long, value_name = "MONEY")]
    value: Money,
    /// So many points are worth that.
    #[arg(long, value_name = "POINTS")]
    per_points: Points,
    /// The most that may be redeemed in a period.
    #[arg(long, value_name = "MONEY")]
    cap: Money,
    /// The most that may be redeemed and not settled. [default: the cap]
    #[arg(long, value_name = "MONEY")]
    credit: Option<Money>,
    /// The length of a period, in days.
    #[arg(long, default_value_t = 30, value_name = "N")]
    period_days: u32,
    /// What the coordinator owes for each computer that was supplied and earned something in a period.
    #[arg(long, value_name = "MONEY")]
    supply_fee: Option<Money>,
    /// The most computers that are counted for that.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    supply_devices: u32,
    /// For how many days it holds.
    #[arg(long, default_value_t = 365, value_name = "N")]
    days: u32,
}

impl Agreement {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Propose(propose) => propose.run(common).await,
            Self::List => {
                let all: Vec<AgreementView> = put(common, AppAsk::Agreements).await?;
                common.output().result(&all, || {
                    let row = |view: &AgreementView| {
                        let party = view.agreement.coordinator;
                        line(party, &view.agreement, state(&view.state))
                    };
                    let rows: Vec<_> = all.iter().map(row).collect();
                    agreements(&rows, "coordinator")
                })
            }
        }
    }
}

impl Propose {
    async fn run(self, common: &Common) -> Result<(), Failure> {
        let all: Vec<AgreementView> = put(common, AppAsk::Agreements).await?;
        let with = all
            .iter()
            .filter(|view| view.agreement.coordinator == self.coordinator);
        let last = with.map(|view| view.agreement.number).max().unwrap_or(0);
        let status: NodeStatus = ask(&common.folder()?.socket(), &Request::Status).await?;
        let currency = self.value.currency;
        let nothing = Money { currency, minor: 0 };
        let credit = self.credit.unwrap_or(self.cap);
        let supply_fee = self.supply_fee.unwrap_or(nothing);
        for money in [self.cap, credit, supply_fee] {
            if money.currency != currency {
                let message = format!("propose an agreement: {money} is not in {currency}");
                return Err(Failure::new(Exit::Usage, message).hint("use one currency"));
            }
        }
        let seconds = u64::from(self.period_days) * DAY_SECONDS;
        let now = clock::now();
        let agreement = agreement::Agreement {
            app_server: status.node,
            coordinator: self.coordinator,
            number: last + 1,
            currency,
            value: Price {
                minor: self.value.minor,
                micro_points: self.per_points.as_micro(),
            },
            period_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
            cap: self.cap.minor,
            credit: credit.minor,
            supply_fee: supply_fee.minor,
            supply_devices_max: self.supply_devices,
            not_before: now,
            not_after: now + Duration::from_secs(u64::from(self.days) * DAY_SECONDS),
        };
        let (number, coordinator) = (agreement.number, self.coordinator);
        let () = command(common, Order::Propose(Box::new(agreement))).await?;
        let shown = json!({"coordinator": coordinator, "number": number});
        common.output().result(&shown, || {
            format!(
                "proposed as number {number}; the coordinator's operator decides with \
                 `tally agreement accept`"
            )
        })
    }
}

const fn state(state: &AgreementState) -> &'static str {
    match state {
        AgreementState::Proposed => "proposed",
        AgreementState::Declined(Declined::ByOperator) => "declined",
        AgreementState::Declined(Declined::Faulty(_)) => "faulty",
        AgreementState::InForce => "in force",
        AgreementState::Made => "made",
    }
}

/// Returns a line of a list of agreements.
pub(in crate::cli) fn line(
    party: NodeId,
    agreement: &agreement::Agreement,
    state: &str,
) -> Vec<String> {
    let money = |minor| Money {
        currency: agreement.currency,
        minor,
    };
    let points = Points::from_micro(agreement.value.micro_points);
    vec![
        party.short(),
        agreement.number.to_string(),
        state.to_owned(),
        format!("{} for {points}", money(agreement.value.minor)),
        money(agreement.cap).to_string(),
        money(agreement.credit).to_string(),
    ]
}

/// Returns the list.
pub(in crate::cli) fn agreements(rows: &[Vec<String>], party: &str) -> String {
    table_or(
        &[
            party,
            "number",
            "state",
            "points are worth",
            "cap",
            "credit",
        ],
        rows,
        "no agreement yet",
    )
}

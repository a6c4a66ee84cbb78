//! Orders, and who is charged what for them: users by invoices, coordinators by charges that are settled.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use tally_protocol::account::Money;
use tally_protocol::app_server::{Command, Phase};
use tally_protocol::id::{NodeId, OrderId, RedemptionId};

use super::{command, done, put, signed, status_name};
use crate::app_server::operator::{
    AppAsk, ChargeState, ChargeView, DisputeView, OrderView, SettlementView, SettlementsView,
};
use crate::cli::output::{table, table_or};
use crate::cli::{Common, Failure};

/// `tally app order`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Order {
    /// List orders, the newest first.
    List(List),
    /// Show an order, with what was issued.
    Show {
        /// The order.
        order: OrderId,
    },
    /// Cancel an order that nobody has decided: points that are set aside are free again.
    Cancel {
        /// The order.
        order: OrderId,
    },
    /// Undo a fulfilled order: what was issued holds no more, points and money are given back.
    Refund {
        /// The order.
        order: OrderId,
    },
}

/// Which orders.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Only those that are so far.
    #[arg(long, value_name = "PHASE")]
    phase: Option<PhaseName>,
    /// Only those of this owner.
    #[arg(long, value_name = "ID")]
    owner: Option<NodeId>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum PhaseName {
    Open,
    Reserving,
    Decided,
    Posted,
    Paid,
    Fulfilled,
    Void,
    Refunded,
}

impl From<PhaseName> for Phase {
    fn from(name: PhaseName) -> Self {
        match name {
            PhaseName::Open => Self::Open,
            PhaseName::Reserving => Self::Reserving,
            PhaseName::Decided => Self::Decided,
            PhaseName::Posted => Self::Posted,
            PhaseName::Paid => Self::Paid,
            PhaseName::Fulfilled => Self::Fulfilled,
            PhaseName::Void => Self::Void,
            PhaseName::Refunded => Self::Refunded,
        }
    }
}

/// `tally app invoice`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Invoice {
    /// List what users are charged.
    List(List),
    /// Enter that an order's invoice was paid.
    Pay {
        /// The order.
        order: OrderId,
        /// What the payment is called outside: the bank's reference, for example.
        #[arg(long, value_name = "TEXT")]
        reference: String,
    },
}

/// `tally app charge`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Charge {
    /// List what coordinators are charged for redeemed points.
    List(List),
}

/// `tally app settle`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Settle {
    /// State what a coordinator owes by now; it countersigns, or names what it does not know.
    With {
        /// The coordinator.
        coordinator: NodeId,
    },
    /// List settlements, and what is disputed.
    List {
        /// Only with this coordinator.
        coordinator: Option<NodeId>,
    },
    /// Enter that a settlement was paid.
    Paid {
        /// The coordinator.
        coordinator: NodeId,
        /// The number of the settlement.
        number: u32,
        /// What the payment is called outside.
        #[arg(long, value_name = "TEXT")]
        reference: String,
    },
    /// Let a disputed redemption count again, once the operators have found out.
    Resolve {
        /// The coordinator.
        coordinator: NodeId,
        /// The redemption.
        redemption: RedemptionId,
    },
}

impl Order {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let orders = list.orders(common).await?;
                common.output().result(&orders, || {
                    let row = |order: &OrderView| {
                        vec![
                            order.status.order.to_string(),
                            order.status.phase.to_string(),
                            order.what.clone(),
                            order.status.fee.to_string(),
                            money(order, order.status.due),
                        ]
                    };
                    let rows: Vec<_> = orders.iter().map(row).collect();
                    table_or(
                        &["order", "phase", "what", "fee", "user's part"],
                        &rows,
                        "no order yet",
                    )
                })
            }
            Self::Show { order } => show(common, put(common, AppAsk::Order { order }).await?),
            Self::Cancel { order } => show(common, command(common, Command::Cancel(order)).await?),
            Self::Refund { order } => show(common, command(common, Command::Refund(order)).await?),
        }
    }
}

impl List {
    async fn orders(self, common: &Common) -> Result<Vec<OrderView>, Failure> {
        let ask = AppAsk::Orders {
            phase: self.phase.map(Phase::from),
            owner: self.owner,
            limit: self.limit,
        };
        put(common, ask).await
    }
}

impl Invoice {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let mut orders = list.orders(common).await?;
                orders.retain(|order| order.invoice.as_ref().is_some_and(|of| of.amount.minor > 0));
                common.output().result(&orders, || {
                    let row = |order: &OrderView| {
                        let invoice = order.invoice.as_ref();
                        let paid = invoice.and_then(|invoice| invoice.paid.clone());
                        vec![
                            order.status.order.to_string(),
                            order.owner.short(),
                            invoice.map_or(String::new(), |invoice| invoice.amount.to_string()),
                            paid.unwrap_or_else(|| "open".to_owned()),
                        ]
                    };
                    let rows: Vec<_> = orders.iter().map(row).collect();
                    table_or(
                        &["order", "owner", "user's part", "paid as"],
                        &rows,
                        "no invoice yet",
                    )
                })
            }
            Self::Pay { order, reference } => {
                show(common, put(common, AppAsk::Pay { order, reference }).await?)
            }
        }
    }
}

impl Charge {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let Self::List(list) = self;
        let orders = list.orders(common).await?;
        let charges = orders.iter().flat_map(|order| {
            let charges = order.charges.iter();
            charges.map(|charge| (order.status.order, charge.clone()))
        });
        let charges: Vec<(OrderId, ChargeView)> = charges.collect();
        common.output().result(&charges, || {
            let row = |(order, charge): &(OrderId, ChargeView)| {
                let mut row = charge_line(charge);
                row.insert(0, order.to_string());
                row
            };
            let rows: Vec<_> = charges.iter().map(row).collect();
            table_or(
                &["order", "coordinator", "points", "value", "state"],
                &rows,
                "no charge yet",
            )
        })
    }
}

fn charge_line(charge: &ChargeView) -> Vec<String> {
    let state = match charge.state {
        ChargeState::Waiting => "waiting",
        ChargeState::Charged => "charged",
        ChargeState::Returned => "given back",
    };
    vec![
        charge.coordinator.short(),
        charge.points.to_string(),
        charge.value.to_string(),
        state.to_owned(),
    ]
}

impl Settle {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::With { coordinator } => {
                let stated: serde_json::Value =
                    command(common, Command::Settle(coordinator)).await?;
                let number = stated.get("number").cloned().unwrap_or_default();
                common.output().result(&stated, || {
                    format!(
                        "stated as settlement {number}; `tally app settle list` shows when the \
                         coordinator has countersigned"
                    )
                })
            }
            Self::List { coordinator } => {
                let all: Vec<SettlementsView> =
                    put(common, AppAsk::Settlements { coordinator }).await?;
                common.output().result(&all, || settlements(&all))
            }
            Self::Paid {
                coordinator,
                number,
                reference,
            } => {
                let paid = Command::SettlementPaid {
                    coordinator,
                    number,
                    reference,
                };
                let () = command(common, paid).await?;
                let text = format!("settlement {number} is paid");
                done(common, &json!({"paid": number}), &text)
            }
            Self::Resolve {
                coordinator,
                redemption,
            } => {
                let () = command(common, Command::Resolve(coordinator, redemption)).await?;
                let text = format!("{redemption} counts again in the next settlement");
                done(common, &json!({"resolved": redemption}), &text)
            }
        }
    }
}

fn settlements(all: &[SettlementsView]) -> String {
    let line = |of: &SettlementsView, settled: &SettlementView| {
        let money = Money {
            currency: settled.currency,
            minor: 0,
        };
        vec![
            of.coordinator.short(),
            settled.number.to_string(),
            format!("{} of {}", settled.redeemed.1, settled.redeemed.0),
            format!("{} of {}", settled.reversed.1, settled.reversed.0),
            format!("{} of {}", settled.supplied.1, settled.supplied.0),
            signed(settled.due, money),
            settled.paid.clone().unwrap_or_else(|| "open".to_owned()),
        ]
    };
    let rows = all
        .iter()
        .flat_map(|of| of.agreed.iter().map(move |settled| line(of, settled)));
    let rows: Vec<_> = rows.collect();
    let head = [
        "coordinator",
        "number",
        "redeemed",
        "given back",
        "supplied",
        "due",
        "paid as",
    ];
    let mut text = table_or(&head, &rows, "no settlement yet");
    for of in all {
        for disputed in &of.disputed {
            let DisputeView {
                redemption,
                order,
                receipt,
            } = disputed;
            let by = of.coordinator.short();
            text += &format!("\ndisputed by {by}: redemption {redemption}");
            if let (Some(order), Some(receipt)) = (order, receipt) {
                text += &format!(" of order {order}, which it has signed: receipt {receipt}");
            }
        }
    }
    text
}

fn money(order: &OrderView, minor: u64) -> String {
    let money = Money {
        minor,
        ..order.status.fee
    };
    money.to_string()
}

fn show(common: &Common, order: OrderView) -> Result<(), Failure> {
    common.output().result(&order, || {
        let status = &order.status;
        let mut text = format!(
            "order   {}\nowner   {}\nwhat    {}\nphase   {}\nfee     {}\npoints  {}\nuser    {}",
            status.order,
            order.owner,
            order.what,
            status.phase,
            status.fee,
            money(&order, status.discount),
            money(&order, status.due),
        );
        if let Some(invoice) = &order.invoice {
            let paid = invoice.paid.as_deref().unwrap_or("open");
            text += &format!("\npaid    {paid}");
        }
        if let Some(reason) = &status.void {
            text += &format!("\nvoid    {reason:?}");
        }
        if let (Some(license), Some(standing)) = (order.license, order.license_status) {
            text += &format!("\nlicense {license}, {}", status_name(standing));
        }
        if !order.charges.is_empty() {
            let rows: Vec<_> = order.charges.iter().map(charge_line).collect();
            text += "\n\n";
            text += &table(&["coordinator", "points", "value", "state"], &rows);
        }
        if let Some(goods) = &order.goods {
            text += "\n\n";
            text += goods;
        }
        text
    })
}

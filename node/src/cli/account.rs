//! `tally account`: the operator enters payments; a customer asks what it has.
//!
//! Tally moves no money itself. The operator is paid, and pays, outside; what is entered here is what the books say
//! of it, under the reference that the payment has outside. The same reference is never posted twice.

use clap::{Args, Subcommand};
use libp2p::Multiaddr;
use serde_json::json;
use tally_ledger::cli::{BalanceOf, BalanceQuery, LedgerAnswer, LedgerQuery, render};
use tally_protocol::account::Money;
use tally_protocol::coordinator::Movement;
use tally_protocol::entry::{Fund, Payee};
use tally_protocol::id::{NodeId, PostingId, ReceiptId};

use super::task::Desk;
use super::{Common, Exit, Failure, Joining};
use crate::admin::{AskError, Request, ask};

/// The most accounts that are listed.
const LINES_MAX: u32 = 1_000;

/// `tally account`.
#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// Enter a payment that came in, for a customer or for the subsidy account.
    #[command(
        override_usage = "tally account deposit --customer ID|--subsidy --reference TEXT MONEY"
    )]
    Deposit {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        payment: Payment,
    },
    /// Enter a payment that went out: to a customer, to an owner for points, or of what the coordinator has earned.
    #[command(
        override_usage = "tally account payout --customer ID|--owner ID|--operator --reference TEXT MONEY"
    )]
    Payout {
        #[command(flatten)]
        to: OutTo,
        #[command(flatten)]
        payment: Payment,
    },
    /// Give a customer money back that the coordinator has earned.
    Refund {
        /// The customer.
        #[arg(long, value_name = "ID")]
        customer: NodeId,
        #[command(flatten)]
        payment: Payment,
    },
    /// Take a receipt back: its points go, the customer gets its price.
    Clawback {
        /// The receipt.
        receipt: ReceiptId,
        /// Why; it stands in the log for ever.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// What stands on the accounts: of the coordinator of this folder, or what this customer has at a coordinator.
    Balance {
        /// The coordinator that is asked, as /ip4/ADDRESS/tcp/PORT/p2p/ID. [default: the one of this folder]
        #[arg(long, value_name = "ADDRESS")]
        coordinator: Option<Multiaddr>,
        #[command(flatten)]
        joining: Joining,
    },
}

/// An amount with its name outside.
#[derive(Debug, Args)]
pub(super) struct Payment {
    /// How much: \"12.50 EUR\".
    money: Money,
    /// What the payment is called outside: the bank's reference, for example.
    #[arg(long, value_name = "TEXT")]
    reference: String,
}

/// For whom money came in.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct To {
    /// For the tasks of this customer.
    #[arg(long, value_name = "ID")]
    customer: Option<NodeId>,
    /// For points that no customer pays.
    #[arg(long)]
    subsidy: bool,
}

/// To whom money went out.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct OutTo {
    /// To this customer, of what it has not spent.
    #[arg(long, value_name = "ID")]
    customer: Option<NodeId>,
    /// To this owner, for the oldest of its points.
    #[arg(long, value_name = "ID")]
    owner: Option<NodeId>,
    /// To the operator, of what the coordinator has earned.
    #[arg(long)]
    operator: bool,
}

impl Account {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Deposit { to, payment } => {
                let fund = to.customer.map_or(Fund::Subsidy, Fund::Customer);
                payment.post(common, Movement::Deposit(fund)).await
            }
            Self::Payout { to, payment } => {
                let payee = match (to.customer, to.owner) {
                    (Some(customer), _) => Payee::Customer(customer),
                    (None, Some(owner)) => Payee::Owner(owner),
                    (None, None) => Payee::Operator,
                };
                payment.post(common, Movement::PayOut(payee)).await
            }
            Self::Refund { customer, payment } => {
                payment.post(common, Movement::Refund(customer)).await
            }
            Self::Clawback { receipt, reason } => {
                post(common, Request::ClawBack { receipt, reason }).await
            }
            Self::Balance {
                coordinator: Some(address),
                joining,
            } => of_customer(common, &address, &joining).await,
            Self::Balance { .. } => of_coordinator(common).await,
        }
    }
}

impl Payment {
    async fn post(self, common: &Common, movement: Movement) -> Result<(), Failure> {
        let Self { money, reference } = self;
        let request = Request::Move {
            movement,
            money,
            reference,
        };
        post(common, request).await
    }
}

pub(super) async fn post(common: &Common, request: Request) -> Result<(), Failure> {
    let posting: PostingId = ask(&common.folder()?.socket(), &request)
        .await
        .map_err(refused)?;
    common.output().result(&json!({"posting": posting}), || {
        format!("posted as {posting}; `tally ledger show {posting}` shows it")
    })
}

/// A coordinator that says no has another exit code than one that cannot.
fn refused(error: AskError) -> Failure {
    let is_refusal = matches!(&error, AskError::Refused(no) if no.code != "wrong_role");
    let failure = Failure::from(error);
    if is_refusal {
        failure.exit(Exit::Refused)
    } else {
        failure
    }
}

async fn of_coordinator(common: &Common) -> Result<(), Failure> {
    let query = LedgerQuery::Balance(BalanceQuery {
        of: BalanceOf::Prefix("money".to_owned()),
        limit: LINES_MAX,
    });
    let answer: LedgerAnswer = ask(&common.folder()?.socket(), &Request::Ledger { query }).await?;
    common.output().result(&answer, || render(&answer))
}

async fn of_customer(
    common: &Common,
    address: &Multiaddr,
    joining: &Joining,
) -> Result<(), Failure> {
    let terms = Desk::terms(common, joining, address).await?;
    let (card, available, held) = (&terms.rate_card, terms.available, terms.held);
    let shown = json!({
        "available": available,
        "held": held,
        "rate_card": {"id": card.id(), "version": card.version, "rates": card.rates},
    });
    common.output().result(&shown, || {
        let price = card.rates.price;
        let cost = if card.rates.is_free() {
            "work costs nothing here".to_owned()
        } else {
            let points = tally_protocol::points::Points::from_micro(price.micro_points);
            format!("{} for {points} points", card.rates.money(price.minor))
        };
        format!(
            "available  {available}\nheld       {held} for tasks\nprice      {cost}, rate card {}",
            card.version
        )
    })
}

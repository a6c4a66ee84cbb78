//! `tally redeem`: points for a license or a discount.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tally_protocol::account::Money;
use tally_protocol::app_server::{OfferId, OrderStatus, Phase};
use tally_protocol::id::NodeId;
use tally_protocol::message::enroll::Issued;
use tally_protocol::points::Points;
use tally_protocol::product::ProductId;

use super::enroll::Session;
use super::output::{BarUnit, Output};
use super::{Common, Exit, Failure};
use crate::member::line::Desk;
use crate::member::ordering::{Ordered, Ordering, What};
use crate::member::shelf::Shelf;
use crate::member::spending::{Plan, Spender, draws, too_few};
use crate::member::{Line, Member, MemberError, Membership};

/// How long an order is followed before the command ends; it goes on without it.
const PATIENCE: Duration = Duration::from_secs(600);

/// `tally redeem`.
#[derive(Debug, Subcommand)]
pub(super) enum Redeem {
    /// A license of a product that this computer is registered for.
    License(License),
    /// A voucher that takes something off a shop's fee.
    Discount(Discount),
}

/// `tally redeem license`.
#[derive(Debug, Args)]
pub(super) struct License {
    /// The product.
    product: ProductId,
    /// A license for any computer. [default: for this one]
    #[arg(long)]
    any_computer: bool,
    /// Order even if there is a license that holds.
    #[arg(long)]
    again: bool,
    /// Only if points pay the whole price.
    #[arg(long, conflicts_with = "at_most")]
    points_only: bool,
    #[command(flatten)]
    spending: Spending,
}

/// `tally redeem discount`.
#[derive(Debug, Args)]
pub(super) struct Discount {
    /// The offer.
    offer: OfferId,
    /// The shop's fee, for example "20.00 EUR".
    #[arg(long, value_name = "MONEY")]
    fee: Money,
    /// Whose offer it is. [default: the only app server]
    #[arg(long, value_name = "ID")]
    app_server: Option<NodeId>,
    #[command(flatten)]
    spending: Spending,
}

/// How points are spent.
#[derive(Debug, Args)]
pub(super) struct Spending {
    /// At most so many points.
    #[arg(long, value_name = "POINTS")]
    at_most: Option<Points>,
    /// Your own key. [default: this computer's if it may, else owner-key in the data folder]
    #[arg(long, value_name = "FILE")]
    pub(super) owner_key: Option<PathBuf>,
}

impl Redeem {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let session = Session::open(common).await?;
        let result = self.place(&session, common.output()).await;
        session.line.close().await;
        result
    }

    async fn place(self, session: &Session, output: Output) -> Result<(), Failure> {
        match self {
            Self::License(license) => license.place(session, output).await,
            Self::Discount(discount) => discount.place(session, output).await,
        }
    }
}

impl License {
    async fn place(self, session: &Session, output: Output) -> Result<(), Failure> {
        let Session { member, line, .. } = session;
        let membership = member.memberships().having(&self.product)?;
        let devices = if self.any_computer {
            Vec::new()
        } else {
            vec![member.me()]
        };
        let what = What::License(self.product.clone(), devices);
        let under_way = membership.orders.contains_key(&what.name());
        let licenses = Shelf::new(member, &membership, &self.product).judge()?;
        let best = licenses.first().map(|best| best.verdict.code);
        if let Some(code) = best.filter(|code| code.allows_start() && !self.again && !under_way) {
            let message = format!("order a license: the one that is there is {code}");
            let hint = "`tally license renew` renews it; --again orders another";
            return Err(Failure::new(Exit::Usage, message).hint(hint));
        }
        let price = membership.applications[&self.product].price;
        let plan = if self.points_only {
            Plan::All(price)
        } else {
            Plan::UpTo(price, self.spending.at_most)
        };
        let spender = Spender::of(member, self.spending.owner_key.as_deref())?;
        if self.points_only && !under_way {
            // Before there is an order that nobody would pay.
            let contact = membership.contact();
            let desk = Desk {
                line,
                contact: &contact,
            };
            let purse = desk.purse().await?;
            draws(&purse, (plan, price.currency), &spender)?;
        }
        let ordered = order((member, line), &membership, (&what, plan, &spender), output).await?;
        show(&membership, &what, ordered, output)
    }
}

impl Discount {
    async fn place(self, session: &Session, output: Output) -> Result<(), Failure> {
        let Session { member, line, .. } = session;
        let membership = self.membership(member)?;
        let contact = membership.contact();
        let desk = Desk {
            line,
            contact: &contact,
        };
        let offer = desk.offer(self.offer.clone()).await?;
        let minor = offer.most(self.fee.minor);
        let most = Money { minor, ..self.fee };
        let what = What::Voucher(self.offer, self.fee);
        let plan = Plan::UpTo(most, self.spending.at_most);
        let spender = Spender::of(member, self.spending.owner_key.as_deref())?;
        let purse = desk.purse().await?;
        let drawn = draws(&purse, (plan, most.currency), &spender)?;
        if drawn.is_empty() && !membership.orders.contains_key(&what.name()) {
            return Err(too_few(&purse, most).into());
        }
        let ordered = order((member, line), &membership, (&what, plan, &spender), output).await?;
        show(&membership, &what, ordered, output)
    }

    fn membership(&self, member: &Member) -> Result<Membership, Failure> {
        let mut all = member.memberships().all()?;
        if let Some(app_server) = self.app_server {
            all.retain(|known| known.app_server == app_server);
        }
        if all.len() > 1 {
            let message = "choose an app server: this computer is registered at several";
            return Err(Failure::new(Exit::Usage, message).hint("name it with --app-server"));
        }
        let found = all.pop();
        Ok(found.ok_or_else(|| MemberError::NotRegistered(self.offer.to_string()))?)
    }
}

/// Places an order and shows how far it is.
pub(super) async fn order(
    (member, line): (&Member, &Line),
    membership: &Membership,
    (what, plan, spender): (&What, Plan, &Spender),
    output: Output,
) -> Result<Ordered, MemberError> {
    let bar = output.bar(BarUnit::Time);
    let mut phase = None;
    let tell = |status: &OrderStatus| {
        if phase != Some(status.phase) {
            phase = Some(status.phase);
            bar.set_message(status.phase.to_string());
            if bar.is_hidden() && !output.is_json() {
                output.note(format!("order {} is {}", status.order, status.phase));
            }
        }
    };
    let ordering = Ordering {
        member,
        line,
        membership,
    };
    let placed = ordering.place((what, plan), spender, PATIENCE, tell).await;
    bar.finish_and_clear();
    placed
}

/// Shows what came of an order.
pub(super) fn show(
    membership: &Membership,
    what: &What,
    ordered: Ordered,
    output: Output,
) -> Result<(), Failure> {
    let Ordered { status, goods } = ordered;
    let (order, phase) = (status.order, status.phase);
    let minor = |minor| Money {
        minor,
        ..status.fee
    };
    let (discount, due) = (minor(status.discount), minor(status.due));
    let text = goods.as_ref().map(|(issued, path)| {
        let text = match issued {
            Issued::License(license) => license.to_text(),
            Issued::Voucher(voucher) => voucher.to_text(),
        };
        (text, path.display().to_string())
    });
    let value = json!({
        "order": order,
        "phase": phase,
        "fee": status.fee,
        "discount": discount,
        "due": due,
        "file": text.as_ref().map(|(_, path)| path),
        "text": text.as_ref().map(|(text, _)| text),
    });
    let of = if status.fee.minor > 0 {
        format!(" of {}", status.fee)
    } else {
        String::new()
    };
    output.result(&value, || match &text {
        Some((text, path)) => {
            format!("{text}order {order}: points paid {discount}{of}\nwritten to {path}")
        }
        None if matches!(phase, Phase::Open | Phase::Posted) => format!(
            "order {order}: points paid {discount} of {}\n\
             pay {due} to {} and name the order {order}; when the payment is entered there, the same command fetches \
             what was ordered ({})",
            status.fee,
            membership.vendor,
            what.name()
        ),
        None => format!("order {order} is {phase}; the same command shows how it goes on"),
    })
}

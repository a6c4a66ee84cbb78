//! `tally app`: the operator's side of an app server: what it issues with, sells, agrees, charges and settles.

mod agreement;
mod catalogue;
mod money;
mod setup;
mod token;
mod user;
mod verify;

use clap::Subcommand;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tally_protocol::account::Money;
use tally_protocol::app_server::Command as Order;
use tally_protocol::license::Status;

use super::{Common, Failure};
use crate::admin::{Request, ask};
use crate::app_server::operator::AppAsk;

pub(super) use agreement::{agreements, line};
pub(super) use user::License;

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// `tally app`.
#[derive(Debug, Subcommand)]
pub(super) enum App {
    /// Make the issuer key, and its certificate if the vendor's key is in the data folder.
    Init(setup::Init),
    /// Say, with a vendor's key, that an app server may issue licenses of the vendor.
    Certify(setup::Certify),
    /// Install a certificate that was made on another computer.
    Install(setup::Install),
    /// Show what this app server issues licenses with.
    Show(setup::Network),
    /// What is sold: applications with their license.
    #[command(subcommand)]
    Product(catalogue::Product),
    /// Discounts at shops.
    #[command(subcommand)]
    Offer(catalogue::Offer),
    /// Make an invitation to work for a product.
    Invite(catalogue::Invite),
    /// What points are worth, with whom.
    #[command(subcommand)]
    Agreement(agreement::Agreement),
    /// Who is registered, and with what points.
    #[command(subcommand)]
    User(user::User),
    /// What was ordered.
    #[command(subcommand)]
    Order(money::Order),
    /// What users are charged, and have paid.
    #[command(subcommand)]
    Invoice(money::Invoice),
    /// What coordinators are charged.
    #[command(subcommand)]
    Charge(money::Charge),
    /// State what a coordinator owes, for it to countersign.
    #[command(subcommand)]
    Settle(money::Settle),
    /// Suspend, restore or revoke licenses.
    #[command(subcommand)]
    License(License),
    /// Who may ask over HTTP.
    #[command(subcommand)]
    Token(token::Token),
    /// Check an unpacked delivery against what its app server has signed.
    Verify(verify::Verify),
}

impl App {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Init(init) => init.run(common),
            Self::Certify(certify) => certify.run(common),
            Self::Install(install) => install.run(common),
            Self::Show(network) => network.show(common),
            Self::Product(product) => product.run(common).await,
            Self::Offer(offer) => offer.run(common).await,
            Self::Invite(invite) => invite.run(common).await,
            Self::Agreement(agreement) => agreement.run(common).await,
            Self::User(user) => user.run(common).await,
            Self::Order(order) => order.run(common).await,
            Self::Invoice(invoice) => invoice.run(common).await,
            Self::Charge(charge) => charge.run(common).await,
            Self::Settle(settle) => settle.run(common).await,
            Self::License(license) => license.run(common).await,
            Self::Token(token) => token.run(common).await,
            Self::Verify(verify) => verify.run(common),
        }
    }
}

/// Asks the app server of the data folder.
async fn put<T: DeserializeOwned>(common: &Common, question: AppAsk) -> Result<T, Failure> {
    Ok(ask(&common.folder()?.socket(), &Request::App { question }).await?)
}

/// Has the app server of the data folder do something.
async fn command<T: DeserializeOwned>(common: &Common, command: Order) -> Result<T, Failure> {
    let command = Box::new(command);
    put(common, AppAsk::Command { command }).await
}

/// Prints that something was done.
fn done(common: &Common, value: &impl Serialize, text: &str) -> Result<(), Failure> {
    common.output().result(value, || text.to_owned())
}

/// Returns an amount below zero with its sign.
pub(super) fn signed(minor: i64, of: Money) -> String {
    let amount = Money {
        minor: minor.unsigned_abs(),
        ..of
    };
    if minor < 0 {
        format!("-{amount}")
    } else {
        amount.to_string()
    }
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Valid => "valid",
        Status::Suspended => "suspended",
        Status::Revoked => "revoked",
    }
}

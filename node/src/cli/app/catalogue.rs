//! What an app server sells: products, offers, and invitations to work for them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use tally_protocol::account::Money;
use tally_protocol::app_server::{self, Command as Order, DiscountOffer, OfferId};
use tally_protocol::license::{LicenseTerms, Renewal};
use tally_protocol::points::Points;
use tally_protocol::product::ProductId;
use tally_protocol::task::BlobRef;

use super::{DAY_SECONDS, command, put};
use crate::app_server::operator::AppAsk;
use crate::cli::output::table_or;
use crate::cli::{Common, Exit, Failure};

/// `tally app product`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Product {
    /// Put a product into the catalogue, or replace it; orders keep the terms that they were opened under.
    Add(Add),
    /// List the products.
    List,
}

/// `tally app product add`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Add {
    /// Its short name: small letters, digits and dashes.
    id: ProductId,
    /// Its name for people.
    #[arg(long, value_name = "TEXT")]
    name: String,
    /// What a license costs: "12.50 EUR".
    #[arg(long, value_name = "MONEY")]
    price: Money,
    /// The user application: one file, or a tar archive.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// How it is started: the program in the archive, then its arguments; the last option, since it takes all words that
    /// follow. [default: the name of the file]
    #[arg(long, value_name = "WORD", num_args = 1.., allow_hyphen_values = true)]
    launch: Vec<String>,
    /// What a license allows to use of it; may be given several times.
    #[arg(long, value_name = "TEXT")]
    entitlement: Vec<String>,
    /// For how many days a license holds.
    #[arg(long, default_value_t = 365, value_name = "N")]
    license_days: u64,
    /// For how many days the application may go on afterwards, or without a fresh status list.
    #[arg(long, default_value_t = 14, value_name = "N")]
    grace_days: u64,
    /// For how many hours a status list is as good as a new one.
    #[arg(long, default_value_t = 48, value_name = "N")]
    status_hours: u64,
    /// Points for which a license is renewed. [default: it is not]
    #[arg(long, value_name = "POINTS", requires = "renew_days")]
    renew_points: Option<Points>,
    /// For how many days it is renewed.
    #[arg(long, value_name = "N", requires = "renew_points")]
    renew_days: Option<u64>,
    /// For how many days a computer is registered for it.
    #[arg(long, default_value_t = 365, value_name = "N")]
    enrolment_days: u64,
}

/// `tally app offer`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Offer {
    /// Put a discount into the catalogue, or replace it.
    Add(AddOffer),
    /// List the discounts.
    List,
}

/// `tally app offer add`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AddOffer {
    /// Its short name: small letters, digits and dashes.
    id: OfferId,
    /// What it is, for people.
    #[arg(long, value_name = "TEXT")]
    title: String,
    /// The most that points may pay of a fee, in percent.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: u8,
    /// The most that points may pay of a fee: "20.00 EUR".
    #[arg(long, value_name = "MONEY")]
    at_most: Money,
    /// Only for this product. [default: for whatever the shop sells]
    #[arg(long, value_name = "PRODUCT")]
    product: Option<ProductId>,
    /// The least fee.
    #[arg(long, value_name = "MONEY")]
    from: Option<Money>,
    /// For how many days a voucher may be used.
    #[arg(long, default_value_t = 30, value_name = "N")]
    days: u64,
}

/// `tally app invite`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Invite {
    /// The product.
    product: ProductId,
    /// For how many days it holds.
    #[arg(long, default_value_t = 7, value_name = "N")]
    days: u32,
    /// Write it to this file. [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Product {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run(common).await,
            Self::List => {
                let (products, _) = catalogue(common).await?;
                common.output().result(&products, || {
                    let row = |product: &app_server::Product| {
                        vec![
                            product.id.to_string(),
                            product.price.to_string(),
                            renewal(product.terms.renewal),
                            product.name.clone(),
                        ]
                    };
                    let rows: Vec<_> = products.iter().map(row).collect();
                    table_or(
                        &["product", "price", "renewal", "name"],
                        &rows,
                        "no product yet: `tally app product add`",
                    )
                })
            }
        }
    }
}

fn renewal(rule: Option<Renewal>) -> String {
    rule.map_or("none".to_owned(), |rule| {
        let days = rule.period_seconds / DAY_SECONDS;
        format!("{} points for {days} days", rule.points)
    })
}

impl Add {
    async fn run(self, common: &Common) -> Result<(), Failure> {
        let path = std::path::absolute(&self.file)?;
        if !path.is_file() {
            let message = format!("read the application {}: it is no file", path.display());
            return Err(Failure::new(Exit::Usage, message));
        }
        let bundle: BlobRef = put(common, AppAsk::Import { path: path.clone() }).await?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let launch = if self.launch.is_empty() {
            vec![name.into_owned()]
        } else {
            self.launch
        };
        let renewal = self.renew_points.zip(self.renew_days);
        let product = app_server::Product {
            id: self.id.clone(),
            name: self.name,
            price: self.price,
            terms: LicenseTerms {
                product: self.id,
                entitlements: self.entitlement,
                life_seconds: self.license_days * DAY_SECONDS,
                grace_seconds: self.grace_days * DAY_SECONDS,
                status_max_age_seconds: self.status_hours * 3_600,
                renewal: renewal.map(|(points, days)| Renewal {
                    points,
                    period_seconds: days * DAY_SECONDS,
                }),
            },
            bundle,
            launch,
            enrolment_seconds: self.enrolment_days * DAY_SECONDS,
        };
        let shown =
            json!({"product": product.id, "price": product.price, "bundle": product.bundle});
        let text = format!(
            "{} is sold for {}: {} bytes, started as {:?}",
            product.id, product.price, product.bundle.bytes, product.launch
        );
        let () = command(common, Order::Offer(Box::new(product))).await?;
        common.output().result(&shown, || text)
    }
}

impl Offer {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Add(add) => {
                let offer = add.offer()?;
                let shown = json!({"offer": offer.id, "title": offer.title});
                let text = format!(
                    "{}: points pay at most {} percent of a fee and {}",
                    offer.id, offer.percent_max, offer.amount_max
                );
                let () = command(common, Order::Discount(Box::new(offer))).await?;
                common.output().result(&shown, || text)
            }
            Self::List => {
                let (_, offers) = catalogue(common).await?;
                common.output().result(&offers, || {
                    let row = |offer: &DiscountOffer| {
                        vec![
                            offer.id.to_string(),
                            format!("{} %", offer.percent_max),
                            offer.amount_max.to_string(),
                            offer.title.clone(),
                        ]
                    };
                    let rows: Vec<_> = offers.iter().map(row).collect();
                    table_or(
                        &["offer", "percent", "at most", "title"],
                        &rows,
                        "no offer yet: `tally app offer add`",
                    )
                })
            }
        }
    }
}

impl AddOffer {
    fn offer(self) -> Result<DiscountOffer, Failure> {
        let least = self.from.unwrap_or(Money {
            minor: 0,
            ..self.at_most
        });
        if least.currency != self.at_most.currency {
            let message = format!(
                "offer a discount: --from is in {}, --at-most in {}",
                least.currency, self.at_most.currency
            );
            return Err(Failure::new(Exit::Usage, message).hint("use one currency"));
        }
        Ok(DiscountOffer {
            id: self.id,
            title: self.title,
            percent_max: self.percent,
            amount_max: self.at_most,
            product: self.product,
            fee_min: least.minor,
            life_seconds: self.days * DAY_SECONDS,
        })
    }
}

impl Invite {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let (product, days) = (self.product, self.days);
        let text: String = put(common, AppAsk::Invite { product, days }).await?;
        match &self.out {
            Some(file) => {
                std::fs::write(file, &text)?;
                let shown = json!({"file": file});
                let note = format!("the invitation is in {}", file.display());
                common.output().result(&shown, || note)
            }
            None => common
                .output()
                .result(&json!({"invite": text}), || text.clone()),
        }
    }
}

type Catalogue = (Vec<app_server::Product>, Vec<DiscountOffer>);

async fn catalogue(common: &Common) -> Result<Catalogue, Failure> {
    put(common, AppAsk::Catalogue).await
}

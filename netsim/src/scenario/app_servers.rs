//! App servers and owners: who sells what for points, and who buys.
//!
//! All app servers sell the same: a license, which can be renewed, and a voucher for half of a shop's fee. Points are
//! worth what the priced rate card has put aside for them, and nothing where work is free.

use std::time::Duration;

use serde::Deserialize;
use tally_protocol::account::Money;
use tally_protocol::agreement::Agreement;
use tally_protocol::app_server::{DiscountOffer, OfferId, Product};
use tally_protocol::coordinator::{Admission, Decision};
use tally_protocol::id::NodeId;
use tally_protocol::license::{LicenseTerms, Renewal};
use tally_protocol::points::Points;
use tally_protocol::product::ProductId;
use tally_protocol::task::BlobRef;
use tally_protocol::time::Timestamp;

use super::{Rate, Scenario, ScenarioError, bounded, currency};
use crate::conduct::Kind;

/// What a license costs.
pub(crate) const LICENSE_CENTS: u64 = 200;
/// What it costs to renew one.
pub(crate) const RENEWAL_POINTS: Points = Points::from_micro(50_000_000);
/// The fee at a shop that vouchers are for.
pub(crate) const VOUCHER_FEE_CENTS: u64 = 300;
/// What is worth a cent at an app server.
pub(crate) const MICRO_POINTS_PER_CENT: u64 = 1_250_000;

/// How long a day of accounts is here, so that a short world sees several.
const PERIOD_SECONDS: u32 = 300;
/// How long agreements hold: longer than every world.
const AGREEMENT_LIFE: Duration = Duration::from_secs(40 * 24 * 3_600);

/// Whose results coordinators take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admits {
    /// Those of registered terminals as soon as there is an agreement, until then everybody's.
    #[default]
    ByAgreement,
    /// Those of registered terminals only.
    Registered,
    /// Everybody's.
    Open,
}

impl Admits {
    pub(crate) const fn admission(self) -> Admission {
        match self {
            Self::ByAgreement => Admission::ByAgreement,
            Self::Registered => Admission::Registered,
            Self::Open => Admission::Open,
        }
    }
}

/// What the operator of a coordinator decides about agreements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decides {
    /// All are made.
    #[default]
    Accept,
    /// None is.
    Decline,
}

impl Decides {
    pub(crate) const fn decision(self) -> Decision {
        match self {
            Self::Accept => Decision::Accept,
            Self::Decline => Decision::Decline,
        }
    }
}

/// App servers that are alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppServers {
    /// How many.
    #[serde(default = "super::one")]
    pub count: u32,
    /// Their line.
    #[serde(default = "super::server")]
    pub line: String,
    /// Median time in which the disk takes a group of records.
    #[serde(default = "super::commit", with = "humantime_serde")]
    pub commit: Duration,
    /// Mean time between crashes; never, if it is not given.
    #[serde(default, with = "humantime_serde")]
    pub crash_every: Option<Duration>,
    /// The longest time that a crashed one is down.
    #[serde(default = "super::down", with = "humantime_serde")]
    pub down: Duration,
    /// How far clocks are off at most, each way.
    #[serde(default, with = "humantime_serde")]
    pub clock_off: Duration,
    /// How they behave.
    #[serde(default)]
    pub conduct: Kind,
    /// Facts after which the journal is replaced by a snapshot.
    #[serde(default = "super::snapshot_every")]
    pub snapshot_every: u64,
    /// When they propose an agreement to each coordinator.
    #[serde(default, with = "humantime_serde")]
    pub agree_at: Duration,
    /// The most that may be redeemed with each coordinator in five minutes.
    #[serde(default = "plenty")]
    pub cap: Money,
    /// The most that may be redeemed with each coordinator and not paid.
    #[serde(default = "plenty")]
    pub credit: Money,
    /// What coordinators owe for each registered computer that earns something in five minutes.
    #[serde(default = "nothing")]
    pub supply_fee: Money,
    /// How often they settle with each coordinator.
    #[serde(default = "settle_every", with = "humantime_serde")]
    pub settle_every: Duration,
    /// How long a registration holds.
    #[serde(default = "enrolment", with = "humantime_serde")]
    pub enrolment: Duration,
    /// How long an order whose points are taken waits for the user's part.
    #[serde(default = "pay_within", with = "humantime_serde")]
    pub pay_within: Duration,
    /// How often some computer is not registered any more; it enrols again. Never, if it is not given.
    #[serde(default, with = "humantime_serde")]
    pub revoke_every: Option<Duration>,
}

fn plenty() -> Money {
    let minor = 100_000_000;
    let currency = currency();
    Money { currency, minor }
}

fn nothing() -> Money {
    let (currency, minor) = (currency(), 0);
    Money { currency, minor }
}

const fn settle_every() -> Duration {
    Duration::from_secs(300)
}

const fn enrolment() -> Duration {
    Duration::from_secs(600)
}

const fn pay_within() -> Duration {
    Duration::from_secs(600)
}

/// Owners of terminals who buy something.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owners {
    /// How many: of this terminal and of those after it.
    #[serde(default = "super::one")]
    pub count: u32,
    /// The first terminal, from 0.
    #[serde(default)]
    pub terminal: u32,
    /// The line of their client.
    #[serde(default = "super::home")]
    pub line: String,
    /// How they behave.
    #[serde(default)]
    pub conduct: Kind,
    /// The app servers where they buy, in turn; all if it is not given.
    #[serde(default)]
    pub app_servers: Vec<u32>,
    /// When they begin.
    #[serde(default, with = "humantime_serde")]
    pub at: Duration,
    /// How often each orders something.
    #[serde(default = "super::one")]
    pub orders: u32,
    /// The pause between two orders, about.
    #[serde(default = "every", with = "humantime_serde")]
    pub every: Duration,
    /// After this time they order nothing more.
    #[serde(default = "patience", with = "humantime_serde")]
    pub patience: Duration,
}

const fn every() -> Duration {
    Duration::from_secs(20)
}

const fn patience() -> Duration {
    Duration::from_secs(1_800)
}

impl AppServers {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        super::fitting(
            "app_servers.conduct",
            self.conduct,
            Kind::is_for_app_servers,
        )?;
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3_600));
        bounded("app_servers.enrolment", self.enrolment, second * 60..=day)?;
        bounded("app_servers.settle_every", self.settle_every, second..=day)?;
        bounded("app_servers.pay_within", self.pay_within, second..=day)?;
        for (key, money) in [
            ("app_servers.cap", self.cap),
            ("app_servers.credit", self.credit),
            ("app_servers.supply_fee", self.supply_fee),
        ] {
            if money.currency != currency() {
                return Err(ScenarioError::Bounds {
                    key,
                    value: money.to_string(),
                    bounds: "an amount of EUR".to_owned(),
                });
            }
        }
        Ok(())
    }
}

impl Owners {
    pub(super) fn check(&self, scenario: &Scenario, app_servers: u32) -> Result<(), ScenarioError> {
        super::fitting("owners.conduct", self.conduct, Kind::is_for_owners)?;
        let groups = scenario.terminals.iter();
        let terminals = groups.map(|group| group.count).sum::<u32>();
        is_there("owners.terminal", self.terminal, terminals)?;
        let last = self.terminal.saturating_add(self.count.saturating_sub(1));
        is_there("owners.count", last, terminals)?;
        // One without any would have nowhere to buy.
        bounded("the number of app servers", app_servers, 1..=1_000)?;
        for app_server in &self.app_servers {
            is_there("owners.app_servers", *app_server, app_servers)?;
        }
        Ok(())
    }
}

/// Checks that there is something of this number, of so many.
pub(super) fn is_there(key: &'static str, number: u32, count: u32) -> Result<(), ScenarioError> {
    if number < count {
        return Ok(());
    }
    Err(ScenarioError::Bounds {
        key,
        value: number.to_string(),
        bounds: format!("below {count}"),
    })
}

/// Returns what an app server proposes to a coordinator, whose rates are these.
pub(crate) fn agreement(
    group: &AppServers,
    (app_server, coordinator): (NodeId, NodeId),
    rate: Rate,
    now: Timestamp,
) -> Agreement {
    Agreement {
        app_server,
        coordinator,
        number: 1,
        currency: currency(),
        value: rate.rates().reserve,
        period_seconds: PERIOD_SECONDS,
        cap: group.cap.minor,
        credit: group.credit.minor,
        supply_fee: group.supply_fee.minor,
        supply_devices_max: 1_000,
        not_before: now - Duration::from_secs(3_600),
        not_after: now + AGREEMENT_LIFE,
    }
}

/// Returns the name of what is sold.
pub(crate) fn product_name() -> ProductId {
    "photo".parse().expect("a legal name of a product")
}

/// Returns the name of the discount.
pub(crate) fn offer_name() -> OfferId {
    "half".parse().expect("a legal name of an offer")
}

/// Returns what is sold: a license for a day, which can be renewed.
pub(crate) fn product(group: &AppServers) -> Product {
    let day = 24 * 3_600;
    Product {
        id: product_name(),
        name: "Photo Editor".to_owned(),
        price: cents(LICENSE_CENTS),
        terms: LicenseTerms {
            product: product_name(),
            entitlements: vec!["export".to_owned()],
            life_seconds: day,
            grace_seconds: day,
            status_max_age_seconds: day,
            renewal: Some(Renewal {
                points: RENEWAL_POINTS,
                period_seconds: day,
            }),
        },
        bundle: BlobRef::of(b"bundle"),
        launch: vec!["photo".to_owned()],
        enrolment_seconds: group.enrolment.as_secs(),
    }
}

/// Returns the discount: half of a fee.
pub(crate) fn discount() -> DiscountOffer {
    DiscountOffer {
        id: offer_name(),
        title: "Half price".to_owned(),
        percent_max: 50,
        amount_max: cents(VOUCHER_FEE_CENTS),
        product: None,
        fee_min: 100,
        life_seconds: 24 * 3_600,
    }
}

fn cents(minor: u64) -> Money {
    let currency = currency();
    Money { currency, minor }
}

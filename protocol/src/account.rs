//! Accounts of the books of a coordinator or an app server, and what is counted on them.
//!
//! There are two kinds of things to count, and no account holds both: the points of this coordinator, in micro-points,
//! and money, in minor units of an ISO 4217 currency. All amounts are integers.
//!
//! Points that an owner has are kept in **lots**: points earned under one version of the rate card that may be spent
//! from one moment on. A lot in escrow becomes a spendable lot with the same name, so that spending can take the oldest
//! first and points can expire.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ParseIdError, RedemptionId, TaskId};
use crate::time::Timestamp;

/// A currency by its ISO 4217 code: three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// Returns the letters of the code.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 3] {
        &self.0
    }

    /// Takes the letters of a code; none if they are not capital letters.
    #[must_use]
    pub fn from_bytes(code: [u8; 3]) -> Option<Self> {
        let legal = code.iter().all(u8::is_ascii_uppercase);
        legal.then_some(Self(code))
    }

    /// Returns how many decimals the currency has (ISO 4217, list one, "minor unit").
    #[must_use]
    pub const fn decimals(&self) -> u8 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG"
            | b"RWF" | b"UGX" | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            b"CLF" | b"UYW" => 4,
            _ => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.0).unwrap_or("???"))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Currency {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let code = <[u8; 3]>::try_from(text.as_bytes()).ok();
        code.and_then(Self::from_bytes).ok_or_else(|| {
            ParseIdError::new(text, "a currency (three capital letters of ISO 4217: EUR)")
        })
    }
}

impl TryFrom<String> for Currency {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.to_string()
    }
}

/// An amount of money: `12.50 EUR`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Money {
    /// The currency.
    pub currency: Currency,
    /// How much, in its minor units.
    pub minor: u64,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = decimal(u128::from(self.minor), self.currency.decimals());
        f.pad(&format!("{amount} {}", self.currency))
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Money {
    type Err = ParseIdError;

    /// Reads `12.50 EUR`; fewer decimals than the currency has are as if zeros followed, more are refused.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse_money(text).ok_or_else(|| {
            ParseIdError::new(text, "an amount of money (for example \"12.50 EUR\")")
        })
    }
}

impl TryFrom<String> for Money {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Money> for String {
    fn from(money: Money) -> Self {
        money.to_string()
    }
}

fn parse_money(text: &str) -> Option<Money> {
    let (amount, currency) = text.trim().split_once(' ')?;
    let currency: Currency = currency.trim().parse().ok()?;
    let decimals = usize::from(currency.decimals());
    let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    let is_number = !whole.is_empty() && digits(whole) && digits(part) && part.len() <= decimals;
    if !is_number || amount.ends_with('.') {
        return None;
    }
    let minor = format!("{whole}{part:0<decimals$}").parse().ok()?;
    Some(Money { currency, minor })
}

/// Writes `amount` with a point before the last `decimals` digits.
fn decimal(amount: u128, decimals: u8) -> String {
    if decimals == 0 {
        return amount.to_string();
    }
    let digits = format!("{amount:0>width$}", width = usize::from(decimals) + 1);
    let (whole, part) = digits.split_at(digits.len() - usize::from(decimals));
    format!("{whole}.{part}")
}

/// What an amount is an amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Commodity {
    /// Points of this coordinator, in micro-points.
    Points,
    /// Money, in minor units.
    Money(Currency),
}

/// How [`Commodity::Points`] is written. No currency: it has lower-case letters.
const POINTS: &str = "upt";

impl Commodity {
    /// Writes `amount` for people: points with six decimals, money with those of its currency.
    #[must_use]
    pub fn show(self, amount: i128) -> String {
        let sign = if amount < 0 { "-" } else { "" };
        let decimals = match self {
            Self::Points => 6,
            Self::Money(currency) => currency.decimals(),
        };
        format!("{sign}{}", decimal(amount.unsigned_abs(), decimals))
    }
}

impl fmt::Display for Commodity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Points => f.pad(POINTS),
            Self::Money(currency) => currency.fmt(f),
        }
    }
}

impl TryFrom<String> for Commodity {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        if text == POINTS {
            Ok(Self::Points)
        } else {
            text.parse().map(Self::Money)
        }
    }
}

impl From<Commodity> for String {
    fn from(commodity: Commodity) -> Self {
        commodity.to_string()
    }
}

/// Who earns: one computer of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The key of the person; the device's own key if nobody has certified it.
    pub owner: NodeId,
    /// The computer.
    pub device: NodeId,
}

impl Holder {
    /// Returns a computer that belongs to nobody but itself.
    #[must_use]
    pub const fn alone(device: NodeId) -> Self {
        let owner = device;
        Self { owner, device }
    }
}

/// Points of one holder that may be spent from one moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lot {
    /// Whose they are.
    pub holder: Holder,
    /// From when on they may be spent.
    pub since: Timestamp,
    /// The version of the rate card under which they were earned: it says what stands behind them.
    pub card: u32,
}

/// An account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// Points: where they come from. Its balance is minus what was ever issued and not taken back.
    Issued,
    /// Points of an owner that may still be taken back.
    Escrow(Lot),
    /// Points that an owner may spend.
    Spendable(Lot),
    /// Points that a holder spent.
    Redeemed(Holder),
    /// Points that a holder did not spend in time.
    Expired(Holder),
    /// Money: the world outside of these books. Its balance is minus what came in and has not gone out.
    Outside,
    /// Money of a customer.
    Customer(NodeId),
    /// Money held for a task. Nothing stays here: what is posted goes on in the same group.
    Held(TaskId),
    /// Money that the coordinator gives for points that no customer pays.
    Subsidy,
    /// Money that the coordinator has earned.
    Revenue,
    /// Money that stands behind the points that are not spent.
    Reserve,
    /// Money owed to an owner. Nothing stays here: it is paid out in the same group.
    Credit(NodeId),
    /// Points set aside for a redemption that is not decided.
    Reserved(RedemptionId),
    /// Money owed to an app server; below zero if more was taken back than is owed.
    Payable(NodeId),
    /// Money at an app server that a user or a coordinator owes it: its balance is minus that.
    Receivable(NodeId),
    /// Money at an app server that it has earned.
    Sales,
}

impl Account {
    /// Returns whether amounts of `commodity` may stand here.
    #[must_use]
    pub const fn takes(&self, commodity: Commodity) -> bool {
        let points = match self {
            Self::Issued
            | Self::Escrow(_)
            | Self::Spendable(_)
            | Self::Redeemed(_)
            | Self::Expired(_)
            | Self::Reserved(_) => true,
            Self::Outside
            | Self::Customer(_)
            | Self::Held(_)
            | Self::Subsidy
            | Self::Revenue
            | Self::Reserve
            | Self::Credit(_)
            | Self::Payable(_)
            | Self::Receivable(_)
            | Self::Sales => false,
        };
        points == matches!(commodity, Commodity::Points)
    }

    /// Returns whether the account may be below zero: amounts come from it, or the other side may owe something.
    #[must_use]
    pub const fn is_source(&self) -> bool {
        matches!(
            self,
            Self::Issued | Self::Outside | Self::Payable(_) | Self::Receivable(_)
        )
    }

    /// Returns whether the account is forgotten when nothing stands on it: there are ever new ones of its kind.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Escrow(_)
                | Self::Spendable(_)
                | Self::Held(_)
                | Self::Credit(_)
                | Self::Reserved(_)
        )
    }

    /// Returns whose points these are, that are not spent.
    #[must_use]
    pub const fn holder(&self) -> Option<Holder> {
        match self {
            Self::Escrow(lot) | Self::Spendable(lot) => Some(lot.holder),
            Self::Issued
            | Self::Redeemed(_)
            | Self::Expired(_)
            | Self::Outside
            | Self::Customer(_)
            | Self::Held(_)
            | Self::Subsidy
            | Self::Revenue
            | Self::Reserve
            | Self::Credit(_)
            | Self::Reserved(_)
            | Self::Payable(_)
            | Self::Receivable(_)
            | Self::Sales => None,
        }
    }
}

impl fmt::Display for Account {
    /// Writes the name as books have it, from the general to the particular: `points:owner:12D3…:12D3…:escrow:…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lot = |state: &str, lot: &Lot| {
            let Holder { owner, device } = lot.holder;
            let since: String = lot.since.to_string().replace([':', '-'], "");
            format!(
                "points:owner:{owner}:{device}:{state}:{since}:card {}",
                lot.card
            )
        };
        let gone = |how: &str, holder: &Holder| {
            let Holder { owner, device } = holder;
            format!("points:owner:{owner}:{device}:{how}")
        };
        f.pad(&match self {
            Self::Issued => "points:issued".to_owned(),
            Self::Escrow(of) => lot("escrow", of),
            Self::Spendable(of) => lot("spendable", of),
            Self::Redeemed(of) => gone("redeemed", of),
            Self::Expired(of) => gone("expired", of),
            Self::Outside => "money:outside".to_owned(),
            Self::Customer(customer) => format!("money:customer:{customer}"),
            Self::Held(task) => format!("money:held:{task}"),
            Self::Subsidy => "money:subsidy".to_owned(),
            Self::Revenue => "money:revenue".to_owned(),
            Self::Reserve => "money:reserve".to_owned(),
            Self::Credit(owner) => format!("money:credit:{owner}"),
            Self::Reserved(redemption) => format!("points:reserved:{redemption}"),
            Self::Payable(app_server) => format!("money:payable:{app_server}"),
            Self::Receivable(from) => format!("money:receivable:{from}"),
            Self::Sales => "money:sales".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_and_written_with_the_decimals_of_its_currency() {
        for (text, minor) in [
            ("12.50 EUR", 1_250),
            ("0.05 USD", 5),
            ("7 JPY", 7),
            ("1.234 KWD", 1_234),
        ] {
            let money: Money = text.parse().unwrap();
            assert_eq!((money.minor, money.to_string().as_str()), (minor, text));
        }
        assert_eq!("3 EUR".parse::<Money>().unwrap().minor, 300);
        assert_eq!("3.5 EUR".parse::<Money>().unwrap().minor, 350);
    }

    #[test]
    fn what_is_no_money_is_refused_with_the_value() {
        for text in [
            "",
            "5",
            "EUR",
            "5 eur",
            "5.001 EUR",
            "1. EUR",
            "-1 EUR",
            "1e3 EUR",
            ".5 EUR",
            "7.5 JPY",
        ] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
        let most = format!("{}0 EUR", u64::MAX);
        assert!(most.parse::<Money>().is_err());
        assert!(
            "5.001 EUR"
                .parse::<Money>()
                .unwrap_err()
                .to_string()
                .contains("5.001 EUR")
        );
    }

    #[test]
    fn no_account_takes_both_points_and_money() {
        let euro = Commodity::Money("EUR".parse().unwrap());
        for account in [
            Account::Issued,
            Account::Reserve,
            Account::Outside,
            Account::Expired(Holder::alone(NodeId::from_bytes([1; 32]))),
        ] {
            assert_ne!(account.takes(Commodity::Points), account.takes(euro));
        }
    }
}

//! The configuration of a node: `tally.toml` in its folder, and what the command line says over it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use libp2p::Multiaddr;
use serde::{Deserialize, Deserializer, de};
use tally_protocol::account::{Currency, Money};
use tally_protocol::coordinator::{Admission, Customers};
use tally_protocol::id::{BlobId, NetworkId, NodeId};
use tally_protocol::message::announce::Role;
use tally_protocol::product::ProductId;
use tally_protocol::rate_card::{PixelWeight, Price, Rates};
use tally_protocol::task::job::ByteSize;
use tally_sandbox::Priority;

use crate::page::PageAddress;

/// What `tally.toml` may say. Everything has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The network; nodes of different networks have nothing to do with each other.
    pub network: NetworkId,
    /// Addresses to listen on. A terminal needs none.
    pub listen: Vec<Multiaddr>,
    /// Addresses under which others reach the node, if they are not those it listens on.
    pub external: Vec<Multiaddr>,
    /// Nodes to connect to first, as `/ip4/.../tcp/.../p2p/12D3KooW...`.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether to find nodes on the local network.
    pub mdns: bool,
    /// The coordinator's part.
    pub coordinator: CoordinatorTable,
    /// The terminal's part.
    pub terminal: TerminalTable,
    /// The app server's part.
    pub app_server: AppServerTable,
}

/// `[coordinator]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoordinatorTable {
    /// `"any"`, or a list of customers' ids.
    pub customers: CustomerList,
    /// Whose results it takes: `"registered"` or `"open"`; by default registered as soon as there is an agreement.
    pub admission: WrittenAdmission,
    /// The most tasks at a time.
    pub tasks_max: usize,
    /// The largest input.
    pub input_max: Size,
    /// The largest program.
    pub program_max: Size,
    /// The most disk space for the contents of all tasks.
    pub disk_max: Size,
    /// For how many hours a result is kept.
    pub keep_hours: u64,
    /// Facts after which the journal is replaced by a snapshot: fewer make a restart faster and the work slower.
    pub snapshot_every: NonZeroU64,
    /// Of 1,000 validated units, how many are leased once more to see who tells the truth.
    pub known_per_mille: PerMille,
    /// What work costs here and earns.
    pub rates: RatesTable,
}

/// `[coordinator.rates]`: the rate card. A change holds for tasks that are submitted after the next start.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, try_from = "WrittenRates")]
pub struct RatesTable(Rates);

impl RatesTable {
    /// Returns the constants, which are within their bounds.
    #[must_use]
    pub fn rates(&self) -> Rates {
        self.0.clone()
    }
}

/// The rates as they are written.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenRates {
    /// What customers pay for `per_points` points.
    price: Money,
    /// What of it is put aside for owners until they spend the points.
    reserve: Money,
    /// See `price`.
    per_points: NonZeroU64,
    /// Of what is earned, in percent, what stays in escrow at first.
    escrow_percent: u16,
    /// For how long.
    escrow_seconds: u64,
    /// Points released within so many seconds are one lot.
    lot_seconds: u64,
    /// How long points can be spent; 0 for ever.
    life_seconds: u64,
    /// Programs that are paid by pixels, and the fuel that one of their pixels counts as.
    pixels: BTreeMap<BlobId, u64>,
}

impl Default for WrittenRates {
    fn default() -> Self {
        let currency = default_currency();
        let rates = Rates::free(currency);
        let nothing = Money { currency, minor: 0 };
        Self {
            price: nothing,
            reserve: nothing,
            per_points: NonZeroU64::new(1_000).expect("not zero"),
            escrow_percent: rates.escrow_permille / 10,
            escrow_seconds: rates.escrow_seconds,
            lot_seconds: rates.lot_seconds,
            life_seconds: rates.life_seconds,
            pixels: BTreeMap::new(),
        }
    }
}

fn default_currency() -> Currency {
    "EUR".parse().expect("a currency")
}

impl TryFrom<WrittenRates> for RatesTable {
    type Error = String;

    fn try_from(written: WrittenRates) -> Result<Self, String> {
        let currency = written.price.currency;
        if written.reserve.currency != currency {
            return Err(format!(
                "reserve is {}, it must be in {currency} as the price is",
                written.reserve
            ));
        }
        let micro_points = written.per_points.get().saturating_mul(1_000_000);
        let price = |money: Money| Price {
            minor: money.minor,
            micro_points,
        };
        let weights = written.pixels.into_iter();
        let rates = Rates {
            price: price(written.price),
            reserve: price(written.reserve),
            escrow_permille: written.escrow_percent.saturating_mul(10),
            escrow_seconds: written.escrow_seconds,
            lot_seconds: written.lot_seconds,
            life_seconds: written.life_seconds,
            pixel_weights: weights
                .map(|(program, fuel)| PixelWeight { program, fuel })
                .collect(),
            ..Rates::free(currency)
        };
        rates.check().map_err(|error| error.to_string())?;
        Ok(Self(rates))
    }
}

impl Default for RatesTable {
    fn default() -> Self {
        Self::try_from(WrittenRates::default()).expect("the defaults are within their bounds")
    }
}

/// `[terminal]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TerminalTable {
    /// Units run at a time, at most: `preferences.toml` says how many of them at the moment.
    pub slots: NonZeroUsize,
    /// How the sandboxes are scheduled beside everything else.
    pub priority: Priority,
    /// Whether other terminals on the same task may be told this one's address.
    pub share_address: bool,
    /// The most disk space for receipts and what proves them.
    pub wallet_max: Size,
    /// The product whose license the points of this computer's owner are for: it is ordered as soon as they suffice.
    pub goal: Option<ProductId>,
    /// Where the owner's page is answered: an address of this computer alone, or `"off"`.
    pub page: PageAddress,
}

/// `[app_server]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppServerTable {
    /// Where it answers HTTP. Anything but loopback should be behind a proxy that speaks TLS.
    pub http: SocketAddr,
    /// The address under which others reach that, if it is another one: it stands in the OpenAPI document.
    pub url: Option<String>,
    /// For how many hours an order whose points are taken waits for the user's part.
    pub pay_hours: u64,
    /// How often a status list of the licenses is issued, in minutes.
    pub status_minutes: u64,
    /// The most disk space for the applications that are delivered.
    pub applications_max: Size,
    /// Facts after which the journal is replaced by a snapshot.
    pub snapshot_every: NonZeroU64,
}

/// A size in bytes, written as in job files.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub struct Size(ByteSize);

impl Size {
    /// Returns the size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0.0
    }
}

/// A share of 1,000.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u16")]
pub struct PerMille(u16);

impl PerMille {
    /// Returns the share, 0 to 1,000.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for PerMille {
    type Error = String;

    fn try_from(share: u16) -> Result<Self, String> {
        if share <= 1_000 {
            Ok(Self(share))
        } else {
            Err(format!("{share} of 1000 is more than all: 0 to 1000"))
        }
    }
}

/// Whose results a coordinator takes, as it is written.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct WrittenAdmission(pub Admission);

impl TryFrom<String> for WrittenAdmission {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "registered" => Ok(Self(Admission::Registered)),
            "open" => Ok(Self(Admission::Open)),
            _ => Err(format!(
                "admission is {text:?}, it must be \"registered\" or \"open\""
            )),
        }
    }
}

/// Whose tasks a coordinator takes.
#[derive(Debug, Clone)]
pub struct CustomerList(pub Customers);

impl FromStr for CustomerList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "any" {
            return Ok(Self(Customers::Any));
        }
        let listed = text
            .split(',')
            .filter(|part| !part.is_empty())
            .map(str::parse::<NodeId>);
        let listed: Result<BTreeSet<NodeId>, _> = listed.collect();
        listed
            .map(Customers::Listed)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl<'de> Deserialize<'de> for CustomerList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "\"any\" or a list of customers' ids")]
        enum Written {
            Word(String),
            List(Vec<String>),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Word(word) => word,
            Written::List(list) => list.join(","),
        };
        text.parse().map_err(de::Error::custom)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: "tally".parse().expect("a network name"),
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: true,
            coordinator: CoordinatorTable::default(),
            terminal: TerminalTable::default(),
            app_server: AppServerTable::default(),
        }
    }
}

impl Default for AppServerTable {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([127, 0, 0, 1], 4880)),
            url: None,
            pay_hours: 7 * 24,
            status_minutes: 60,
            applications_max: gib(20),
            snapshot_every: NonZeroU64::new(5_000).expect("not zero"),
        }
    }
}

const fn gib(count: u64) -> Size {
    Size(ByteSize(count << 30))
}

impl Default for CoordinatorTable {
    fn default() -> Self {
        Self {
            customers: CustomerList(Customers::Listed(BTreeSet::new())),
            admission: WrittenAdmission(Admission::ByAgreement),
            tasks_max: 1_000,
            input_max: gib(1),
            program_max: Size(ByteSize(32 << 20)),
            disk_max: gib(20),
            keep_hours: 7 * 24,
            snapshot_every: NonZeroU64::new(5_000).expect("not zero"),
            known_per_mille: PerMille(10),
            rates: RatesTable::default(),
        }
    }
}

impl Default for TerminalTable {
    fn default() -> Self {
        Self {
            slots: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            priority: Priority::default(),
            share_address: true,
            wallet_max: gib(1),
            goal: None,
            page: PageAddress::default(),
        }
    }
}

/// Why a configuration is not one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration {path}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("read the configuration {path}\n{reason}")]
    Toml {
        /// The file.
        path: String,
        /// Line and reason.
        reason: String,
    },
}

impl Config {
    /// Reads a configuration; the defaults if there is no file and `optional` says that this is fine.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path, optional: Optional) -> Result<Self, ConfigError> {
        let name = || path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| ConfigError::Toml {
                path: name(),
                reason: error.to_string().trim_end().to_owned(),
            }),
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && optional == Optional::Yes =>
            {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Io {
                path: name(),
                source,
            }),
        }
    }

    /// Returns where to listen: what is configured, else the usual port for roles that others must reach.
    #[must_use]
    pub fn listen_for(&self, roles: &[Role]) -> Vec<Multiaddr> {
        let is_reached =
            |role: &Role| matches!(role, Role::Coordinator | Role::AppServer | Role::Bootstrap);
        let reached = roles.iter().any(is_reached);
        if self.listen.is_empty() && reached {
            return vec!["/ip4/0.0.0.0/tcp/4810".parse().expect("an address")];
        }
        self.listen.clone()
    }

    /// Returns how long a coordinator keeps results.
    #[must_use]
    pub const fn retention(&self) -> Duration {
        Duration::from_secs(self.coordinator.keep_hours * 3_600)
    }
}

/// Whether a file may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optional {
    /// It may.
    Yes,
    /// It was named, so it must be there.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tally.toml");
        std::fs::write(&path, "[terminal]\nslot = 2\n").unwrap();
        let error = Config::read(&path, Optional::Yes).unwrap_err().to_string();
        assert!(
            error.contains("unknown field `slot`") && error.contains("line 2"),
            "{error}"
        );
    }

    #[test]
    fn customers_are_any_or_listed() {
        let text = "[coordinator]\ncustomers = \"any\"\ninput_max = \"2 GiB\"\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.coordinator.customers.0, Customers::Any);
        assert_eq!(config.coordinator.input_max.bytes(), 2 << 30);
        assert_eq!(
            Config::default().coordinator.customers.0,
            Customers::Listed(BTreeSet::new())
        );
        assert!(toml::from_str::<Config>("[coordinator]\ncustomers = [\"nobody\"]").is_err());
    }

    #[test]
    fn the_page_is_for_this_computer_alone() {
        let read =
            |page: &str| toml::from_str::<Config>(&format!("[terminal]\npage = \"{page}\"\n"));
        assert_eq!(read("off").unwrap().terminal.page, PageAddress::Off);
        let error = read("0.0.0.0:0").unwrap_err().to_string();
        assert!(error.contains("page is \"0.0.0.0:0\""), "{error}");
    }

    #[test]
    fn admission_is_registered_or_open_and_by_agreement_if_nothing_is_said() {
        let read = |word: &str| {
            let text = format!("[coordinator]\nadmission = \"{word}\"\n");
            toml::from_str::<Config>(&text).map(|config| config.coordinator.admission.0)
        };
        assert_eq!(read("registered").unwrap(), Admission::Registered);
        assert_eq!(read("open").unwrap(), Admission::Open);
        let default = Config::default().coordinator.admission.0;
        assert_eq!(default, Admission::ByAgreement);
        let error = read("closed").unwrap_err().to_string();
        assert!(error.contains("admission is \"closed\""), "{error}");
    }

    #[test]
    fn rates_are_prices_for_points_and_make_sense() {
        let read = |text: &str| toml::from_str::<Config>(&format!("[coordinator.rates]\n{text}"));
        let config = read("price = \"3 EUR\"\nreserve = \"2 EUR\"\nper_points = 50\n").unwrap();
        let rates = config.coordinator.rates.rates();
        let (minor, micro_points) = (300, 50_000_000);
        assert_eq!(
            rates.price,
            Price {
                minor,
                micro_points
            }
        );
        let error = read("price = \"3 EUR\"\nreserve = \"4 EUR\"\n").unwrap_err();
        assert!(
            error.to_string().contains("it must be at most the price"),
            "{error}"
        );
        let error = read("price = \"3 EUR\"\nreserve = \"1 USD\"\n").unwrap_err();
        assert!(error.to_string().contains("it must be in EUR"), "{error}");
        let error = read("price = \"3\"\n").unwrap_err().to_string();
        assert!(error.contains("\"3\" is not an amount of money"), "{error}");
    }

    #[test]
    fn the_documented_configuration_is_the_default() {
        let page = include_str!("../../docs/operations.md");
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        let mut written: Config = toml::from_str(text).unwrap();
        let default = Config::default();
        written.terminal.slots = default.terminal.slots;
        assert_eq!(format!("{written:?}"), format!("{default:?}"));
    }
}

//! Scenarios: who takes part, what is asked for and what goes wrong, as TOML.
//!
//! A scenario says nothing of chance: the seed does. Durations are texts such as "20 min", "1h 30m" or "250 ms", sizes
//! such as "64 KiB". A key that is not known is an error, as is a value that makes no sense together with others.

mod app_servers;
#[cfg(test)]
mod documented;
mod orders;
pub mod shipped;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use tally_protocol::account::{Currency, Money};
use tally_protocol::id::{NodeId, RateCardId};
use tally_protocol::rate_card::{Price, Rates};
use tally_protocol::task::job::ByteSize;
use tally_protocol::task::{QUORUM_TOTAL_MAX, TaskError, UNITS_MAX};
use tally_protocol::time::Timestamp;

use crate::conduct::Kind;
use crate::links::Line;
pub use app_servers::{Admits, AppServers, Decides, Owners};
pub(crate) use app_servers::{
    LICENSE_CENTS, MICRO_POINTS_PER_CENT, RENEWAL_POINTS, VOUCHER_FEE_CENTS, agreement, discount,
    offer_name, product, product_name,
};
pub use orders::{OrderTable, Wanted};

/// The most nodes of one world.
pub const NODES_MAX: u32 = 100_000;
/// The longest world, in virtual time.
pub const UNTIL_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);

/// The longest median of a unit, on a common computer: a third of what the highest fuel limit of a task lasts.
pub const UNIT_TIME_MAX: Duration = Duration::from_secs(12 * 3_600);

/// A scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name: that of the file.
    #[serde(skip)]
    pub name: String,
    /// What it shows, for people.
    pub about: String,
    /// When the world ends at the latest.
    #[serde(with = "humantime_serde")]
    pub until: Duration,
    /// When faults stop: lines lose nothing more, cuts are healed, nothing crashes. From then on every task with
    /// honest capacity has to come to its end. Never, if it is not given.
    #[serde(default, with = "humantime_serde")]
    pub calm_after: Option<Duration>,
    /// How long the world goes on after the last task has ended and faults have stopped, to see that nothing is left over.
    #[serde(default = "settle", with = "humantime_serde")]
    pub settle: Duration,
    /// Whether heads of logs are gossiped and witnessed, as they always are in the real overlay.
    #[serde(default = "yes")]
    pub heads: bool,
    /// Lines beside the ones that are there ([`Scenario::line`]).
    #[serde(default)]
    pub lines: BTreeMap<String, LineTable>,
    /// Coordinators.
    pub coordinators: Vec<Coordinators>,
    /// Terminals.
    pub terminals: Vec<Terminals>,
    /// Tasks, each with a customer of its own.
    pub tasks: Vec<Tasks>,
    /// Separations.
    #[serde(default)]
    pub cuts: Vec<CutTable>,
    /// What operators of coordinators have done with money and points, beside the first deposits.
    #[serde(default)]
    pub orders: Vec<OrderTable>,
    /// App servers.
    #[serde(default)]
    pub app_servers: Vec<AppServers>,
    /// Owners of terminals that buy something.
    #[serde(default)]
    pub owners: Vec<Owners>,
}

const fn yes() -> bool {
    true
}

const fn settle() -> Duration {
    Duration::from_secs(120)
}

/// A line, see [`Line`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineTable {
    /// Median latency to the core of the Internet, one way.
    #[serde(with = "humantime_serde")]
    pub latency: Duration,
    /// Deviation of the logarithm of the latency.
    #[serde(default = "jitter")]
    pub jitter: f64,
    /// Bytes up in a second.
    pub up: ByteSize,
    /// Bytes down in a second.
    pub down: ByteSize,
    /// Probability that a message is lost.
    #[serde(default)]
    pub loss: f64,
    /// Probability that a message comes twice.
    #[serde(default)]
    pub duplicate: f64,
    /// Probability that a message is overtaken.
    #[serde(default)]
    pub reorder: f64,
}

const fn jitter() -> f64 {
    0.2
}

/// Coordinators that are alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coordinators {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Their line.
    #[serde(default = "server")]
    pub line: String,
    /// Median time in which the disk takes a group of records.
    #[serde(default = "commit", with = "humantime_serde")]
    pub commit: Duration,
    /// Mean time between crashes; never, if it is not given.
    #[serde(default, with = "humantime_serde")]
    pub crash_every: Option<Duration>,
    /// The longest time that a crashed one is down.
    #[serde(default = "down", with = "humantime_serde")]
    pub down: Duration,
    /// How far clocks are off at most, each way.
    #[serde(default, with = "humantime_serde")]
    pub clock_off: Duration,
    /// How they behave.
    #[serde(default)]
    pub conduct: Kind,
    /// Facts after which the journal is replaced by a snapshot.
    #[serde(default = "snapshot_every")]
    pub snapshot_every: u64,
    /// What work is worth.
    #[serde(default)]
    pub rates: Rate,
    /// Of 1,000 validated units, how many are leased once more as known-answer units.
    #[serde(default = "known_per_mille")]
    pub known_per_mille: u16,
    /// Whose results they take.
    #[serde(default)]
    pub admission: Admits,
    /// What their operator decides about agreements that app servers propose.
    #[serde(default)]
    pub agreements: Decides,
}

/// As many as the node checks by default.
const fn known_per_mille() -> u16 {
    10
}

/// Which rate card coordinators publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    /// Points are counted, and cost nothing.
    #[default]
    Free,
    /// A cent for a point, four fifths of it behind the point. Points leave escrow after a minute and expire after ten,
    /// so that a short world sees both.
    Priced,
}

impl Rate {
    /// Returns the constants.
    #[must_use]
    pub fn rates(self) -> Rates {
        let free = Rates::free(currency());
        match self {
            Self::Free => free,
            Self::Priced => Rates {
                escrow_seconds: 60,
                lot_seconds: 10,
                life_seconds: 600,
                price: Price {
                    minor: 1,
                    micro_points: 1_000_000,
                },
                reserve: Price {
                    minor: 4,
                    micro_points: 5_000_000,
                },
                ..free
            },
        }
    }
}

/// The currency of all worlds.
pub(crate) fn currency() -> Currency {
    "EUR".parse().expect("a legal name")
}

const fn one() -> u32 {
    1
}

fn server() -> String {
    "server".to_owned()
}

fn home() -> String {
    "home".to_owned()
}

const fn commit() -> Duration {
    Duration::from_millis(4)
}

const fn down() -> Duration {
    Duration::from_secs(10)
}

const fn snapshot_every() -> u64 {
    10_000
}

/// Terminals that are alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminals {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Their line.
    #[serde(default = "home")]
    pub line: String,
    /// Slots of each, at least and at most.
    #[serde(default = "one_slot")]
    pub slots: (u8, u8),
    /// Speed of each, at least and at most, where 1 is a common computer; drawn evenly on a logarithmic scale.
    #[serde(default = "common_speed")]
    pub speed: (f64, f64),
    /// How far clocks are off at most, each way.
    #[serde(default, with = "humantime_serde")]
    pub clock_off: Duration,
    /// When they are there.
    #[serde(default)]
    pub presence: Presence,
    /// How their owners interrupt them; never, if it is not given.
    #[serde(default)]
    pub interrupted: Option<Interrupted>,
    /// How they behave.
    #[serde(default)]
    pub conduct: Kind,
    /// Probability that a run fails for a reason of the computer.
    #[serde(default)]
    pub faults: f64,
    /// How many owners they belong to, in turn; each device is its own owner if it is not given.
    #[serde(default)]
    pub owners: Option<u32>,
    /// The app servers where they enrol, from 0.
    #[serde(default)]
    pub app_servers: Vec<u32>,
    /// The most points that each may redeem in its owner's name in a day.
    #[serde(default)]
    pub redeem_points: u64,
}

const fn one_slot() -> (u8, u8) {
    (1, 1)
}

const fn common_speed() -> (f64, f64) {
    (1.0, 1.0)
}

/// How the owner of a terminal interrupts it, without memory, until faults stop.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interrupted {
    /// Mean time for which it is left alone.
    #[serde(with = "humantime_serde")]
    pub away: Duration,
    /// Mean time for which the owner is there and nothing runs, or the computer sleeps.
    #[serde(with = "humantime_serde")]
    pub present: Duration,
    /// Part of the times in which the owner needs the memory of what is suspended.
    #[serde(default)]
    pub withdraws: f64,
    /// Part of the times in which the computer sleeps instead.
    #[serde(default)]
    pub sleeps: f64,
}

impl Interrupted {
    fn check(&self) -> Result<(), ScenarioError> {
        let moments = || Duration::from_millis(100)..=UNTIL_MAX;
        bounded("terminals.interrupted.away", self.away, moments())?;
        bounded("terminals.interrupted.present", self.present, moments())?;
        let (withdraws, sleeps) = (self.withdraws, self.sleeps);
        bounded("terminals.interrupted.withdraws", withdraws, 0.0..=1.0)?;
        bounded("terminals.interrupted.sleeps", sleeps, 0.0..=1.0)
    }
}

/// When a terminal is there.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Presence {
    /// From the first seconds on, for ever.
    #[default]
    Always,
    /// From some moment within `within` after `at` on, for ever: a flash crowd.
    From {
        /// When the first come.
        #[serde(with = "humantime_serde")]
        at: Duration,
        /// How long until the last has come.
        #[serde(with = "humantime_serde")]
        within: Duration,
    },
    /// Each day between two hours, where the world begins at midnight; each day each terminal is up to `spread` early
    /// or late.
    Daily {
        /// Start, as time since midnight.
        #[serde(with = "humantime_serde")]
        from: Duration,
        /// End, as time since midnight; before the start means on the next day.
        #[serde(with = "humantime_serde")]
        to: Duration,
        /// How much earlier or later at most.
        #[serde(with = "humantime_serde")]
        spread: Duration,
    },
    /// Comes and goes without memory.
    Exponential {
        /// Mean time that it is there.
        #[serde(with = "humantime_serde")]
        up: Duration,
        /// Mean time that it is not.
        #[serde(with = "humantime_serde")]
        down: Duration,
    },
}

/// Tasks that are alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// When the first is submitted.
    #[serde(default, with = "humantime_serde")]
    pub at: Duration,
    /// Time from one to the next.
    #[serde(default, with = "humantime_serde")]
    pub every: Duration,
    /// The coordinator, from 0; in turn if it is not given.
    #[serde(default)]
    pub coordinator: Option<u32>,
    /// Units of each.
    pub units: u32,
    /// Devices that must agree.
    #[serde(default = "agree")]
    pub agree: u8,
    /// Median time of a unit on a common computer.
    #[serde(with = "humantime_serde")]
    pub unit_time: Duration,
    /// Deviation of the logarithm of that time.
    #[serde(default)]
    pub spread: f64,
    /// Bytes of a unit's input.
    #[serde(default = "unit_bytes")]
    pub input: ByteSize,
    /// Bytes of a unit's output.
    #[serde(default = "unit_bytes")]
    pub output: ByteSize,
    /// Bytes of the program.
    #[serde(default = "program_bytes")]
    pub program: ByteSize,
    /// How long a lease lasts.
    #[serde(default = "lease", with = "humantime_serde")]
    pub lease: Duration,
    /// Part of the units whose program aborts everywhere; then they are left out of the result.
    #[serde(default)]
    pub failing: f64,
    /// Whether an editor runs over the merged result.
    #[serde(default)]
    pub edited: bool,
    /// Whether the customer goes away after its upload and comes back for the result.
    #[serde(default)]
    pub customer_leaves: bool,
    /// When the customer cancels it, as time since it was submitted.
    #[serde(default, with = "humantime_serde")]
    pub cancelled_after: Option<Duration>,
    /// The most that it may cost, which its customer has paid in before.
    #[serde(default)]
    pub max_price: Option<Money>,
}

const fn agree() -> u8 {
    2
}

const fn unit_bytes() -> ByteSize {
    ByteSize(256)
}

const fn program_bytes() -> ByteSize {
    ByteSize(64 << 10)
}

const fn lease() -> Duration {
    Duration::from_secs(60)
}

/// A separation of some terminals, and coordinators, from all other nodes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutTable {
    /// When it begins.
    #[serde(with = "humantime_serde")]
    pub at: Duration,
    /// How long it lasts.
    #[serde(with = "humantime_serde")]
    pub lasts: Duration,
    /// Part of the terminals inside.
    #[serde(default)]
    pub terminals: f64,
    /// Coordinators inside.
    #[serde(default)]
    pub coordinators: Vec<u32>,
    /// Whether messages from outside still come in.
    #[serde(default)]
    pub one_way: bool,
}

/// A scenario that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, a key that is not known, or a value of another type; the text shows the line.
    #[error("read the scenario\n{0}")]
    Toml(String),
    /// A value outside its bounds.
    #[error("read the scenario: {key} is {value}, it must be {bounds}")]
    Bounds {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        bounds: String,
    },
    /// A task that no coordinator would accept.
    #[error("read the scenario: a task would be refused: {0}")]
    Task(TaskError),
    /// A line that is not there.
    #[error(
        "read the scenario: there is no line {name:?}; there are {known}, and [lines.{name}] makes one"
    )]
    UnknownLine {
        /// The name.
        name: String,
        /// The names that are known.
        known: String,
    },
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`], the first thing found wrong.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Self =
            toml::from_str(text).map_err(|error| ScenarioError::Toml(error.to_string()))?;
        scenario.name = name.to_owned();
        scenario.check()?;
        Ok(scenario)
    }

    /// Returns the line of this name: one of `[lines]`, else `server`, `fibre`, `home` or `mobile`.
    #[must_use]
    pub fn line(&self, name: &str) -> Option<Line> {
        if let Some(table) = self.lines.get(name) {
            return Some(Line {
                latency: table.latency,
                jitter: table.jitter,
                up: table.up.0,
                down: table.down.0,
                loss: table.loss,
                duplicate: table.duplicate,
                reorder: table.reorder,
            });
        }
        let (millis, up, down) = *KNOWN_LINES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, line)| line)?;
        Some(Line {
            latency: Duration::from_millis(millis),
            jitter: jitter(),
            up,
            down,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
        })
    }

    fn check(&self) -> Result<(), ScenarioError> {
        bounded("until", self.until, Duration::from_secs(1)..=UNTIL_MAX)?;
        bounded("settle", self.settle, Duration::ZERO..=self.until)?;
        if let Some(calm) = self.calm_after {
            bounded("calm_after", calm, Duration::ZERO..=self.until)?;
        }
        let counts = [
            self.coordinators.iter().map(|group| group.count).sum(),
            self.terminals.iter().map(|group| group.count).sum(),
            self.tasks.iter().map(|group| group.count).sum::<u32>(),
        ];
        bounded("the number of coordinators", counts[0], 1..=1_000)?;
        let shops = self
            .app_servers
            .iter()
            .map(|group| group.count)
            .sum::<u32>();
        let owners = self.owners.iter().map(|group| group.count).sum::<u32>();
        let nodes = counts.iter().chain(&[shops, owners]).sum();
        bounded("the number of nodes", nodes, 1..=NODES_MAX)?;
        for line in self.lines.values() {
            for (key, part) in [
                ("lines.loss", line.loss),
                ("lines.duplicate", line.duplicate),
                ("lines.reorder", line.reorder),
            ] {
                bounded(key, part, 0.0..=1.0)?;
            }
            bounded("lines.jitter", line.jitter, 0.0..=3.0)?;
            bounded("lines.up", line.up.0, 1..=u64::MAX)?;
            bounded("lines.down", line.down.0, 1..=u64::MAX)?;
        }
        for group in &self.coordinators {
            self.check_line(&group.line)?;
            fitting(
                "coordinators.conduct",
                group.conduct,
                Kind::is_for_coordinators,
            )?;
        }
        for group in &self.terminals {
            self.check_line(&group.line)?;
            fitting("terminals.conduct", group.conduct, Kind::is_for_terminals)?;
            group.check(shops)?;
        }
        for group in &self.app_servers {
            self.check_line(&group.line)?;
            group.check()?;
        }
        for group in &self.owners {
            self.check_line(&group.line)?;
            group.check(self, shops)?;
        }
        for group in &self.tasks {
            group.check(counts[0])?;
        }
        self.check_prices()?;
        for cut in &self.cuts {
            bounded("cuts.terminals", cut.terminals, 0.0..=1.0)?;
            for coordinator in &cut.coordinators {
                bounded("cuts.coordinators", *coordinator, 0..=counts[0] - 1)?;
            }
        }
        for order in &self.orders {
            order.check(counts)?;
        }
        Ok(())
    }

    /// A task that is to be paid has a price in the currency of all worlds.
    fn check_prices(&self) -> Result<(), ScenarioError> {
        let priced = |group: &Coordinators| group.rates != Rate::Free;
        for group in &self.tasks {
            let price = group.max_price;
            let is_right = match price {
                Some(money) => money.minor > 0 && money.currency == currency(),
                None => !self.coordinators.iter().any(priced),
            };
            if !is_right {
                return Err(ScenarioError::Bounds {
                    key: "tasks.max_price",
                    value: price.map_or_else(|| "not given".to_owned(), |money| money.to_string()),
                    bounds: "an amount of EUR, where coordinators are priced".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn check_line(&self, name: &str) -> Result<(), ScenarioError> {
        if self.line(name).is_some() {
            return Ok(());
        }
        let known = KNOWN_LINES.iter().map(|(known, _)| *known);
        let known: Vec<&str> = known.chain(self.lines.keys().map(String::as_str)).collect();
        Err(ScenarioError::UnknownLine {
            name: name.to_owned(),
            known: known.join(", "),
        })
    }
}

impl Terminals {
    fn check(&self, app_servers: u32) -> Result<(), ScenarioError> {
        let (least, most) = self.slots;
        bounded("terminals.slots[1]", most, 1..=64)?;
        bounded("terminals.slots[0]", least, 1..=most)?;
        let (least, most) = self.speed;
        bounded("terminals.speed[1]", most, 1e-4..=1e4)?;
        bounded("terminals.speed[0]", least, 1e-4..=most)?;
        bounded("terminals.faults", self.faults, 0.0..=1.0)?;
        if let Some(owners) = self.owners {
            bounded("terminals.owners", owners, 1..=self.count.max(1))?;
        }
        self.interrupted
            .as_ref()
            .map_or(Ok(()), Interrupted::check)?;
        for app_server in &self.app_servers {
            app_servers::is_there("terminals.app_servers", *app_server, app_servers)?;
        }
        let day = Duration::from_secs(24 * 3_600);
        match self.presence {
            Presence::Always | Presence::From { .. } => Ok(()),
            Presence::Daily { from, to, spread } => {
                bounded("terminals.presence.daily.from", from, Duration::ZERO..=day)?;
                bounded("terminals.presence.daily.to", to, Duration::ZERO..=day)?;
                bounded(
                    "terminals.presence.daily.spread",
                    spread,
                    Duration::ZERO..=day / 8,
                )
            }
            Presence::Exponential { up, down } => {
                let second = Duration::from_secs(1);
                bounded("terminals.presence.exponential.up", up, second..=UNTIL_MAX)?;
                bounded(
                    "terminals.presence.exponential.down",
                    down,
                    second..=UNTIL_MAX,
                )
            }
        }
    }
}

impl Tasks {
    fn check(&self, coordinators: u32) -> Result<(), ScenarioError> {
        bounded("tasks.units", self.units, 1..=UNITS_MAX)?;
        bounded("tasks.agree", self.agree, 1..=QUORUM_TOTAL_MAX / 2)?;
        bounded("tasks.failing", self.failing, 0.0..=1.0)?;
        bounded("tasks.spread", self.spread, 0.0..=3.0)?;
        bounded("tasks.input", self.input.0, 1..=1 << 30)?;
        bounded("tasks.output", self.output.0, 1..=1 << 30)?;
        bounded(
            "tasks.lease",
            self.lease,
            Duration::from_secs(1)..=UNTIL_MAX,
        )?;
        bounded(
            "tasks.unit_time",
            self.unit_time,
            Duration::from_micros(1)..=UNIT_TIME_MAX,
        )?;
        if let Some(coordinator) = self.coordinator {
            bounded("tasks.coordinator", coordinator, 0..=coordinators - 1)?;
        }
        let nobody = NodeId::from_bytes([0; 32]);
        let card = RateCardId::from_bytes([0; 32]);
        let task = crate::world::task(self, 0, nobody, (Timestamp::from_millis(0), card));
        task.check().map_err(ScenarioError::Task)
    }
}

/// Lines that every scenario has: latency in milliseconds, bytes up and down in a second.
const KNOWN_LINES: [(&str, (u64, u64, u64)); 4] = [
    // A rented server: 1 Gbit/s both ways.
    ("server", (2, 125_000_000, 125_000_000)),
    // Fibre to the home or an office: 200 and 500 Mbit/s.
    ("fibre", (5, 25_000_000, 62_500_000)),
    // A common line at home: 20 and 100 Mbit/s.
    ("home", (12, 2_500_000, 12_500_000)),
    // A phone on the move: 5 and 20 Mbit/s.
    ("mobile", (40, 625_000, 2_500_000)),
];

/// Checks that a node of a role can behave so.
fn fitting(key: &'static str, conduct: Kind, fits: fn(Kind) -> bool) -> Result<(), ScenarioError> {
    if fits(conduct) {
        return Ok(());
    }
    let fitting = Kind::ALL.into_iter().filter(|kind| fits(*kind));
    let names: Vec<&str> = fitting.map(Kind::name).collect();
    Err(ScenarioError::Bounds {
        key,
        value: conduct.name().to_owned(),
        bounds: format!("one of {}", names.join(", ")),
    })
}

fn bounded<T: PartialOrd + std::fmt::Debug>(
    key: &'static str,
    value: T,
    bounds: RangeInclusive<T>,
) -> Result<(), ScenarioError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(ScenarioError::Bounds {
        key,
        value: format!("{value:?}"),
        bounds: format!("from {:?} to {:?}", bounds.start(), bounds.end()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        about = "a small one"
        until = "10 min"
        [[coordinators]]
        [[terminals]]
        count = 3
        presence.exponential = { up = "1 h", down = "5 min" }
        [[tasks]]
        units = 10
        unit_time = "2 s"
    "#;

    #[test]
    fn a_scenario_is_read_with_its_defaults() {
        let scenario = Scenario::parse("small", SMALL).unwrap();
        assert_eq!(
            (scenario.name.as_str(), scenario.terminals[0].count),
            ("small", 3)
        );
        assert_eq!(scenario.tasks[0].agree, 2);
        assert_eq!(
            scenario.line("home").unwrap().latency,
            Duration::from_millis(12)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name_and_value() {
        let refused = |from: &str, to: &str| {
            assert!(SMALL.contains(from), "{from}");
            let error = Scenario::parse("bad", &SMALL.replace(from, to)).unwrap_err();
            error.to_string()
        };
        assert!(refused("units = 10", "unit = 10").contains("unknown field `unit`"));
        assert_eq!(
            refused("units = 10", "units = 0"),
            "read the scenario: tasks.units is 0, it must be from 1 to 1000000"
        );
        assert_eq!(
            refused("count = 3", "line = \"copper\""),
            "read the scenario: there is no line \"copper\"; there are server, fibre, home, mobile, \
             and [lines.copper] makes one"
        );
        assert!(refused("units = 10", "units = 10\nagree = 20").contains("quorum.agree is 20"));
        assert!(refused("\"2 s\"", "\"2 parsecs\"").contains("parsecs"));
        assert!(refused("count = 3", "conduct = \"nice\"").contains("nice"));
        assert!(
            refused("count = 3", "conduct = \"owing\"")
                .contains("terminals.conduct is owing, it must be one of honest, wrong-output")
        );
    }
}

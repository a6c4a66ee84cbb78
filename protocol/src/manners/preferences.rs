//! What an owner has written: `preferences.toml`.
//!
//! A preset says everything; what is written beside it goes before it. Values that make no sense, or not together, are
//! refused with the value and what would do.
//!
//! Invariants: preferences that exist are in order: percentages are 1 to 100, an idle computer gives at least what one in
//! use gives, some hour of the week is left.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::hours::Hours;
use crate::id::{BlobId, NodeId, ParseIdError};
use crate::message::wishes::{CHOICE_MAX, Choice, OwnTasks};
use crate::points::Points;
use crate::task::job::ByteSize;

/// The most programs of [`Preferences::pause_for`].
pub const PAUSE_FOR_MAX: usize = 64;

/// When, how much and what a computer computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferences {
    /// What stands behind everything that is not written.
    pub preset: Preset,
    /// When.
    pub run: When,
    /// Without input for so many minutes the computer is idle, else in use.
    pub idle_minutes: u16,
    /// Whether on battery too.
    pub on_battery: bool,
    /// On battery, how full it has to be at least.
    pub battery_min: Percent,
    /// At which hours.
    pub hours: Hours,
    /// What of the owner's own tasks.
    pub own_tasks: OwnTasks,
    /// While none of these programs runs.
    pub pause_for: Vec<String>,
    /// How much of a computer in use.
    pub in_use: Caps,
    /// How much of an idle one.
    pub idle: Caps,
    /// How much of the disk.
    pub disk: DiskCaps,
    /// How much of the network, beside what [`Caps`] say.
    pub network: NetworkCaps,
    /// Which units.
    pub units: UnitCaps,
    /// Whether the largest unit was written: else it follows the memory of the computer.
    is_unit_memory_written: bool,
}

/// How much of the computer may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of all processors together.
    pub cpu: Percent,
    /// Of all memory.
    pub memory: Percent,
    /// Nothing is computed while other programs take more of all processors; 100 for whatever they take.
    pub others_cpu: Percent,
    /// Contents sent, in bytes a second.
    pub up: Option<u64>,
    /// Contents received, in bytes a second.
    pub down: Option<u64>,
}

/// How much of the disk may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskCaps {
    /// The most for programs, inputs and outputs, in bytes.
    pub max: u64,
    /// No work is taken while less is free.
    pub free_min: Percent,
}

/// How much of the network may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkCaps {
    /// Whether work is taken over a network that costs by what it carries.
    pub metered: bool,
    /// The most in a day in both directions, in bytes.
    pub daily: Option<u64>,
}

/// Which units are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitCaps {
    /// The most memory of one, in bytes.
    pub memory: u64,
    /// The longest run of one, in minutes of processor time.
    pub minutes: u16,
    /// Of which programs.
    pub programs: Choice<BlobId>,
    /// Of whose tasks.
    pub customers: Choice<NodeId>,
    /// What an hour of one processor has to earn at least.
    pub hourly_min: Points,
}

/// When a computer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// While nobody uses it.
    Idle,
    /// Also while somebody does, with other limits.
    Always,
    /// Not at all.
    Never,
}

/// Preferences that have a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Half of the processors, of a computer that nobody has used for a while.
    Light,
    /// All processors of an idle computer, a quarter of them while it is used.
    #[default]
    Medium,
    /// All processors, always; a computer that is there for this.
    Full,
}

/// A share of 100, 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u8")]
pub struct Percent(u8);

impl Percent {
    /// All.
    pub const ALL: Self = Self(100);

    /// Takes a share, 1 to 100.
    ///
    /// # Errors
    /// What would do.
    pub fn new(percent: i64) -> Result<Self, String> {
        let within = u8::try_from(percent).ok().filter(|n| (1..=100).contains(n));
        within
            .map(Self)
            .ok_or_else(|| format!("{percent} is not a percentage from 1 to 100"))
    }

    /// Returns the share, 1 to 100.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns this share of `all`, rounded down.
    #[must_use]
    pub fn of(self, all: u64) -> u64 {
        u64::try_from(u128::from(all) * u128::from(self.0) / 100).unwrap_or(u64::MAX)
    }
}

impl TryFrom<i64> for Percent {
    type Error = String;

    fn try_from(percent: i64) -> Result<Self, String> {
        Self::new(percent)
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Light => "light",
            Self::Medium => "medium",
            Self::Full => "full",
        })
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "idle",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

impl Default for Preferences {
    fn default() -> Self {
        Self::of(Preset::default())
    }
}

impl Preferences {
    /// Returns what a preset says.
    #[must_use]
    pub fn of(preset: Preset) -> Self {
        let caps = |cpu, memory, others_cpu| Caps {
            cpu: Percent(cpu),
            memory: Percent(memory),
            others_cpu: Percent(others_cpu),
            up: None,
            down: None,
        };
        let (run, idle_minutes, in_use, idle) = match preset {
            Preset::Light => (When::Idle, 15, caps(10, 10, 25), caps(50, 25, 25)),
            Preset::Medium => (When::Always, 3, caps(25, 25, 25), caps(100, 50, 50)),
            Preset::Full => (When::Always, 3, caps(100, 75, 100), caps(100, 75, 100)),
        };
        Self {
            preset,
            run,
            idle_minutes,
            on_battery: false,
            battery_min: Percent(50),
            hours: Hours::always(),
            own_tasks: OwnTasks::First,
            pause_for: Vec::new(),
            in_use,
            idle,
            disk: DiskCaps {
                max: 4 << 30,
                free_min: Percent(10),
            },
            network: NetworkCaps {
                metered: false,
                daily: None,
            },
            units: UnitCaps {
                memory: 1 << 30,
                minutes: 10,
                programs: Choice::All,
                customers: Choice::All,
                hourly_min: Points::ZERO,
            },
            is_unit_memory_written: false,
        }
    }
}

impl FromStr for Preferences {
    type Err = String;

    /// Reads TOML.
    fn from_str(text: &str) -> Result<Self, String> {
        let written: Written =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        written.resolve()
    }
}

/// The file as it is written; what is left out comes from the preset.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    preset: Preset,
    run: Option<When>,
    idle_minutes: Option<u16>,
    on_battery: Option<bool>,
    battery_min: Option<Percent>,
    hours: Option<Vec<String>>,
    own_tasks: Option<OwnTasks>,
    pause_for: Vec<String>,
    in_use: WrittenCaps,
    idle: WrittenCaps,
    disk: WrittenDisk,
    network: WrittenNetwork,
    units: WrittenUnits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenCaps {
    cpu: Option<Percent>,
    memory: Option<Percent>,
    others_cpu: Option<Percent>,
    up: Option<ByteSize>,
    down: Option<ByteSize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenDisk {
    max: Option<ByteSize>,
    free_min: Option<Percent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenNetwork {
    metered: Option<bool>,
    daily: Option<ByteSize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenUnits {
    memory: Option<ByteSize>,
    minutes: Option<u16>,
    only_programs: Vec<BlobId>,
    not_programs: Vec<BlobId>,
    only_customers: Vec<NodeId>,
    not_customers: Vec<NodeId>,
    hourly_min: Option<WrittenPoints>,
}

/// Points as people write them.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct WrittenPoints(Points);

impl TryFrom<String> for WrittenPoints {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let points = text.parse().map(Self);
        points.map_err(|error: ParseIdError| error.to_string())
    }
}

impl Written {
    fn resolve(self) -> Result<Preferences, String> {
        let base = Preferences::of(self.preset);
        let hours = self.hours.map(|hours| {
            let texts = hours.iter().map(String::as_str);
            Hours::parse(texts)
        });
        let size = |written: Option<ByteSize>, base| written.map_or(base, |size| size.0);
        let preferences = Preferences {
            is_unit_memory_written: self.units.memory.is_some(),
            preset: self.preset,
            run: self.run.unwrap_or(base.run),
            idle_minutes: self.idle_minutes.unwrap_or(base.idle_minutes),
            on_battery: self.on_battery.unwrap_or(base.on_battery),
            battery_min: self.battery_min.unwrap_or(base.battery_min),
            hours: hours.transpose()?.unwrap_or(base.hours),
            own_tasks: self.own_tasks.unwrap_or(base.own_tasks),
            pause_for: self.pause_for,
            in_use: self.in_use.over(base.in_use),
            idle: self.idle.over(base.idle),
            disk: DiskCaps {
                max: size(self.disk.max, base.disk.max),
                free_min: self.disk.free_min.unwrap_or(base.disk.free_min),
            },
            network: NetworkCaps {
                metered: self.network.metered.unwrap_or(base.network.metered),
                daily: self.network.daily.map(|size| size.0),
            },
            units: UnitCaps {
                memory: size(self.units.memory, base.units.memory),
                minutes: self.units.minutes.unwrap_or(base.units.minutes),
                programs: choice(
                    "programs",
                    self.units.only_programs,
                    self.units.not_programs,
                )?,
                customers: choice(
                    "customers",
                    self.units.only_customers,
                    self.units.not_customers,
                )?,
                hourly_min: self
                    .units
                    .hourly_min
                    .map_or(base.units.hourly_min, |points| points.0),
            },
        };
        preferences.check()?;
        Ok(preferences)
    }
}

impl WrittenCaps {
    fn over(self, base: Caps) -> Caps {
        Caps {
            cpu: self.cpu.unwrap_or(base.cpu),
            memory: self.memory.unwrap_or(base.memory),
            others_cpu: self.others_cpu.unwrap_or(base.others_cpu),
            up: self.up.map(|size| size.0).or(base.up),
            down: self.down.map(|size| size.0).or(base.down),
        }
    }
}

/// Makes a choice of two lists, of which one at most is written.
fn choice<T: Ord>(what: &str, only: Vec<T>, not: Vec<T>) -> Result<Choice<T>, String> {
    let count = only.len().max(not.len());
    if count > CHOICE_MAX {
        return Err(format!(
            "units names {count} {what}: at most {CHOICE_MAX} may be named"
        ));
    }
    match (only.is_empty(), not.is_empty()) {
        (true, true) => Ok(Choice::All),
        (false, true) => Ok(Choice::Only(only.into_iter().collect())),
        (true, false) => Ok(Choice::AllBut(not.into_iter().collect())),
        (false, false) => Err(format!(
            "units.only_{what} and units.not_{what} are both set: only those of the first are taken anyway, \
             leave out the second"
        )),
    }
}

impl Preferences {
    /// Refuses what makes no sense together.
    fn check(&self) -> Result<(), String> {
        let both = [
            ("cpu", self.in_use.cpu, self.idle.cpu),
            ("memory", self.in_use.memory, self.idle.memory),
        ];
        for (what, in_use, idle) in both {
            if in_use > idle {
                return Err(format!(
                    "in_use.{what} is {in_use} and idle.{what} is {idle}: a computer in use cannot give more than an \
                     idle one; lower the first or raise the second"
                ));
            }
        }
        if !(1..=24 * 60).contains(&self.idle_minutes) {
            let hint = "1 to 1440, or run = \"always\" to compute whoever uses the computer";
            return Err(format!(
                "idle_minutes is {}: it must be {hint}",
                self.idle_minutes
            ));
        }
        if !(1..=7 * 24 * 60).contains(&self.units.minutes) {
            let minutes = self.units.minutes;
            return Err(format!("units.minutes is {minutes}: it must be 1 to 10080"));
        }
        let sizes = [
            ("disk.max", Some(self.disk.max), 16 << 20, "16 MiB"),
            ("units.memory", Some(self.units.memory), 1 << 20, "1 MiB"),
            ("network.daily", self.network.daily, 1 << 20, "1 MiB"),
            ("in_use.up", self.in_use.up, 1 << 10, "1 KiB"),
            ("in_use.down", self.in_use.down, 1 << 10, "1 KiB"),
            ("idle.up", self.idle.up, 1 << 10, "1 KiB"),
            ("idle.down", self.idle.down, 1 << 10, "1 KiB"),
        ];
        for (name, size, least, text) in sizes {
            if size.is_some_and(|size| size < least) {
                let size = size.unwrap_or_default();
                return Err(format!(
                    "{name} is {size} bytes: with less than {text} nothing can be done; run = \"never\" stops everything"
                ));
            }
        }
        let named = |name: &String| (1..=64).contains(&name.len()) && !name.contains('/');
        match self.pause_for.iter().find(|name| !named(name)) {
            Some(name) => Err(format!(
                "pause_for names {name:?}: it must be the name of a program, without its folder"
            )),
            None if self.pause_for.len() > PAUSE_FOR_MAX => Err(format!(
                "pause_for names {} programs: at most {PAUSE_FOR_MAX}",
                self.pause_for.len()
            )),
            None => Ok(()),
        }
    }

    /// Returns every key with its value, as people write them.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("preset", self.preset.to_string()),
            ("run", self.run.to_string()),
            ("idle_minutes", self.idle_minutes.to_string()),
            ("on_battery", self.on_battery.to_string()),
            ("battery_min", self.battery_min.get().to_string()),
            ("hours", self.hours.to_string()),
            ("own_tasks", own_tasks(self.own_tasks).to_owned()),
            ("pause_for", self.pause_for.join(", ")),
        ];
        let names = [
            [
                "in_use.cpu",
                "in_use.memory",
                "in_use.others_cpu",
                "in_use.up",
                "in_use.down",
            ],
            [
                "idle.cpu",
                "idle.memory",
                "idle.others_cpu",
                "idle.up",
                "idle.down",
            ],
        ];
        for (names, caps) in names.into_iter().zip([self.in_use, self.idle]) {
            let percent = |percent: Percent| percent.get().to_string();
            let values = [
                percent(caps.cpu),
                percent(caps.memory),
                percent(caps.others_cpu),
                optional(caps.up),
                optional(caps.down),
            ];
            rows.extend(names.into_iter().zip(values));
        }
        let (units, network) = (&self.units, &self.network);
        let (only_programs, not_programs) = lists(&units.programs);
        let (only_customers, not_customers) = lists(&units.customers);
        rows.extend([
            ("disk.max", ByteSize(self.disk.max).to_string()),
            ("disk.free_min", self.disk.free_min.get().to_string()),
            ("network.metered", network.metered.to_string()),
            ("network.daily", optional(network.daily)),
            ("units.memory", ByteSize(units.memory).to_string()),
            ("units.minutes", units.minutes.to_string()),
            ("units.only_programs", only_programs),
            ("units.not_programs", not_programs),
            ("units.only_customers", only_customers),
            ("units.not_customers", not_customers),
            ("units.hourly_min", units.hourly_min.to_string()),
        ]);
        rows
    }

    /// Takes them to a computer with so much memory: a preset's largest unit becomes what fits there, one that was written
    /// is refused if it never fits.
    ///
    /// # Errors
    /// What would do.
    pub fn on(mut self, memory: u64) -> Result<Self, String> {
        let most = self.idle.memory.of(memory);
        if !self.is_unit_memory_written {
            self.units.memory = self.units.memory.min(most);
        }
        self.check_on(memory).map(|()| self)
    }

    fn check_on(&self, memory: u64) -> Result<(), String> {
        let (most, unit) = (self.idle.memory.of(memory), self.units.memory);
        if unit > most {
            let (unit, most) = (unit >> 20, most >> 20);
            return Err(format!(
                "units.memory is {unit} MiB, but idle.memory is {}, which is {most} MiB here: no unit of that size would \
                 ever run; lower the first or raise the second",
                self.idle.memory
            ));
        }
        Ok(())
    }
}

fn own_tasks(own_tasks: OwnTasks) -> &'static str {
    match own_tasks {
        OwnTasks::First => "first",
        OwnTasks::Only => "only",
        OwnTasks::Normal => "normal",
        OwnTasks::Never => "never",
    }
}

/// Writes a size that need not be there.
fn optional(size: Option<u64>) -> String {
    size.map_or(String::new(), |size| ByteSize(size).to_string())
}

/// Writes what a choice names: what alone is taken, and what is not.
fn lists<T: Ord + fmt::Display>(choice: &Choice<T>) -> (String, String) {
    let text = |these: &BTreeSet<T>| {
        let texts: Vec<String> = these.iter().map(ToString::to_string).collect();
        texts.join(", ")
    };
    match choice {
        Choice::All => (String::new(), String::new()),
        Choice::Only(these) => (text(these), String::new()),
        Choice::AllBut(these) => (String::new(), text(these)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Preferences, String> {
        text.parse()
    }

    #[test]
    fn what_is_written_goes_before_the_preset() {
        assert_eq!(read("").unwrap(), Preferences::of(Preset::Medium));
        let text =
            "preset = \"light\"\nhours = [\"sat-sun\"]\n[idle]\ncpu = 75\ndown = \"1 MiB\"\n";
        let read = read(text).unwrap();
        let light = Preferences::of(Preset::Light);
        assert_eq!((read.run, read.idle_minutes), (When::Idle, 15));
        assert_eq!(read.idle.cpu, Percent(75));
        assert_eq!(read.idle.down, Some(1 << 20));
        assert_eq!(read.idle.memory, light.idle.memory);
        assert_eq!(read.in_use, light.in_use);
        assert_ne!(read.hours, light.hours);
    }

    #[test]
    fn all_presets_are_in_order() {
        for preset in [Preset::Light, Preset::Medium, Preset::Full] {
            assert_eq!(Preferences::of(preset).check(), Ok(()));
            let text = format!("preset = \"{preset}\"");
            assert_eq!(read(&text).unwrap(), Preferences::of(preset));
        }
    }

    #[test]
    fn impossible_preferences_are_refused_with_the_value() {
        for (text, says) in [
            ("run = \"sometimes\"", "sometimes"),
            ("idle_minutes = 0", "idle_minutes is 0"),
            ("[in_use]\ncpu = 0", "0 is not a percentage"),
            ("[idle]\ncpu = 101", "101 is not a percentage"),
            ("[in_use]\ncpu = 80\n[idle]\ncpu = 50", "in_use.cpu is 80 %"),
            ("[in_use]\nmemory = 80", "in_use.memory is 80 %"),
            ("hours = []", "hours is empty"),
            ("hours = [\"mon 9-17\"]", "mon 9-17"),
            ("[disk]\nmax = \"1 MB\"", "1 MB"),
            ("[disk]\nmax = \"1 MiB\"", "disk.max is 1048576"),
            ("[network]\ndaily = 0", "network.daily is 0"),
            ("[units]\nminutes = 0", "units.minutes is 0"),
            ("pause_for = [\"/usr/bin/vlc\"]", "/usr/bin/vlc"),
            ("presets = \"full\"", "unknown field `presets`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        let program = BlobId::of(b"program");
        let both =
            format!("[units]\nonly_programs = [\"{program}\"]\nnot_programs = [\"{program}\"]\n");
        assert!(read(&both).unwrap_err().contains("units.not_programs"));
        let large = read("[units]\nmemory = \"4 GiB\"").unwrap();
        assert!(large.clone().on(4 << 30).unwrap_err().contains("4096 MiB"));
        assert_eq!(large.clone().on(16 << 30), Ok(large));
        let light = read("preset = \"light\"").unwrap().on(4 << 30).unwrap();
        assert_eq!(light.units.memory, 1 << 30);
        let light = read("preset = \"light\"").unwrap().on(2 << 30).unwrap();
        assert_eq!(light.units.memory, 512 << 20, "a quarter of all memory");
    }

    #[test]
    fn rows_say_what_was_read() {
        let text = "run = \"idle\"\nhours = [\"sat\"]\n[in_use]\nup = \"96 KiB\"\n[units]\nhourly_min = \"0.5\"\n";
        let rows = read(text).unwrap().rows();
        let value = |key| {
            let row = rows.iter().find(|(known, _)| *known == key);
            row.map(|(_, value)| value.as_str()).unwrap()
        };
        assert_eq!((value("run"), value("hours")), ("idle", "sat"));
        assert_eq!((value("in_use.up"), value("in_use.down")), ("96 KiB", ""));
        assert_eq!(
            (value("disk.max"), value("units.hourly_min")),
            ("4 GiB", "0.500000")
        );
    }

    #[test]
    fn programs_and_customers_are_chosen() {
        let program = BlobId::of(b"program");
        let text = format!("[units]\nnot_programs = [\"{program}\"]\nhourly_min = \"2.5\"\n");
        let units = read(&text).unwrap().units;
        assert!(!units.programs.takes(&program) && units.programs.takes(&BlobId::of(b"")));
        assert_eq!(units.hourly_min, Points::from_micro(2_500_000));
    }

    /// The table of presets of `docs/preferences.md`.
    fn presets() -> String {
        let rows = [Preset::Light, Preset::Medium, Preset::Full]
            .map(|preset| Preferences::of(preset).rows());
        let [light, medium, full] = rows;
        let mut text = String::new();
        for ((light, medium), full) in light.into_iter().zip(medium).zip(full).skip(1) {
            let values = [light.1, medium.1, full.1].map(|value| value.replace('*', "all"));
            text.push_str(&format!("| `{}` | {} |\n", light.0, values.join(" | ")));
        }
        text
    }

    #[test]
    fn the_page_shows_what_the_presets_say() {
        let (page, presets) = (include_str!("../../../docs/preferences.md"), presets());
        assert!(page.contains(&presets), "\n{presets}");
    }
}

//! Manners: what a terminal may do at the moment, from what its owner has written ([`Preferences`]), said ([`Said`]) and
//! does ([`Facts`]), with the reasons.
//!
//! A machine without I/O: the shell shows it the facts, often enough that nobody has to wait for it, and obeys.
//!
//! Invariants: nothing runs while a reason to pause holds; each reason that holds is named, with since when; the owner's
//! word goes before everything else; what is not known never makes it run more.

mod facts;
mod hours;
mod preferences;
mod reason;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use facts::{Facts, Power, Space};
pub use hours::{Hours, MinuteOfWeek, WEEK};
pub use preferences::{
    Caps, DiskCaps, NetworkCaps, PAUSE_FOR_MAX, Percent, Preferences, Preset, UnitCaps, When,
};
pub use reason::{Because, Question, Reason, Until};

use crate::message::wishes::Wishes;
use crate::terminal::Allowance;
use crate::time::Timestamp;
use crate::unit::Limits;

/// How long other programs must have been calm before computing goes on, and memory free: work that goes on and off each
/// second helps nobody.
const CALM: Duration = Duration::from_secs(30);
/// Below so much free memory, in percent, everything is given back.
const MEMORY_FREE_MIN: u8 = 5;

/// What the owner has said last; holds until the owner says something else, over restarts too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// Do as the preferences say.
    #[default]
    Resume,
    /// Compute nothing.
    Pause,
    /// Compute nothing until then.
    Snooze {
        /// When it goes on.
        until: Timestamp,
    },
    /// Finish what is there, then pause.
    Finish,
}

/// What the terminal itself tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Processors of the computer.
    pub processors: usize,
    /// The most units at a time, whatever the preferences say.
    pub slots: usize,
    /// The most output of one unit, in bytes.
    pub output_bytes: u64,
}

/// What may be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// For the terminal.
    pub allowance: Allowance,
    /// The share of all processors for units.
    pub cpu: Percent,
    /// The most memory of a unit that is at hand, in bytes: for new ones `allowance` may say less.
    pub unit_memory_max: u64,
    /// The longest run of a unit, in processor time.
    pub unit_time_max: Duration,
    /// Contents sent, in bytes a second.
    pub up: Option<u64>,
    /// Contents received, in bytes a second.
    pub down: Option<u64>,
    /// Whether the memory of suspended units is to be given back at once.
    pub give_back: bool,
    /// Whether somebody uses the computer.
    pub in_use: bool,
    /// Why nothing is computed or taken; the first is the one to be told. Empty if work is taken.
    pub because: Vec<Because>,
}

/// What remains from one look at the facts to the next.
#[derive(Debug)]
pub struct Manners {
    preferences: Preferences,
    said: Said,
    said_at: Timestamp,
    machine: Machine,
    /// Since when each reason holds.
    since: BTreeMap<Reason, Timestamp>,
    /// When other programs used too much last.
    loud: Option<Timestamp>,
    /// When memory was short last.
    short: Option<Timestamp>,
}

impl Decision {
    /// Allows nothing, for no reason yet: before the first look.
    #[must_use]
    pub fn nothing() -> Self {
        let none = Limits {
            fuel: 0,
            memory_bytes: 0,
            output_bytes: 0,
        };
        Self {
            allowance: Allowance {
                run: false,
                take: false,
                slots: 1,
                memory_bytes: 0,
                hourly_min: 0,
                wishes: Wishes::any(none),
            },
            cpu: Percent::ALL,
            unit_memory_max: 0,
            unit_time_max: Duration::ZERO,
            up: None,
            down: None,
            give_back: false,
            in_use: true,
            because: Vec::new(),
        }
    }
}

impl Manners {
    /// Starts with what is written and was said last.
    #[must_use]
    pub const fn new(
        preferences: Preferences,
        (said, said_at): (Said, Timestamp),
        machine: Machine,
    ) -> Self {
        Self {
            preferences,
            said,
            said_at,
            machine,
            since: BTreeMap::new(),
            loud: None,
            short: None,
        }
    }

    /// Takes other preferences.
    pub fn prefer(&mut self, preferences: Preferences) {
        self.preferences = preferences;
    }

    /// Returns what the owner has written.
    #[must_use]
    pub const fn preferences(&self) -> &Preferences {
        &self.preferences
    }

    /// Takes what the owner says.
    pub fn say(&mut self, now: Timestamp, said: Said) {
        (self.said, self.said_at) = (said, now);
    }

    /// Returns what the owner has said last, and when.
    #[must_use]
    pub const fn said(&self) -> (Said, Timestamp) {
        (self.said, self.said_at)
    }

    /// Decides by the facts. `at_hand` says whether the terminal has anything to compute or
    /// to report.
    pub fn decide(&mut self, now: Timestamp, facts: &Facts, at_hand: AtHand) -> Decision {
        let in_use = self.is_in_use(facts);
        let caps = if in_use {
            self.preferences.in_use
        } else {
            self.preferences.idle
        };
        let mut found = Vec::new();
        self.listen(now, at_hand, &mut found);
        self.look_at_owner(now, (facts, in_use), &mut found);
        self.look_at_computer(now, (facts, caps), &mut found);
        self.look_at_limits(now, facts, &mut found);
        let because = self.date(now, found);
        let run = !because
            .iter()
            .any(|because| because.reason.question() == Question::Paused);
        let slots = slots(caps.cpu, self.machine);
        let memory_bytes = facts
            .memory
            .map_or(u64::MAX, |memory| caps.memory.of(memory.total));
        let units = &self.preferences.units;
        Decision {
            allowance: Allowance {
                run,
                take: because.is_empty(),
                slots,
                memory_bytes,
                hourly_min: units.hourly_min.as_micro(),
                wishes: Wishes {
                    programs: units.programs.clone(),
                    customers: units.customers.clone(),
                    own_tasks: self.preferences.own_tasks,
                    ..Wishes::any(Limits {
                        fuel: u64::MAX,
                        memory_bytes: units.memory.min(memory_bytes),
                        output_bytes: self.machine.output_bytes,
                    })
                },
            },
            cpu: caps.cpu,
            unit_memory_max: units.memory,
            unit_time_max: Duration::from_secs(60 * u64::from(units.minutes)),
            up: caps.up,
            down: caps.down,
            give_back: self.short == Some(now),
            in_use,
            because,
        }
    }

    /// Returns whether somebody uses the computer: also if nobody can tell.
    fn is_in_use(&self, facts: &Facts) -> bool {
        let idle_after = self.idle_after();
        facts.idle.is_none_or(|idle| idle < idle_after)
    }

    fn idle_after(&self) -> Duration {
        Duration::from_secs(u64::from(self.preferences.idle_minutes) * 60)
    }

    /// Notes what the owner has said.
    fn listen(&mut self, now: Timestamp, at_hand: AtHand, found: &mut Vec<Found>) {
        match self.said {
            Said::Resume => {}
            Said::Pause => found.push(Found::new(Reason::Paused, Until::YouAct)),
            Said::Snooze { until } if until > now => {
                found.push(Found::new(Reason::Snoozed, Until::At(until)));
            }
            Said::Snooze { .. } => self.said = Said::Resume,
            Said::Finish => {
                let reason = match at_hand {
                    AtHand::Work => Reason::Finishing,
                    AtHand::Nothing => Reason::Finished,
                };
                found.push(Found::new(reason, Until::YouAct));
            }
        }
    }

    /// Notes what the owner has written of times, and does.
    fn look_at_owner(
        &self,
        now: Timestamp,
        (facts, in_use): (&Facts, bool),
        found: &mut Vec<Found>,
    ) {
        let preferences = &self.preferences;
        if preferences.run == When::Never {
            found.push(Found::new(Reason::Never, Until::YouAct));
        }
        let outside = |at: &MinuteOfWeek| !preferences.hours.contains(*at);
        if let Some(local) = facts.local.filter(outside) {
            // To the full minute: the seconds are not known here.
            let left = u64::from(preferences.hours.begin_in(local)) * 60;
            let until = Until::At(now + Duration::from_secs(left));
            let detail = format!("it is {local}, the hours are {}", preferences.hours);
            found.push(Found::new(Reason::OutsideHours, until).with(detail));
        }
        if preferences.run == When::Idle && in_use {
            let found_in_use = match facts.idle {
                Some(idle) => {
                    let left = self.idle_after().saturating_sub(idle);
                    let minutes = preferences.idle_minutes;
                    let detail = format!("idle after {minutes} minutes without input");
                    Found::new(Reason::InUse, Until::At(now + left)).with(detail)
                }
                None => {
                    let detail = "this computer cannot tell when it was used last".to_owned();
                    Found::new(Reason::InUse, Until::ItChanges).with(detail)
                }
            };
            found.push(found_in_use);
        }
        let runs = |name: &&String| facts.running.as_ref().is_none_or(|all| all.contains(name));
        if let Some(name) = preferences.pause_for.iter().find(runs) {
            let detail = match facts.running {
                Some(_) => name.clone(),
                None => "it is not known yet which programs run".to_owned(),
            };
            found.push(Found::new(Reason::ProgramRuns, Until::ItChanges).with(detail));
        }
    }

    /// Notes how the computer is.
    fn look_at_computer(
        &mut self,
        now: Timestamp,
        (facts, caps): (&Facts, Caps),
        found: &mut Vec<Found>,
    ) {
        if let Some(Power::Battery { percent }) = facts.power {
            let (least, at) = (
                self.preferences.battery_min,
                format!("{percent} % are left"),
            );
            if !self.preferences.on_battery {
                found.push(Found::new(Reason::OnBattery, Until::ItChanges).with(at));
            } else if percent < least.get() {
                let detail = format!("{at}, battery_min is {least}");
                found.push(Found::new(Reason::BatteryLow, Until::ItChanges).with(detail));
            }
        }
        let too_loud =
            |others: &u8| caps.others_cpu < Percent::ALL && *others > caps.others_cpu.get();
        if facts.others_cpu.is_some_and(|others| too_loud(&others)) {
            self.loud = Some(now);
        }
        if caps.others_cpu == Percent::ALL {
            self.loud = None;
        }
        if let Some(until) = calm(&mut self.loud, now) {
            let (others, most) = (facts.others_cpu.unwrap_or(0), caps.others_cpu);
            let detail = format!("others use {others} %, others_cpu is {most}");
            found.push(Found::new(Reason::OthersBusy, until).with(detail));
        }
        if facts
            .memory
            .is_some_and(|memory| memory.free_percent() < MEMORY_FREE_MIN)
        {
            self.short = Some(now);
        }
        if let Some(until) = calm(&mut self.short, now) {
            let free = facts.memory.map_or(0, |memory| memory.free_percent());
            let detail = format!("{free} % are free, {MEMORY_FREE_MIN} % are left to others");
            found.push(Found::new(Reason::MemoryShort, until).with(detail));
        }
    }

    /// Notes limits beyond which nothing new is taken.
    fn look_at_limits(&self, now: Timestamp, facts: &Facts, found: &mut Vec<Found>) {
        let (disk, network) = (&self.preferences.disk, &self.preferences.network);
        let free = facts.disk.map(|disk| disk.free_percent());
        if let Some(free) = free.filter(|free| *free < disk.free_min.get()) {
            let detail = format!("{free} % are free, disk.free_min is {}", disk.free_min);
            found.push(Found::new(Reason::DiskFull, Until::ItChanges).with(detail));
        }
        if facts.metered == Some(true) && !network.metered {
            found.push(Found::new(Reason::Metered, Until::ItChanges));
        }
        if let Some(daily) = network.daily.filter(|daily| facts.traffic_today >= *daily) {
            let (used, daily) = (facts.traffic_today >> 20, daily >> 20);
            let detail = format!("{used} of {daily} MiB");
            let found_used = Found::new(Reason::TrafficUsedUp, Until::At(next_day(now)));
            found.push(found_used.with(detail));
        }
    }

    /// Says since when each reason holds, and forgets those that do not any more.
    fn date(&mut self, now: Timestamp, found: Vec<Found>) -> Vec<Because> {
        let holds = |reason: &Reason| found.iter().any(|found| found.reason == *reason);
        self.since.retain(|reason, _| holds(reason));
        let said_at = self.said_at;
        let dated = found.into_iter().map(|found| {
            let is_said = matches!(
                found.reason,
                Reason::Paused | Reason::Snoozed | Reason::Finishing
            );
            let first = if is_said { said_at } else { now };
            Because {
                since: *self.since.entry(found.reason).or_insert(first),
                reason: found.reason,
                until: found.until,
                detail: found.detail,
            }
        });
        dated.collect()
    }
}

/// Whether a terminal has units or results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtHand {
    /// Units to compute or results to report.
    Work,
    /// Neither.
    Nothing,
}

/// A reason that was found.
struct Found {
    reason: Reason,
    until: Until,
    detail: String,
}

impl Found {
    const fn new(reason: Reason, until: Until) -> Self {
        Self {
            reason,
            until,
            detail: String::new(),
        }
    }

    fn with(self, detail: String) -> Self {
        Self { detail, ..self }
    }
}

/// Returns when it has been calm for long enough since `loud`, if it has not yet.
fn calm(loud: &mut Option<Timestamp>, now: Timestamp) -> Option<Until> {
    let until = (*loud)? + CALM;
    if now < until && now >= (*loud)? {
        return Some(Until::At(until));
    }
    // Over, or the clock was set back.
    *loud = None;
    None
}

/// Returns how many units run at a time with this share of all processors: one at least.
fn slots(cpu: Percent, machine: Machine) -> usize {
    let share = machine.processors.saturating_mul(usize::from(cpu.get()));
    share.div_ceil(100).clamp(1, machine.slots.max(1))
}

/// Returns the next midnight, UTC.
fn next_day(now: Timestamp) -> Timestamp {
    const DAY: u64 = 24 * 60 * 60 * 1_000;
    Timestamp::from_millis(
        (now.as_millis() / DAY)
            .saturating_add(1)
            .saturating_mul(DAY),
    )
}

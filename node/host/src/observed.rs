//! What one look gives, and how it is said to people.
//!
//! The text of an [`Observed`] is one line for each value, of at most 80 columns; a value that is not known says why.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

const GIB: f64 = (1_u64 << 30) as f64;

/// What a computer is doing at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// When somebody last used the keyboard, the mouse or a terminal.
    pub idle: Result<Idle, Unknown>,
    /// Where the electricity comes from.
    pub power: Result<Power, Unknown>,
    /// How much of all processors other programs used since the last look, 0 to 1. Processors that a hypervisor took away
    /// count as neither used nor free; niced programs of the owner count as used, as they are still the owner's.
    pub others_cpu: Result<f64, Unknown>,
    /// The main memory.
    pub memory: Result<Memory, Unknown>,
    /// The disk that the data folder is on.
    pub disk: Result<Disk, Unknown>,
    /// Whether traffic of the network is paid for by amount.
    pub metered: Result<bool, Unknown>,
    /// Which of the programs that were looked for run.
    pub running: Result<Vec<String>, Unknown>,
    /// The time of the week at this computer.
    pub local: LocalTime,
    /// How long the computer slept since the last look.
    pub slept: Duration,
}

/// How long nobody has used the computer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Time since the last input.
    pub duration: Duration,
    /// Who saw that input.
    pub source: Source,
}

/// Who sees the input of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A terminal: a console, a terminal window, an ssh session.
    Terminal,
    /// The login manager, which desktops tell.
    Logind,
    /// An X11 display.
    X11,
    /// A Wayland compositor.
    Wayland,
    /// GNOME's own interface.
    Gnome,
    /// There is neither a session nor a terminal: nobody sits there.
    Nobody,
}

/// Where the electricity comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// From the wall, and there is a battery, which may tell how full it is in percent.
    Mains {
        /// How full the battery is, 0 to 100.
        percent: Option<u8>,
    },
    /// From the battery, or from an uninterruptible power supply during an outage.
    Battery {
        /// How full it is, 0 to 100.
        percent: Option<u8>,
    },
    /// There is no battery.
    NoBattery,
}

/// The main memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What programs could still take without swapping.
    pub available: u64,
    /// The part of the last ten seconds in which some program waited for memory, 0 to 1; `None` where the kernel does not
    /// measure it.
    pub pressure: Option<f64>,
}

/// A disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub total: u64,
    /// What this user may still write.
    pub free: u64,
}

/// A moment of the week, in the time zone of the computer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime {
    /// The day, from 0 for Monday to 6 for Sunday.
    pub weekday: u8,
    /// The second of the day by the clock on the wall, 0 to 86399.
    pub second: u32,
}

/// Why a computer cannot tell something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Unknown {
    /// Nothing has answered yet, or one look is not enough.
    #[error("not measured yet")]
    NotYet,
    /// D-Bus is not there.
    #[error("there is no system bus (D-Bus)")]
    NoBus,
    /// D-Bus is there, but not the service that knows.
    #[error("the service that knows it does not run")]
    NoService,
    /// The kernel or the computer does not have it.
    #[error("this computer has no such device or file")]
    Absent,
    /// It is there, and this user may not ask.
    #[error("permission denied")]
    Refused,
    /// A desktop is in the foreground, and does not say when it was last used.
    #[error("the desktop does not say when it was last used")]
    Unseen,
    /// The service answers that it does not know.
    #[error("the service that should know it does not know")]
    Undecided,
    /// The answer does not read as expected.
    #[error("the answer is not understood")]
    Unreadable,
    /// There was an answer once, and none for a long time.
    #[error("no answer for a long time")]
    Silent,
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "input", self.idle.as_ref().map(Idle::to_string))?;
        line(f, "power", self.power.as_ref().map(Power::to_string))?;
        let others = self.others_cpu.as_ref();
        line(
            f,
            "processors",
            others.map(|share| format!("other programs use {:.0} %", share * 100.0)),
        )?;
        line(f, "memory", self.memory.as_ref().map(Memory::to_string))?;
        line(f, "disk", self.disk.as_ref().map(Disk::to_string))?;
        let metered = |metered: &bool| if *metered { "metered" } else { "not metered" }.to_owned();
        line(f, "network", self.metered.as_ref().map(metered))?;
        let running = |names: &Vec<String>| match names.as_slice() {
            [] => "none of those that pause work".to_owned(),
            names => names.join(", "),
        };
        line(f, "programs", self.running.as_ref().map(running))?;
        line::<String>(f, "clock", Ok(self.local.to_string()))?;
        if self.slept > Duration::ZERO {
            line::<String>(
                f,
                "sleep",
                Ok(format!("{} since the last look", Span(self.slept))),
            )?;
        }
        Ok(())
    }
}

fn line<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    value: Result<T, &Unknown>,
) -> fmt::Result {
    match value {
        Ok(value) => writeln!(f, "{name:10}  {value}"),
        Err(why) => writeln!(f, "{name:10}  unknown: {why}"),
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = Span(self.duration);
        match self.source {
            Source::Nobody => write!(f, "none for {span} (no session, no terminal)"),
            Source::Terminal | Source::Logind | Source::X11 | Source::Wayland | Source::Gnome => {
                write!(f, "{span} ago ({})", self.source)
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminal => "a terminal",
            Self::Logind => "the login manager",
            Self::X11 => "X11",
            Self::Wayland => "Wayland",
            Self::Gnome => "GNOME",
            Self::Nobody => "nobody",
        })
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, percent) = match self {
            Self::NoBattery => return f.write_str("mains, no battery"),
            Self::Mains { percent } => ("mains, battery", percent),
            Self::Battery { percent } => ("on battery,", percent),
        };
        match percent {
            Some(percent) => write!(f, "{name} {percent} %"),
            None => write!(f, "{name} it does not say how full"),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} available",
            Size(self.available),
            Size(self.total)
        )?;
        match self.pressure {
            Some(pressure) => write!(f, ", {:.0} % of the time waited for", pressure * 100.0),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} free", Size(self.free), Size(self.total))
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = [
            "Monday",
            "Tuesday",
            "Wednesday",
            "Thursday",
            "Friday",
            "Saturday",
            "Sunday",
        ];
        let day = DAYS.get(usize::from(self.weekday)).unwrap_or(&"");
        write!(
            f,
            "{day} {:02}:{:02}",
            self.second / 3600,
            self.second / 60 % 60
        )
    }
}

/// A span of time as people say it, in its largest unit.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ ..120 => write!(f, "{seconds} s"),
            seconds @ ..7200 => write!(f, "{} min", seconds / 60),
            seconds @ ..172_800 => write!(f, "{} h", seconds / 3600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// Bytes as people say them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(
            clippy::cast_precision_loss,
            reason = "one digit after the point is shown"
        )]
        let gib = self.0 as f64 / GIB;
        write!(f, "{gib:.1} GiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_said_in_lines() {
        let mut observed = Observed {
            idle: Ok(Idle {
                duration: Duration::from_secs(190),
                source: Source::X11,
            }),
            power: Ok(Power::Battery { percent: Some(54) }),
            others_cpu: Ok(0.124),
            memory: Ok(Memory {
                total: 16 << 30,
                available: 9 << 30,
                pressure: Some(0.031),
            }),
            disk: Ok(Disk {
                total: 250 << 30,
                free: 120 << 30,
            }),
            metered: Ok(true),
            running: Ok(vec!["steam".to_owned(), "obs".to_owned()]),
            local: LocalTime {
                weekday: 6,
                second: 13 * 3600 + 5 * 60 + 59,
            },
            slept: Duration::ZERO,
        };
        let expected = "\
input       3 min ago (X11)
power       on battery, 54 %
processors  other programs use 12 %
memory      9.0 GiB of 16.0 GiB available, 3 % of the time waited for
disk        120.0 GiB of 250.0 GiB free
network     metered
programs    steam, obs
clock       Sunday 13:05
";
        assert_eq!(observed.to_string(), expected);
        observed.slept = Duration::from_secs(8 * 3600);
        assert!(
            observed
                .to_string()
                .ends_with("sleep       8 h since the last look\n")
        );
    }

    #[test]
    fn what_is_not_known_says_why() {
        let observed = Observed {
            idle: Err(Unknown::Unseen),
            power: Ok(Power::Mains { percent: None }),
            others_cpu: Err(Unknown::NotYet),
            memory: Err(Unknown::Absent),
            disk: Err(Unknown::Silent),
            metered: Err(Unknown::NoService),
            running: Ok(Vec::new()),
            local: LocalTime {
                weekday: 0,
                second: 0,
            },
            slept: Duration::ZERO,
        };
        let text = observed.to_string();
        assert!(
            text.starts_with(
                "input       unknown: the desktop does not say when it was last used\n"
            )
        );
        assert!(text.contains("network     unknown: the service that knows it does not run\n"));
        assert!(
            text.contains("programs    none of those that pause work\nclock       Monday 00:00\n")
        );
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }
}

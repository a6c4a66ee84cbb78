//! Where the electricity comes from, from `/sys/class/power_supply`.
//!
//! Batteries of mice, keyboards and headsets say that their scope is a device, and do not count. A supply that is online
//! means mains, whatever the batteries say: one that is drained beside a weak charger is still plugged in. Where no supply
//! is online, only a battery that says that it is being charged is believed to be on mains.

use std::path::Path;

use crate::files::{read, why};
use crate::{Power, Unknown};

/// Most supplies that are read: notebooks have up to ten, one for each socket.
const SUPPLIES_MAX: usize = 64;

/// Reads all supplies and says where the electricity comes from.
pub(crate) fn power(folder: &Path) -> Result<Power, Unknown> {
    let supplies = match std::fs::read_dir(folder) {
        Ok(supplies) => supplies,
        // A kernel without this folder knows of no battery.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Power::NoBattery),
        Err(error) => return Err(why(error.kind())),
    };
    let supplies: Vec<Supply> = supplies
        .flatten()
        .take(SUPPLIES_MAX)
        .filter_map(|entry| supply(&entry.path()))
        .collect();
    Ok(judge(&supplies))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Supply {
    /// A socket, with or without electricity.
    Line {
        online: bool,
    },
    Battery(Battery),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Battery {
    flow: Flow,
    /// How full it is, in percent.
    percent: Option<f64>,
    /// How much it holds when full, in whatever unit it measures.
    full: Option<f64>,
}

/// What a battery says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Charging,
    Discharging,
    /// It is full, is not charged, or does not know.
    Still,
}

/// Reads one supply; one that was unplugged meanwhile, or feeds only a device, is none.
fn supply(folder: &Path) -> Option<Supply> {
    let field = |name: &str| {
        read(&folder.join(name))
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let number = |name: &str| field(name)?.parse::<f64>().ok();
    if field("scope").as_deref() == Some("Device") {
        return None;
    }
    match field("type")?.as_str() {
        "Mains" | "USB" | "Wireless" => Some(Supply::Line {
            online: number("online")? > 0.0,
        }),
        "Battery" | "UPS" => {
            if number("present") == Some(0.0) {
                return None;
            }
            let flow = match field("status").as_deref() {
                Some("Charging") => Flow::Charging,
                Some("Discharging") => Flow::Discharging,
                _ => Flow::Still,
            };
            let full = number("energy_full")
                .or_else(|| number("charge_full"))
                .filter(|full| *full > 0.0);
            let now = number("energy_now").or_else(|| number("charge_now"));
            let percent = number("capacity").or_else(|| Some(now? / full? * 100.0));
            Some(Supply::Battery(Battery {
                flow,
                percent,
                full,
            }))
        }
        _ => None,
    }
}

fn judge(supplies: &[Supply]) -> Power {
    let mut batteries = Vec::new();
    let mut online = None;
    for supply in supplies {
        match supply {
            Supply::Battery(battery) => batteries.push(*battery),
            Supply::Line { online: here } => online = Some(online.unwrap_or(false) || *here),
        }
    }
    if batteries.is_empty() {
        return Power::NoBattery;
    }
    let percent = percent(&batteries);
    let flows = |flow| batteries.iter().any(|battery| battery.flow == flow);
    let on_battery = match online {
        Some(true) => false,
        Some(false) => !flows(Flow::Charging),
        None => flows(Flow::Discharging),
    };
    if on_battery {
        Power::Battery { percent }
    } else {
        Power::Mains { percent }
    }
}

/// Weighs batteries by what they hold, where all of them say it.
fn percent(batteries: &[Battery]) -> Option<u8> {
    let all_full = batteries.iter().all(|battery| battery.full.is_some());
    let weight = |battery: &Battery| {
        if all_full {
            battery.full.unwrap_or(1.0)
        } else {
            1.0
        }
    };
    let known = || {
        batteries
            .iter()
            .filter_map(|battery| Some((battery.percent?, weight(battery))))
    };
    let weights: f64 = known().map(|(_, weight)| weight).sum();
    let sum: f64 = known().map(|(percent, weight)| percent * weight).sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped before"
    )]
    (weights > 0.0).then(|| (sum / weights).clamp(0.0, 100.0).round() as u8)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writes supplies, each as its name and its fields, and reads them.
    fn seen(supplies: &[(&str, &[(&str, &str)])]) -> Power {
        let folder = tempfile::tempdir().unwrap();
        for (name, fields) in supplies {
            let supply = folder.path().join(name);
            fs::create_dir(&supply).unwrap();
            for (field, value) in *fields {
                fs::write(supply.join(field), format!("{value}\n")).unwrap();
            }
        }
        power(folder.path()).unwrap()
    }

    const OFF: (&str, &[(&str, &str)]) = ("AC", &[("type", "Mains"), ("online", "0")]);
    const ON: (&str, &[(&str, &str)]) = ("AC", &[("type", "Mains"), ("online", "1")]);
    const USB_OFF: (&str, &[(&str, &str)]) = ("ucsi0", &[("type", "USB"), ("online", "0")]);
    const USB_ON: (&str, &[(&str, &str)]) = ("ucsi1", &[("type", "USB"), ("online", "1")]);
    const DRAINED: (&str, &[(&str, &str)]) = (
        "BAT0",
        &[
            ("type", "Battery"),
            ("status", "Discharging"),
            ("capacity", "41"),
        ],
    );
    const CHARGED: (&str, &[(&str, &str)]) = (
        "BAT0",
        &[
            ("type", "Battery"),
            ("status", "Charging"),
            ("capacity", "41"),
        ],
    );

    #[test]
    fn a_desktop_has_no_battery_whatever_its_sockets_and_mice_say() {
        let mouse: (&str, &[(&str, &str)]) = (
            "hidpp_battery_0",
            &[
                ("type", "Battery"),
                ("scope", "Device"),
                ("status", "Discharging"),
                ("capacity", "5"),
            ],
        );
        assert_eq!(seen(&[]), Power::NoBattery);
        assert_eq!(seen(&[USB_OFF, mouse]), Power::NoBattery);
        assert_eq!(power(Path::new("/nowhere/at/all")), Ok(Power::NoBattery));
    }

    #[test]
    fn a_notebook_is_on_mains_or_on_battery() {
        let percent = Some(41);
        assert_eq!(seen(&[OFF, DRAINED]), Power::Battery { percent });
        assert_eq!(seen(&[ON, CHARGED]), Power::Mains { percent });
        assert_eq!(
            seen(&[OFF, USB_OFF, USB_ON, CHARGED]),
            Power::Mains { percent }
        );
        // A weak charger: plugged in all the same.
        assert_eq!(seen(&[ON, DRAINED]), Power::Mains { percent });
        // Charged by something that the kernel does not list.
        assert_eq!(seen(&[OFF, CHARGED]), Power::Mains { percent });
        // No supply is listed at all, as on many small boards.
        assert_eq!(seen(&[DRAINED]), Power::Battery { percent });
        assert_eq!(seen(&[CHARGED]), Power::Mains { percent });
    }

    #[test]
    fn a_battery_that_does_not_know_is_not_believed_to_be_on_mains() {
        let unsure: (&str, &[(&str, &str)]) =
            ("BAT0", &[("type", "Battery"), ("status", "Unknown")]);
        assert_eq!(seen(&[OFF, unsure]), Power::Battery { percent: None });
        assert_eq!(seen(&[ON, unsure]), Power::Mains { percent: None });
    }

    #[test]
    fn several_batteries_are_weighed_by_what_they_hold() {
        let small: (&str, &[(&str, &str)]) = (
            "BAT0",
            &[
                ("type", "Battery"),
                ("status", "Discharging"),
                ("capacity", "10"),
                ("energy_full", "10000000"),
            ],
        );
        let large: (&str, &[(&str, &str)]) = (
            "BAT1",
            &[
                ("type", "Battery"),
                ("status", "Unknown"),
                ("energy_now", "27000000"),
                ("energy_full", "30000000"),
            ],
        );
        let empty: (&str, &[(&str, &str)]) = ("BAT2", &[("type", "Battery"), ("present", "0")]);
        assert_eq!(
            seen(&[OFF, small, large, empty]),
            Power::Battery { percent: Some(70) }
        );
        let untold: (&str, &[(&str, &str)]) = ("BAT1", &[("type", "Battery"), ("capacity", "90")]);
        assert_eq!(
            seen(&[OFF, small, untold]),
            Power::Battery { percent: Some(50) }
        );
    }

    #[test]
    fn a_power_cut_behind_an_uninterruptible_supply_is_battery() {
        let ups = |status| [("type", "UPS"), ("status", status), ("capacity", "100")];
        assert_eq!(
            seen(&[("ups", &ups("Full"))]),
            Power::Mains { percent: Some(100) }
        );
        assert_eq!(
            seen(&[("ups", &ups("Discharging"))]),
            Power::Battery { percent: Some(100) }
        );
    }
}

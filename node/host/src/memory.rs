//! The main memory, from `/proc/meminfo` and `/proc/pressure/memory`.

use std::path::Path;

use crate::files::read;
use crate::{Memory, Unknown};

/// Reads how much memory there is and how short it is.
pub(crate) fn memory(proc: &Path) -> Result<Memory, Unknown> {
    let text = read(&proc.join("meminfo"))?;
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    };
    let total = kib("MemTotal:").ok_or(Unknown::Unreadable)?;
    let available = kib("MemAvailable:").ok_or(Unknown::Unreadable)?;
    Ok(Memory {
        total,
        available,
        pressure: pressure(proc),
    })
}

fn pressure(proc: &Path) -> Option<f64> {
    let text = read(&proc.join("pressure/memory")).ok()?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent = some
        .split(' ')
        .find_map(|field| field.strip_prefix("avg10="))?;
    let percent: f64 = percent.parse().ok()?;
    Some((percent / 100.0).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn memory_is_read_with_and_without_pressure() {
        let proc = tempfile::tempdir().unwrap();
        let text = "MemTotal:       24684084 kB\nMemFree:  22103732 kB\nMemAvailable:   23334192 kB\nBuffers: 1 kB\n";
        fs::write(proc.path().join("meminfo"), text).unwrap();
        let expected = Memory {
            total: 24_684_084 * 1024,
            available: 23_334_192 * 1024,
            pressure: None,
        };
        assert_eq!(memory(proc.path()), Ok(expected));

        fs::create_dir(proc.path().join("pressure")).unwrap();
        let text = "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=1\n";
        fs::write(proc.path().join("pressure/memory"), text).unwrap();
        assert_eq!(memory(proc.path()).unwrap().pressure, Some(0.125));
    }

    #[test]
    fn a_kernel_without_the_figure_is_not_understood() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(memory(proc.path()), Err(Unknown::Absent));
        fs::write(
            proc.path().join("meminfo"),
            "MemTotal:  1 kB\nMemFree:  1 kB\n",
        )
        .unwrap();
        assert_eq!(memory(proc.path()), Err(Unknown::Unreadable));
    }

    #[test]
    fn this_computer_has_memory() {
        let memory = memory(Path::new("/proc")).unwrap();
        assert!(0 < memory.available && memory.available <= memory.total);
    }
}

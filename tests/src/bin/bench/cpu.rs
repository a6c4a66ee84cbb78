//! The processor time of processes, and the load of the machine, as Linux tells them.

use std::fs;
use std::time::Duration;

/// A tick of the clock in `/proc/PID/stat`, the same on every Linux that Tally runs on.
const TICK: Duration = Duration::from_millis(10);

/// Returns the processor time of all threads of a process; nothing if it is gone.
pub(crate) fn time_of(process: u32) -> Duration {
    let Some(fields) = stat(process) else {
        return Duration::ZERO;
    };
    // utime and stime are fields 14 and 15, of which those after the name are left.
    let ticks = [11, 12].map(|place| fields.get(place)?.parse::<u32>().ok());
    TICK * ticks.into_iter().flatten().sum()
}

/// Returns the processor time of the only thread of a process, exactly.
pub(crate) fn exact_time_of(process: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap_or_default();
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Returns whether a process was stopped by a signal.
pub(crate) fn is_stopped(process: u32) -> bool {
    stat(process).is_some_and(|fields| fields.first().is_some_and(|state| state == "T"))
}

/// Returns the children of a process.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |process: &u32| {
        let fields = stat(*process);
        fields.is_some_and(|fields| fields.get(1).and_then(|id| id.parse().ok()) == Some(parent))
    };
    processes.filter(is_child).collect()
}

/// Returns the mean number of processes that wanted to run over the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

/// Returns the fields of `/proc/PID/stat` behind the name, which may hold blanks.
fn stat(process: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

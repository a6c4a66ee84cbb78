//! Tasks as people read them.

use tally_protocol::message::customer::{Phase, TaskStatus, TaskSummary};

use crate::cli::output::{grouped, table};

pub(super) fn tasks_table(tasks: &[TaskSummary]) -> String {
    if tasks.is_empty() {
        return "there is no task".to_owned();
    }
    let row = |task: &TaskSummary| {
        let phase = match failure(&task.phase) {
            Some(reason) => format!("failed: {}", shortened(reason, 40)),
            None => task.phase.to_string(),
        };
        let units = format!("{}/{}", task.done, task.units);
        vec![task.task.short(), shortened(&task.name, 24), units, phase]
    };
    table(
        &["task", "name", "units", "state"],
        &tasks.iter().map(row).collect::<Vec<_>>(),
    )
}

/// Returns why the task failed, if it did.
pub(super) fn failure(phase: &Phase) -> Option<&str> {
    if let Phase::Failed(reason) = phase {
        Some(reason)
    } else {
        None
    }
}

pub(super) fn status_text(status: &TaskStatus) -> String {
    let summary = &status.summary;
    let mut text = format!("{}  {}\n", summary.task.short(), summary.name);
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:9} {value}\n"));
    match failure(&summary.phase) {
        Some(reason) => line("state", format!("failed: {reason}")),
        None => line("state", summary.phase.to_string()),
    }
    if let Some(reason) = &status.waiting_for {
        line("waiting", format!("for {reason}"));
    }
    if summary.phase == Phase::Uploading {
        line(
            "uploaded",
            format!(
                "{} of {} bytes",
                grouped(status.uploaded.0),
                grouped(status.uploaded.1)
            ),
        );
    }
    let leased = if status.leased > 0 {
        format!(", {} leases", status.leased)
    } else {
        String::new()
    };
    line(
        "units",
        format!("{} of {} done{leased}", summary.done, summary.units),
    );
    line("fuel", grouped(status.fuel));
    let cost = &status.cost;
    line("points", cost.points.to_string());
    if cost.paid.minor > 0 || cost.held.minor > 0 {
        let held = if cost.held.minor > 0 {
            format!(", up to {} more are held", cost.held)
        } else {
            String::new()
        };
        line("paid", format!("{}{held}", cost.paid));
    }
    if let Some(result) = &status.result {
        line(
            "result",
            format!("{} bytes, {}", grouped(result.bytes), result.id),
        );
    }
    for (unit, reason) in status.failed.iter().take(10) {
        line("failed", format!("unit {unit}: {reason}"));
    }
    if status.failed_count > 10 {
        line("failed", format!("{} units in all", status.failed_count));
    }
    text + &devices_table(status)
}

/// Returns who did what, and who reported something else than the others.
fn devices_table(status: &TaskStatus) -> String {
    if status.devices.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = status
        .devices
        .iter()
        .map(|(device, tally)| {
            let numbers =
                [tally.agreed, tally.outvoted, tally.lost].map(|number| number.to_string());
            let [agreed, outvoted, lost] = numbers;
            vec![
                format!("..{}", device.short()),
                agreed,
                outvoted,
                lost,
                grouped(tally.fuel),
            ]
        })
        .collect();
    let mut text =
        String::from("\n") + &table(&["terminal", "agreed", "outvoted", "lost", "fuel"], &rows);
    for (device, tally) in status
        .devices
        .iter()
        .filter(|(_, tally)| tally.outvoted > 0)
    {
        let units: Vec<String> = tally
            .outvoted_units
            .iter()
            .map(ToString::to_string)
            .collect();
        text.push_str(&format!(
            "{device} was outvoted on unit {}\n",
            units.join(", ")
        ));
    }
    text
}

fn shortened(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars - 2).chain("..".chars()).collect()
}

//! What a run comes to: the few numbers that both the summary in the terminal and the page tell.

use super::{LiarReport, OracleReport, RunReport};

impl RunReport {
    /// Returns the oracles that found something wrong.
    pub fn failures(&self) -> impl Iterator<Item = &OracleReport> {
        self.oracles
            .iter()
            .filter(|oracle| oracle.finding.is_some())
    }

    /// Returns whether something was checked and all of it holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.oracles.is_empty() && self.failures().next().is_none()
    }

    /// Says in a few words whether all that was checked holds.
    #[must_use]
    pub fn verdict(&self) -> String {
        let (all, failed) = (self.oracles.len(), self.failures().count());
        let idle = self
            .oracles
            .iter()
            .filter(|oracle| oracle.checks == 0)
            .count();
        match (all, failed, idle) {
            (0, _, _) => "nothing was checked".to_owned(),
            (_, 0, 0) => format!("all {all} oracles hold"),
            (_, 0, _) => format!("all {all} oracles hold, but {idle} had nothing to check"),
            (_, 1, _) => format!("1 of {all} oracles found something wrong"),
            (_, _, _) => format!("{failed} of {all} oracles found something wrong"),
        }
    }

    /// Returns the command that repeats the run.
    #[must_use]
    pub fn replay_command(&self) -> String {
        format!("netsim run {} --seed {}", self.scenario, self.seed)
    }

    /// Returns the number of tasks that ended.
    #[must_use]
    pub fn tasks_ended(&self) -> usize {
        self.tasks
            .iter()
            .filter(|task| task.ended.is_some())
            .count()
    }

    /// Returns the units of all tasks.
    #[must_use]
    pub fn units_submitted(&self) -> u64 {
        self.tasks.iter().map(|task| u64::from(task.units)).sum()
    }

    /// Returns the share of the slots online that ran a unit, over the whole run, if there were any.
    #[must_use]
    pub fn utilisation(&self) -> Option<f64> {
        ratio(
            self.series.busy.iter().sum(),
            self.series.slots.iter().sum(),
        )
    }

    /// Returns how many results a unit got in the mean, if there were units.
    #[must_use]
    pub fn replicas_mean(&self) -> Option<f64> {
        let results = self
            .replicas_per_unit
            .iter()
            .map(|(replicas, units)| u64::from(*replicas) * units)
            .sum();
        ratio(results, self.replicas_per_unit.values().sum())
    }

    /// Returns the number of liars that were detected.
    #[must_use]
    pub fn liars_detected(&self) -> usize {
        self.liars
            .iter()
            .filter(|liar| liar.detected.is_some())
            .count()
    }

    /// Returns how long half of the detected liars needed at most to be detected, in seconds from the first lie.
    #[must_use]
    pub fn detection_median(&self) -> Option<f64> {
        median(self.liars.iter().filter_map(LiarReport::detected_after))
    }
}

impl LiarReport {
    /// Returns the seconds from the first lie to the first contradiction, if there was one.
    #[must_use]
    pub fn detected_after(&self) -> Option<f64> {
        self.detected
            .map(|detected| (detected - self.lied).max(0.0))
    }
}

/// Returns the value that half of the values do not exceed.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

//! How much of the processors other programs use, from the first line of `/proc/stat`.
//!
//! Used is what programs used: `user`, `nice` and `system`. Interrupts belong to no program. What a hypervisor gave to
//! somebody else (`steal`) is in the total only: it is not the owner's doing, and it is not free either. Niced programs
//! count, because the kernel does not say whose they are, and because what an owner computes with patience is still the
//! owner's. Ours is subtracted as a whole, as all of it is in these three columns.

use std::path::Path;
use std::time::Duration;

use crate::Unknown;
use crate::files::read;

/// Remembers the last look, to which the next is compared.
#[derive(Debug, Default)]
pub(crate) struct Processors {
    last: Option<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Ticks in which some program ran, of all processors.
    busy: u64,
    /// All ticks of all processors.
    total: u64,
    own: Duration,
}

impl Processors {
    /// Returns the part of all processors that others used since the last look.
    pub(crate) fn others(&mut self, proc: &Path, own: Duration) -> Result<f64, Unknown> {
        let now = sample(&read(&proc.join("stat"))?, own).ok_or(Unknown::Unreadable)?;
        let last = self.last.replace(now).ok_or(Unknown::NotYet)?;
        share(last, now, rustix::param::clock_ticks_per_second())
    }
}

fn sample(stat: &str, own: Duration) -> Option<Sample> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let mut ticks = [0_u64; 8];
    let mut fields = fields.split_ascii_whitespace();
    for tick in &mut ticks {
        *tick = fields.next()?.parse().ok()?;
    }
    // Guests come after these eight, and are in `user` and `nice` already.
    let [user, nice, system, ..] = ticks;
    let total = ticks
        .iter()
        .try_fold(0_u64, |sum, tick| sum.checked_add(*tick))?;
    Some(Sample {
        busy: user.checked_add(nice)?.checked_add(system)?,
        total,
        own,
    })
}

/// Counters of some kernels step back a little; such an interval says nothing.
fn share(last: Sample, now: Sample, ticks_per_second: u64) -> Result<f64, Unknown> {
    let total = now
        .total
        .checked_sub(last.total)
        .filter(|total| *total > 0)
        .ok_or(Unknown::NotYet)?;
    let busy = now.busy.saturating_sub(last.busy);
    let own = now.own.saturating_sub(last.own);
    #[expect(
        clippy::cast_precision_loss,
        reason = "ticks between two looks are few"
    )]
    let (busy, total, ticks) = (busy as f64, total as f64, ticks_per_second as f64);
    Ok(((busy - own.as_secs_f64() * ticks) / total).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn others_are_what_programs_used_without_us() {
        let proc = tempfile::tempdir().unwrap();
        let write = |line: &str| {
            fs::write(proc.path().join("stat"), format!("{line}\ncpu0 1 2\n")).unwrap()
        };
        let mut processors = Processors::default();
        write("cpu  1000 0 500 8000 0 0 0 100 0 0");
        assert_eq!(
            processors.others(proc.path(), Duration::from_secs(7)),
            Err(Unknown::NotYet)
        );

        // Of 1000 ticks: 300 user, 100 nice, 100 system, 50 stolen, 40 of interrupts. One second of it, 100 ticks, is ours.
        write("cpu  1300 100 600 8410 0 30 10 150 77 0");
        let others = processors
            .others(proc.path(), Duration::from_secs(8))
            .unwrap();
        assert!((others - 0.4).abs() < 1e-9, "{others}");

        // All of it was ours, and a little more was measured on our side than on the other.
        write("cpu  1400 100 600 9310 0 30 10 150 77 0");
        assert_eq!(
            processors.others(proc.path(), Duration::from_millis(9010)),
            Ok(0.0)
        );
    }

    #[test]
    fn no_time_between_two_looks_says_nothing() {
        let proc = tempfile::tempdir().unwrap();
        fs::write(proc.path().join("stat"), "cpu  1 2 3 4 5 6 7 8 9 10\n").unwrap();
        let mut processors = Processors::default();
        for _ in 0..2 {
            assert_eq!(
                processors.others(proc.path(), Duration::ZERO),
                Err(Unknown::NotYet)
            );
        }
        fs::write(proc.path().join("stat"), "cpu  1 2 3\n").unwrap();
        assert_eq!(
            processors.others(proc.path(), Duration::ZERO),
            Err(Unknown::Unreadable)
        );
    }
}

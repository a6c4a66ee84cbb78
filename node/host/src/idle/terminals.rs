//! Input at terminals: consoles, terminal windows, ssh sessions.
//!
//! The kernel notes when a program last read from a terminal, to eight seconds. Terminals of all people count.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Most terminals that are looked at. Most computers allow 4096; who has so many open is not alone there.
const TERMINALS_MAX: usize = 1024;
/// The consoles that a keyboard switches to.
const CONSOLES: std::ops::RangeInclusive<u8> = 1..=12;

/// Returns when a terminal was last used.
pub(crate) fn last_input(dev: &Path) -> Option<Instant> {
    let consoles = CONSOLES.map(|number| dev.join(format!("tty{number}")));
    let windows = std::fs::read_dir(dev.join("pts"))
        .into_iter()
        .flatten()
        .flatten();
    let windows = windows
        .filter(|entry| entry.file_name() != "ptmx")
        .take(TERMINALS_MAX)
        .map(|entry| entry.path());
    let now = (Instant::now(), SystemTime::now());
    consoles
        .chain(windows)
        .filter_map(|path| used(&path, now))
        .max()
}

fn used(terminal: &Path, (now, wall): (Instant, SystemTime)) -> Option<Instant> {
    /// Who is ahead of the clock by more than this was used before somebody set the clock, nobody knows when.
    const AHEAD: Duration = Duration::from_secs(60);
    let at = std::fs::metadata(terminal).ok()?.accessed().ok()?;
    match wall.duration_since(at) {
        Ok(ago) => now.checked_sub(ago),
        Err(ahead) => (ahead.duration() <= AHEAD).then_some(now),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes};

    use super::*;

    fn terminal(path: &Path, used: SystemTime) {
        let file = File::create(path).unwrap();
        file.set_times(FileTimes::new().set_accessed(used)).unwrap();
    }

    #[test]
    fn the_terminal_that_was_used_last_counts() {
        let dev = tempfile::tempdir().unwrap();
        let ago = |seconds| SystemTime::now() - Duration::from_secs(seconds);
        let idle = || last_input(dev.path()).map(|at| at.elapsed().as_secs());
        assert_eq!(idle(), None);
        terminal(&dev.path().join("tty2"), ago(5000));
        assert_eq!(idle(), Some(5000));
        fs::create_dir(dev.path().join("pts")).unwrap();
        terminal(&dev.path().join("pts/0"), ago(700));
        terminal(&dev.path().join("pts/1"), ago(300));
        assert_eq!(idle(), Some(300));
    }

    #[test]
    fn what_is_no_terminal_of_a_person_does_not_count() {
        let dev = tempfile::tempdir().unwrap();
        fs::create_dir(dev.path().join("pts")).unwrap();
        for name in ["tty", "tty0", "ttyS0", "null", "pts/ptmx"] {
            terminal(&dev.path().join(name), SystemTime::now());
        }
        assert_eq!(last_input(dev.path()), None);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_keep_somebody_there() {
        let dev = tempfile::tempdir().unwrap();
        terminal(
            &dev.path().join("tty1"),
            SystemTime::now() + Duration::from_secs(30),
        );
        assert!(last_input(dev.path()).unwrap().elapsed() < Duration::from_secs(30));
        terminal(
            &dev.path().join("tty1"),
            SystemTime::now() + Duration::from_secs(86_400),
        );
        assert_eq!(last_input(dev.path()), None);
    }
}

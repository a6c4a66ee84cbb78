//! Threads for what the kernel may answer slowly: batteries and many processes in one, the disk in another, as a file system
//! on a network may not answer at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::files::why;
use crate::watch::Watch;
use crate::{Disk, Unknown, power, programs};

/// How often they look. A charger that was pulled is noticed that late; a battery does not mind.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// Looks until the watch ends.
pub(crate) fn watch(watch: &Arc<Watch>, root: &Path) {
    let (supplies, proc): (PathBuf, PathBuf) =
        (root.join("sys/class/power_supply"), root.join("proc"));
    loop {
        let before = watch.orders();
        let power = power::power(&supplies).into();
        let wanted = {
            let mut seen = watch.seen();
            seen.power = power;
            seen.programs.clone()
        };
        let running = programs::running(&proc, &wanted);
        {
            let mut seen = watch.seen();
            // What was found belongs to the list that was looked for.
            if seen.programs == wanted {
                seen.running = running.into();
            }
        }
        if !watch.rest_since(before, INTERVAL) {
            return;
        }
    }
}

/// Asks for the disk until the watch ends.
pub(crate) fn watch_disk(watch: &Arc<Watch>, disk: impl Fn() -> Result<Disk, Unknown>) {
    loop {
        let disk = disk().into();
        watch.seen().disk = disk;
        if !watch.rest(INTERVAL) {
            return;
        }
    }
}

/// Asks the file system that a folder is on.
pub(crate) fn disk(folder: &Path) -> Result<Disk, Unknown> {
    let space = rustix::fs::statvfs(folder).map_err(|error| why(error.kind()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    Ok(Disk {
        total: bytes(space.f_blocks),
        free: bytes(space.f_bavail),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_on_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path()).unwrap();
        assert!(0 < disk.total && disk.free <= disk.total);
        assert_eq!(super::disk(&folder.path().join("no")), Err(Unknown::Absent));
    }
}

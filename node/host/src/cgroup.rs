//! A share of the computer that the kernel itself holds: cgroups of version 2, where this user may set them.
//!
//! A subtree that was delegated to this process (systemd: `Delegate=yes`) is divided in two leaves: `node` for this
//! process, and `sandbox` for what it runs for others. The sandbox gets processors that nobody else wants, and has limits of
//! its own that can be changed at any time.
//!
//! What always holds: either both leaves are there and this process is in `node`, or nothing was changed. A cgroup that
//! other programs share, that systemd manages itself, or that is the computer's root is never touched.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::Uid;
use thiserror::Error;

const NODE: &str = "node";
const SANDBOX: &str = "sandbox";
/// A folder that is there where systemd runs.
const SYSTEMD: &str = "/run/systemd/system";
/// What limits of processors are relative to, in microseconds: what the kernel takes if nobody says otherwise.
const PERIOD_MICROS: u64 = 100_000;
/// The kernel refuses quotas of less than a millisecond.
const QUOTA_MICROS_MIN: u64 = 1_000;

/// A delegated subtree, divided into `node` and `sandbox`.
#[derive(Debug)]
pub struct Delegated {
    sandbox: PathBuf,
    has_memory: bool,
    is_idle: bool,
}

/// Why there is no subtree to set.
#[derive(Debug, Error)]
pub enum Undelegated {
    /// The kernel has no cgroups of version 2.
    #[error("this computer does not use cgroups of version 2")]
    NoHierarchy,
    /// This process is in the root, which belongs to the whole computer.
    #[error("it runs in the root of all cgroups: start it as a service or with systemd-run")]
    Root,
    /// The cgroup belongs to somebody else, systemd in most cases.
    #[error("its cgroup {0} is not delegated to it: set Delegate=yes for its service or scope")]
    Foreign(PathBuf),
    /// Other programs are in the same cgroup.
    #[error(
        "it shares its cgroup {0} with other programs: start it as a service or with systemd-run"
    )]
    Shared(PathBuf),
    /// The kernel or systemd does not offer processors there.
    #[error("its cgroup {0} cannot divide processors: the controller cpu is not available there")]
    NoProcessors(PathBuf),
    /// Something failed on the way, and was taken back.
    #[error("divide the cgroup {0}")]
    Failed(PathBuf, #[source] io::Error),
}

impl Delegated {
    /// Divides the cgroup of this process, if that was delegated to it.
    pub fn open() -> Result<Self, Undelegated> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").map_err(|_| Undelegated::NoHierarchy)?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|_| Undelegated::NoHierarchy)?;
        let folder = folder(&mounts, &own)?;
        let user = rustix::process::getuid();
        let is_delegated = is_delegated(&folder, user, Path::new(SYSTEMD));
        divide(&folder, std::process::id(), is_delegated)
    }

    /// Moves a process into the sandbox's leaf. What it starts is there as well.
    pub fn add(&self, process: u32) -> io::Result<()> {
        self.set("cgroup.procs", &process.to_string())
    }

    /// Limits the processors that all of the sandbox uses, in thousandths of one processor; `None` for no limit.
    pub fn set_processors(&self, thousandths: Option<u64>) -> io::Result<()> {
        let quota = thousandths.map(|thousandths| {
            let quota = thousandths
                .saturating_mul(PERIOD_MICROS / 1000)
                .max(QUOTA_MICROS_MIN);
            format!("{quota} {PERIOD_MICROS}")
        });
        self.set("cpu.max", quota.as_deref().unwrap_or("max"))
    }

    /// Limits the memory that the sandbox may have before it is slowed down, in bytes; `None` for no limit. Returns whether
    /// the subtree can limit memory.
    pub fn set_memory(&self, bytes: Option<u64>) -> io::Result<bool> {
        if self.has_memory {
            let bytes = bytes.map(|bytes| bytes.to_string());
            self.set("memory.high", bytes.as_deref().unwrap_or("max"))?;
        }
        Ok(self.has_memory)
    }

    /// Whether the sandbox only gets what nobody else wants; else, on kernels before 5.15, it has the smallest weight.
    pub fn is_idle(&self) -> bool {
        self.is_idle
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        write(&self.sandbox.join(file), value)
    }
}

/// Finds the folder of this process's cgroup.
fn folder(mounts: &str, own: &str) -> Result<PathBuf, Undelegated> {
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or(Undelegated::NoHierarchy)?;
    let (root, mount) = mounts
        .lines()
        .find_map(mounted)
        .ok_or(Undelegated::NoHierarchy)?;
    let inside = Path::new(own)
        .strip_prefix(root)
        .map_err(|_| Undelegated::NoHierarchy)?;
    if own == "/" || inside == Path::new("") {
        return Err(Undelegated::Root);
    }
    Ok(Path::new(mount).join(inside))
}

/// Returns which part of the hierarchy a line of `mountinfo` mounts, and where.
fn mounted(line: &str) -> Option<(&str, &str)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    (kind.split(' ').next() == Some("cgroup2")).then_some((fields.next()?, fields.next()?))
}

/// systemd marks what it has delegated: of its own cgroups, many belong to the user whose programs they hold. Where it does
/// not run there is no mark, and a folder that this user owns was made for it.
fn is_delegated(folder: &Path, user: Uid, systemd: &Path) -> bool {
    let marked = ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        matches!(rustix::fs::getxattr(folder, *name, &mut value), Ok(1)) && value[0] == b'1'
    });
    let owned = || fs::metadata(folder).is_ok_and(|folder| folder.uid() == user.as_raw());
    marked || !systemd.exists() && !user.is_root() && owned()
}

fn divide(folder: &Path, process: u32, is_delegated: bool) -> Result<Delegated, Undelegated> {
    let failed = |error| Undelegated::Failed(folder.to_owned(), error);
    let file = |name: &str| fs::read_to_string(folder.join(name)).map_err(failed);
    let writable = ["cgroup.procs", "cgroup.subtree_control"]
        .iter()
        .all(|name| rustix::fs::access(folder.join(name), rustix::fs::Access::WRITE_OK).is_ok());
    if !is_delegated || !writable {
        return Err(Undelegated::Foreign(folder.to_owned()));
    }
    if file("cgroup.procs")?
        .lines()
        .any(|line| line.trim().parse() != Ok(process))
    {
        return Err(Undelegated::Shared(folder.to_owned()));
    }
    let controllers = file("cgroup.controllers")?;
    let has = |name: &str| {
        controllers
            .split_ascii_whitespace()
            .any(|controller| controller == name)
    };
    if !has("cpu") {
        return Err(Undelegated::NoProcessors(folder.to_owned()));
    }
    match settle(folder, process, has("memory")) {
        Ok(delegated) => Ok(delegated),
        Err(error) => {
            undo(folder, process);
            Err(failed(error))
        }
    }
}

/// Only leaves may have processes, so this process leaves the folder before the folder gets controllers to hand down.
fn settle(folder: &Path, process: u32, has_memory: bool) -> io::Result<Delegated> {
    let sandbox = folder.join(SANDBOX);
    for leaf in [&folder.join(NODE), &sandbox] {
        match fs::create_dir(leaf) {
            // Left by this program the last time.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
    }
    write(
        &folder.join(NODE).join("cgroup.procs"),
        &process.to_string(),
    )?;
    let control = folder.join("cgroup.subtree_control");
    let has_memory = has_memory && write(&control, "+memory").is_ok();
    write(&control, "+cpu")?;
    let is_idle = write(&sandbox.join("cpu.idle"), "1").is_ok();
    if !is_idle {
        write(&sandbox.join("cpu.weight"), "1")?;
    }
    Ok(Delegated {
        sandbox,
        has_memory,
        is_idle,
    })
}

/// Takes back what was done, as far as it was done.
fn undo(folder: &Path, process: u32) {
    let control = folder.join("cgroup.subtree_control");
    for controller in ["-cpu", "-memory"] {
        drop(write(&control, controller));
    }
    drop(write(&folder.join("cgroup.procs"), &process.to_string()));
    for leaf in [SANDBOX, NODE] {
        drop(fs::remove_dir(folder.join(leaf)));
    }
}

fn write(file: &Path, value: &str) -> io::Result<()> {
    fs::write(file, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: u32 = 4711;

    /// A cgroup of plain files, as the kernel would show it to one process.
    fn cgroup(controllers: &str, processes: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("cgroup.procs", processes),
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", ""),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn text(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap()
    }

    #[test]
    fn a_delegated_cgroup_is_divided_and_its_limits_are_changed() {
        let cgroup = cgroup("cpuset cpu memory pids\n", "4711\n");
        let folder = cgroup.path();
        let delegated = divide(folder, PROCESS, true).unwrap();
        assert_eq!(text(folder, "node/cgroup.procs"), "4711");
        assert_eq!(text(folder, "sandbox/cpu.idle"), "1");
        assert!(delegated.is_idle());
        delegated.add(4712).unwrap();
        assert_eq!(text(folder, "sandbox/cgroup.procs"), "4712");
        delegated.set_processors(Some(1500)).unwrap();
        assert_eq!(text(folder, "sandbox/cpu.max"), "150000 100000");
        delegated.set_processors(Some(1)).unwrap();
        assert_eq!(text(folder, "sandbox/cpu.max"), "1000 100000");
        delegated.set_processors(None).unwrap();
        assert_eq!(text(folder, "sandbox/cpu.max"), "max");
        assert!(delegated.set_memory(Some(1 << 30)).unwrap());
        assert_eq!(text(folder, "sandbox/memory.high"), "1073741824");
        assert!(delegated.set_memory(None).unwrap());
        assert_eq!(text(folder, "sandbox/memory.high"), "max");
    }

    #[test]
    fn memory_is_not_limited_where_that_was_not_delegated() {
        let cgroup = cgroup("cpu pids\n", "4711\n");
        let delegated = divide(cgroup.path(), PROCESS, true).unwrap();
        assert!(!delegated.set_memory(Some(1 << 30)).unwrap());
        assert!(!cgroup.path().join("sandbox/memory.high").exists());
    }

    #[test]
    fn what_is_not_ours_to_divide_is_left_as_it_is() {
        let unchanged = |cgroup: &tempfile::TempDir| {
            assert!(!cgroup.path().join(NODE).exists() && !cgroup.path().join(SANDBOX).exists());
            assert_eq!(text(cgroup.path(), "cgroup.subtree_control"), "");
        };
        let group = cgroup("cpu memory\n", "4711\n");
        assert!(matches!(
            divide(group.path(), PROCESS, false),
            Err(Undelegated::Foreign(_))
        ));
        unchanged(&group);
        let group = cgroup("cpu memory\n", "1\n4711\n");
        assert!(matches!(
            divide(group.path(), PROCESS, true),
            Err(Undelegated::Shared(_))
        ));
        unchanged(&group);
        let group = cgroup("memory pids\n", "4711\n");
        let error = divide(group.path(), PROCESS, true).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("the controller cpu is not available there"),
            "{error}"
        );
        unchanged(&group);
    }

    #[test]
    fn what_systemd_has_not_marked_is_not_delegated() {
        use rustix::fs::{XattrFlags, setxattr};
        let cgroup = cgroup("cpu memory\n", "4711\n");
        let folder = cgroup.path();
        // Everything belongs to root, so root owning a folder says nothing.
        let user = Some(rustix::process::getuid()).filter(|user| !user.is_root());
        let user = user.unwrap_or_else(|| {
            std::os::unix::fs::chown(folder, Some(1000), None).unwrap();
            Uid::from_raw(1000)
        });
        let (systemd, nothing) = (folder, &folder.join("no-systemd"));
        assert!(!is_delegated(folder, user, systemd));
        assert!(is_delegated(folder, user, nothing));
        assert!(!is_delegated(folder, Uid::ROOT, nothing));
        if let Err(error) = setxattr(folder, "user.delegate", b"1", XattrFlags::empty()) {
            println!("the mark was not tried: {error}");
            return;
        }
        assert!(is_delegated(folder, user, systemd));
        setxattr(folder, "user.delegate", b"0", XattrFlags::empty()).unwrap();
        assert!(!is_delegated(folder, user, systemd));
    }

    #[test]
    fn what_fails_half_way_is_taken_back() {
        let cgroup = cgroup("cpu memory\n", "4711\n");
        // A folder where a file is expected: neither way to lower the weight of the sandbox can be written.
        for file in ["cpu.idle", "cpu.weight"] {
            fs::create_dir_all(cgroup.path().join(SANDBOX).join(file)).unwrap();
        }
        assert!(matches!(
            divide(cgroup.path(), PROCESS, true),
            Err(Undelegated::Failed(..))
        ));
        assert_eq!(text(cgroup.path(), "cgroup.procs"), "4711");
        assert_eq!(text(cgroup.path(), "cgroup.subtree_control"), "-memory");
    }

    #[test]
    fn the_folder_is_where_the_hierarchy_is_mounted() {
        let mounts = "\
            28 1 0:25 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro\n\
            29 28 0:26 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let own =
            "3:cpu:/\n0::/user.slice/user-1000.slice/user@1000.service/app.slice/tally.service\n";
        let expected = "/sys/fs/cgroup/unified/user.slice/user-1000.slice/user@1000.service/app.slice/tally.service";
        assert_eq!(folder(mounts, own).unwrap(), Path::new(expected));
        assert!(matches!(folder(mounts, "0::/\n"), Err(Undelegated::Root)));
        assert!(matches!(
            folder(mounts, "3:cpu:/\n"),
            Err(Undelegated::NoHierarchy)
        ));
        assert!(matches!(folder("", own), Err(Undelegated::NoHierarchy)));
        // A container sees a part of the hierarchy only.
        let part = "29 28 0:26 /docker/a /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        assert_eq!(
            folder(part, "0::/docker/a/b\n").unwrap(),
            Path::new("/sys/fs/cgroup/b")
        );
        assert!(matches!(
            folder(part, "0::/docker/a\n"),
            Err(Undelegated::Root)
        ));
        assert!(matches!(
            folder(part, "0::/elsewhere\n"),
            Err(Undelegated::NoHierarchy)
        ));
    }
}

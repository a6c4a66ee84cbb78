//! What the child gives up before it reads a byte that a stranger wrote.
//!
//! Three layers, so that a hole in one is not a hole in the sandbox: resource limits (memory, files,
//! processes), Landlock (no path of the file system, no TCP, no signals to others; as far as the kernel has
//! it), and a seccomp list of the system calls that running WebAssembly takes, which kills the process at any
//! other. The last one is not optional.

use std::collections::BTreeMap;
use std::fmt;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use serde::{Deserialize, Serialize};

use crate::priority::Priority;

/// How far the child is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockdown {
    /// What Landlock keeps from the child: files, TCP, signals.
    pub landlock: LandlockLevel,
    /// Whether every system call that is not on the list kills the child.
    pub seccomp: bool,
    /// What priority it has.
    pub priority: Priority,
}

/// How much of Landlock the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LandlockLevel {
    /// All of it: files, TCP ports, signals.
    Full,
    /// An older part: files.
    Partial,
    /// Nothing (Linux before 5.13, or switched off).
    None,
}

impl fmt::Display for Lockdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let landlock = match self.landlock {
            LandlockLevel::Full => "full",
            LandlockLevel::Partial => "partial (older kernel)",
            LandlockLevel::None => "none (needs Linux 5.13)",
        };
        write!(
            f,
            "seccomp {}, landlock {landlock}, priority {}",
            if self.seccomp { "on" } else { "off" },
            match self.priority {
                Priority::Lowest => "lowest",
                Priority::Normal => "normal",
            }
        )
    }
}

/// The resource limits of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChildLimits {
    /// Private memory that it may write to.
    pub(crate) memory_bytes: u64,
    /// Address space.
    pub(crate) address_bytes: u64,
    /// How it is scheduled.
    pub(crate) priority: Priority,
}

/// Why the child could not be locked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("set the limit of {0}")]
    Limit(&'static str, #[source] rustix::io::Errno),
    #[error("build the list of system calls")]
    Filter(#[from] seccompiler::BackendError),
    #[error("switch seccomp on")]
    Seccomp(#[from] seccompiler::Error),
}

/// Open files: the socket and standard error, and one memory image for each module in the cache.
const FILES_MAX: u64 = 128;

/// The largest file: the image of a module's data, which lives in memory.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Stack of the process: the program's own and what the compiler and the host need beside it.
const STACK_BYTES: u64 = 16 << 20;

/// Locks this process for good.
pub(crate) fn lock_down(limits: &ChildLimits) -> Result<Lockdown, LockError> {
    let priority = crate::priority::take(limits.priority);
    die_first();
    let bounds = [
        (Resource::Data, "memory", limits.memory_bytes),
        (Resource::As, "address space", limits.address_bytes),
        (Resource::Nofile, "open files", FILES_MAX),
        (Resource::Nproc, "processes", 0),
        (Resource::Core, "core dumps", 0),
        (Resource::Fsize, "file sizes", FILE_BYTES_MAX),
        (Resource::Memlock, "locked memory", 0),
        (Resource::Stack, "the stack", STACK_BYTES),
    ];
    for (resource, name, bound) in bounds {
        limit(resource, bound).map_err(|error| LockError::Limit(name, error))?;
    }
    let landlock = landlock().unwrap_or(LandlockLevel::None);
    seccompiler::apply_filter(&filter()?)?;
    Ok(Lockdown {
        landlock,
        seccomp: true,
        priority,
    })
}

/// Which layers a probe takes.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockLayers {
    All,
    LandlockOnly,
}

/// Locks this process as a child does. For the probe of the tests.
#[doc(hidden)]
pub fn lock_this_process(layers: LockLayers) -> std::io::Result<()> {
    let limits = ChildLimits {
        memory_bytes: 1 << 30,
        address_bytes: 8 << 30,
        priority: Priority::Normal,
    };
    match layers {
        LockLayers::All => lock_down(&limits)
            .map(|_| ())
            .map_err(std::io::Error::other),
        LockLayers::LandlockOnly => landlock().map(|_| ()).map_err(std::io::Error::other),
    }
}

/// Makes the process the first to die when memory is short, and keeps others from tracing it. Neither is needed for
/// safety.
fn die_first() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Sets a limit for good, or keeps a lower one that is there already.
fn limit(resource: Resource, bound: u64) -> rustix::io::Result<()> {
    let present = rustix::process::getrlimit(resource)
        .maximum
        .unwrap_or(u64::MAX);
    let bound = Some(bound.min(present));
    rustix::process::setrlimit(
        resource,
        Rlimit {
            current: bound,
            maximum: bound,
        },
    )
}

/// Takes away the file system, TCP and signals, as far as the kernel can. Sets `no_new_privs`.
fn landlock() -> Result<LandlockLevel, landlock::RulesetError> {
    const KNOWN: ABI = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => LandlockLevel::Full,
        RulesetStatus::PartiallyEnforced => LandlockLevel::Partial,
        RulesetStatus::NotEnforced => LandlockLevel::None,
    })
}

/// System calls with any parameters: memory, the socket, signals of traps, the memory images of modules, time,
/// chance for hash tables, and the end.
const ALLOWED: [libc::c_long; 32] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_sigaltstack,
    libc::SYS_write,
];

/// Builds the list. An abort, which ends an allocation that failed, is a signal to this very process.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let equals = |argument, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    };
    let own = u64::from(
        rustix::process::getpid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs(),
    );
    let abort = u64::from(libc::SIGABRT.unsigned_abs());
    rules.insert(
        libc::SYS_tgkill,
        vec![SeccompRule::new(vec![equals(0, own)?, equals(2, abort)?])?],
    );
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        architecture,
    )?
    .try_into()
}

//! What an owner sets: how much of the computer a sandbox may take.

use std::path::PathBuf;
use std::time::Duration;

use crate::priority::Priority;
use crate::wire::CheckMode;

/// How a sandbox is made. Every field has a default that suits a terminal.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The program whose `main` calls [`child_main`](crate::child_main). By default the running one, even if
    /// its file was replaced since.
    pub executable: PathBuf,
    /// What a unit may take.
    pub unit_max: UnitMax,
    /// Input of a whole batch.
    pub input_bytes_max: usize,
    /// Output that a unit may ask for.
    pub output_bytes_max: usize,
    /// Processor time of compiling one module.
    pub compile_time_max: Duration,
    /// Memory of compiling one module.
    pub compile_memory_bytes_max: u64,
    /// Compiled programs that are kept.
    pub modules_max: usize,
    /// How the child is scheduled.
    pub priority: Priority,
    /// For tests of this crate.
    #[doc(hidden)]
    pub hooks: TestHooks,
}

/// What one unit may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitMax {
    /// Memory that it may ask for.
    pub memory_bytes: u64,
    /// Its processor time. By the clock it may take twenty times that: a child of the lowest priority may wait for long on
    /// a busy computer.
    pub time: Duration,
}

impl UnitMax {
    /// A gibibyte and ten minutes.
    pub const DEFAULT: Self = Self {
        memory_bytes: 1 << 30,
        time: Duration::from_secs(600),
    };
}

impl Default for UnitMax {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What only the tests of this crate change.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TestHooks {
    pub(crate) check: CheckMode,
    pub(crate) memory_bytes: Option<u64>,
}

impl TestHooks {
    /// Compiles modules without looking at them first.
    #[must_use]
    pub fn without_check() -> Self {
        Self {
            check: CheckMode::Bypassed,
            ..Self::default()
        }
    }

    /// Gives the child less memory than its units may ask for.
    #[must_use]
    pub fn with_memory(bytes: u64) -> Self {
        Self {
            memory_bytes: Some(bytes),
            ..Self::default()
        }
    }
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            executable: PathBuf::from("/proc/self/exe"),
            unit_max: UnitMax::default(),
            input_bytes_max: 1 << 30,
            output_bytes_max: 256 << 20,
            compile_time_max: Duration::from_secs(120),
            compile_memory_bytes_max: 4 << 30,
            modules_max: 16,
            priority: Priority::default(),
            hooks: TestHooks::default(),
        }
    }
}

//! The locked WebAssembly sandbox of a Tally node.
//!
//! A [`Sandbox`] owns a child process that has given up everything but computing. It hands the child batches of
//! units in shared memory; the child checks and compiles the program once, runs each unit in a fresh instance,
//! and reports outcome, output and fuel. What a unit does is a pure function of program, arguments, index,
//! parameters, seed, input and limits, within one [`profile`].
//!
//! Read `check` for what a program may be, `wasi` for what it sees, `engine` for how it runs,
//! `lockdown` and `child` for the locked process, `sandbox` for the parent's side, `wire` for what they say.
//! `docs/sandbox.md` is for authors of programs and for auditors.

mod check;
mod child;
mod cost;
mod engine;
mod fixed;
mod kernel;
mod lockdown;
mod os;
mod priority;
mod profile;
mod sandbox;
mod unit;
mod wasi;
mod wire;

pub use check::{Abi, ProgramFacts, Refusal, check};
pub use child::{child_main, is_child};
pub use lockdown::{LandlockLevel, Lockdown};
#[doc(hidden)]
pub use lockdown::{LockLayers, lock_this_process};
pub use priority::Priority;
pub use profile::{profile, profile_text};
#[doc(hidden)]
pub use sandbox::TestHooks;
pub use sandbox::{
    Batch, BatchReport, KillHandle, Program, Sandbox, SandboxConfig, SandboxError, UnitMax,
    UnitRun, UnitSpec,
};

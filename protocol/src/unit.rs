//! A processing unit: what bounds its run and how the run ended.
//!
//! A unit is a pure function of program, arguments, index, parameters and input, so two honest terminals of
//! one profile report the same [`Outcome`], output and fuel, bit for bit. What is *not* a function of these (the
//! host ran out of memory, the wall clock ran out) is a [`Fault`]: it is never compared and never paid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::ParseIdError;

/// Bounds of one run of a unit. The same on every terminal, hence part of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Fuel after which the run ends with [`Outcome::OutOfFuel`].
    pub fuel: u64,
    /// Linear memory, in bytes; growth beyond it fails as WebAssembly says (`memory.grow` returns -1).
    pub memory_bytes: u64,
    /// Standard output, in bytes; a byte more ends the run with [`Outcome::OutputLimit`].
    pub output_bytes: u64,
}

/// How a run ended, as far as every honest terminal agrees on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The program ended by itself with exit code 0.
    Done,
    /// The program ended by itself with this other exit code.
    Exit(u32),
    /// The program did what WebAssembly forbids.
    Trap(Trap),
    /// The fuel limit was reached.
    OutOfFuel,
    /// The program wrote more output than its limit.
    OutputLimit,
    /// The module is not valid, asks for what the profile does not have, or exceeds a static limit.
    Refused,
}

impl Outcome {
    /// Returns whether the unit's output counts as its result.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Done)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.pad("done"),
            Self::Exit(code) => f.pad(&format!("exit code {code}")),
            Self::Trap(trap) => f.pad(&format!("trap: {trap}")),
            Self::OutOfFuel => f.pad("out of fuel"),
            Self::OutputLimit => f.pad("output over its limit"),
            Self::Refused => f.pad("program refused"),
        }
    }
}

/// Why WebAssembly stopped a program (core specification, "trap").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trap {
    /// An `unreachable` instruction: how most languages abort.
    Unreachable,
    /// A load or store outside linear memory.
    MemoryOutOfBounds,
    /// An access outside a table.
    TableOutOfBounds,
    /// A call through a null or wrongly typed table element.
    IndirectCall,
    /// An integer division by zero, an overflowing one, or a float that does not fit an integer.
    Arithmetic,
    /// An address that breaks the ABI, for example a result outside memory.
    Abi,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unreachable => "unreachable (the program aborted)",
            Self::MemoryOutOfBounds => "memory access out of bounds",
            Self::TableOutOfBounds => "table access out of bounds",
            Self::IndirectCall => "indirect call of a wrong function",
            Self::Arithmetic => "division by zero or overflow",
            Self::Abi => "result outside memory",
        })
    }
}

/// Why a run ended for a reason that lies with the host, not with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The call stack was exhausted; where depends on the compiler, so no quorum can compare it.
    StackOverflow,
    /// The wall-clock limit of the host passed.
    TimedOut,
    /// The host had too little memory.
    HostMemory,
    /// Compiling the module took more time or memory than the host gives.
    CompileLimit,
    /// The process that ran the unit died.
    Killed,
    /// The input or the program could not be read in time.
    Unavailable,
    /// The owner wants the computer: nobody's fault, and counted against nobody.
    Withdrawn,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::StackOverflow => "stack overflow",
            Self::TimedOut => "over the time limit",
            Self::HostMemory => "host out of memory",
            Self::CompileLimit => "compiling took too much time or memory",
            Self::Killed => "the sandbox process died",
            Self::Unavailable => "input or program could not be read",
            Self::Withdrawn => "the owner wants the computer",
        })
    }
}

/// Names the engine, its cost table, its WASI host and its fixed limits: fuel is comparable within one profile
/// only. 1 to 64 printable ASCII characters without spaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileId(String);

impl ProfileId {
    /// Returns the text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError::new(
                text,
                "a profile id (1 to 64 printable characters)",
            ))
        }
    }
}

impl TryFrom<String> for ProfileId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ProfileId> for String {
    fn from(profile: ProfileId) -> Self {
        profile.0
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

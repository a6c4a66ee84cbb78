//! One unit while it runs: what its store holds, its bounds, and how its run ends.

use std::sync::Arc;

use tally_protocol::unit::{Fault, Limits, Outcome, Trap};
use wasmtime::{Memory, ResourceLimiter};

use crate::fixed::{MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::wasi::{Clock, Input, Output, Streams};

/// Everything that belongs to one run of a program.
pub(crate) struct UnitState {
    pub(crate) args: Arc<[String]>,
    pub(crate) place: Place,
    pub(crate) streams: Streams,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) bounds: Bounds,
    /// The exported memory, once it is known.
    pub(crate) memory: Option<Memory>,
}

/// Where a unit stands in its task.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) params: String,
}

/// What a unit is run with.
pub(crate) struct Job {
    pub(crate) args: Arc<[String]>,
    pub(crate) place: Place,
    pub(crate) seed: [u8; 32],
    pub(crate) limits: Limits,
    pub(crate) input: Input,
    pub(crate) output: Output,
}

impl UnitState {
    pub(crate) fn new(job: Job) -> Self {
        Self {
            args: job.args,
            random: Random::Unused {
                seed: job.seed,
                index: job.place.index,
            },
            place: job.place,
            streams: Streams::new(job.input, job.output),
            clock: Clock::default(),
            bounds: Bounds {
                memory_bytes: usize::try_from(job.limits.memory_bytes)
                    .map_or(MEMORY_BYTES_MAX, |bytes| bytes.min(MEMORY_BYTES_MAX)),
            },
            memory: None,
        }
    }

    /// Returns the environment of a WASI command.
    pub(crate) fn environment(&self) -> Vec<String> {
        let place = &self.place;
        let mut texts = vec![
            format!("UNIT_INDEX={}", place.index),
            format!("UNIT_COUNT={}", place.count),
        ];
        if !place.params.is_empty() {
            texts.push(format!("UNIT_PARAMS={}", place.params));
        }
        texts
    }
}

/// The chance of a unit: a BLAKE3 stream over the task's seed and the unit's index.
pub(crate) enum Random {
    /// Most programs never ask.
    Unused {
        seed: [u8; 32],
        index: u32,
    },
    Stream(Box<blake3::OutputReader>),
}

impl Random {
    /// Fills `target` with the next bytes of the stream.
    pub(crate) fn fill(&mut self, target: &mut [u8]) {
        if let Self::Unused { seed, index } = self {
            let mut hasher = blake3::Hasher::new_derive_key("tally unit random stream 1");
            hasher.update(seed).update(&index.to_le_bytes());
            *self = Self::Stream(Box::new(hasher.finalize_xof()));
        }
        if let Self::Stream(stream) = self {
            stream.fill(target);
        }
    }
}

/// The bounds of a unit's memory and table. Growth beyond them gives -1, on every terminal; what the host can't
/// give within them is a fault.
pub(crate) struct Bounds {
    memory_bytes: usize,
}

impl ResourceLimiter for Bounds {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= self.memory_bytes && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Stop::HostMemory.into())
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Stop::HostMemory.into())
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        1
    }
}

/// Why the host ended a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("the program has exited with code {0}")]
    Exit(u32),
    #[error("the output is longer than its limit")]
    OutputLimit,
    #[error("all fuel was used in calls of the host")]
    OutOfFuel,
    #[error("the program broke the ABI")]
    Abi,
    #[error("the host has too little memory")]
    HostMemory,
}

impl From<Stop> for Result<Outcome, Fault> {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Exit(0) => Ok(Outcome::Done),
            Stop::Exit(code) => Ok(Outcome::Exit(code)),
            Stop::OutputLimit => Ok(Outcome::OutputLimit),
            Stop::OutOfFuel => Ok(Outcome::OutOfFuel),
            Stop::Abi => Ok(Outcome::Trap(Trap::Abi)),
            Stop::HostMemory => Err(Fault::HostMemory),
        }
    }
}

/// Returns how a run ended that gave this error.
pub(crate) fn end_of(error: &wasmtime::Error) -> Result<Outcome, Fault> {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return (*stop).into();
    }
    let Some(trap) = error.downcast_ref::<wasmtime::Trap>() else {
        return Err(Fault::HostMemory);
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest needs features that no program may use"
    )]
    match trap {
        wasmtime::Trap::StackOverflow => Err(Fault::StackOverflow),
        wasmtime::Trap::OutOfFuel => Ok(Outcome::OutOfFuel),
        wasmtime::Trap::UnreachableCodeReached => Ok(Outcome::Trap(Trap::Unreachable)),
        wasmtime::Trap::MemoryOutOfBounds => Ok(Outcome::Trap(Trap::MemoryOutOfBounds)),
        wasmtime::Trap::TableOutOfBounds => Ok(Outcome::Trap(Trap::TableOutOfBounds)),
        wasmtime::Trap::IndirectCallToNull | wasmtime::Trap::BadSignature => {
            Ok(Outcome::Trap(Trap::IndirectCall))
        }
        wasmtime::Trap::IntegerOverflow
        | wasmtime::Trap::IntegerDivisionByZero
        | wasmtime::Trap::BadConversionToInteger => Ok(Outcome::Trap(Trap::Arithmetic)),
        _ => Err(Fault::Killed),
    }
}

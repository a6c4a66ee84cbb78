//! The parent's side: owns one locked child, hands it batches of units, and ends it when it takes too long.
//!
//! Every unit of a batch is reported exactly once, whatever happens to the child. A child that dies takes one
//! unit with it; the others run in the next child.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tally_protocol::id::BlobId;
use tally_protocol::unit::{Fault, Limits, Outcome};

use crate::lockdown::Lockdown;
use crate::os::{SharedMemory, Sharing};
use crate::wire::{Layout, REQUEST_BYTES_MAX, Request, UnitRequest, encode};

mod config;
mod conversation;
mod handle;
mod poison;
mod process;
mod spawner;

pub use config::{SandboxConfig, TestHooks, UnitMax};
use conversation::{Conversation, End};
pub use handle::KillHandle;
use handle::Shared;
use poison::Poisoned;
use process::{Process, child_limits};

/// A program with its id.
#[derive(Clone)]
pub struct Program {
    id: BlobId,
    module: Arc<[u8]>,
}

impl Program {
    /// Names a module by its content.
    #[must_use]
    pub fn new(module: Arc<[u8]>) -> Self {
        Self {
            id: BlobId::of(&module),
            module,
        }
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// Returns the bytes of the module.
    #[must_use]
    pub fn module(&self) -> &[u8] {
        &self.module
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({:?}, {} bytes)", self.id, self.module.len())
    }
}

/// Units of one task that are run one after another.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The program of the task.
    pub program: &'a Program,
    /// Arguments of the task.
    pub args: &'a [String],
    /// Number of units of the whole task.
    pub unit_count: u32,
    /// Seed of the task, from which each unit's chance is drawn.
    pub seed: [u8; 32],
    /// Limits of each unit.
    pub limits: Limits,
    /// The units.
    pub units: &'a [UnitSpec],
}

/// One unit of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSpec {
    /// Index in the task.
    pub index: u32,
    /// Parameters of the unit, or empty.
    pub params: String,
    /// Where its input is in [`Sandbox::input`].
    pub input: Range<usize>,
}

/// How one unit ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitRun {
    /// Index in the task.
    pub index: u32,
    /// How the run ended.
    pub result: Result<Outcome, Fault>,
    /// Fuel used; zero where nothing ran.
    pub fuel: u64,
    /// Standard output, or the kernel's result. Empty unless the outcome is `Done` or `Exit`.
    pub output: Vec<u8>,
    /// The start of standard error.
    pub stderr: Vec<u8>,
    /// Processor time of the run: the child's pauses are not in it.
    pub run_time: Duration,
}

/// What there is to say about a batch beside its units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchReport {
    /// Processor time of compiling; nothing if the program was ready.
    pub compile_time: Option<Duration>,
    /// Why the profile refuses the program.
    pub refusal: Option<String>,
    /// How each child that died in this batch ended, for the log.
    pub deaths: Vec<String>,
}

/// Why a batch did not run, or a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The memory shared with the child could not be made.
    #[error("share memory with the sandbox")]
    SharedMemory(#[source] std::io::Error),
    /// The child could not be started.
    #[error("start {executable}{}", if stderr.is_empty() { String::new() } else { format!(" (it said: {stderr})") })]
    Start {
        /// What was started.
        executable: PathBuf,
        /// What it wrote before it ended.
        stderr: String,
        /// What failed.
        #[source]
        source: std::io::Error,
    },
    /// A batch asks for more than the sandbox was made for.
    #[error("give a unit {asked} bytes of {what}: this sandbox has {max}")]
    Capacity {
        /// Of what.
        what: &'static str,
        /// How much the batch asks for.
        asked: u64,
        /// How much there is.
        max: u64,
    },
    /// A unit's input is not inside the input buffer.
    #[error("run unit {index}: its input {range:?} is outside the buffer")]
    InputRange {
        /// The unit.
        index: u32,
        /// Its input.
        range: Range<usize>,
    },
    /// An argument or parameter holds a NUL, which no program can be given.
    #[error("run units with a NUL character in an argument")]
    NulInArgument,
}

/// A locked child process that runs units.
pub struct Sandbox {
    config: SandboxConfig,
    layout: Layout,
    input: SharedMemory,
    input_len: usize,
    output: SharedMemory,
    process: Option<Process>,
    lockdown: Option<Lockdown>,
    shared: Arc<Shared>,
    poisoned: Poisoned,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("config", &self.config)
            .field("lockdown", &self.lockdown)
            .finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Starts and locks a child.
    ///
    /// # Errors
    /// If the child can't be started or locked: without seccomp there is no sandbox.
    pub fn spawn(config: SandboxConfig) -> Result<Self, SandboxError> {
        let mut sandbox = Self::resting(config)?;
        sandbox.process = Some(sandbox.start()?);
        Ok(sandbox)
    }

    /// Makes a sandbox whose child is started with its first batch. Until then it takes no memory.
    ///
    /// # Errors
    /// [`SandboxError::SharedMemory`].
    pub fn resting(config: SandboxConfig) -> Result<Self, SandboxError> {
        let layout = Layout {
            input_bytes_max: config.input_bytes_max,
            output_bytes_max: config.output_bytes_max,
        };
        let (input, output) = memories(layout).map_err(SandboxError::SharedMemory)?;
        let shared = Arc::new(Shared::default());
        let poisoned = Poisoned::default();
        Ok(Self {
            config,
            layout,
            input,
            input_len: 0,
            output,
            process: None,
            lockdown: None,
            shared,
            poisoned,
        })
    }

    /// Sets what units may take from the next batch on. A child that was locked for another memory is ended.
    pub fn set_unit_max(&mut self, max: UnitMax) {
        let before = child_limits(&self.config, self.layout);
        self.config.unit_max = max;
        if child_limits(&self.config, self.layout) != before {
            self.process = None;
        }
    }

    /// Returns how far the child is locked; nothing before there was one.
    #[must_use]
    pub fn lockdown(&self) -> Option<Lockdown> {
        self.lockdown
    }

    /// Returns a handle for other threads.
    #[must_use]
    pub fn handle(&self) -> KillHandle {
        KillHandle::new(Arc::clone(&self.shared))
    }

    /// Returns the buffer for the inputs of the next batch. It holds whatever was there before.
    ///
    /// # Errors
    /// If the sandbox was made for less.
    pub fn input(&mut self, len: usize) -> Result<&mut [u8], SandboxError> {
        capacity("input", len as u64, self.config.input_bytes_max as u64)?;
        self.input_len = len;
        Ok(self.input.slice_mut(0..len))
    }

    /// Runs a batch, and calls `on_unit` once for each of its units, in their order. A batch without units
    /// only compiles the program.
    ///
    /// # Errors
    /// If the batch asks for more than there is, or no child can be started. Units that were reported stay
    /// valid.
    pub fn run(
        &mut self,
        batch: &Batch<'_>,
        on_unit: &mut dyn FnMut(UnitRun),
    ) -> Result<BatchReport, SandboxError> {
        self.shared.begin();
        let report = self
            .accept(batch)
            .and_then(|()| self.run_units(batch, on_unit));
        self.shared.finish();
        report
    }

    fn run_units(
        &mut self,
        batch: &Batch<'_>,
        on_unit: &mut dyn FnMut(UnitRun),
    ) -> Result<BatchReport, SandboxError> {
        let mut report = BatchReport::default();
        let mut units = batch.units;
        // Units that have killed a child, by how many come after them. Those before them are run again first, so
        // that all are reported in order.
        let mut lost: BTreeMap<usize, Fault> = BTreeMap::new();
        if self.poisoned.contains(&batch.program.id) {
            answer(units, Err(Fault::CompileLimit), on_unit);
            return Ok(report);
        }
        loop {
            if self.shared.kill_requested() {
                answer(units, Err(Fault::Killed), on_unit);
                return Ok(report);
            }
            if let Some((first, rest)) = units.split_first()
                && let Some(fault) = lost.remove(&rest.len())
            {
                answer(std::slice::from_ref(first), Err(fault), on_unit);
                units = rest;
                if units.is_empty() {
                    return Ok(report);
                }
                continue;
            }
            let first_lost = lost
                .last_key_value()
                .map(|(behind, _)| units.len() - behind - 1);
            let (mut now, later) = units.split_at(first_lost.unwrap_or(units.len()));
            let end = self.converse(batch, &mut now, &mut report, on_unit)?;
            let open = now.len() + later.len();
            units = &units[units.len() - open..];
            let everybody = match end {
                End::Done if units.is_empty() => return Ok(report),
                End::Done => continue,
                End::UnitLost {
                    death,
                    fault,
                    position,
                } => {
                    report.deaths.push(death);
                    let position = position.min(now.len().saturating_sub(1));
                    // A batch without units has none to lose.
                    let Some(behind) = units.len().checked_sub(position + 1) else {
                        return Ok(report);
                    };
                    lost.insert(behind, fault);
                    continue;
                }
                End::Refused(reason) => {
                    report.refusal = Some(reason);
                    Ok(Outcome::Refused)
                }
                End::NotCompiled { death, poisonous } => {
                    report.deaths.extend(death);
                    if poisonous {
                        self.poisoned.insert(batch.program.id);
                    }
                    Err(Fault::CompileLimit)
                }
                End::Stopped { death, fault } => {
                    report.deaths.push(death);
                    Err(fault)
                }
            };
            answer(units, everybody, on_unit);
            return Ok(report);
        }
    }

    /// Ends the child and gives all memory back, the input buffer's included. The next batch starts another child.
    pub fn rest(&mut self) {
        self.process = None;
        // Without new memory the old one serves.
        if let Ok((input, output)) = memories(self.layout) {
            self.input = input;
            self.output = output;
            self.input_len = 0;
        }
    }

    /// Talks to the child, which is started if there is none, until the batch or the child has ended. Takes
    /// the units that were reported off the front of `units`.
    fn converse<'a>(
        &mut self,
        batch: &Batch<'a>,
        units: &mut &'a [UnitSpec],
        report: &mut BatchReport,
        on_unit: &mut dyn FnMut(UnitRun),
    ) -> Result<End, SandboxError> {
        let request = self.request(batch, units)?;
        self.input
            .slice_mut(self.layout.request(request.len()))
            .copy_from_slice(&request);
        let mut process = match self.process.take().filter(Process::is_alive) {
            Some(process) => process,
            None => match self.start() {
                Ok(process) => process,
                Err(_) if self.shared.kill_requested() => {
                    let death = "killed on request, at its start".to_owned();
                    let fault = Fault::Killed;
                    return Ok(End::Stopped { death, fault });
                }
                Err(error) => return Err(error),
            },
        };
        let conversation = Conversation {
            config: &self.config,
            layout: self.layout,
            input: &mut self.input,
            output: &self.output,
            shared: &self.shared,
            process: &mut process,
            batch,
            reported: 0,
        };
        let end = conversation.hold(request.len(), units, report, on_unit);
        if end.leaves_child_alive() {
            self.process = Some(process);
        }
        Ok(end)
    }

    fn start(&mut self) -> Result<Process, SandboxError> {
        let memories = [&self.input, &self.output];
        let (process, lockdown) =
            Process::spawn(&self.config, self.layout, memories, &self.shared)?;
        self.lockdown = Some(lockdown);
        Ok(process)
    }

    fn request(&self, batch: &Batch<'_>, units: &[UnitSpec]) -> Result<Vec<u8>, SandboxError> {
        let unit = |unit: &UnitSpec| UnitRequest {
            index: unit.index,
            params: unit.params.clone(),
            input: unit.input.clone(),
        };
        let request = Request {
            program: batch.program.id,
            args: batch.args.to_vec(),
            unit_count: batch.unit_count,
            seed: batch.seed,
            limits: batch.limits,
            units: units.iter().map(unit).collect(),
        };
        let bytes = encode(Vec::new(), &request).map_err(SandboxError::SharedMemory)?;
        capacity(
            "arguments and parameters",
            bytes.len() as u64,
            REQUEST_BYTES_MAX as u64,
        )?;
        Ok(bytes)
    }

    /// Refuses a batch that this sandbox can't run.
    fn accept(&self, batch: &Batch<'_>) -> Result<(), SandboxError> {
        capacity(
            "memory",
            batch.limits.memory_bytes,
            self.config.unit_max.memory_bytes,
        )?;
        capacity(
            "output",
            batch.limits.output_bytes,
            self.config.output_bytes_max as u64,
        )?;
        for unit in batch.units {
            if unit.input.start > unit.input.end || unit.input.end > self.input_len {
                return Err(SandboxError::InputRange {
                    index: unit.index,
                    range: unit.input.clone(),
                });
            }
        }
        let mut texts = batch
            .args
            .iter()
            .chain(batch.units.iter().map(|unit| &unit.params));
        if texts.any(|text| text.contains('\0')) {
            Err(SandboxError::NulInArgument)
        } else {
            Ok(())
        }
    }
}

/// Creates the memory that the child reads and the one that it writes.
fn memories(layout: Layout) -> std::io::Result<(SharedMemory, SharedMemory)> {
    let input = SharedMemory::create("tally-input", layout.input_memory_len(), Sharing::ReadOnly)?;
    let output = SharedMemory::create(
        "tally-output",
        layout.output_memory_len(),
        Sharing::Writable,
    )?;
    Ok((input, output))
}

fn capacity(what: &'static str, asked: u64, max: u64) -> Result<(), SandboxError> {
    if asked > max {
        Err(SandboxError::Capacity { what, asked, max })
    } else {
        Ok(())
    }
}

/// Reports units that have no run of their own.
fn answer(units: &[UnitSpec], result: Result<Outcome, Fault>, on_unit: &mut dyn FnMut(UnitRun)) {
    for unit in units {
        on_unit(UnitRun {
            index: unit.index,
            result,
            fuel: 0,
            output: Vec::new(),
            stderr: Vec::new(),
            run_time: Duration::ZERO,
        });
    }
}

//! One request to one child, from the first frame to the last, with the clock running.

use std::io;
use std::time::Duration;

use tally_protocol::unit::Fault;

use super::handle::Shared;
use super::process::{Process, Received, Watch};
use super::{Batch, BatchReport, SandboxConfig, UnitRun, UnitSpec};
use crate::fixed::STDERR_BYTES_KEPT;
use crate::os::SharedMemory;
use crate::wire::{FromChild, Layout, POSITION, ToChild, UnitReport};

/// Compiling and a unit may take this many times their limit of processor time by the clock, on a computer that is busy.
const WALL_FACTOR: u32 = 20;

/// What a conversation needs of its sandbox.
pub(super) struct Conversation<'a, 'b> {
    pub(super) config: &'a SandboxConfig,
    pub(super) layout: Layout,
    pub(super) input: &'a mut SharedMemory,
    pub(super) output: &'a SharedMemory,
    pub(super) shared: &'a Shared,
    pub(super) process: &'a mut Process,
    pub(super) batch: &'a Batch<'b>,
    /// Units of this request that were reported.
    pub(super) reported: usize,
}

/// How a conversation ended.
pub(super) enum End {
    /// All units were reported.
    Done,
    /// The profile refuses the program.
    Refused(String),
    /// The program could not be compiled within the limits; `death` if the child died of it.
    NotCompiled {
        death: Option<String>,
        poisonous: bool,
    },
    /// Somebody else than the program has ended the batch.
    Stopped { death: String, fault: Fault },
    /// The child died at one of the open units; those before it were not reported and can run again.
    UnitLost {
        death: String,
        fault: Fault,
        position: usize,
    },
}

impl End {
    pub(super) fn leaves_child_alive(&self) -> bool {
        matches!(
            self,
            Self::Done | Self::Refused(_) | Self::NotCompiled { death: None, .. }
        )
    }
}

/// What the child is doing, and since when.
struct Phase {
    work: Work,
    watch: Watch,
    cpu_before: Duration,
}

#[derive(Clone, Copy)]
enum Work {
    Compiling,
    Running,
}

/// Why the child is not heard any more.
enum Silence {
    /// It is dead, or makes no sense.
    Closed,
    /// It has used up its time.
    TimeUp,
}

impl Conversation<'_, '_> {
    /// Has the request run, reports each unit, and takes it off `units`.
    pub(super) fn hold(
        mut self,
        request_len: usize,
        units: &mut &[UnitSpec],
        report: &mut BatchReport,
        on_unit: &mut dyn FnMut(UnitRun),
    ) -> End {
        let mut phase = self.begin(Work::Compiling);
        if self.process.send(&ToChild::Run { request_len }).is_err() {
            return self.mourn(&phase, Silence::Closed);
        }
        loop {
            let frame = match self.next(&phase) {
                Ok(frame) => frame,
                Err(silence) => return self.mourn(&phase, silence),
            };
            let answered = match frame {
                FromChild::NeedModule => self.send_module(),
                FromChild::Compiled { nanos } if matches!(phase.work, Work::Compiling) => {
                    report.compile_time = report.compile_time.or(nanos.map(Duration::from_nanos));
                    phase = self.begin(Work::Running);
                    Ok(())
                }
                FromChild::Refused(reason) => return End::Refused(reason),
                FromChild::CompileFailed(reason) => {
                    report.deaths.push(reason);
                    return End::NotCompiled {
                        death: None,
                        poisonous: false,
                    };
                }
                FromChild::Units(reports) => match self.take_all(units, &reports, on_unit) {
                    Some(()) => {
                        phase = self.begin(Work::Running);
                        Ok(())
                    }
                    None => return self.mourn(&phase, Silence::Closed),
                },
                FromChild::Done(reports) => match self.take_all(units, &reports, on_unit) {
                    Some(()) if units.is_empty() => return End::Done,
                    _ => return self.mourn(&phase, Silence::Closed),
                },
                FromChild::AwaitDrain => self.process.send(&ToChild::Drained),
                FromChild::Ready(_) | FromChild::Compiled { .. } => {
                    return self.mourn(&phase, Silence::Closed);
                }
            };
            if answered.is_err() {
                return self.mourn(&phase, Silence::Closed);
            }
        }
    }

    fn send_module(&mut self) -> io::Result<()> {
        let module = &self.batch.program.module;
        // The child refuses a module that is too long without a look at it.
        let len = module
            .len()
            .min(crate::check::StaticLimits::FIXED.module_bytes);
        self.input
            .slice_mut(self.layout.module(len))
            .copy_from_slice(&module[..len]);
        self.process.send(&ToChild::Module { len: module.len() })
    }

    /// Reports units, as long as what the child says of them makes sense.
    fn take_all(
        &mut self,
        units: &mut &[UnitSpec],
        reports: &[UnitReport],
        on_unit: &mut dyn FnMut(UnitRun),
    ) -> Option<()> {
        for report in reports {
            on_unit(self.take(units, report)?);
            self.reported += 1;
        }
        Some(())
    }

    /// Copies out what the first open unit has written, if the report makes sense.
    fn take(&self, units: &mut &[UnitSpec], report: &UnitReport) -> Option<UnitRun> {
        let (unit, rest) = units.split_first()?;
        let output_end = report.offset.checked_add(report.output_len)?;
        let end = output_end.checked_add(report.stderr_len)?;
        let sound = end <= self.layout.output_memory_len()
            && report.output_len as u64 <= self.batch.limits.output_bytes
            && report.stderr_len <= STDERR_BYTES_KEPT
            && report.fuel <= self.batch.limits.fuel;
        if !sound {
            return None;
        }
        *units = rest;
        let (mut output, mut stderr) = (Vec::new(), Vec::new());
        self.output
            .append_to(report.offset..output_end, &mut output);
        self.output.append_to(output_end..end, &mut stderr);
        Some(UnitRun {
            index: unit.index,
            result: report.result,
            fuel: report.fuel,
            output,
            stderr,
            run_time: Duration::from_nanos(report.nanos),
        })
    }

    /// Waits for the next frame as long as the phase may take.
    fn next(&mut self, phase: &Phase) -> Result<FromChild, Silence> {
        loop {
            let left = self.time_left(phase).ok_or(Silence::TimeUp)?;
            match self.process.receive(left.max(self.shared.wait_min())) {
                Ok(Received::Frame(frame)) => return Ok(frame),
                Ok(Received::Nothing) => {}
                Ok(Received::Closed) | Err(_) => return Err(Silence::Closed),
            }
        }
    }

    fn time_left(&self, phase: &Phase) -> Option<Duration> {
        let cpu_max = match phase.work {
            Work::Compiling => self.config.compile_time_max,
            Work::Running => self.config.unit_max.time,
        };
        let cpu = self
            .shared
            .child_cpu_time()
            .saturating_sub(phase.cpu_before);
        let wall_max = cpu_max.saturating_mul(WALL_FACTOR);
        let wall_left = wall_max.checked_sub(phase.watch.elapsed(self.shared))?;
        Some(cpu_max.checked_sub(cpu)?.min(wall_left))
    }

    fn begin(&self, work: Work) -> Phase {
        Phase {
            work,
            watch: Watch::start(self.shared),
            cpu_before: self.shared.child_cpu_time(),
        }
    }

    /// Ends the child, and says what that means for the units.
    fn mourn(&mut self, phase: &Phase, silence: Silence) -> End {
        let timed_out = matches!(silence, Silence::TimeUp);
        let death = self.process.end();
        if self.shared.kill_requested() {
            return End::Stopped {
                death: death.describe("killed on request"),
                fault: Fault::Killed,
            };
        }
        // What takes a child that stands still is the kernel, because memory is short.
        if !timed_out && death.killed_from_outside() && self.shared.is_paused() {
            return End::Stopped {
                death: death.describe("killed while it was paused"),
                fault: Fault::Withdrawn,
            };
        }
        match phase.work {
            Work::Compiling => {
                let why = if timed_out {
                    "over the time limit while compiling"
                } else {
                    "died while compiling"
                };
                // Somebody else's signal says nothing about the program.
                let poisonous = timed_out || !death.killed_from_outside();
                End::NotCompiled {
                    death: Some(death.describe(why)),
                    poisonous,
                }
            }
            Work::Running => {
                let (why, fault) = match () {
                    () if timed_out => ("over the time limit", Fault::TimedOut),
                    () if death.aborted() => ("out of memory in a unit", Fault::HostMemory),
                    () => ("died in a unit", Fault::Killed),
                };
                End::UnitLost {
                    death: death.describe(why),
                    fault,
                    position: self.position(),
                }
            }
        }
    }

    /// Returns the position of the running unit among the open ones, by what the child has left in memory.
    fn position(&self) -> usize {
        let mut bytes = Vec::new();
        self.output.append_to(POSITION, &mut bytes);
        let position = bytes.try_into().map_or(0, u32::from_le_bytes);
        usize::try_from(position)
            .unwrap_or(0)
            .saturating_sub(self.reported)
    }
}

//! The child process: locks itself, then compiles and runs what the parent asks for, until the socket closes.
//!
//! It has one thread, an empty environment and no file but the socket. Compiled code stays in this process:
//! it is never written anywhere, and never taken from anywhere.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tally_protocol::id::BlobId;

use crate::check::{Abi, ProgramFacts, StaticLimits, at_most};
use crate::engine::{CompileError, Compiled, Engine, argv};
use crate::lockdown::lock_down;
use crate::os::{OutputMemory, ReadOnlyMemory, close_inherited_files, thread_cpu_time};
use crate::unit::{Job, Place};
use crate::wasi::{Input, Output};
use crate::wire::{
    Channel, CheckMode, FromChild, Layout, OUTPUTS_START, POSITION, REPORT_DELAY, REPORTS_MAX,
    Request, Setup, ToChild, UnitReport, UnitRequest, receive_files,
};

mod cache;

use cache::{Cache, Entry};

/// The hidden first argument of the child.
pub(crate) const CHILD_ARGUMENT: &str = "__sandbox";

/// Returns whether a command line, the program's name included, is that of a sandbox's child. The program's
/// `main` asks this before anything else.
#[must_use]
pub fn is_child<S: AsRef<OsStr>>(mut command_line: impl Iterator<Item = S>) -> bool {
    command_line
        .nth(1)
        .is_some_and(|argument| argument.as_ref() == CHILD_ARGUMENT)
}

/// Is the child: returns when the parent closes the socket.
#[must_use]
pub fn child_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent shows this if the child dies; without it there is nobody to tell.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

type Socket = Channel<io::Stdin>;

fn serve() -> io::Result<()> {
    let mut socket = Channel::new(io::stdin());
    let (ToChild::Setup(setup), files) = receive_files(socket.socket())? else {
        return Err(io::Error::other("the first frame is no setup"));
    };
    die_with_parent(setup.parent)?;
    let [input, output] =
        <[_; 2]>::try_from(files).map_err(|_| io::Error::other("two files belong to a setup"))?;
    let input = Rc::new(ReadOnlyMemory::map(
        &input,
        setup.layout.input_memory_len(),
    )?);
    let output = Rc::new(OutputMemory::map(
        &output,
        setup.layout.output_memory_len(),
    )?);
    close_inherited_files()?;
    let engine = Engine::new().map_err(|error| io::Error::other(format!("{error:#}")))?;
    let lockdown = lock_down(&setup.limits).map_err(io::Error::other)?;
    socket.send(&FromChild::Ready(lockdown))?;
    let cache = Cache::new(setup.modules_max);
    let mut child = Child {
        socket,
        engine,
        cache,
        setup,
        input,
        output,
        offset: 0,
    };
    while let Some(frame) = child.socket.receive()? {
        let ToChild::Run { request_len } = frame else {
            return Err(unexpected(&frame));
        };
        child.run(request_len)?;
    }
    Ok(())
}

/// Has the kernel kill this process when the parent dies, which may have happened already. It was asked when the process
/// began, but forgets that if this program has more rights than the parent.
fn die_with_parent(parent: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let found = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if found == parent {
        Ok(())
    } else {
        Err(io::Error::other("the parent is gone"))
    }
}

struct Child {
    socket: Socket,
    engine: Engine,
    cache: Cache,
    setup: Setup,
    input: Rc<ReadOnlyMemory>,
    output: Rc<OutputMemory>,
    /// Where the next unit's output goes.
    offset: usize,
}

impl Child {
    fn run(&mut self, request_len: usize) -> io::Result<()> {
        self.output.write_at(POSITION.start, &0u32.to_le_bytes());
        let request: Request =
            crate::wire::decode(self.input.bytes(self.setup.layout.request(request_len)))?;
        let entry = match self.cache.find(&request.program) {
            Some(entry) => {
                self.socket.send(&FromChild::Compiled { nanos: None })?;
                entry
            }
            None => self.compile(request.program)?,
        };
        let compiled = match &*entry {
            Entry::Compiled(compiled) => compiled,
            Entry::Refused(reason) => return self.socket.send(&FromChild::Refused(reason.clone())),
            Entry::Failed(reason) => {
                return self.socket.send(&FromChild::CompileFailed(reason.clone()));
            }
        };
        if let Err(refusal) = compiled.fits(&request.limits) {
            return self.socket.send(&FromChild::Refused(refusal.to_string()));
        }
        let shared = Shared {
            args: argv(request.args),
            count: request.unit_count,
            seed: request.seed,
            limits: request.limits,
        };
        let mut reports = Reports {
            waiting: Vec::new(),
            since: Instant::now(),
        };
        self.offset = OUTPUTS_START;
        for (position, unit) in (0u32..).zip(request.units) {
            if !Layout::in_window(self.offset) {
                reports.send(&mut self.socket)?;
                self.drain()?;
            }
            self.output
                .write_at(POSITION.start, &position.to_le_bytes());
            reports.waiting.push(self.unit(compiled, &shared, unit));
            if reports.are_due() {
                reports.send(&mut self.socket)?;
            }
        }
        self.socket.send(&FromChild::Done(reports.waiting))
    }

    fn compile(&mut self, program: BlobId) -> io::Result<Rc<Entry>> {
        self.socket.send(&FromChild::NeedModule)?;
        let Some(frame) = self.socket.receive()? else {
            return Err(io::Error::other("the parent is gone"));
        };
        let ToChild::Module { len } = frame else {
            return Err(unexpected(&frame));
        };
        let begin = thread_cpu_time();
        let entry = match self.compile_module(len) {
            Ok(compiled) => Entry::Compiled(compiled),
            Err(CompileError::Refused(refusal)) => Entry::Refused(refusal.to_string()),
            Err(CompileError::Failed(reason)) => Entry::Failed(reason.chars().take(1000).collect()),
        };
        self.socket.send(&FromChild::Compiled {
            nanos: Some(nanos_used(begin)),
        })?;
        Ok(self.cache.insert(program, entry))
    }

    fn compile_module(&self, len: usize) -> Result<Compiled, CompileError> {
        // The parent has cut a module that is too long.
        at_most("bytes", len, StaticLimits::FIXED.module_bytes).map_err(CompileError::Refused)?;
        let module = self.input.bytes(self.setup.layout.module(len));
        match self.setup.check {
            CheckMode::Strict => self.engine.compile(module),
            CheckMode::Bypassed => self.engine.compile_unchecked(module, unchecked_facts()),
        }
    }

    /// Runs a unit, whose output goes to the present offset.
    fn unit(&mut self, compiled: &Compiled, shared: &Shared, unit: UnitRequest) -> UnitReport {
        let begin = thread_cpu_time();
        let end = self.engine.run(
            compiled,
            Job {
                args: Arc::clone(&shared.args),
                place: Place {
                    index: unit.index,
                    count: shared.count,
                    params: unit.params,
                },
                seed: shared.seed,
                limits: shared.limits,
                input: Input {
                    memory: Rc::clone(&self.input),
                    rest: unit.input,
                },
                output: Output {
                    memory: Rc::clone(&self.output),
                    start: self.offset,
                    len: 0,
                    len_max: usize::try_from(shared.limits.output_bytes)
                        .map_or(self.setup.layout.output_bytes_max, |len| {
                            len.min(self.setup.layout.output_bytes_max)
                        }),
                },
            },
        );
        let nanos = nanos_used(begin);
        self.output
            .write_at(self.offset + end.output_len, &end.stderr);
        let report = UnitReport {
            result: end.result,
            fuel: end.fuel,
            offset: self.offset,
            output_len: end.output_len,
            stderr_len: end.stderr.len(),
            nanos,
        };
        self.offset += end.output_len + end.stderr.len();
        report
    }

    /// Waits until the parent has everything, then starts at the beginning of the memory again.
    fn drain(&mut self) -> io::Result<()> {
        self.socket.send(&FromChild::AwaitDrain)?;
        match self.socket.receive()? {
            Some(ToChild::Drained) => {
                self.offset = OUTPUTS_START;
                Ok(())
            }
            Some(frame) => Err(unexpected(&frame)),
            None => Err(io::Error::other("the parent is gone")),
        }
    }
}

/// What the units of a request have in common.
struct Shared {
    args: Arc<[String]>,
    count: u32,
    seed: [u8; 32],
    limits: tally_protocol::unit::Limits,
}

/// Reports that were not sent yet.
struct Reports {
    waiting: Vec<UnitReport>,
    since: Instant,
}

impl Reports {
    fn are_due(&self) -> bool {
        self.waiting.len() >= REPORTS_MAX || self.since.elapsed() >= REPORT_DELAY
    }

    fn send(&mut self, socket: &mut Socket) -> io::Result<()> {
        self.since = Instant::now();
        socket.send(&FromChild::Units(std::mem::take(&mut self.waiting)))
    }
}

fn unexpected(frame: &ToChild) -> io::Error {
    io::Error::other(format!("{frame:?} is not expected now"))
}

/// Returns the processor time since `begin` of the only thread: none passes while it is stopped or waits for its turn.
fn nanos_used(begin: Duration) -> u64 {
    let used = thread_cpu_time().saturating_sub(begin);
    u64::try_from(used.as_nanos()).unwrap_or(u64::MAX)
}

/// Stands for the facts of a module that was not looked at.
fn unchecked_facts() -> ProgramFacts {
    ProgramFacts {
        abi: Abi::Wasi,
        module_bytes: 0,
        functions: 0,
        code_bytes: 0,
        data_bytes: 0,
        memory_min_bytes: 0,
        locals_max: 0,
        nesting_max: 0,
    }
}

//! A WASI preview 1 host on which a program is a pure function of its unit.
//!
//! Standard input is the unit's input, standard output its result, standard error its diagnostics. The clock
//! only moves when the program looks at it or sleeps, chance is a stream drawn from the unit's seed, and there
//! are no files and no network: what asks for them gets the errno of a system that has none open. A call costs
//! a flat amount of fuel and one more a byte moved, charged before the program goes on.

use wasmtime::{Caller, Extern, FuncType, Linker, Val, ValType};

use crate::fixed::{HOST_BYTE_FUEL, HOST_CALL_FUEL};
use crate::unit::{Stop, UnitState};

mod abi;
mod clock;
mod guest;
mod poll;
mod signature;
mod streams;

use abi::Errno;
pub(crate) use clock::Clock;
use guest::Guest;
pub(crate) use signature::{MODULE, Signature, signature};
pub(crate) use streams::{Input, Output, Streams};

/// Version of this host's behaviour, a part of the profile id: any change that a program can see counts.
pub(crate) const VERSION: u32 = 1;

/// What a WASI function gives: nothing more than its errno, or the end of the run.
type Outcome = Result<(), Failure>;

/// Why a WASI function did not succeed.
enum Failure {
    /// The program is told and goes on.
    Errno(Errno),
    /// The run ends.
    Stop(Stop),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Defines the 46 functions.
pub(crate) fn link(linker: &mut Linker<UnitState>) -> wasmtime::Result<()> {
    link_texts(linker)?;
    link_process(linker)?;
    link_streams(linker)?;
    link_stream_facts(linker)?;
    link_absent(linker)
}

type Host<'a> = Caller<'a, UnitState>;

fn link_texts(linker: &mut Linker<UnitState>) -> wasmtime::Result<()> {
    linker
        .func_wrap(
            MODULE,
            "args_sizes_get",
            |mut host: Host<'_>, count: i32, size: i32| {
                call(&mut host, |unit, guest| {
                    guest.write_sizes(&unit.args, count, size)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "args_get",
            |mut host: Host<'_>, pointers: i32, texts: i32| {
                call(&mut host, |unit, guest| {
                    guest.write_strings(&unit.args, pointers, texts)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "environ_sizes_get",
            |mut host: Host<'_>, count: i32, size: i32| {
                call(&mut host, |unit, guest| {
                    guest.write_sizes(&unit.environment(), count, size)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "environ_get",
            |mut host: Host<'_>, pointers: i32, texts: i32| {
                call(&mut host, |unit, guest| {
                    guest.write_strings(&unit.environment(), pointers, texts)
                })
            },
        )?;
    Ok(())
}

fn link_process(linker: &mut Linker<UnitState>) -> wasmtime::Result<()> {
    linker
        .func_wrap(
            MODULE,
            "clock_res_get",
            |mut host: Host<'_>, clock: i32, target: i32| {
                call(&mut host, |_, guest| {
                    Ok(guest.write_u64(target, Clock::resolution(clock)?)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "clock_time_get",
            |mut host: Host<'_>, clock: i32, _precision: i64, target: i32| {
                call(&mut host, |unit, guest| {
                    Ok(guest.write_u64(target, unit.clock.read(clock)?)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "random_get",
            |mut host: Host<'_>, target: i32, len: i32| {
                call(&mut host, |unit, guest| {
                    unit.random.fill(guest.slice_mut(target, len)?);
                    Ok(())
                })
            },
        )?
        .func_wrap(MODULE, "sched_yield", |mut host: Host<'_>| {
            call(&mut host, |_, _| Ok(()))
        })?
        .func_wrap(MODULE, "proc_raise", |mut host: Host<'_>, _signal: i32| {
            call(&mut host, |_, _| Err(Errno::NoSys.into()))
        })?
        .func_wrap(
            MODULE,
            "proc_exit",
            |mut host: Host<'_>, code: i32| -> wasmtime::Result<()> {
                call(&mut host, |_, _| {
                    Err(Stop::Exit(code.cast_unsigned()).into())
                })
                .map(|_| ())
            },
        )?
        .func_wrap(
            MODULE,
            "poll_oneoff",
            |mut host: Host<'_>, from: i32, to: i32, count: i32, ready: i32| {
                call(&mut host, |unit, guest| {
                    poll::poll_oneoff(
                        unit,
                        guest,
                        poll::Lists {
                            from,
                            to,
                            count,
                            ready,
                        },
                    )
                })
            },
        )?;
    Ok(())
}

fn link_streams(linker: &mut Linker<UnitState>) -> wasmtime::Result<()> {
    linker
        .func_wrap(
            MODULE,
            "fd_read",
            |mut host: Host<'_>, fd: i32, buffers: i32, count: i32, read: i32| {
                call(&mut host, |unit, guest| {
                    let total = unit.streams.read(fd, guest, buffers, count)?;
                    Ok(guest.write_u32(read, total)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_write",
            |mut host: Host<'_>, fd: i32, buffers: i32, count: i32, written: i32| {
                call(&mut host, |unit, guest| {
                    let total = unit.streams.write(fd, guest, buffers, count)?;
                    Ok(guest.write_u32(written, total)?)
                })
            },
        )?
        .func_wrap(MODULE, "fd_close", |mut host: Host<'_>, fd: i32| {
            call(&mut host, |unit, _| Ok(unit.streams.close(fd)?))
        })?
        .func_wrap(
            MODULE,
            "fd_renumber",
            |mut host: Host<'_>, from: i32, to: i32| {
                call(&mut host, |unit, _| Ok(unit.streams.renumber(from, to)?))
            },
        )?;
    Ok(())
}

fn link_stream_facts(linker: &mut Linker<UnitState>) -> wasmtime::Result<()> {
    linker
        .func_wrap(
            MODULE,
            "fd_fdstat_get",
            |mut host: Host<'_>, fd: i32, target: i32| {
                call(&mut host, |unit, guest| {
                    Ok(guest.write(target, &unit.streams.fdstat(fd)?)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_filestat_get",
            |mut host: Host<'_>, fd: i32, target: i32| {
                call(&mut host, |unit, guest| {
                    Ok(guest.write(target, &unit.streams.filestat(fd)?)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_fdstat_set_flags",
            |mut host: Host<'_>, fd: i32, flags: i32| {
                call(&mut host, |unit, _| {
                    Ok(unit.streams.set_flags(fd, flags)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_fdstat_set_rights",
            |mut host: Host<'_>, fd: i32, base: i64, inheriting: i64| {
                call(&mut host, |unit, _| {
                    Ok(unit.streams.set_rights(fd, base, inheriting)?)
                })
            },
        )?;
    Ok(())
}

/// Functions that only say, by an errno, that a standard stream is no file, directory or socket. The first
/// parameter of each is a file descriptor.
const ABSENT: [(&str, Errno); 27] = [
    ("fd_advise", Errno::SPipe),
    ("fd_allocate", Errno::SPipe),
    ("fd_datasync", Errno::Inval),
    ("fd_filestat_set_size", Errno::Inval),
    ("fd_filestat_set_times", Errno::NotSup),
    ("fd_pread", Errno::SPipe),
    ("fd_prestat_dir_name", Errno::BadF),
    ("fd_prestat_get", Errno::BadF),
    ("fd_pwrite", Errno::SPipe),
    ("fd_readdir", Errno::NotDir),
    ("fd_seek", Errno::SPipe),
    ("fd_sync", Errno::Inval),
    ("fd_tell", Errno::SPipe),
    ("path_create_directory", Errno::NotDir),
    ("path_filestat_get", Errno::NotDir),
    ("path_filestat_set_times", Errno::NotDir),
    ("path_link", Errno::NotDir),
    ("path_open", Errno::NotDir),
    ("path_readlink", Errno::NotDir),
    ("path_remove_directory", Errno::NotDir),
    ("path_rename", Errno::NotDir),
    ("path_symlink", Errno::NotDir),
    ("path_unlink_file", Errno::NotDir),
    ("sock_accept", Errno::NotSock),
    ("sock_recv", Errno::NotSock),
    ("sock_send", Errno::NotSock),
    ("sock_shutdown", Errno::NotSock),
];

fn link_absent(linker: &mut Linker<UnitState>) -> wasmtime::Result<()> {
    for (name, errno) in ABSENT {
        let signature = signature(MODULE, name).expect("every absent function is one of WASI's");
        let params = signature.params().map(|letter| {
            if letter == 'I' {
                ValType::I64
            } else {
                ValType::I32
            }
        });
        let ty = FuncType::new(linker.engine(), params, [ValType::I32]);
        let position = if name == "path_symlink" { 2 } else { 0 };
        linker.func_new(MODULE, name, ty, move |mut host, params, results| {
            let fd = params.get(position).and_then(Val::i32).unwrap_or(-1);
            let answer = call(&mut host, |unit, _| {
                unit.streams.stream(fd)?;
                Err(errno.into())
            })?;
            results[0] = Val::I32(answer);
            Ok(())
        })?;
    }
    Ok(())
}

/// Runs the body of a WASI function on the program's memory, and charges for it.
fn call(
    host: &mut Host<'_>,
    body: impl FnOnce(&mut UnitState, &mut Guest<'_>) -> Outcome,
) -> wasmtime::Result<i32> {
    charge(host, HOST_CALL_FUEL)?;
    let memory = match host.data().memory {
        Some(memory) => memory,
        None => find_memory(host)?,
    };
    let (bytes, unit) = memory.data_and_store_mut(&mut *host);
    let mut guest = Guest::new(bytes);
    let outcome = body(unit, &mut guest);
    let moved = guest.moved();
    charge(host, moved.saturating_mul(HOST_BYTE_FUEL))?;
    match outcome {
        Ok(()) => Ok(Errno::Success.code()),
        Err(Failure::Errno(errno)) => Ok(errno.code()),
        Err(Failure::Stop(stop)) => Err(stop.into()),
    }
}

/// Finds the exported memory at the first call; a start function may call before the instance is complete.
fn find_memory(host: &mut Host<'_>) -> wasmtime::Result<wasmtime::Memory> {
    let memory = host.get_export("memory").and_then(Extern::into_memory);
    let memory = memory.ok_or_else(|| wasmtime::Error::msg("the memory is not exported"))?;
    host.data_mut().memory = Some(memory);
    Ok(memory)
}

/// Takes fuel from the program, or ends it.
fn charge(host: &mut Host<'_>, fuel: u64) -> wasmtime::Result<()> {
    let left = host.get_fuel()?;
    match left.checked_sub(fuel) {
        Some(rest) => host.set_fuel(rest),
        None => Err(Stop::OutOfFuel.into()),
    }
}

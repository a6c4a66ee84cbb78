//! The only file of the workspace with `unsafe`: memory shared between the two processes of a sandbox, and
//! four system calls that have no safe wrapper.
//!
//! Invariant: whoever only reads a shared mapping as a slice maps it from a file whose other side can't write
//! while the slice lives. The input file is sealed against new writable mappings before the child gets it, and
//! the parent writes it only before it sends the message that lets the child read it. The output file is written by a process that runs hostile
//! code, so it is never seen as a slice in the parent, only copied out.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::Pid;

/// Who else may write to a shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Nobody.
    ReadOnly,
    /// The other process.
    Writable,
}

/// A file in memory with its shared, writable mapping. Pages take memory only once they are touched.
pub(crate) struct SharedMemory {
    file: OwnedFd,
    map: Map,
    sharing: Sharing,
}

impl SharedMemory {
    /// Creates `len` zero bytes that others may map, but not resize.
    pub(crate) fn create(name: &str, len: usize, sharing: Sharing) -> io::Result<Self> {
        let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, len as u64)?;
        let map = Map::new(&file, len, ProtFlags::READ | ProtFlags::WRITE)?;
        let seals = match sharing {
            // Only mappings that exist already stay writable.
            Sharing::ReadOnly => SealFlags::FUTURE_WRITE,
            Sharing::Writable => SealFlags::empty(),
        };
        rustix::fs::fcntl_add_seals(
            &file,
            seals | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        )?;
        Ok(Self { file, map, sharing })
    }

    /// Returns the file, to be handed to the other process.
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Returns a part of the bytes for writing.
    ///
    /// # Panics
    /// If the range is not inside the memory, or another process can write there.
    pub(crate) fn slice_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        assert_eq!(
            self.sharing,
            Sharing::ReadOnly,
            "a slice must not change under its owner"
        );
        let start = self.map.checked(&range);
        #[expect(
            unsafe_code,
            reason = "the range is inside the mapping, `&mut self` excludes other users in \
            this process, and the seal other processes"
        )]
        unsafe {
            std::slice::from_raw_parts_mut(start, range.len())
        }
    }

    /// Copies a part of the bytes, which another process may be changing, to the end of `target`.
    ///
    /// # Panics
    /// If the range is not inside the memory.
    pub(crate) fn append_to(&self, range: Range<usize>, target: &mut Vec<u8>) {
        let start = self.map.checked(&range);
        target.reserve_exact(range.len());
        advise_large_pages(target.spare_capacity_mut());
        #[expect(
            unsafe_code,
            reason = "the source is inside the mapping, the target was reserved and is \
            private; a concurrent writer can only change which bytes are copied"
        )]
        unsafe {
            ptr::copy_nonoverlapping(start, target.as_mut_ptr().add(target.len()), range.len());
            target.set_len(target.len() + range.len());
        }
    }
}

/// The child's view of the input: readable only.
pub(crate) struct ReadOnlyMemory(Map);

impl ReadOnlyMemory {
    /// Maps the file that the parent has sealed.
    pub(crate) fn map(file: &OwnedFd, len: usize) -> io::Result<Self> {
        check_len(file, len)?;
        let seals = rustix::fs::fcntl_get_seals(file)?;
        if !seals.contains(SealFlags::FUTURE_WRITE | SealFlags::SHRINK) {
            return Err(io::Error::other("the input memory is not sealed"));
        }
        Map::new(file, len, ProtFlags::READ).map(Self)
    }

    /// Returns a part of the bytes.
    ///
    /// # Panics
    /// If the range is not inside the memory.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        let start = self.0.checked(&range);
        #[expect(
            unsafe_code,
            reason = "the range is inside the mapping, and the parent writes to it only while \
            the child waits and holds no such slice"
        )]
        unsafe {
            std::slice::from_raw_parts(start, range.len())
        }
    }
}

/// The child's view of the output: it appends there, the parent copies out what was reported.
pub(crate) struct OutputMemory(Map);

impl OutputMemory {
    /// Maps the file that the parent has made.
    pub(crate) fn map(file: &OwnedFd, len: usize) -> io::Result<Self> {
        check_len(file, len)?;
        Map::new(file, len, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Panics
    /// If the bytes do not fit.
    pub(crate) fn write_at(&self, offset: usize, bytes: &[u8]) {
        let end = offset
            .checked_add(bytes.len())
            .expect("offsets are below the length of a mapping");
        let start = self.0.checked(&(offset..end));
        #[expect(
            unsafe_code,
            reason = "the target is inside the mapping, of which no slice is ever made in \
            this process, so it can't overlap `bytes`"
        )]
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        }
    }
}

/// A shared mapping of a file, unmapped on drop.
struct Map {
    start: NonNull<u8>,
    len: usize,
}

#[expect(
    unsafe_code,
    reason = "a mapping belongs to the process, not to a thread; its users' methods take \
    `&mut self` or copy"
)]
unsafe impl Send for Map {}
impl Map {
    fn new(file: &OwnedFd, len: usize, access: ProtFlags) -> io::Result<Self> {
        assert!(len > 0, "an empty mapping does not exist");
        #[expect(
            unsafe_code,
            reason = "a fresh mapping where the kernel likes it aliases no Rust object"
        )]
        let start = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                len,
                access,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )?
        };
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at address 0");
        Ok(Self { start, len })
    }

    /// Returns the address of a range that lies inside the mapping.
    fn checked(&self, range: &Range<usize>) -> *mut u8 {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} is outside the shared memory"
        );
        self.start.as_ptr().wrapping_add(range.start)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        #[expect(
            unsafe_code,
            reason = "this is the whole mapping made by `new`, and no slice outlives it"
        )]
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping can always be removed");
    }
}

/// Refuses a file of another size, whose pages beyond the end would kill the process when touched.
fn check_len(file: &OwnedFd, len: usize) -> io::Result<()> {
    let found = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
    if found == len as u64 {
        Ok(())
    } else {
        Err(io::Error::other(format!("{found} bytes instead of {len}")))
    }
}

/// Asks for pages of 2 MiB for a large buffer that was not written to yet: 512 times fewer page faults.
fn advise_large_pages(buffer: &mut [MaybeUninit<u8>]) {
    const WORTHWHILE: usize = 4 << 20;
    const PAGE: usize = 4096;
    let skipped = buffer.as_ptr().addr().wrapping_neg() % PAGE;
    if buffer.len() < WORTHWHILE {
        return;
    }
    let whole = (buffer.len() - skipped) / PAGE * PAGE;
    #[expect(
        unsafe_code,
        reason = "the range lies inside the buffer, and the advice changes no contents"
    )]
    // A kernel without large pages refuses; then small ones do.
    let _ = unsafe {
        rustix::mm::madvise(
            buffer.as_mut_ptr().add(skipped).cast(),
            whole,
            Advice::LinuxHugepage,
        )
    };
}

/// Returns the processor time that a process has used.
pub(crate) fn cpu_time(process: Pid) -> Option<Duration> {
    let mut clock: libc::clockid_t = 0;
    #[expect(
        unsafe_code,
        reason = "the call only writes to the variable that is passed"
    )]
    let found =
        unsafe { libc::clock_getcpuclockid(process.as_raw_nonzero().get(), &mut clock) } == 0;
    found.then(|| read_clock(clock))?
}

/// Returns the processor time that this thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = read_clock(libc::CLOCK_THREAD_CPUTIME_ID);
    debug_assert!(time.is_some(), "every Linux has this clock");
    time.unwrap_or_default()
}

/// Reads a clock of the kernel, if it is there. A system call and nothing else, for a locked child.
fn read_clock(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    #[expect(
        unsafe_code,
        reason = "the call only writes to the variable that is passed"
    )]
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    succeeded(i64::from(result)).ok()?;
    let seconds = u64::try_from(time.tv_sec).ok()?;
    Some(Duration::new(seconds, u32::try_from(time.tv_nsec).ok()?))
}

/// Has this process scheduled only when nothing else wants the processor.
pub(crate) fn take_idle_policy() -> io::Result<()> {
    const SELF: libc::pid_t = 0;
    let priority = libc::sched_param { sched_priority: 0 };
    #[expect(
        unsafe_code,
        reason = "the call only reads the variable that is passed"
    )]
    let result = unsafe { libc::sched_setscheduler(SELF, libc::SCHED_IDLE, &priority) };
    succeeded(i64::from(result))
}

/// Has this process read and write only when nobody else uses the disk.
pub(crate) fn take_idle_disk_class() -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const SELF: libc::c_int = 0;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    #[expect(unsafe_code, reason = "the call takes no pointer")]
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, SELF, CLASS_IDLE) };
    succeeded(result)
}

/// Has the kernel kill the process that `command` starts as soon as the thread that starts it ends: from before it runs, so
/// that one that is stopped at once does not stay behind.
pub(crate) fn die_with_starter(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let ask = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "between fork and exec only one system call is made, without memory or locks"
    )]
    unsafe {
        command.pre_exec(ask);
    }
}

/// Closes every file descriptor from 3 on. For the start of the child, whose mappings stay.
pub(crate) fn close_inherited_files() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    #[expect(
        unsafe_code,
        reason = "the caller owns the process: nothing in it holds a descriptor above 2"
    )]
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
    succeeded(result)
}

fn succeeded(result: i64) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_what_is_written_and_cannot_write() {
        let mut memory = SharedMemory::create("test", 8192, Sharing::ReadOnly).unwrap();
        memory.slice_mut(10..15).copy_from_slice(b"hello");
        let reader = ReadOnlyMemory::map(memory.file(), 8192).unwrap();
        assert_eq!(reader.bytes(10..15), b"hello");
        memory.slice_mut(10..12).copy_from_slice(b"HE");
        assert_eq!(reader.bytes(10..15), b"HEllo");
        assert!(
            OutputMemory::map(memory.file(), 8192).is_err(),
            "the seal forbids a writable mapping"
        );
        assert!(
            rustix::fs::ftruncate(memory.file(), 1).is_err(),
            "the seal forbids another size"
        );
    }

    #[test]
    fn output_is_copied_out() {
        let memory = SharedMemory::create("test", 8192, Sharing::Writable).unwrap();
        assert!(
            ReadOnlyMemory::map(memory.file(), 8192).is_err(),
            "an unsealed input is refused"
        );
        assert!(
            OutputMemory::map(memory.file(), 4096).is_err(),
            "another size is refused"
        );
        let writer = OutputMemory::map(memory.file(), 8192).unwrap();
        writer.write_at(8190, b"ok");
        let mut bytes = b"got ".to_vec();
        memory.append_to(8190..8192, &mut bytes);
        assert_eq!(bytes, b"got ok");
        let outside = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            writer.write_at(8191, b"ok")
        }));
        assert!(outside.is_err());
    }

    #[test]
    fn a_thread_becomes_idle() {
        // Both are settings of the thread that asks.
        let idle = std::thread::spawn(|| {
            take_idle_policy().unwrap();
            take_idle_disk_class().unwrap();
            #[expect(unsafe_code, reason = "neither call takes a pointer")]
            unsafe {
                let disk = libc::syscall(libc::SYS_ioprio_get, 1, 0);
                (libc::sched_getscheduler(0), disk >> 13)
            }
        });
        assert_eq!(idle.join().unwrap(), (libc::SCHED_IDLE, 3));
    }

    #[test]
    fn processor_time_is_read() {
        assert!(cpu_time(rustix::process::getpid()).is_some_and(|time| time > Duration::ZERO));
    }
}

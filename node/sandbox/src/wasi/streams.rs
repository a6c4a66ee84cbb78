//! The three standard streams, the only file descriptors a unit has.

use std::ops::Range;
use std::rc::Rc;

use super::Failure;
use super::abi::{Errno, FDSTAT_BYTES, FILESTAT_BYTES, FILETYPE_UNKNOWN, fdflags, rights};
use super::guest::Guest;
use crate::fixed::STDERR_BYTES_KEPT;
use crate::os::{OutputMemory, ReadOnlyMemory};
use crate::unit::Stop;

/// What a unit reads.
pub(crate) struct Input {
    pub(crate) memory: Rc<ReadOnlyMemory>,
    /// What is left.
    pub(crate) rest: Range<usize>,
}

impl Input {
    /// Returns at most `len` bytes of what is left.
    fn peek(&self, len: usize) -> &[u8] {
        self.memory
            .bytes(self.rest.start..self.rest.start + len.min(self.rest.len()))
    }
}

/// Where a unit's output goes, up to its limit.
pub(crate) struct Output {
    pub(crate) memory: Rc<OutputMemory>,
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) len_max: usize,
}

impl Output {
    /// Appends, or ends the run if the limit is passed.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if bytes.len() > self.len_max - self.len {
            return Err(Stop::OutputLimit);
        }
        self.memory.write_at(self.start + self.len, bytes);
        self.len += bytes.len();
        Ok(())
    }
}

/// Which of the streams a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    In,
    Out,
    Err,
}

/// An open descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor {
    pub(super) stream: Stream,
    rights: u64,
    flags: u8,
}

/// The open descriptors and what is behind them.
pub(crate) struct Streams {
    open: [Option<Descriptor>; 3],
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) stderr: Vec<u8>,
}

impl Streams {
    pub(crate) fn new(input: Input, output: Output) -> Self {
        let always =
            rights::FD_FILESTAT_GET | rights::POLL_FD_READWRITE | rights::FD_FDSTAT_SET_FLAGS;
        let descriptor = |stream, right| {
            Some(Descriptor {
                stream,
                rights: always | right,
                flags: 0,
            })
        };
        let open = [
            descriptor(Stream::In, rights::FD_READ),
            descriptor(Stream::Out, rights::FD_WRITE),
            descriptor(Stream::Err, rights::FD_WRITE),
        ];
        Self {
            open,
            input,
            output,
            stderr: Vec::new(),
        }
    }

    /// Returns an open descriptor.
    pub(super) fn stream(&self, fd: i32) -> Result<Descriptor, Errno> {
        let slot = usize::try_from(fd).ok().and_then(|fd| self.open.get(fd));
        slot.copied().flatten().ok_or(Errno::BadF)
    }

    fn stream_mut(&mut self, fd: i32) -> Result<&mut Descriptor, Errno> {
        let slot = usize::try_from(fd)
            .ok()
            .and_then(|fd| self.open.get_mut(fd));
        slot.and_then(Option::as_mut).ok_or(Errno::BadF)
    }

    pub(super) fn close(&mut self, fd: i32) -> Result<(), Errno> {
        self.stream(fd)?;
        self.open[fd.cast_unsigned() as usize] = None;
        Ok(())
    }

    pub(super) fn renumber(&mut self, from: i32, to: i32) -> Result<(), Errno> {
        let descriptor = self.stream(from)?;
        *self.stream_mut(to)? = descriptor;
        if from == to { Ok(()) } else { self.close(from) }
    }

    /// Reads into a list of buffers and returns the number of bytes; zero is the end.
    pub(super) fn read(
        &mut self,
        fd: i32,
        guest: &mut Guest<'_>,
        list: i32,
        count: i32,
    ) -> Result<u32, Failure> {
        self.permitted(fd, rights::FD_READ)?;
        let mut total = 0u32;
        for index in 0..count.cast_unsigned() {
            let (start, len) = guest.iovec(list, index)?;
            let bytes = self.input.peek(len.cast_unsigned() as usize);
            guest.fill(start, len, bytes)?;
            let taken = bytes.len();
            self.input.rest.start += taken;
            total = u32::try_from(taken)
                .ok()
                .and_then(|taken| total.checked_add(taken))
                .ok_or(Errno::Inval)?;
            if taken < len.cast_unsigned() as usize {
                break;
            }
        }
        Ok(total)
    }

    /// Writes a list of buffers and returns the number of bytes.
    pub(super) fn write(
        &mut self,
        fd: i32,
        guest: &mut Guest<'_>,
        list: i32,
        count: i32,
    ) -> Result<u32, Failure> {
        let stream = self.permitted(fd, rights::FD_WRITE)?;
        let mut total = 0u32;
        for index in 0..count.cast_unsigned() {
            let (start, len) = guest.iovec(list, index)?;
            let bytes = guest.slice(start, len)?;
            total = total.checked_add(len.cast_unsigned()).ok_or(Errno::Inval)?;
            if stream == Stream::Out {
                self.output.append(bytes)?;
            } else {
                let kept = bytes.len().min(STDERR_BYTES_KEPT - self.stderr.len());
                self.stderr.extend_from_slice(&bytes[..kept]);
            }
        }
        Ok(total)
    }

    /// Returns the stream of a descriptor that has a right.
    pub(super) fn permitted(&self, fd: i32, right: u64) -> Result<Stream, Errno> {
        let descriptor = self.stream(fd)?;
        if descriptor.rights & right == 0 {
            Err(Errno::NotCapable)
        } else {
            Ok(descriptor.stream)
        }
    }

    pub(super) fn fdstat(&self, fd: i32) -> Result<[u8; FDSTAT_BYTES], Errno> {
        let descriptor = self.stream(fd)?;
        let mut record = [0; FDSTAT_BYTES];
        record[0] = FILETYPE_UNKNOWN;
        record[2] = descriptor.flags;
        record[8..16].copy_from_slice(&descriptor.rights.to_le_bytes());
        Ok(record)
    }

    pub(super) fn filestat(&self, fd: i32) -> Result<[u8; FILESTAT_BYTES], Errno> {
        self.permitted(fd, rights::FD_FILESTAT_GET)?;
        let mut record = [0; FILESTAT_BYTES];
        record[16] = FILETYPE_UNKNOWN;
        Ok(record)
    }

    /// Takes flags that make no difference here: every read and write is complete at once.
    pub(super) fn set_flags(&mut self, fd: i32, flags: i32) -> Result<(), Errno> {
        self.permitted(fd, rights::FD_FDSTAT_SET_FLAGS)?;
        if flags & !(fdflags::APPEND | fdflags::NONBLOCK) != 0 {
            return Err(Errno::NotSup);
        }
        self.stream_mut(fd)?.flags = u8::try_from(flags).map_err(|_| Errno::Inval)?;
        Ok(())
    }

    /// Takes rights away; a program can't get more than it has.
    pub(super) fn set_rights(&mut self, fd: i32, base: i64, inheriting: i64) -> Result<(), Errno> {
        let descriptor = self.stream_mut(fd)?;
        let base = base.cast_unsigned();
        if base & !descriptor.rights != 0 || inheriting != 0 {
            return Err(Errno::NotCapable);
        }
        descriptor.rights = base;
        Ok(())
    }
}

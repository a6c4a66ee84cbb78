//! What parent and child say to each other: small CBOR frames over a socket that keeps message boundaries, and
//! the layout of the two memories that hold everything large.
//!
//! Input memory, written by the parent: `[unit inputs | module | request]`, at fixed places. Output memory,
//! written by the child: `[position | outputs]`, the position of the running unit in the request, then the output
//! and the diagnostics of each unit, one after another. Once a window is full the child waits until the parent
//! has copied out all that was reported, and starts again at its beginning, so that the same few pages are used.
//!
//! Reports of short units travel together. If the child dies, those that were not sent are lost, and the position
//! says which unit is to blame; the units before it run again, with the same results.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tally_protocol::id::BlobId;
use tally_protocol::unit::{Fault, Limits, Outcome};

use crate::check::StaticLimits;
use crate::fixed::STDERR_BYTES_KEPT;
use crate::lockdown::{ChildLimits, Lockdown};

/// The largest frame: a refusal's text fits, everything longer is in shared memory.
pub(crate) const FRAME_BYTES_MAX: usize = 16 * 1024;

/// The largest request: 1,024 units with half a KiB of parameters each, and the job's arguments.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Output after which the child starts again at the beginning. Small enough to stay in the processor's cache.
const WINDOW_BYTES: usize = 1 << 20;

/// Where the child writes the position of the running unit: a u32, little-endian.
pub(crate) const POSITION: Range<usize> = 0..4;

/// Where the first output goes.
pub(crate) const OUTPUTS_START: usize = 64;

/// Reports wait at most so long for others, and so many go into one frame.
pub(crate) const REPORT_DELAY: Duration = Duration::from_micros(200);
pub(crate) const REPORTS_MAX: usize = 64;

/// What the parent says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToChild {
    /// The first frame, with the files of the input and output memory.
    Setup(Setup),
    /// Run the request of this length.
    Run { request_len: usize },
    /// The module that was asked for has this length.
    Module { len: usize },
    /// Everything reported so far was copied out.
    Drained,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// Locked and waiting.
    Ready(Lockdown),
    /// The request's program is not in the cache.
    NeedModule,
    /// The program is ready; the time if it had to be compiled.
    Compiled { nanos: Option<u64> },
    /// The profile refuses the program.
    Refused(String),
    /// The compiler gave up.
    CompileFailed(String),
    /// These units have ended.
    Units(Vec<UnitReport>),
    /// The window is full.
    AwaitDrain,
    /// These units have ended, and there are no more.
    Done(Vec<UnitReport>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) parent: i32,
    pub(crate) layout: Layout,
    pub(crate) limits: ChildLimits,
    pub(crate) modules_max: usize,
    pub(crate) check: CheckMode,
}

/// Whether the child checks modules before it compiles them. Only tests of its own limits leave that out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CheckMode {
    #[default]
    Strict,
    Bypassed,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) program: BlobId,
    pub(crate) args: Vec<String>,
    pub(crate) unit_count: u32,
    pub(crate) seed: [u8; 32],
    pub(crate) limits: Limits,
    pub(crate) units: Vec<UnitRequest>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UnitRequest {
    pub(crate) index: u32,
    pub(crate) params: String,
    pub(crate) input: Range<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UnitReport {
    pub(crate) result: Result<Outcome, Fault>,
    pub(crate) fuel: u64,
    pub(crate) offset: usize,
    pub(crate) output_len: usize,
    pub(crate) stderr_len: usize,
    pub(crate) nanos: u64,
}

/// Where what is in the shared memories.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) input_bytes_max: usize,
    pub(crate) output_bytes_max: usize,
}

impl Layout {
    pub(crate) fn module(self, len: usize) -> Range<usize> {
        self.input_bytes_max..self.input_bytes_max + len
    }

    pub(crate) fn request(self, len: usize) -> Range<usize> {
        let start = self.input_bytes_max + StaticLimits::FIXED.module_bytes;
        start..start + len
    }

    pub(crate) fn input_memory_len(self) -> usize {
        self.request(REQUEST_BYTES_MAX).end
    }

    pub(crate) fn output_memory_len(self) -> usize {
        OUTPUTS_START + WINDOW_BYTES + self.output_bytes_max + STDERR_BYTES_KEPT
    }

    /// Returns whether a unit may write at `offset`.
    pub(crate) fn in_window(offset: usize) -> bool {
        offset < OUTPUTS_START + WINDOW_BYTES
    }
}

/// Sends a frame with files.
pub(crate) fn send_files(
    socket: BorrowedFd<'_>,
    frame: &ToChild,
    files: [&OwnedFd; 2],
) -> io::Result<()> {
    let bytes = encode(Vec::new(), frame)?;
    let files = files.map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(
        control.push(SendAncillaryMessage::ScmRights(&files)),
        "the space is for two files"
    );
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives a frame with files.
pub(crate) fn receive_files(socket: BorrowedFd<'_>) -> io::Result<(ToChild, Vec<OwnedFd>)> {
    let mut bytes = vec![0; FRAME_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::other("the frame is too long"));
    }
    Ok((decode(&bytes[..received.bytes])?, files))
}

/// One end of the socket, with its buffer.
pub(crate) struct Channel<Fd> {
    socket: Fd,
    buffer: Vec<u8>,
}

impl<Fd: AsFd> Channel<Fd> {
    pub(crate) fn new(socket: Fd) -> Self {
        Self {
            socket,
            buffer: vec![0; FRAME_BYTES_MAX],
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn send<T: Serialize>(&mut self, frame: &T) -> io::Result<()> {
        let bytes = encode(Vec::new(), frame)?;
        rustix::net::send(&self.socket, &bytes, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a frame; nothing if the other side is gone.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let (len, whole) = loop {
            match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC) {
                Ok(lens) => break lens,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        match len {
            0 => Ok(None),
            _ if whole > self.buffer.len() => Err(io::Error::other("the frame is too long")),
            _ => decode(&self.buffer[..len]).map(Some),
        }
    }
}

/// Writes a value as CBOR after what is in `buffer`.
pub(crate) fn encode<T: Serialize>(buffer: Vec<u8>, value: &T) -> io::Result<Vec<u8>> {
    cbor4ii::serde::to_vec(buffer, value).map_err(|error| io::Error::other(error.to_string()))
}

/// Reads a value from CBOR.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    cbor4ii::serde::from_slice(bytes).map_err(|error| io::Error::other(error.to_string()))
}

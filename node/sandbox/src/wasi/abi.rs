//! Numbers and layouts of WASI preview 1 (wasi_snapshot_preview1.witx).

/// The error numbers that this host gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errno {
    /// No error.
    Success,
    /// No such file descriptor.
    BadF,
    /// An address outside memory.
    Fault,
    /// A parameter that is not allowed.
    Inval,
    /// A function that does not exist.
    NoSys,
    /// Not a directory.
    NotDir,
    /// Not a socket.
    NotSock,
    /// Not supported on this kind of file.
    NotSup,
    /// A stream has no position.
    SPipe,
    /// A right that the descriptor does not have.
    NotCapable,
}

impl Errno {
    /// Returns the number.
    pub(super) const fn code(self) -> i32 {
        match self {
            Self::Success => 0,
            Self::BadF => 8,
            Self::Fault => 21,
            Self::Inval => 28,
            Self::NoSys => 52,
            Self::NotDir => 54,
            Self::NotSock => 57,
            Self::NotSup => 58,
            Self::SPipe => 70,
            Self::NotCapable => 76,
        }
    }
}

/// Rights of a file descriptor.
pub(super) mod rights {
    pub(in crate::wasi) const FD_READ: u64 = 1 << 1;
    pub(in crate::wasi) const FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
    pub(in crate::wasi) const FD_WRITE: u64 = 1 << 6;
    pub(in crate::wasi) const FD_FILESTAT_GET: u64 = 1 << 21;
    pub(in crate::wasi) const POLL_FD_READWRITE: u64 = 1 << 27;
}

/// Flags of a file descriptor.
pub(super) mod fdflags {
    pub(in crate::wasi) const APPEND: i32 = 1;
    pub(in crate::wasi) const NONBLOCK: i32 = 4;
}

/// Type of a file that is neither a file nor a directory nor a terminal: a pipe.
pub(super) const FILETYPE_UNKNOWN: u8 = 0;

pub(super) const FDSTAT_BYTES: usize = 24;
pub(super) const FILESTAT_BYTES: usize = 64;
pub(super) const IOVEC_BYTES: usize = 8;
pub(super) const SUBSCRIPTION_BYTES: usize = 48;
pub(super) const EVENT_BYTES: usize = 32;

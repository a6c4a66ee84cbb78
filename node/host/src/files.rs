//! Small files of the kernel, read with a bound.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::Unknown;

/// The largest part of a file that is read. What is looked for stands at the beginning: the first line of `/proc/stat`,
/// the third of `/proc/meminfo`, and all of a file of sysfs, which is one page at most.
const BYTES_MAX: usize = 4096;

/// Reads the beginning of a file as text.
pub(crate) fn read(path: &Path) -> Result<String, Unknown> {
    let mut file = File::open(path).map_err(unknown)?;
    let mut bytes = [0; BYTES_MAX];
    let length = file.read(&mut bytes).map_err(unknown)?;
    let bytes = bytes.get(..length).unwrap_or_default();
    // A name that is cut in two, or in another encoding, only has to differ from all that is looked for.
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn unknown(error: std::io::Error) -> Unknown {
    why(error.kind())
}

/// Says why a file or a socket cannot be used.
pub(crate) fn why(kind: ErrorKind) -> Unknown {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the list of the standard library is open"
    )]
    match kind {
        ErrorKind::PermissionDenied => Unknown::Refused,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Unknown::Silent,
        ErrorKind::InvalidData | ErrorKind::InvalidInput => Unknown::Unreadable,
        // A supply that was unplugged between listing and reading gives NoDevice; a display without a server refuses.
        _ => Unknown::Absent,
    }
}

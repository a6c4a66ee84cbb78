//! What the small commands need of WASI preview 1, without the standard library: a few hundred bytes instead of 60 KB.
//!
//! Everything here may be called from one thread only, which is all that a guest has. A host that answers with an error
//! gets exit code 71; a command that the user called wrongly says so with [`fail`], exit code 2.

use core::panic::PanicInfo;

#[link(wasm_import_module = "wasi_snapshot_preview1")]
extern "C" {
    fn args_sizes_get(count: *mut usize, bytes: *mut usize) -> u16;
    fn args_get(strings: *mut *const u8, bytes: *mut u8) -> u16;
    fn environ_sizes_get(count: *mut usize, bytes: *mut usize) -> u16;
    fn environ_get(strings: *mut *const u8, bytes: *mut u8) -> u16;
    fn fd_read(file: u32, parts: *const Part, count: usize, done: *mut usize) -> u16;
    fn fd_write(file: u32, parts: *const Part, count: usize, done: *mut usize) -> u16;
    fn proc_exit(code: u32) -> !;
}

/// A buffer as the host takes it.
#[repr(C)]
struct Part {
    start: *const u8,
    length: usize,
}

const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

const EXIT_USAGE: u32 = 2;
const EXIT_HOST: u32 = 71;

/// Strings that the host gave: arguments or environment, each without its closing NUL.
pub struct Strings {
    bytes: &'static [u8],
}

impl Strings {
    /// Returns the arguments after the program's name.
    pub fn arguments() -> Self {
        let all = unsafe { fetch(args_sizes_get, args_get) };
        let name = all
            .iter()
            .position(|byte| *byte == 0)
            .map_or(0, |end| end + 1);
        Self {
            bytes: &all[name..],
        }
    }

    /// Returns the value of an environment variable.
    pub fn variable(name: &[u8]) -> Option<&'static [u8]> {
        let mut all = Self {
            bytes: unsafe { fetch(environ_sizes_get, environ_get) },
        };
        all.find_map(|entry| match entry.split(|byte| *byte == b'=').next()? {
            key if key == name => entry.get(name.len() + 1..),
            _ => None,
        })
    }
}

impl Iterator for Strings {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<&'static [u8]> {
        let end = self.bytes.iter().position(|byte| *byte == 0)?;
        let string = &self.bytes[..end];
        self.bytes = &self.bytes[end + 1..];
        Some(string)
    }
}

type Sizes = unsafe extern "C" fn(*mut usize, *mut usize) -> u16;
type Fetch = unsafe extern "C" fn(*mut *const u8, *mut u8) -> u16;

unsafe fn fetch(sizes: Sizes, fetch: Fetch) -> &'static [u8] {
    let (mut count, mut bytes) = (0, 0);
    check(sizes(&mut count, &mut bytes));
    let pointers: &mut [u32] = reserve(count);
    let text: &mut [u8] = reserve(bytes);
    check(fetch(pointers.as_mut_ptr().cast(), text.as_mut_ptr()));
    text
}

/// A number that may be all zero bits.
pub trait Number: 'static {}

impl Number for u8 {}
impl Number for u32 {}
impl Number for u64 {}

/// Returns zeros that are never freed; ends the program when there is no memory.
pub fn reserve<T: Number>(count: usize) -> &'static mut [T] {
    const PAGE: usize = 65_536;
    let pages = count
        .checked_mul(core::mem::size_of::<T>())
        .map_or(usize::MAX, |bytes| bytes / PAGE + 1);
    let before = core::arch::wasm32::memory_grow(0, pages);
    if before == usize::MAX {
        fail(b"out of memory\n");
    }
    unsafe { core::slice::from_raw_parts_mut((before * PAGE) as *mut T, count) }
}

/// Reads from standard input into `buffer`; returns how many bytes came, 0 at the end.
pub fn read(buffer: &mut [u8]) -> usize {
    let part = Part {
        start: buffer.as_ptr(),
        length: buffer.len(),
    };
    let mut done = 0;
    check(unsafe { fd_read(STDIN, &part, 1, &mut done) });
    done.min(buffer.len())
}

/// Writes a number and a newline to standard output.
pub fn print_number(number: u64) {
    let mut text = [b'\n'; 21];
    let mut start = text.len() - 1;
    let mut rest = number;
    loop {
        start -= 1;
        text[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    write(STDOUT, &text[start..]);
}

/// Writes a message to standard error and ends the program with exit code 2.
pub fn fail(message: &[u8]) -> ! {
    write(STDERR, message);
    unsafe { proc_exit(EXIT_USAGE) }
}

fn write(file: u32, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let part = Part {
            start: rest.as_ptr(),
            length: rest.len(),
        };
        let mut done = 0;
        check(unsafe { fd_write(file, &part, 1, &mut done) });
        rest = rest.get(done..).unwrap_or(&[]);
    }
}

fn check(error: u16) {
    if error != 0 {
        unsafe { proc_exit(EXIT_HOST) }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

//! The child of the sandboxes in this crate's tests; in a node, the `tally` binary is its own child. Also the
//! probe of the lock: `probe LAYERS ATTEMPT` locks itself and tries what a locked process must not do. Exit code
//! 0: it worked, 2: it was refused; what the lock kills has a signal instead.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use tally_sandbox::{LockLayers, lock_this_process};

fn main() -> ExitCode {
    if tally_sandbox::is_child(std::env::args_os()) {
        return tally_sandbox::child_main();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["probe", layers, attempt] = arguments[..] else {
        return ExitCode::FAILURE;
    };
    let layers = match layers {
        "locked" => Some(LockLayers::All),
        "landlock" => Some(LockLayers::LandlockOnly),
        _ => None,
    };
    if layers.is_some_and(|layers| lock_this_process(layers).is_err()) {
        return ExitCode::FAILURE;
    }
    match try_to(attempt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    }
}

fn try_to(attempt: &str) -> io::Result<()> {
    match attempt {
        "open" => std::fs::File::open("/etc/passwd").map(drop),
        "write" => std::fs::write("/tmp/tally-sandbox-probe", "x"),
        "list" => std::fs::read_dir("/").map(drop),
        "directory" => std::env::set_current_dir("/"),
        "socket" => std::net::UdpSocket::bind("127.0.0.1:0").map(drop),
        "fork" => Command::new("/bin/true").status().map(drop),
        "exec" => Err(Command::new("/bin/true").exec()),
        "thread" => std::thread::Builder::new().spawn(|| ()).map(drop),
        "kill" => Ok(rustix::process::test_kill_process(
            rustix::process::getppid().ok_or(io::ErrorKind::NotFound)?,
        )?),
        "compute" => {
            let sum: u64 = (0..1_000_000u64).map(|i| i ^ 7).sum();
            if sum > 0 {
                Ok(())
            } else {
                Err(io::ErrorKind::Other.into())
            }
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

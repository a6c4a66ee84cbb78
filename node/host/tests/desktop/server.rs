//! A real X server without a screen (`Xvfb`), and somebody at its keyboard (`xdotool`).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::bus::Process;

/// An X server.
pub(crate) struct Server {
    display: String,
    _process: Process,
}

impl Server {
    /// Starts a server on a display that is free; without one, says that the test was not run.
    pub(crate) fn start(authority: Option<&Path>) -> Option<Self> {
        let mut command = Command::new("Xvfb");
        command.args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "320x200x24",
            "-nolisten",
            "tcp",
            "-noreset",
        ]);
        if let Some(authority) = authority {
            command.arg("-auth").arg(authority);
        }
        let mut process = match command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
            Ok(process) => Process(process),
            Err(error) => {
                println!("not run: there is no Xvfb: {error}");
                return None;
            }
        };
        // It prints its number when it listens.
        let mut number = String::new();
        BufReader::new(process.0.stdout.take().unwrap())
            .read_line(&mut number)
            .unwrap();
        Some(Self {
            display: format!(":{}", number.trim()),
            _process: process,
        })
    }

    pub(crate) fn display(&self) -> String {
        self.display.clone()
    }

    pub(crate) fn has_keyboard(&self) -> bool {
        let there = Command::new("xdotool")
            .arg("version")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status();
        if let Err(error) = &there {
            println!("not run: there is no xdotool: {error}");
        }
        there.is_ok()
    }

    pub(crate) fn press_key(&self) {
        let pressed = Command::new("xdotool")
            .args(["key", "a"])
            .env("DISPLAY", &self.display)
            .status();
        assert!(pressed.unwrap().success());
    }
}

/// Returns a file with a secret for all displays, which nobody but the server knows.
pub(crate) fn authority() -> Vec<u8> {
    const ANY_FAMILY: u16 = u16::MAX;
    let mut file = ANY_FAMILY.to_be_bytes().to_vec();
    for field in [
        b"".as_slice(),
        b"",
        b"MIT-MAGIC-COOKIE-1",
        b"sixteen bytes :-",
    ] {
        file.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
        file.extend(field);
    }
    file
}

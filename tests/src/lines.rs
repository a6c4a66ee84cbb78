//! Lines that a test can cut: network namespaces of their own, joined by virtual cables. Only root may make them.
//!
//! Nothing of it is seen outside, and all of it is gone when the test ends, however that ends: each namespace lives as
//! long as a process that waits for the end of its standard input.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

/// A network namespace in which something can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// Returns what `nsenter` is told.
    #[must_use]
    pub fn as_arg(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.0)
    }
}

/// A hub, and computers that reach nothing but it, each over a line of its own.
#[derive(Debug)]
pub struct Lines {
    hub: Holder,
    ends: Vec<Holder>,
}

impl Lines {
    /// Makes so many lines; nothing if that may not be done here.
    #[must_use]
    pub fn new(count: usize) -> Option<Self> {
        let hub = Holder::new()?;
        let ends = (0..count).map(|_| Holder::new()).collect::<Option<_>>()?;
        let lines = Self { hub, ends };
        for (number, end) in lines.ends.iter().enumerate() {
            let into = end.0.id();
            lines.hub.ip(&format!(
                "link add line{number} type veth peer name line netns {into}"
            ))?;
            lines.hub.ip(&format!(
                "address add {}/24 dev line{number}",
                hub_side(number)
            ))?;
            lines.hub.ip(&format!("link set line{number} up"))?;
            end.ip(&format!("address add 10.77.{number}.2/24 dev line"))?;
            end.ip("link set line up")?;
        }
        Some(lines)
    }

    /// Returns the place of the hub.
    #[must_use]
    pub fn hub(&self) -> Place {
        self.hub.place()
    }

    /// Returns the place at the end of a line.
    #[must_use]
    pub fn end(&self, line: usize) -> Place {
        self.ends[line].place()
    }

    /// Returns where the end of a line reaches a port of the hub.
    #[must_use]
    pub fn address(&self, line: usize, port: u16) -> String {
        format!("/ip4/{}/tcp/{port}", hub_side(line))
    }

    /// Cuts a line: what is sent is lost, and nobody is told.
    ///
    /// # Panics
    /// If it can't.
    pub fn cut(&self, line: usize) {
        self.hub.ip(&format!("link set line{line} down")).unwrap();
    }

    /// Mends a line that was cut.
    ///
    /// # Panics
    /// If it can't.
    pub fn mend(&self, line: usize) {
        self.hub.ip(&format!("link set line{line} up")).unwrap();
    }
}

fn hub_side(line: usize) -> String {
    format!("10.77.{line}.1")
}

/// A process that holds a network namespace.
#[derive(Debug)]
struct Holder(Child);

impl Holder {
    fn new() -> Option<Self> {
        let mut child = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (stdin, stdout) = (child.stdin.as_mut()?, child.stdout.as_mut()?);
        // What comes back has come through the namespace's own process.
        let is_there = stdin.write_all(b"?").is_ok() && stdout.read_exact(&mut [0]).is_ok();
        let holder = Self(child);
        if !is_there {
            return None;
        }
        holder.ip("link set lo up")?;
        Some(holder)
    }

    fn place(&self) -> Place {
        Place(self.0.id())
    }

    /// Runs ip(8) in the namespace.
    fn ip(&self, words: &str) -> Option<()> {
        let mut command = Command::new("nsenter");
        command.arg(self.place().as_arg()).arg("ip");
        let status = command.args(words.split(' ')).status().ok()?;
        status.success().then_some(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

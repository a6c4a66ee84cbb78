//! `tally service`, over a `systemctl` that writes down what it is asked, and over a systemd where one can be started.
#![expect(
    clippy::print_stderr,
    reason = "whoever runs the tests should know what was left out"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says where and ends"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tally_node::owner::preferences::WHATEVER_HAPPENS;
use tally_tests::net::Net;
use tally_tests::run::{Ran, Running};

use crate::net;

/// A `systemctl` that does nothing but remember, and a `tally` that finds it.
struct Session {
    net: Net,
    unit: PathBuf,
}

impl Session {
    /// `answer` is what the script does for a question about the state.
    fn new(answer: &str) -> Self {
        let net = net();
        let script = format!(
            "#!/bin/sh\necho \"$*\" >>\"$HOME/asked\"\ncase \"$*\" in\n*show*--property=Version*) {answer} ;;\n\
             *show*) echo UnitFileState=enabled; echo ActiveState=active; echo Result=success; echo MainPID=7 ;;\nesac\n"
        );
        let path = net.write("bin/systemctl", script);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let unit = net.path(".config/systemd/user/tally.service");
        Self { net, unit }
    }

    fn run(&self, folder: &str, args: &[&str]) -> Ran {
        let mut command = self.net.tally(&["service"]);
        let folder = self.net.path(folder);
        command.args(args).arg("--json").arg("--dir").arg(folder);
        command.env("PATH", self.net.path("bin"));
        Running::start(&mut command).wait()
    }

    fn unit(&self) -> String {
        fs::read_to_string(&self.unit).unwrap()
    }

    /// Returns what systemctl was asked to do since the last time.
    fn asked(&self) -> Vec<String> {
        let path = self.net.path("asked");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        let asked = text.lines().filter(|line| !line.contains("show"));
        asked.map(str::to_owned).collect()
    }
}

#[test]
fn a_service_is_installed_once_belongs_to_its_folder_and_is_removed_whole() {
    let session = Session::new("echo 'Version=252 (252.38-1)'");
    let shown: Value = session.run("node", &["install"]).done().json();
    assert_eq!(
        (&shown["installed"], &shown["changed"]),
        (&true.into(), &true.into())
    );
    assert_eq!(
        (&shown["state"], &shown["process"]),
        (&"active".into(), &7.into())
    );
    let enabling = ["--user daemon-reload", "--user enable tally.service"];
    assert_eq!(session.asked(), enabling);
    let first = session.unit();
    let folder = session.net.path("node").canonicalize().unwrap();
    assert!(first.contains(&format!(
        " run --role terminal --dir \"{}\"",
        folder.display()
    )));
    verify(&session);
    let shown: Value = session.run("node", &["install", "--now"]).done().json();
    assert_eq!(shown["changed"], false);
    assert_eq!(session.unit(), first);
    assert_eq!(session.asked(), enabling, "it runs already");
    let other = session.run("other", &["install"]).failure();
    assert!(other.message.contains("it runs the node of"), "{other:?}");
    assert!(
        session
            .run("other", &["remove"])
            .failure()
            .hint
            .contains("--force")
    );
    assert_eq!(
        (session.unit(), session.asked()),
        (first, Vec::<String>::new())
    );
    let coordinator = ["install", "--force", "--now", "--role", "coordinator"];
    let _ = session.run("other", &coordinator).done();
    assert!(session.unit().contains("run --role coordinator --dir"));
    assert_eq!(session.asked()[2], "--user restart tally.service");
    let status: Value = session.run("other", &["status"]).done().json();
    assert_eq!(
        (&status["enabled"], &status["result"]),
        (&true.into(), &"success".into())
    );
    for changed in [true, false] {
        let removed: Value = session.run("other", &["remove"]).done().json();
        assert_eq!(
            (&removed["installed"], &removed["changed"]),
            (&false.into(), &changed.into())
        );
    }
    assert!(!session.unit.exists());
    let removing = ["--user disable --now tally.service", "--user daemon-reload"];
    assert_eq!(session.asked(), removing);
}

#[test]
fn a_unit_of_somebody_else_and_a_computer_without_systemd_are_left_alone() {
    let session = Session::new("echo 'Failed to connect to bus: No medium found' >&2; exit 1");
    let failure = session.run("node", &["install"]).failure();
    assert!(
        failure.message.contains("Failed to connect to bus"),
        "{failure:?}"
    );
    assert!(failure.hint.contains("XDG_RUNTIME_DIR"), "{failure:?}");
    assert!(!session.unit.exists());
    fs::remove_file(session.net.path("bin/systemctl")).unwrap();
    let failure = session.run("node", &["install"]).failure();
    assert!(failure.message.contains("no systemd"), "{failure:?}");
    let session = Session::new("echo Version=254");
    session
        .net
        .write(".config/systemd/user/tally.service", "[Unit]\n");
    for words in [&["install", "--force"][..], &["remove", "--force"]] {
        let failure = session.run("node", words).failure();
        assert!(
            failure.message.contains("not written by tally"),
            "{failure:?}"
        );
    }
    assert_eq!(session.unit(), "[Unit]\n");
}

#[test]
fn a_systemd_starts_it_again_after_a_crash_and_stops_it_in_order() {
    const SESSION: &str = "
tally() { \"$TALLY\" service \"$@\" --dir node --json; }
ask() { systemctl --user show tally.service --property=\"$1\" --value; }
tally install --now
pid=$(ask MainPID)
kill -KILL $pid
until [ \"$(ask NRestarts)\" = 1 ] && [ \"$(ask ActiveState)\" = active ]; do sleep 0.1; done
tally status
chrt --pid $(ask MainPID) >scheduling
systemctl --user stop tally.service
tally status
systemctl --user start tally.service
tally remove
systemctl --user list-units --all --no-legend 'tally*' >left
";
    let net = net();
    net.write("node/preferences.toml", WHATEVER_HAPPENS);
    let soon = "[Service]\nRestartSec=100ms\n";
    net.write(".config/systemd/user/tally.service.d/soon.conf", soon);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/in-systemd");
    let mut command = net.command(script);
    command.args(["bash", "-euc", SESSION]);
    command.env("TALLY", env!("CARGO_BIN_EXE_tally-under-test"));
    let ran = Running::start(&mut command).wait();
    const NOT_HERE: i32 = 77;
    if ran.status.code() == Some(NOT_HERE) {
        eprintln!("no systemd ran the service: only root may start one, and it must be installed");
        return;
    }
    let ran = ran.done();
    let shown: Vec<Value> = ran
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [installed, again, stopped, removed] = &shown[..] else {
        panic!("{shown:?}");
    };
    for running in [installed, again] {
        assert_eq!(
            (&running["state"], &running["enabled"]),
            (&"active".into(), &true.into())
        );
    }
    assert_ne!(installed["process"], again["process"]);
    assert_eq!(
        (&stopped["state"], &stopped["result"]),
        (&"inactive".into(), &"success".into())
    );
    assert_eq!(removed["installed"], false);
    let scheduling = fs::read_to_string(net.path("scheduling")).unwrap();
    assert!(scheduling.contains("SCHED_IDLE"), "{scheduling}");
    assert_eq!(fs::read_to_string(net.path("left")).unwrap(), "");
}

#[test]
fn a_node_tells_systemd_when_it_is_up() {
    let net = net();
    let path = net.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command = net.tally(&[]);
    command.env("NOTIFY_SOCKET", &path);
    let node = net.node("node", "bootstrap").loopback().start_with(command);
    let mut told = [0; 64];
    let length = socket.recv(&mut told).unwrap();
    assert_eq!(&told[..length], b"READY=1");
    assert!(node.stop().success());
}

/// Has systemd read the unit; without systemd that is not tested, and said.
fn verify(session: &Session) {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--user"]).arg(&session.unit);
    command.env("HOME", session.net.root());
    command.env("XDG_RUNTIME_DIR", session.net.root());
    match command.output() {
        Ok(verified) => {
            let said = String::from_utf8_lossy(&verified.stderr);
            assert!(
                verified.status.success() && said.trim().is_empty(),
                "{said}"
            );
        }
        Err(error) => eprintln!("the unit was not verified: systemd-analyze: {error}"),
    }
}

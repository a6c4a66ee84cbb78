//! A private D-Bus with services that only pretend (`python3-dbusmock`).

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures::StreamExt;
use zbus::{Connection, MatchRule, MessageStream, Variant};

const MOCK: &str = "org.freedesktop.DBus.Mock";
/// Debian's packages for Python belong to Debian's Python, whatever else is installed.
const PYTHON: &str = "/usr/bin/python3";

/// A bus with its daemon.
pub(crate) struct Bus {
    address: String,
    connection: Connection,
    _daemon: Process,
}

/// A service that pretends.
pub(crate) struct Mock {
    service: String,
    path: String,
    connection: Connection,
    _process: Process,
}

/// A process that ends with its handle.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Bus {
    /// Starts a daemon that listens in a folder; without one, says that the test was not run.
    pub(crate) async fn start(folder: &Path) -> Option<Self> {
        let socket = folder.join("bus");
        drop(std::fs::remove_file(&socket));
        let address = format!("unix:path={}", socket.display());
        let daemon = Command::new("dbus-daemon")
            .args([
                "--session",
                "--nofork",
                "--print-address=1",
                &format!("--address={address}"),
            ])
            .stdout(Stdio::piped())
            .spawn();
        let mut daemon = match daemon {
            Ok(daemon) => Process(daemon),
            Err(error) => {
                println!("not run: there is no dbus-daemon: {error}");
                return None;
            }
        };
        // It prints its address when it listens.
        let mut line = String::new();
        BufReader::new(daemon.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let connection = zbus::connection::Builder::address(address.as_str())
            .build()
            .await
            .unwrap();
        Some(Self {
            address,
            connection,
            _daemon: daemon,
        })
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Starts a service that pretends, and waits until it has its name.
    pub(crate) async fn mock(&self, arguments: &[&str], service: &str) -> Option<Mock> {
        let known = Command::new(PYTHON)
            .args(["-c", "import dbusmock"])
            .stderr(Stdio::null())
            .status();
        if !known.is_ok_and(|status| status.success()) {
            println!("not run: there is no python3-dbusmock");
            return None;
        }
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .add_arg(service.to_owned())
            .build()
            .unwrap();
        let mut named = MessageStream::for_match_rule(rule, &self.connection, None)
            .await
            .unwrap();
        let process = Command::new(PYTHON)
            .args(["-m", "dbusmock", "--session"])
            .args(arguments)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.address)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process(process);
        named.next().await.unwrap().unwrap();
        let path = match arguments {
            [_, path, _] => (*path).to_owned(),
            _ => format!("/{}", service.replace('.', "/")),
        };
        Some(Mock {
            service: service.to_owned(),
            path,
            connection: self.connection.clone(),
            _process: process,
        })
    }
}

impl Mock {
    /// Adds a session of this user in the foreground, and returns its path.
    pub(crate) async fn add_session(&self) -> String {
        let user = rustix::process::getuid().as_raw();
        let path = "/org/freedesktop/login1/session/c1".to_owned();
        self.call(&self.path, "AddSession", &("c1", "seat0", user, "me", true))
            .await;
        path
    }

    /// Changes a property of one of its objects.
    pub(crate) async fn set(&self, path: &str, name: &str, value: impl Into<Variant<'_>>) {
        let changed = HashMap::from([(name, value.into())]);
        self.call(
            path,
            "UpdateProperties",
            &("org.freedesktop.login1.Session", changed),
        )
        .await;
    }

    /// Adds a property to its only object.
    pub(crate) async fn add_property(&self, name: &str, value: impl Into<Variant<'_>>) {
        self.call(
            &self.path,
            "AddProperty",
            &(self.service.as_str(), name, value.into()),
        )
        .await;
    }

    /// Adds a method without arguments to its only object.
    pub(crate) async fn add_method(&self, name: &str, returns: &str, code: &str) {
        self.call(
            &self.path,
            "AddMethod",
            &(self.service.as_str(), name, "", returns, code),
        )
        .await;
    }

    async fn call<B>(&self, path: &str, name: &str, body: &B)
    where
        B: zbus::export::serde::Serialize + zbus::DynamicType,
    {
        self.connection
            .call_method(Some(self.service.as_str()), path, Some(MOCK), name, body)
            .await
            .unwrap();
    }
}

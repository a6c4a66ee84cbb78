//! This computer, which runs Linux.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::clock::{Sleep, local_time};
use crate::idle::{Around, judge, terminals, wayland, x11};
use crate::memory::memory;
use crate::processors::Processors;
use crate::programs::PROGRAMS_MAX;
use crate::watch::{Answer, Watch};
use crate::{Disk, Host, Observed, Unknown, bus, gauges};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder that has `proc`, `sys` and `dev`; another one than `/` in tests only.
    pub root: PathBuf,
    /// The folder whose disk is asked about.
    pub data_folder: PathBuf,
    /// The address of the system's D-Bus.
    pub system_bus: String,
    /// The address of the session's D-Bus, if this user may have one.
    pub session_bus: Option<String>,
    /// The name of the X11 display that the environment names, for example `:0`.
    pub x11_display: Option<String>,
    /// The socket of the Wayland compositor that the environment names.
    pub wayland_socket: Option<PathBuf>,
    /// The folder where compositors of this user have their sockets.
    pub runtime_folder: Option<PathBuf>,
}

impl Settings {
    /// Finds the buses and displays of this user by the variables of the environment, which `variable` reads.
    pub fn new(data_folder: PathBuf, variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        // A service starts without most of them, and before the desktop does: the usual places are tried as well.
        let runtime = variable("XDG_RUNTIME_DIR").map_or_else(
            || PathBuf::from(format!("/run/user/{}", rustix::process::getuid().as_raw())),
            PathBuf::from,
        );
        let session_bus = variable("DBUS_SESSION_BUS_ADDRESS")
            .unwrap_or_else(|| format!("unix:path={}", runtime.join("bus").display()));
        Self {
            root: PathBuf::from("/"),
            data_folder,
            system_bus: variable("DBUS_SYSTEM_BUS_ADDRESS")
                .unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".to_owned()),
            session_bus: Some(session_bus),
            x11_display: variable("DISPLAY"),
            wayland_socket: variable("WAYLAND_DISPLAY").map(|name| runtime.join(name)),
            runtime_folder: Some(runtime),
        }
    }
}

/// This computer.
#[derive(Debug)]
pub struct Computer {
    root: PathBuf,
    watch: Arc<Watch>,
    tasks: Vec<JoinHandle<()>>,
    processors: Processors,
    sleep: Sleep,
    start: Instant,
}

impl Computer {
    /// Starts to look. The first values are there after a fraction of a second; what is not there is tried again later.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(settings: Settings) -> Self {
        let folder = settings.data_folder.clone();
        Self::with_disk(settings, move || gauges::disk(&folder))
    }

    /// Starts to look, and asks for the disk as the caller says.
    fn with_disk(
        settings: Settings,
        disk: impl Fn() -> Result<Disk, Unknown> + Send + 'static,
    ) -> Self {
        let Settings {
            root,
            data_folder: _,
            system_bus,
            session_bus,
            x11_display,
            wayland_socket,
            runtime_folder,
        } = settings;
        let watch = Arc::new(Watch::default());
        let mut tasks = vec![tokio::spawn(bus::watch_system(
            Arc::clone(&watch),
            system_bus,
        ))];
        match session_bus {
            Some(address) => tasks.push(tokio::spawn(bus::watch_session(
                Arc::clone(&watch),
                address,
            ))),
            None => watch.seen().gnome = Err(Unknown::NoBus).into(),
        }
        let sockets = root.join("tmp/.X11-unix");
        start(&watch, "host-x11", move |watch| {
            x11::watch(watch, || {
                let named = x11_display.clone().filter(|name| x11::is_local(name));
                named.or_else(|| Some(format!(":{}", first(&sockets, "X")?)))
            });
        });
        start(&watch, "host-wayland", move |watch| {
            wayland::watch(watch, || {
                let named = wayland_socket.clone().filter(|socket| socket.exists());
                named.or_else(|| {
                    let folder = runtime_folder.as_ref()?;
                    Some(folder.join(format!("wayland-{}", first(folder, "wayland-")?)))
                })
            });
        });
        let folder = root.clone();
        start(&watch, "host-gauges", move |watch| {
            gauges::watch(watch, &folder)
        });
        start(&watch, "host-disk", move |watch| {
            gauges::watch_disk(watch, disk)
        });
        Self {
            root,
            watch,
            tasks,
            processors: Processors::default(),
            sleep: Sleep::new(),
            start: Instant::now(),
        }
    }
}

/// What a watcher sees is unknown if it cannot be started: a system that has no more threads has other sorrows.
fn start(watch: &Arc<Watch>, name: &str, run: impl FnOnce(&Arc<Watch>) + Send + 'static) {
    let watch = Arc::clone(watch);
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || run(&watch));
    drop(thread);
}

/// Watchers nest little; what they do not use is never touched.
const STACK_BYTES: usize = 256 << 10;

/// Returns the lowest number of the sockets in a folder that have a name and a number.
fn first(folder: &Path, name: &str) -> Option<u16> {
    /// More files than are ever there beside the sockets.
    const FILES_MAX: usize = 1024;
    let files = std::fs::read_dir(folder).ok()?.flatten().take(FILES_MAX);
    let number = |file: &str| file.strip_prefix(name)?.parse().ok();
    files
        .filter_map(|file| number(file.file_name().to_str()?))
        .min()
}

impl Host for Computer {
    fn observe(&mut self, own_processor_time: Duration) -> Observed {
        let proc = self.root.join("proc");
        let others_cpu = self.processors.others(&proc, own_processor_time);
        let memory = memory(&proc);
        let terminals = terminals::last_input(&self.root.join("dev"));
        let now = Instant::now();
        let around = Around {
            now,
            start: self.start,
            terminals,
        };
        let seen = self.watch.seen();
        let none_wanted = seen.programs.is_empty();
        Observed {
            idle: judge(&seen, around),
            power: seen.power.fresh(now),
            others_cpu,
            memory,
            disk: seen.disk.fresh(now),
            metered: seen.metered.fresh(now),
            running: if none_wanted {
                Ok(Vec::new())
            } else {
                seen.running.fresh(now)
            },
            local: local_time(),
            slept: self.sleep.since_last(),
        }
    }

    fn look_for(&mut self, programs: &[String]) {
        let mut seen = self.watch.seen();
        let programs = programs.get(..PROGRAMS_MAX).unwrap_or(programs);
        if seen.programs != programs {
            seen.programs = programs.to_vec();
            seen.running = Answer::default();
            self.watch.hurry();
        }
    }

    fn owner_returned(&self) -> Arc<Notify> {
        Arc::clone(&self.watch.returned)
    }
}

impl Drop for Computer {
    fn drop(&mut self) {
        self.watch.end();
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No bus and no display.
    fn nothing(root: &Path) -> Settings {
        Settings {
            root: root.to_owned(),
            data_folder: root.to_owned(),
            system_bus: format!("unix:path={}", root.join("bus").display()),
            session_bus: None,
            x11_display: None,
            wayland_socket: None,
            runtime_folder: None,
        }
    }

    #[test]
    fn a_service_without_environment_looks_in_the_usual_places() {
        let settings = Settings::new(PathBuf::from("data"), |_| None);
        let runtime = format!("/run/user/{}", rustix::process::getuid().as_raw());
        assert_eq!(settings.system_bus, "unix:path=/run/dbus/system_bus_socket");
        assert_eq!(
            settings.session_bus,
            Some(format!("unix:path={runtime}/bus"))
        );
        assert_eq!(
            (settings.wayland_socket, settings.runtime_folder),
            (None, Some(PathBuf::from(runtime)))
        );
        assert_eq!(settings.x11_display, None);

        let variables = [
            ("XDG_RUNTIME_DIR", "/r"),
            ("WAYLAND_DISPLAY", "/w/1"),
            ("DISPLAY", ":3"),
            ("HOME", ""),
        ];
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let settings = Settings::new(PathBuf::from("data"), variable);
        assert_eq!(settings.session_bus, Some("unix:path=/r/bus".to_owned()));
        assert_eq!(
            settings.wayland_socket,
            Some(PathBuf::from("/w/1")),
            "an absolute path stands for itself"
        );
        assert_eq!(settings.x11_display, Some(":3".to_owned()));
    }

    #[test]
    fn a_display_is_found_by_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(first(&folder.path().join("no"), "X"), None);
        for name in ["X12", "X5", "Xvfb", "5", "wayland-1", "wayland-0.lock"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(first(folder.path(), "X"), Some(5));
        assert_eq!(first(folder.path(), "wayland-"), Some(1));
    }

    #[tokio::test]
    async fn a_disk_that_hangs_keeps_nothing_else_waiting() {
        let root = tempfile::tempdir().unwrap();
        let (end, hangs) = std::sync::mpsc::channel();
        let mut computer = Computer::with_disk(nothing(root.path()), move || {
            hangs.recv().unwrap_or(Err(Unknown::Absent))
        });
        while computer.observe(Duration::ZERO).power.is_err() {
            assert!(computer.start.elapsed() < gauges::INTERVAL, "nobody looks");
            tokio::task::yield_now().await;
        }
        assert_eq!(
            computer.observe(Duration::ZERO).disk,
            Err(Unknown::NotYet),
            "it still hangs"
        );
        drop::<std::sync::mpsc::Sender<Result<Disk, Unknown>>>(end);
    }

    #[tokio::test]
    async fn programs_are_unknown_until_somebody_has_looked_for_them() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/7")).unwrap();
        std::fs::write(root.path().join("proc/7/comm"), "obs\n").unwrap();
        let mut computer = Computer::new(nothing(root.path()));
        let wanted: Vec<String> = (0..=PROGRAMS_MAX)
            .map(|number| format!("program-{number}"))
            .collect();
        computer.look_for(&wanted);
        assert_eq!(computer.watch.seen().programs.len(), PROGRAMS_MAX);
        computer.look_for(&["obs".to_owned()]);
        // Another list is looked for: what was found before says nothing of it.
        while computer.observe(Duration::ZERO).running == Err(Unknown::NotYet) {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            computer.observe(Duration::ZERO).running,
            Ok(vec!["obs".to_owned()])
        );
        assert!(
            computer.start.elapsed() < gauges::INTERVAL,
            "only the next look found it"
        );
        computer.look_for(&[]);
        assert_eq!(computer.observe(Duration::ZERO).running, Ok(Vec::new()));
    }
}

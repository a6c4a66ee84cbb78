//! Real buses, a real X server and a Wayland compositor, and what the host sees of them.
//!
//! The programs come from Debian's packages `dbus`, `python3-dbusmock`, `xvfb` and `xdotool`. A test that misses one says
//! that it was not run.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(
    clippy::print_stdout,
    reason = "whoever runs the tests should know what was left out"
)]

mod bus;
mod compositor;
mod server;

use std::time::{Duration, Instant};

use tally_host::{Computer, Host, Idle, Observed, Settings, Source, Unknown};
use tempfile::TempDir;

use bus::Bus;
use compositor::Compositor;
use server::Server;

/// Far more than any watcher takes to look again.
const PATIENCE: Duration = Duration::from_secs(60);

/// A computer with nothing: no bus, no display, no terminal, no kernel even.
struct Nothing {
    folder: TempDir,
}

impl Nothing {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            root: self.folder.path().to_owned(),
            data_folder: self.folder.path().to_owned(),
            system_bus: format!("unix:path={}", self.folder.path().join("no-bus").display()),
            session_bus: None,
            x11_display: None,
            wayland_socket: None,
            runtime_folder: None,
        }
    }
}

/// Looks until it sees what is expected.
async fn until(computer: &mut Computer, expected: impl Fn(&Observed) -> bool) -> Observed {
    let start = Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        looks.tick().await;
        let observed = computer.observe(Duration::ZERO);
        if expected(&observed) {
            return observed;
        }
        assert!(start.elapsed() < PATIENCE, "it saw only\n{observed}");
    }
}

fn is_idle_for(observed: &Observed, source: Source, seconds: std::ops::Range<u64>) -> bool {
    let idle = |idle: Idle| idle.source == source && seconds.contains(&idle.duration.as_secs());
    observed.idle.is_ok_and(idle)
}

/// Waits for the word that the owner is back, and returns how long that took.
async fn returned(computer: &Computer, act: impl FnOnce()) -> Duration {
    let returned = computer.owner_returned();
    let start = Instant::now();
    act();
    tokio::time::timeout(PATIENCE, returned.notified())
        .await
        .expect("nobody said that the owner is back");
    start.elapsed()
}

#[tokio::test]
async fn a_computer_with_nothing_says_why_and_has_nobody() {
    let nothing = Nothing::new();
    let mut computer = Computer::new(nothing.settings());
    let observed = until(&mut computer, |observed| {
        observed.metered == Err(Unknown::NoBus)
    })
    .await;
    assert!(is_idle_for(&observed, Source::Nobody, 0..2), "{observed}");
    assert_eq!(observed.memory, Err(Unknown::Absent));
    assert_eq!(observed.others_cpu, Err(Unknown::Absent));
    assert_eq!(observed.running, Ok(Vec::new()));
    until(&mut computer, |observed| {
        observed.disk.is_ok() && observed.power.is_ok()
    })
    .await;
}

#[tokio::test]
async fn the_login_manager_and_the_network_manager_are_asked() {
    let nothing = Nothing::new();
    let Some(bus) = Bus::start(nothing.folder.path()).await else {
        return;
    };
    let Some(logind) = bus
        .mock(&["--template", "logind"], "org.freedesktop.login1")
        .await
    else {
        return;
    };
    let network = [
        "org.freedesktop.NetworkManager",
        "/org/freedesktop/NetworkManager",
        "org.freedesktop.NetworkManager",
    ];
    let network = bus
        .mock(&network, "org.freedesktop.NetworkManager")
        .await
        .unwrap();
    network.add_property("Metered", 3_u32).await;
    let session = logind.add_session().await;
    logind.set(&session, "Type", "tty").await;
    logind
        .set(&session, "IdleSinceHintMonotonic", microseconds_ago(100))
        .await;

    let mut computer = Computer::new(Settings {
        system_bus: bus.address(),
        ..nothing.settings()
    });
    let observed = until(&mut computer, |observed| observed.metered == Ok(true)).await;
    assert!(
        is_idle_for(&observed, Source::Logind, 100..110),
        "{observed}"
    );

    // A desktop that has never told when it was used, and that nothing else sees.
    logind.set(&session, "Type", "wayland").await;
    logind.set(&session, "IdleSinceHintMonotonic", 0_u64).await;
    until(&mut computer, |observed| {
        observed.idle == Err(Unknown::Unseen)
    })
    .await;
    // It tells.
    logind.set(&session, "IdleHint", true).await;
    logind
        .set(&session, "IdleSinceHintMonotonic", microseconds_ago(300))
        .await;
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Logind, 300..330)
    })
    .await;

    // The bus goes, and comes back with nobody on it.
    drop((network, logind, bus));
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Nobody, 0..60)
    })
    .await;
    let _bus = Bus::start(nothing.folder.path()).await.unwrap();
    until(&mut computer, |observed| {
        observed.metered == Err(Unknown::NoService)
    })
    .await;
}

#[tokio::test]
async fn gnome_is_asked_and_tells_at_once_that_the_owner_is_back() {
    let nothing = Nothing::new();
    let Some(bus) = Bus::start(nothing.folder.path()).await else {
        return;
    };
    let name = "org.gnome.Mutter.IdleMonitor";
    let Some(gnome) = bus
        .mock(&[name, "/org/gnome/Mutter/IdleMonitor/Core", name], name)
        .await
    else {
        return;
    };
    gnome
        .add_method("GetIdletime", "t", "ret = dbus.UInt64(7000)")
        .await;
    // It is told as soon as it is asked for: the owner comes back at that moment.
    let fire = "self.EmitSignal('', 'WatchFired', 'u', [1]); ret = dbus.UInt32(1)";
    gnome.add_method("AddUserActiveWatch", "u", fire).await;

    let mut computer = Computer::new(Settings {
        session_bus: Some(bus.address()),
        ..nothing.settings()
    });
    let took = returned(&computer, || {}).await;
    println!("the owner's return was told after {took:?}");
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Gnome, 0..10)
    })
    .await;
    drop((gnome, bus));
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Nobody, 0..60)
    })
    .await;
}

#[tokio::test]
async fn an_x_server_is_asked_and_tells_at_once_that_the_owner_is_back() {
    let nothing = Nothing::new();
    let Some(server) = Server::start(None) else {
        return;
    };
    if !server.has_keyboard() {
        return;
    }
    let mut computer = Computer::new(Settings {
        x11_display: Some(server.display()),
        ..nothing.settings()
    });
    for _ in 0..2 {
        server.press_key();
        until(&mut computer, |observed| {
            is_idle_for(observed, Source::X11, 3..8)
        })
        .await;
        let took = returned(&computer, || server.press_key()).await;
        println!("the owner's return was told after {took:?}");
        assert!(
            took < Duration::from_secs(2),
            "that took {took:?}, so only the next question noticed"
        );
        let observed = computer.observe(Duration::ZERO);
        assert!(is_idle_for(&observed, Source::X11, 0..2), "{observed}");
    }
    drop(server);
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Nobody, 0..60)
    })
    .await;
}

#[tokio::test]
async fn an_x_server_of_somebody_else_is_never_idle() {
    let nothing = Nothing::new();
    let authority = nothing.folder.path().join("authority");
    std::fs::write(&authority, server::authority()).unwrap();
    let Some(server) = Server::start(Some(&authority)) else {
        return;
    };
    let mut computer = Computer::new(nothing.settings());
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Nobody, 0..60)
    })
    .await;
    // The socket is found although it was not there at the start.
    let sockets = nothing.folder.path().join("tmp/.X11-unix");
    std::fs::create_dir_all(&sockets).unwrap();
    std::fs::write(sockets.join(server.display().replace(':', "X")), "").unwrap();
    until(&mut computer, |observed| {
        observed.idle == Err(Unknown::Refused)
    })
    .await;
}

#[tokio::test]
async fn a_compositor_tells_when_its_owner_goes_and_comes_back() {
    let nothing = Nothing::new();
    let mut computer = Computer::new(Settings {
        runtime_folder: Some(nothing.folder.path().to_owned()),
        ..nothing.settings()
    });
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Nobody, 0..60)
    })
    .await;
    let compositor = Compositor::start(&nothing.folder.path().join("wayland-1"));
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Wayland, 0..1)
    })
    .await;
    compositor.idle();
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Wayland, 2..60)
    })
    .await;
    let took = returned(&computer, || compositor.resume()).await;
    println!("the owner's return was told after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Wayland, 0..1)
    })
    .await;
    drop(compositor);
    until(&mut computer, |observed| {
        is_idle_for(observed, Source::Nobody, 0..60)
    })
    .await;
}

/// Returns the time of the kernel's clock some seconds ago, as the login manager says it.
fn microseconds_ago(seconds: u64) -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs().saturating_sub(seconds) * 1_000_000
}

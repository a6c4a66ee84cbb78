//! A Wayland compositor that speaks `ext-idle-notify-v1`.
//!
//! It tells when there has been no input for a while, and at once when there is some again. What keeps a screen on, a film
//! for example, counts as input. A compositor that hangs keeps its thread waiting, and nobody else.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::{self, WlSeat};
use wayland_client::{Connection, Dispatch, EventQueue, QueueHandle};
use wayland_protocols::ext::idle_notify::v1::client::ext_idle_notification_v1::{
    self, ExtIdleNotificationV1,
};
use wayland_protocols::ext::idle_notify::v1::client::ext_idle_notifier_v1::{
    self, ExtIdleNotifierV1,
};

use super::{AWAY, Sight};
use crate::Unknown;
use crate::files::why;
use crate::watch::{Patience, Watch};

/// How often the thread looks whether it shall end.
const INTERVAL: Duration = Duration::from_secs(5);
/// Most seats that are watched: places to sit at, of which almost all computers have one.
const SEATS_MAX: usize = 8;

/// Watches the compositor whose socket is there, which is looked for anew each time, until the watch ends.
pub(crate) fn watch(watch: &Arc<Watch>, socket: impl Fn() -> Option<PathBuf>) {
    let mut patience = Patience::new();
    loop {
        let found = socket().ok_or(Unknown::Absent);
        let why = match found.and_then(|socket| follow(watch, &socket)) {
            Ok(()) => {
                patience = Patience::new();
                Unknown::Absent
            }
            Err(why) => why,
        };
        watch.seen().wayland = Err(why).into();
        if !watch.rest(patience.next()) {
            return;
        }
    }
}

/// Listens until the compositor goes, or the watch ends.
fn follow(watch: &Arc<Watch>, socket: &Path) -> Result<(), Unknown> {
    let stream = UnixStream::connect(socket).map_err(|error| why(error.kind()))?;
    let server = Connection::from_socket(stream).map_err(|_| Unknown::Unreadable)?;
    let mut queue = server.new_event_queue();
    server.display().get_registry(&queue.handle(), ());
    let mut desktop = Desktop {
        watch: Arc::clone(watch),
        seats: Vec::new(),
        notifier: None,
        away: 0,
    };
    // First what there is, then what was asked of it.
    queue.roundtrip(&mut desktop).map_err(|_| Unknown::Silent)?;
    let notifier = desktop
        .notifier
        .clone()
        .filter(|_| !desktop.seats.is_empty())
        .ok_or(Unknown::Unseen)?;
    let milliseconds = u32::try_from(AWAY.as_millis()).unwrap_or(u32::MAX);
    for seat in &desktop.seats {
        notifier.get_idle_notification(milliseconds, seat, &queue.handle(), ());
    }
    queue.roundtrip(&mut desktop).map_err(|_| Unknown::Silent)?;
    desktop.tell();
    while watch.rest(Duration::ZERO) {
        if listen(&mut queue, &mut desktop).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Takes what has come, or waits a little for more.
fn listen(queue: &mut EventQueue<Desktop>, desktop: &mut Desktop) -> Result<(), Lost> {
    queue.dispatch_pending(desktop).map_err(|_| Lost)?;
    queue.flush().map_err(|_| Lost)?;
    let Some(guard) = queue.prepare_read() else {
        return Ok(());
    };
    let time = Timespec::try_from(INTERVAL).map_err(|_| Lost)?;
    let ready = {
        let mut sockets = [PollFd::from_borrowed_fd(
            guard.connection_fd(),
            PollFlags::IN,
        )];
        poll(&mut sockets, Some(&time))
    };
    match ready {
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
        Ok(_) => match guard.read() {
            Ok(_) => Ok(()),
            Err(wayland_client::backend::WaylandError::Io(error))
                if error.kind() == ErrorKind::WouldBlock =>
            {
                Ok(())
            }
            Err(_) => Err(Lost),
        },
        Err(_) => Err(Lost),
    }
}

/// The compositor has gone.
struct Lost;

/// What a compositor has shown so far.
struct Desktop {
    watch: Arc<Watch>,
    seats: Vec<WlSeat>,
    notifier: Option<ExtIdleNotifierV1>,
    /// Seats that nobody uses.
    away: usize,
}

impl Desktop {
    fn tell(&self) {
        let all_away = self.away > 0 && self.away >= self.seats.len();
        let since = || Instant::now().checked_sub(AWAY).map(Sight::Since);
        let sight = if all_away {
            since().unwrap_or(Sight::Active)
        } else {
            Sight::Active
        };
        self.watch.seen().wayland = Ok(sight).into();
    }
}

impl Dispatch<WlRegistry, ()> for Desktop {
    fn event(
        desktop: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        (): &(),
        _: &Connection,
        queue: &QueueHandle<Self>,
    ) {
        let wl_registry::Event::Global {
            name, interface, ..
        } = event
        else {
            return;
        };
        match interface.as_str() {
            "wl_seat" if desktop.seats.len() < SEATS_MAX => {
                desktop.seats.push(registry.bind(name, 1, queue, ()))
            }
            "ext_idle_notifier_v1" => desktop.notifier = Some(registry.bind(name, 1, queue, ())),
            _ => {}
        }
    }
}

impl Dispatch<ExtIdleNotificationV1, ()> for Desktop {
    fn event(
        desktop: &mut Self,
        _: &ExtIdleNotificationV1,
        event: ext_idle_notification_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            ext_idle_notification_v1::Event::Idled => {
                desktop.away = desktop.away.saturating_add(1);
                desktop.tell();
            }
            ext_idle_notification_v1::Event::Resumed => {
                desktop.away = desktop.away.saturating_sub(1);
                desktop.tell();
                desktop.watch.owner_returned();
            }
            // A later version may say more.
            _ => {}
        }
    }
}

impl Dispatch<WlSeat, ()> for Desktop {
    fn event(
        _: &mut Self,
        _: &WlSeat,
        _: wl_seat::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

impl Dispatch<ExtIdleNotifierV1, ()> for Desktop {
    fn event(
        _: &mut Self,
        _: &ExtIdleNotifierV1,
        _: ext_idle_notifier_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

//! An X11 display, which counts the time since the last input itself.
//!
//! It is asked every few seconds. Between, an alarm of the server (`SYNC`, counter `IDLETIME`) tells at once when an owner
//! who was away is back. The display of a compositor (`Xwayland`) sees only what its own windows get.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use x11rb::connection::{Connection, RequestConnection};
use x11rb::errors::ConnectError;
use x11rb::protocol::Event;
use x11rb::protocol::screensaver::{self, ConnectionExt as _};
use x11rb::protocol::sync::{self, ConnectionExt as _, CreateAlarmAux, Int64, TESTTYPE, VALUETYPE};
use x11rb::protocol::xproto::{ConnectionExt as _, Window};
use x11rb::rust_connection::RustConnection;

use super::{AWAY, Sight, Surface};
use crate::Unknown;
use crate::files::why;
use crate::watch::{Patience, Watch};

/// How often the display is asked where it does not tell.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often it is asked where it tells.
const INTERVAL_WITH_ALARM: Duration = Duration::from_secs(5);

/// Watches the display in the foreground until the watch ends. `named` is the one that the environment names, or whose
/// socket is there now; what the login manager says goes before.
pub(crate) fn watch(watch: &Arc<Watch>, named: impl Fn() -> Option<String>) {
    let mut patience = Patience::new();
    loop {
        let named = named();
        let named = named.as_deref();
        let seen = match wanted(watch, named) {
            Some(name) => match Display::open(&name) {
                Ok(display) => {
                    patience = Patience::new();
                    match display.follow(watch, || wanted(watch, named).as_ref() == Some(&name)) {
                        Ok(()) => Err(Unknown::NotYet),
                        Err(_) => Err(Unknown::Absent),
                    }
                }
                Err(why) => Err(why),
            },
            None => Err(Unknown::Absent),
        };
        watch.seen().x11 = seen.into();
        let wait = if seen == Err(Unknown::NotYet) {
            Duration::ZERO
        } else {
            patience.next()
        };
        if !watch.rest(wait) {
            return;
        }
    }
}

/// Returns the name of the display to watch, if it is on this computer.
fn wanted(watch: &Watch, named: Option<&str>) -> Option<String> {
    let foreground = {
        let seen = watch.seen();
        let sessions = seen.sessions.fresh(Instant::now());
        sessions
            .into_iter()
            .flatten()
            .filter(|session| session.own)
            .find_map(|session| match session.surface {
                Surface::X11(name) => Some(name),
                Surface::Text | Surface::Other | Surface::Greeter => None,
            })
    };
    let name = foreground
        .filter(|name| is_local(name))
        .or_else(|| named.map(str::to_owned))?;
    is_local(&name).then_some(name)
}

/// A display with the name of a host belongs to another computer, and so does whoever sits there. Displays have numbers, to
/// which servers add 6000 for a port.
pub(crate) fn is_local(name: &str) -> bool {
    const NUMBER_MAX: u16 = u16::MAX - 6000;
    let number = name
        .strip_prefix(':')
        .or_else(|| name.strip_prefix("unix:"));
    let number = number.map(|number| number.split('.').next().unwrap_or(number));
    number
        .and_then(|number| number.parse().ok())
        .is_some_and(|number: u16| number <= NUMBER_MAX)
}

struct Display {
    server: RustConnection,
    root: Window,
    /// Whether it lies inside a compositor.
    nested: bool,
    /// Whether it tells when the owner is back.
    has_alarm: bool,
}

impl Display {
    fn open(name: &str) -> Result<Self, Unknown> {
        let (server, screen) =
            RustConnection::connect(Some(name)).map_err(|error| refused(&error))?;
        let root = server
            .setup()
            .roots
            .get(screen)
            .ok_or(Unknown::Unreadable)?
            .root;
        let has_idle_time = server.extension_information(screensaver::X11_EXTENSION_NAME);
        if has_idle_time.map_err(|_| Unknown::Absent)?.is_none() {
            return Err(Unknown::Unseen);
        }
        let nested = server
            .query_extension(b"XWAYLAND")
            .ok()
            .and_then(|cookie| cookie.reply().ok());
        let nested = nested.is_some_and(|reply| reply.present);
        let has_alarm = set_alarm(&server).is_some();
        Ok(Self {
            server,
            root,
            nested,
            has_alarm,
        })
    }

    /// Asks again and again, as long as the display is wanted.
    fn follow(&self, watch: &Watch, wanted: impl Fn() -> bool) -> Result<(), Lost> {
        let mut before = Instant::now();
        while wanted() {
            let last_input = Instant::now().checked_sub(self.idle()?).ok_or(Lost)?;
            watch.seen().x11 = Ok(self.sight(last_input)).into();
            if !self.has_alarm && last_input.saturating_duration_since(before) >= AWAY {
                watch.owner_returned();
            }
            before = last_input;
            // An alarm that came with the answer may be newer than it.
            match self.server.poll_for_event()? {
                Some(Event::SyncAlarmNotify(_)) => {
                    watch.seen().x11 = Ok(self.sight(Instant::now())).into();
                    watch.owner_returned();
                }
                Some(_) => {}
                None => self.wait()?,
            }
            if !watch.rest(Duration::ZERO) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn sight(&self, last_input: Instant) -> Sight {
        if self.nested {
            Sight::PartSince(last_input)
        } else {
            Sight::Since(last_input)
        }
    }

    fn idle(&self) -> Result<Duration, Lost> {
        let reply = self.server.screensaver_query_info(self.root)?.reply()?;
        Ok(Duration::from_millis(reply.ms_since_user_input.into()))
    }

    /// Waits for the alarm, for the end of the connection, or until it is time to ask again.
    fn wait(&self) -> Result<(), Lost> {
        let mut sockets = [PollFd::new(self.server.stream(), PollFlags::IN)];
        let interval = if self.has_alarm {
            INTERVAL_WITH_ALARM
        } else {
            INTERVAL
        };
        let time = Timespec::try_from(interval).map_err(|_| Lost)?;
        match poll(&mut sockets, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(_) => Err(Lost),
        }
    }
}

/// Has the server tell when an owner who was away is back; `None` where it cannot.
fn set_alarm(server: &RustConnection) -> Option<()> {
    server
        .extension_information(sync::X11_EXTENSION_NAME)
        .ok()??;
    server.sync_initialize(3, 1).ok()?.reply().ok()?;
    let counters = server
        .sync_list_system_counters()
        .ok()?
        .reply()
        .ok()?
        .counters;
    let idle = counters
        .into_iter()
        .find(|counter| counter.name == b"IDLETIME")?;
    let alarm = CreateAlarmAux::new()
        .counter(idle.counter)
        .value_type(VALUETYPE::ABSOLUTE)
        .value(Int64 {
            hi: 0,
            lo: u32::try_from(AWAY.as_millis()).ok()?,
        })
        .test_type(TESTTYPE::NEGATIVE_TRANSITION)
        .delta(Int64 { hi: 0, lo: 0 })
        .events(1);
    server
        .sync_create_alarm(server.generate_id().ok()?, &alarm)
        .ok()?
        .check()
        .ok()
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the list of the library is open"
)]
fn refused(error: &ConnectError) -> Unknown {
    match error {
        ConnectError::SetupAuthenticate(_) | ConnectError::SetupFailed(_) => Unknown::Refused,
        ConnectError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Unknown::Refused
        }
        ConnectError::IoError(error) => why(error.kind()),
        _ => Unknown::Unreadable,
    }
}

/// The display has gone.
struct Lost;

impl From<x11rb::errors::ConnectionError> for Lost {
    fn from(_: x11rb::errors::ConnectionError) -> Self {
        Self
    }
}

impl From<x11rb::errors::ReplyError> for Lost {
    fn from(_: x11rb::errors::ReplyError) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::Session;

    #[test]
    fn the_display_in_the_foreground_goes_before_the_named_one() {
        let watch = Watch::default();
        assert_eq!(wanted(&watch, None), None);
        assert_eq!(
            wanted(&watch, Some("localhost:10.0")),
            None,
            "it belongs to who came by ssh"
        );
        for name in ["", ":", ":65000", ":x", "/tmp/socket"] {
            assert_eq!(wanted(&watch, Some(name)), None, "{name}");
        }
        assert_eq!(wanted(&watch, Some(":1")), Some(":1".to_owned()));
        assert_eq!(
            wanted(&watch, Some("unix:1.0")),
            Some("unix:1.0".to_owned())
        );
        let session = |own| Session {
            surface: Surface::X11(":0".to_owned()),
            own,
            input: None,
        };
        watch.seen().sessions = Ok(vec![session(false)]).into();
        assert_eq!(wanted(&watch, Some(":1")), Some(":1".to_owned()));
        watch.seen().sessions = Ok(vec![session(true)]).into();
        assert_eq!(wanted(&watch, Some(":1")), Some(":0".to_owned()));
    }

    #[test]
    fn a_display_that_is_not_there_is_absent() {
        assert_eq!(Display::open(":59000").err(), Some(Unknown::Absent));
    }
}

//! How long nobody has used the computer.
//!
//! Several sources see input; the most recent input counts, whoever saw it. Terminals and displays of all people count:
//! whoever sits there should not notice us. What always holds: a desktop in the foreground that no source can see makes the
//! answer unknown, and never idle. A computer with neither a session nor a terminal is idle since this program started.

pub(crate) mod gnome;
pub(crate) mod logind;
pub(crate) mod terminals;
pub(crate) mod wayland;
pub(crate) mod x11;

use std::time::Instant;

use crate::watch::Seen;
use crate::{Idle, Source, Unknown};

/// An owner who does nothing for so long is away, and who then does something has returned.
pub(crate) const AWAY: std::time::Duration = std::time::Duration::from_secs(2);

/// What a display says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// There is input now and again.
    Active,
    /// There has been none since.
    Since(Instant),
    /// As `Since`, but this display lies inside another one, and sees only a part of the input.
    PartSince(Instant),
}

impl Sight {
    fn last_input(self, now: Instant) -> Instant {
        match self {
            Self::Active => now,
            Self::Since(at) | Self::PartSince(at) => at,
        }
    }

    /// Whether it sees all input of its desktop.
    fn is_whole(self) -> bool {
        match self {
            Self::Active | Self::Since(_) => true,
            Self::PartSince(_) => false,
        }
    }
}

/// Somebody who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) surface: Surface,
    /// Whether it belongs to the user whom this process runs as.
    pub(crate) own: bool,
    /// The last input that the login manager knows of.
    pub(crate) input: Option<Sight>,
}

/// What a session shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    /// A terminal, here or over the network.
    Text,
    /// A desktop of X11 in the foreground, with the name of its display.
    X11(String),
    /// A desktop of another kind in the foreground.
    Other,
    /// The screen to log in at, in the foreground: nobody sits there, and its display refuses everybody.
    Greeter,
}

/// What is known beside the answers of watchers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) now: Instant,
    /// When this program started to look.
    pub(crate) start: Instant,
    /// The last input at a terminal.
    pub(crate) terminals: Option<Instant>,
}

/// Says how long nobody has used the computer.
pub(crate) fn judge(seen: &Seen, around: Around) -> Result<Idle, Unknown> {
    let Around {
        now,
        start,
        terminals,
    } = around;
    let displays = Displays {
        x11: seen.x11.fresh(now),
        wayland: seen.wayland.last(),
        gnome: seen.gnome.fresh(now),
    };
    let sessions = seen.sessions.fresh(now);
    if let Some(why) = unseen(&sessions, displays) {
        return Err(why);
    }
    // What a display sees is exact; desktops tell the login manager only after minutes.
    let sessions = sessions
        .iter()
        .flatten()
        .filter(|session| !displays.see(session));
    let sessions =
        sessions.filter_map(|session| Some((session.input?.last_input(now), Source::Logind)));
    let terminals = terminals.map(|at| (at, Source::Terminal));
    let inputs = displays.inputs(now).chain(sessions).chain(terminals);
    let (at, source) = inputs
        .max_by_key(|(at, _)| *at)
        .unwrap_or((start, Source::Nobody));
    Ok(Idle {
        duration: now.saturating_duration_since(at),
        source,
    })
}

/// What the displays of this user say.
#[derive(Clone, Copy, Debug)]
struct Displays {
    x11: Result<Sight, Unknown>,
    wayland: Result<Sight, Unknown>,
    gnome: Result<Sight, Unknown>,
}

impl Displays {
    fn inputs(self, now: Instant) -> impl Iterator<Item = (Instant, Source)> {
        let all = [
            (self.x11, Source::X11),
            (self.wayland, Source::Wayland),
            (self.gnome, Source::Gnome),
        ];
        all.into_iter()
            .filter_map(move |(sight, source)| Some((sight.ok()?.last_input(now), source)))
    }

    /// Whether all input of a session is seen.
    fn see(self, session: &Session) -> bool {
        session.own
            && match session.surface {
                Surface::X11(_) => self.whole_x11().is_ok(),
                Surface::Other => self.compositor_is_seen(),
                Surface::Text | Surface::Greeter => false,
            }
    }

    fn compositor_is_seen(self) -> bool {
        self.wayland.is_ok() || self.gnome.is_ok()
    }

    fn whole_x11(self) -> Result<Sight, Unknown> {
        self.x11.and_then(|sight| {
            if sight.is_whole() {
                Ok(sight)
            } else {
                Err(Unknown::Unseen)
            }
        })
    }
}

/// Returns why the input of a desktop in the foreground cannot be seen, if there is such a desktop.
fn unseen(sessions: &Result<Vec<Session>, Unknown>, displays: Displays) -> Option<Unknown> {
    match sessions {
        Err(Unknown::NotYet) => Some(Unknown::NotYet),
        Ok(sessions) if sessions.iter().any(|one| one.surface != Surface::Text) => {
            sessions.iter().find_map(|session| match &session.surface {
                Surface::Text | Surface::Greeter => None,
                Surface::X11(_) | Surface::Other
                    if session.input.is_some() || displays.see(session) =>
                {
                    None
                }
                Surface::X11(_) if session.own => displays.whole_x11().err(),
                // Of a desktop of somebody else, only the login manager could tell.
                Surface::X11(_) | Surface::Other => Some(Unknown::Unseen),
            })
        }
        // The login manager knows of no desktop, as of one that was started from a console: displays that are there have to
        // be seen. The socket of a display that does not answer was left behind.
        Ok(_) | Err(_) if displays.compositor_is_seen() => None,
        Ok(_) | Err(_) => [displays.whole_x11().err(), displays.wayland.err()]
            .into_iter()
            .flatten()
            .find(|why| *why != Unknown::Absent),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::watch::Answer;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn around(now: Instant) -> Around {
        Around {
            now,
            start: now - seconds(500),
            terminals: None,
        }
    }

    /// Nobody has logged in and no display is there.
    fn empty() -> Seen {
        let mut seen = Seen {
            sessions: Ok(Vec::new()).into(),
            ..Seen::default()
        };
        seen.x11 = Err(Unknown::Absent).into();
        seen.wayland = Err(Unknown::Absent).into();
        seen.gnome = Err(Unknown::NoService).into();
        seen
    }

    fn session(surface: Surface, input: Option<Sight>) -> Session {
        Session {
            surface,
            own: true,
            input,
        }
    }

    fn x11() -> Surface {
        Surface::X11(":0".to_owned())
    }

    fn told(seen: &Seen, around: Around) -> Result<(u64, Source), Unknown> {
        judge(seen, around).map(|idle| (idle.duration.as_secs(), idle.source))
    }

    #[test]
    fn where_there_is_no_session_and_no_terminal_nobody_sits() {
        let now = Instant::now();
        assert_eq!(told(&empty(), around(now)), Ok((500, Source::Nobody)));
        let mut seen = empty();
        seen.sessions = Err(Unknown::NoBus).into();
        assert_eq!(told(&seen, around(now)), Ok((500, Source::Nobody)));
        let with_terminal = Around {
            terminals: Some(now - seconds(9000)),
            ..around(now)
        };
        assert_eq!(told(&seen, with_terminal), Ok((9000, Source::Terminal)));
    }

    #[test]
    fn the_most_recent_input_counts_whoever_saw_it() {
        let now = Instant::now();
        let ago = |time| now - seconds(time);
        let mut seen = empty();
        seen.sessions = Ok(vec![
            session(Surface::Text, Some(Sight::Since(ago(40)))),
            session(x11(), Some(Sight::Since(ago(900)))),
        ])
        .into();
        let mut around = Around {
            terminals: Some(ago(50)),
            ..around(now)
        };
        assert_eq!(told(&seen, around), Ok((40, Source::Logind)));
        seen.x11 = Ok(Sight::Since(ago(30))).into();
        assert_eq!(told(&seen, around), Ok((30, Source::X11)));
        around.terminals = Some(ago(20));
        assert_eq!(told(&seen, around), Ok((20, Source::Terminal)));
        seen.gnome = Ok(Sight::Since(ago(10))).into();
        assert_eq!(told(&seen, around), Ok((10, Source::Gnome)));
        seen.wayland = Ok(Sight::Active).into();
        assert_eq!(told(&seen, around), Ok((0, Source::Wayland)));
    }

    #[test]
    fn a_desktop_that_nobody_can_see_is_never_idle() {
        let now = Instant::now();
        let since = Ok(Sight::Since(now - seconds(70)));
        let mut seen = empty();
        seen.sessions = Ok(vec![session(x11(), None)]).into();
        seen.x11 = Err(Unknown::Refused).into();
        assert_eq!(told(&seen, around(now)), Err(Unknown::Refused));
        seen.x11 = since.into();
        assert_eq!(told(&seen, around(now)), Ok((70, Source::X11)));

        seen.sessions = Ok(vec![session(Surface::Other, Some(Sight::Active))]).into();
        assert_eq!(
            told(&seen, around(now)),
            Ok((0, Source::Logind)),
            "the desktop has told the login manager"
        );

        seen.sessions = Ok(vec![session(Surface::Other, None)]).into();
        assert_eq!(
            told(&seen, around(now)),
            Err(Unknown::Unseen),
            "X11 does not see a desktop of Wayland"
        );
        seen.gnome = Ok(Sight::Since(now - seconds(60))).into();
        assert_eq!(told(&seen, around(now)), Ok((60, Source::Gnome)));

        let other = Session {
            own: false,
            ..session(Surface::Other, None)
        };
        seen.sessions = Ok(vec![other]).into();
        assert_eq!(
            told(&seen, around(now)),
            Err(Unknown::Unseen),
            "somebody else's desktop"
        );
    }

    #[test]
    fn a_display_inside_another_one_is_no_proof_of_rest() {
        let now = Instant::now();
        let mut seen = empty();
        seen.sessions = Err(Unknown::NoService).into();
        seen.x11 = Ok(Sight::PartSince(now - seconds(70))).into();
        let around = around(now);
        assert_eq!(told(&seen, around), Err(Unknown::Unseen));
        seen.wayland = Ok(Sight::Since(now - seconds(80))).into();
        assert_eq!(told(&seen, around), Ok((70, Source::X11)));
    }

    #[test]
    fn without_a_login_manager_a_display_has_to_be_seen() {
        let now = Instant::now();
        let mut seen = empty();
        seen.sessions = Err(Unknown::NoBus).into();
        let around = around(now);
        seen.x11 = Err(Unknown::Refused).into();
        assert_eq!(told(&seen, around), Err(Unknown::Refused));
        seen.x11 = Err(Unknown::Absent).into();
        assert_eq!(
            told(&seen, around),
            Ok((500, Source::Nobody)),
            "only its socket is left"
        );
    }

    #[test]
    fn a_desktop_that_was_started_from_a_console_has_to_be_seen() {
        let now = Instant::now();
        let console = session(Surface::Text, Some(Sight::Since(now - seconds(900))));
        let mut seen = empty();
        seen.sessions = Ok(vec![console.clone()]).into();
        seen.x11 = Err(Unknown::Refused).into();
        assert_eq!(told(&seen, around(now)), Err(Unknown::Refused));
        seen.x11 = Ok(Sight::Since(now - seconds(70))).into();
        assert_eq!(told(&seen, around(now)), Ok((70, Source::X11)));
        seen.x11 = Err(Unknown::Absent).into();
        seen.wayland = Err(Unknown::Unseen).into();
        assert_eq!(told(&seen, around(now)), Err(Unknown::Unseen));
        seen.wayland = Err(Unknown::Absent).into();
        assert_eq!(told(&seen, around(now)), Ok((900, Source::Logind)));
        seen.sessions = Ok(vec![console, session(Surface::Greeter, None)]).into();
        seen.x11 = Err(Unknown::Refused).into();
        assert_eq!(
            told(&seen, around(now)),
            Ok((900, Source::Logind)),
            "the display is the greeter's"
        );
    }

    #[test]
    fn before_the_login_manager_has_answered_nothing_is_known() {
        let seen = Seen {
            sessions: Answer::default(),
            ..empty()
        };
        assert_eq!(told(&seen, around(Instant::now())), Err(Unknown::NotYet));
    }
}

//! The login manager: who has logged in, and what desktops tell it of their owner.
//!
//! For a text session it reads the terminal itself. Of a desktop it knows what the desktop told it, which many never do;
//! one that has never told anything has no time of its last input here. Sessions in the background are left out:
//! nobody sits there. Nor does anybody at a greeter.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use super::{Session, Sight, Surface};
use crate::bus::{Method, call};
use crate::{Unknown, clock};

const SERVICE: &str = "org.freedesktop.login1";
/// Most sessions that are asked about, each of which is a question over the bus.
const SESSIONS_MAX: usize = 32;

/// Asks who has logged in.
pub(crate) async fn sessions(bus: &Connection) -> Result<Vec<Session>, Unknown> {
    let method = Method {
        service: SERVICE,
        path: "/org/freedesktop/login1",
        interface: "org.freedesktop.login1.Manager",
        name: "ListSessions",
    };
    let answer = call(bus, method, &()).await?;
    let listed: Vec<(String, u32, String, String, OwnedObjectPath)> =
        answer.deserialize().map_err(|_| Unknown::Unreadable)?;
    let own = rustix::process::getuid().as_raw();
    let mut sessions = Vec::new();
    for (_, user, _, _, path) in listed.into_iter().take(SESSIONS_MAX) {
        // A session that has ended meanwhile is none.
        if let Ok(properties) = properties(bus, path.as_str()).await {
            sessions.extend(session(&properties, user == own));
        }
    }
    Ok(sessions)
}

type Properties = HashMap<String, OwnedVariant>;

async fn properties(bus: &Connection, path: &str) -> Result<Properties, Unknown> {
    let method = Method {
        service: SERVICE,
        path,
        interface: "org.freedesktop.DBus.Properties",
        name: "GetAll",
    };
    let answer = call(bus, method, &"org.freedesktop.login1.Session").await?;
    answer.deserialize().map_err(|_| Unknown::Unreadable)
}

fn session(properties: &Properties, own: bool) -> Option<Session> {
    let text = |name: &str| {
        properties
            .get(name)
            .and_then(|value| <&str>::try_from(value).ok())
            .unwrap_or_default()
    };
    let state = text("State");
    let class = text("Class");
    let is_greeter = class == "greeter";
    if !(is_greeter || class.starts_with("user")) || state == "closing" {
        return None;
    }
    let surface = match text("Type") {
        "x11" | "wayland" if is_greeter && state == "active" => {
            return Some(Session {
                surface: Surface::Greeter,
                own,
                input: None,
            });
        }
        _ if is_greeter => return None,
        "tty" => Surface::Text,
        "x11" | "wayland" | "mir" if state != "active" => return None,
        "x11" => Surface::X11(text("Display").to_owned()),
        "wayland" | "mir" => Surface::Other,
        _ => return None,
    };
    let since = properties
        .get("IdleSinceHintMonotonic")
        .and_then(|value| u64::try_from(value).ok());
    let hint = properties
        .get("IdleHint")
        .and_then(|value| bool::try_from(value).ok())
        .unwrap_or(false);
    let input = since.filter(|since| *since > 0).and_then(|since| {
        if surface != Surface::Text && !hint {
            // The desktop has told of an idle owner before, and tells that this one is not.
            return Some(Sight::Active);
        }
        let ago = clock::awake().saturating_sub(Duration::from_micros(since));
        Instant::now().checked_sub(ago).map(Sight::Since)
    });
    Some(Session {
        surface,
        own,
        input,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session as the login manager describes it, last changed a hundred seconds ago if at all.
    fn described(fields: [&str; 4], hint: bool, changed: bool) -> Option<Session> {
        let names = ["Class", "Type", "State", "Display"];
        let text = names
            .into_iter()
            .zip(fields)
            .map(|(name, value)| (name.to_owned(), variant(value)));
        let mut properties: Properties = text.collect();
        properties.insert("IdleHint".to_owned(), variant(hint));
        let ago = Duration::from_secs(100);
        let since = if changed {
            clock::awake().saturating_sub(ago)
        } else {
            Duration::ZERO
        };
        let since = u64::try_from(since.as_micros()).unwrap();
        properties.insert("IdleSinceHintMonotonic".to_owned(), variant(since));
        session(&properties, true)
    }

    fn variant<'a>(value: impl Into<zbus::Variant<'a>>) -> OwnedVariant {
        OwnedVariant::try_from(value.into()).unwrap()
    }

    fn seconds(session: Option<Session>) -> Option<u64> {
        match session.unwrap().input? {
            Sight::Since(at) => Some(at.elapsed().as_secs()),
            Sight::Active => Some(0),
            Sight::PartSince(_) => panic!("no part"),
        }
    }

    #[test]
    fn a_text_session_is_as_idle_as_its_terminal() {
        assert_eq!(
            seconds(described(["user", "tty", "active", ""], false, true)),
            Some(100)
        );
        assert_eq!(
            seconds(described(["user", "tty", "online", ""], true, true)),
            Some(100)
        );
        assert_eq!(
            seconds(described(["user", "tty", "active", ""], false, false)),
            None
        );
    }

    #[test]
    fn a_desktop_is_believed_only_if_it_ever_told() {
        let x11 = ["user", "x11", "active", ":0"];
        assert_eq!(seconds(described(x11, true, true)), Some(100));
        assert_eq!(seconds(described(x11, false, true)), Some(0));
        assert_eq!(seconds(described(x11, false, false)), None);
        assert_eq!(
            described(x11, false, false).unwrap().surface,
            Surface::X11(":0".to_owned())
        );
        let wayland = described(["user-early", "wayland", "active", ""], false, false).unwrap();
        assert_eq!(wayland.surface, Surface::Other);
    }

    #[test]
    fn nobody_sits_at_a_greeter_or_in_the_background() {
        for fields in [
            ["greeter", "tty", "active", ""],
            ["greeter", "wayland", "online", ""],
            ["user", "wayland", "online", ""],
            ["user", "x11", "closing", ":0"],
            ["user", "tty", "closing", ""],
            ["manager", "unspecified", "active", ""],
            ["user", "unspecified", "active", ""],
        ] {
            assert_eq!(described(fields, false, false), None, "{fields:?}");
        }
        let greeter = described(["greeter", "wayland", "active", ""], true, true).unwrap();
        assert_eq!((greeter.surface, greeter.input), (Surface::Greeter, None));
    }
}

//! D-Bus: the login manager and the network manager on the system's bus, GNOME on the session's.
//!
//! One connection to each bus, asked slowly and made anew, later and later, when it is lost.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use zbus::Connection;
use zbus::connection::Builder;
use zbus::message::Body;

use crate::Unknown;
use crate::files::why;
use crate::idle::{gnome, logind};
use crate::watch::{Patience, Watch};

/// How often a bus is asked.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// The network is asked every so many intervals: it changes when somebody travels.
const NETWORK_INTERVALS: u32 = 6;
/// A service that does not answer for so long has hung.
const ANSWER: Duration = Duration::from_secs(10);

/// Asks the system's bus for ever.
pub(crate) async fn watch_system(watch: Arc<Watch>, address: String) {
    let mut patience = Patience::new();
    loop {
        match connect(&address).await {
            Ok(bus) => {
                patience = Patience::new();
                ask_system(&watch, &bus).await;
            }
            Err(why) => {
                let mut seen = watch.seen();
                seen.sessions = Err(why).into();
                seen.metered = Err(why).into();
            }
        }
        sleep(patience.next()).await;
    }
}

/// Asks until the bus has gone.
async fn ask_system(watch: &Watch, bus: &Connection) {
    for turn in (0..NETWORK_INTERVALS).cycle() {
        let sessions = logind::sessions(bus).await;
        watch.seen().sessions = sessions.into();
        if turn == 0 {
            let metered = metered(bus).await;
            watch.seen().metered = metered.into();
        }
        sleep(INTERVAL).await;
        if bus.is_closed() {
            return;
        }
    }
}

/// Asks the bus of the user's session for ever.
pub(crate) async fn watch_session(watch: Arc<Watch>, address: String) {
    let mut patience = Patience::new();
    loop {
        let why = match connect(&address).await {
            Ok(bus) => gnome::ask(&watch, &bus).await,
            Err(why) => why,
        };
        // It was there, and may be back soon.
        if watch.seen().gnome.last().is_ok() {
            patience = Patience::new();
        }
        watch.seen().gnome = Err(why).into();
        sleep(patience.next()).await;
    }
}

async fn connect(address: &str) -> Result<Connection, Unknown> {
    let connect = Builder::address(address).method_timeout(ANSWER).build();
    answer(connect).await.map_err(|why| {
        if why == Unknown::Absent {
            Unknown::NoBus
        } else {
            why
        }
    })
}

/// Calls a method and returns what it answers.
pub(crate) async fn call<B>(bus: &Connection, method: Method<'_>, body: &B) -> Result<Body, Unknown>
where
    B: zbus::export::serde::Serialize + zbus::DynamicType,
{
    let Method {
        service,
        path,
        interface,
        name,
    } = method;
    let message = answer(bus.call_method(Some(service), path, Some(interface), name, body)).await?;
    Ok(message.body())
}

/// A method of a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method<'a> {
    pub(crate) service: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) name: &'a str,
}

async fn answer<T>(asked: impl Future<Output = zbus::Result<T>>) -> Result<T, Unknown> {
    // The connection has a time limit for methods, but none for the greeting.
    match timeout(ANSWER.saturating_mul(2), asked).await {
        Ok(answer) => answer.map_err(|error| unknown(&error)),
        Err(_) => Err(Unknown::Silent),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the lists of the library are open"
)]
fn unknown(error: &zbus::Error) -> Unknown {
    use zbus::fdo::Error;
    match error {
        zbus::Error::InputOutput(error) | zbus::Error::Connection(error, _) => why(error.kind()),
        zbus::Error::Address(_) => Unknown::NoBus,
        zbus::Error::Handshake(_) => Unknown::Refused,
        zbus::Error::FDO(error) => match error.as_ref() {
            Error::AccessDenied(_) | Error::AuthFailed(_) => Unknown::Refused,
            Error::NoReply(_) | Error::Timeout(_) | Error::TimedOut(_) => Unknown::Silent,
            // The bus names this error if a service does not run and cannot be started.
            _ => Unknown::NoService,
        },
        zbus::Error::MethodError(..) => Unknown::NoService,
        _ => Unknown::Unreadable,
    }
}

/// Asks the network manager whether traffic costs.
async fn metered(bus: &Connection) -> Result<bool, Unknown> {
    const SERVICE: &str = "org.freedesktop.NetworkManager";
    let method = Method {
        service: SERVICE,
        path: "/org/freedesktop/NetworkManager",
        interface: "org.freedesktop.DBus.Properties",
        name: "Get",
    };
    // A question would start it where it is installed and does not run.
    let bus_itself = "org.freedesktop.DBus";
    let path = "/org/freedesktop/DBus";
    let owner = Method {
        service: bus_itself,
        path,
        interface: bus_itself,
        name: "NameHasOwner",
    };
    let runs: bool = call(bus, owner, &SERVICE)
        .await?
        .deserialize()
        .map_err(|_| Unknown::Unreadable)?;
    if !runs {
        return Err(Unknown::NoService);
    }
    let answer = call(bus, method, &(SERVICE, "Metered")).await?;
    let value: zbus::OwnedVariant = answer.deserialize().map_err(|_| Unknown::Unreadable)?;
    // Yes, no, and both as a guess from the kind of the network.
    match u32::try_from(value) {
        Ok(1 | 3) => Ok(true),
        Ok(2 | 4) => Ok(false),
        Ok(0) => Err(Unknown::Undecided),
        Ok(_) | Err(_) => Err(Unknown::Unreadable),
    }
}

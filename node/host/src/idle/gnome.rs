//! GNOME, whose compositor has an interface of its own on the bus of the session.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::time::timeout;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream};

use super::{AWAY, Sight};
use crate::Unknown;
use crate::bus::{INTERVAL, Method, call};
use crate::watch::Watch;

const INTERFACE: &str = "org.gnome.Mutter.IdleMonitor";
const PATH: &str = "/org/gnome/Mutter/IdleMonitor/Core";
/// One signal waits at most: all of them mean the same, that the owner is back.
const SIGNALS_MAX: NonZeroUsize = NonZeroUsize::MIN;

/// Asks until there is no answer, and says why there is none.
pub(crate) async fn ask(watch: &Watch, bus: &Connection) -> Unknown {
    match follow(watch, bus).await {
        Ok(()) => Unknown::Silent,
        Err(why) => why,
    }
}

async fn follow(watch: &Watch, bus: &Connection) -> Result<(), Unknown> {
    let mut active = active_signals(bus).await?;
    let mut armed = false;
    loop {
        let answer = call(bus, method("GetIdletime"), &()).await?;
        let milliseconds: u64 = answer.deserialize().map_err(|_| Unknown::Unreadable)?;
        let idle = Duration::from_millis(milliseconds);
        let last_input = Instant::now()
            .checked_sub(idle)
            .ok_or(Unknown::Unreadable)?;
        watch.seen().gnome = Ok(Sight::Since(last_input)).into();
        if idle >= AWAY && !armed {
            call(bus, method("AddUserActiveWatch"), &()).await?;
            armed = true;
        }
        match timeout(INTERVAL, active.next()).await {
            Ok(Some(_)) if armed => {
                armed = false;
                watch.seen().gnome = Ok(Sight::Since(Instant::now())).into();
                watch.owner_returned();
            }
            Ok(None) => return Ok(()),
            // Time for the next question; or a signal for somebody else, who asked for nothing that was not ours.
            Ok(Some(_)) | Err(_) => {}
        }
        if bus.is_closed() {
            return Ok(());
        }
    }
}

/// The compositor sends this signal only to who has asked for a watch.
async fn active_signals(bus: &Connection) -> Result<MessageStream, Unknown> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .path(PATH)
        .interface(INTERFACE)
        .member("WatchFired")
        .build()
        .map_err(|_| Unknown::Unreadable)?;
    MessageStream::for_match_rule(rule, bus, Some(SIGNALS_MAX))
        .await
        .map_err(|_| Unknown::Silent)
}

fn method(name: &str) -> Method<'_> {
    Method {
        service: INTERFACE,
        path: PATH,
        interface: INTERFACE,
        name,
    }
}

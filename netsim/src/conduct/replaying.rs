//! Old messages once more.

use std::time::Duration;

use tally_protocol::message::customer::CustomerRequest;
use tally_protocol::message::work::{Pull, Report, WorkRequest};

use super::keeping::empty_pull;
use super::{Cheat, Conduct, Me, Message};
use crate::chance::Chance;
use crate::peer::Peer;
use crate::wire::Latest;

/// How often something is said again.
const REPLAYS_EVERY: Duration = Duration::from_millis(500);

/// Says again what it has said before, to the same coordinator and to others, and what others have said.
#[derive(Debug, Default)]
pub(super) struct Replaying {
    /// Own pulls that reported something.
    reports: Latest<Pull>,
}

type Replay = fn(&Replaying, &Me<'_>, &mut Chance) -> Option<(&'static str, Peer, Message)>;

const REPLAYS: [Replay; 7] = [
    own_report,
    foreign_pull,
    foreign_grant,
    offer,
    task,
    foreign_watch,
    foreign_cancel,
];

impl Conduct for Replaying {
    fn pull(&mut self, pull: &mut Pull, _: &Me<'_>, _: &mut Chance) -> Option<&'static str> {
        if pull.report.is_some() {
            self.reports.push(pull.clone());
        }
        None
    }

    fn acts_every(&self) -> Option<Duration> {
        Some(REPLAYS_EVERY)
    }

    fn act(&mut self, me: &Me<'_>, chance: &mut Chance) -> Vec<Cheat> {
        let replay = chance.choose(&REPLAYS).copied();
        let replay = replay.and_then(|replay| replay(self, me, chance));
        let cheat = replay.map(|(how, to, message)| Cheat { how, to, message });
        cheat.into_iter().collect()
    }
}

fn any<'a, T>(things: &'a Latest<T>, chance: &mut Chance) -> Option<&'a T> {
    let place = chance.below(things.iter().len() as u64);
    things.iter().nth(usize::try_from(place).ok()?)
}

fn to(me: &Me<'_>, chance: &mut Chance) -> Option<Peer> {
    chance.choose(me.coordinators).map(|(peer, _)| *peer)
}

fn pull(pull: Pull) -> Message {
    Message::Work(WorkRequest::Pull(Box::new(pull)))
}

/// What it reported before, to whichever coordinator: to the one that knows it and to others.
fn own_report(
    replaying: &Replaying,
    me: &Me<'_>,
    chance: &mut Chance,
) -> Option<(&'static str, Peer, Message)> {
    let old = any(&replaying.reports, chance)?.clone();
    Some(("replays its report", to(me, chance)?, pull(old)))
}

fn foreign_pull(
    _: &Replaying,
    me: &Me<'_>,
    chance: &mut Chance,
) -> Option<(&'static str, Peer, Message)> {
    let reports = me.wire.pulls.iter();
    let mut reports = reports.filter(|(from, pull)| *from != me.peer && pull.report.is_some());
    let (_, old) = reports.next_back()?;
    Some((
        "replays another's report",
        to(me, chance)?,
        pull(old.clone()),
    ))
}

/// An own report with the grant of another shown, as after a restart of the coordinator.
fn foreign_grant(
    replaying: &Replaying,
    me: &Me<'_>,
    chance: &mut Chance,
) -> Option<(&'static str, Peer, Message)> {
    let report = any(&replaying.reports, chance)?.report.clone()?;
    let mut grants = me.wire.grants.iter().filter(|(of, _)| *of != me.peer);
    let (_, grant) = grants.next_back()?;
    let grants = vec![grant.clone()];
    let report = Some(Report { grants, ..report });
    let shown = Pull {
        report,
        ..empty_pull(me)
    };
    Some(("replays another's grant", to(me, chance)?, pull(shown)))
}

fn offer(_: &Replaying, me: &Me<'_>, chance: &mut Chance) -> Option<(&'static str, Peer, Message)> {
    let (from, offer) = any(&me.wire.offers, chance)?;
    Some(("replays an offer", *from, Message::Offer(offer.clone())))
}

fn task(_: &Replaying, me: &Me<'_>, chance: &mut Chance) -> Option<(&'static str, Peer, Message)> {
    let (_, task) = any(&me.wire.tasks, chance)?;
    let submit = CustomerRequest::Submit(task.clone());
    Some(("replays a task", to(me, chance)?, Message::Customer(submit)))
}

fn foreign_watch(
    _: &Replaying,
    me: &Me<'_>,
    chance: &mut Chance,
) -> Option<(&'static str, Peer, Message)> {
    let (_, task) = any(&me.wire.watched, chance)?;
    let watch = CustomerRequest::Watch {
        task: *task,
        seen: 0,
    };
    Some((
        "watches another's task",
        to(me, chance)?,
        Message::Customer(watch),
    ))
}

fn foreign_cancel(
    _: &Replaying,
    me: &Me<'_>,
    chance: &mut Chance,
) -> Option<(&'static str, Peer, Message)> {
    let (_, task) = any(&me.wire.watched, chance)?;
    let cancel = CustomerRequest::Cancel(*task);
    Some((
        "cancels another's task",
        to(me, chance)?,
        Message::Customer(cancel),
    ))
}

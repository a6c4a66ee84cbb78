//! More than anybody asked for.

use std::time::Duration;

use tally_protocol::id::TaskId;
use tally_protocol::message::customer::CustomerRequest;
use tally_protocol::message::work::{Pull, WorkRequest};

use super::forging::{offers, tasks};
use super::keeping::empty_pull;
use super::{Cheat, Conduct, Me, Message};
use crate::chance::Chance;

/// How often a burst is sent, and how many messages it has: forty a second, where an honest terminal sends one or two.
const BURST: (Duration, usize) = (Duration::from_millis(250), 10);

/// Sends bursts of questions and offers of all kinds, each of which would be in order if it came alone.
#[derive(Debug, Default)]
pub(super) struct Flooding {
    /// Offers so far: each has an epoch of its own.
    offers: u64,
}

impl Conduct for Flooding {
    fn acts_every(&self) -> Option<Duration> {
        Some(BURST.0)
    }

    fn act(&mut self, me: &Me<'_>, chance: &mut Chance) -> Vec<Cheat> {
        (0..BURST.1).filter_map(|_| self.one(me, chance)).collect()
    }
}

impl Flooding {
    fn one(&mut self, me: &Me<'_>, chance: &mut Chance) -> Option<Cheat> {
        let (to, _) = *chance.choose(me.coordinators)?;
        let work = |request| Message::Work(request);
        let (how, message) = match chance.below(100) {
            // Gossip goes to all: a few of them are a flood already.
            0 => {
                self.offers += 1;
                (
                    "floods with offers",
                    Message::Offer(offers::own(me, self.offers)),
                )
            }
            1..25 => ("floods with hellos", work(WorkRequest::Hello)),
            25..60 => {
                let pull = Pull {
                    want: u32::from(chance.happens(0.05)),
                    ..empty_pull(me)
                };
                let pull = WorkRequest::Pull(Box::new(pull));
                ("floods with pulls", work(pull))
            }
            60..75 => {
                let submit = CustomerRequest::Submit(tasks::of_old(me));
                ("floods with tasks", Message::Customer(submit))
            }
            75..90 => {
                let task = TaskId::from_bytes(chance.bytes());
                let watch = CustomerRequest::Watch { task, seen: 0 };
                ("floods with watches", Message::Customer(watch))
            }
            _ => (
                "floods with lists",
                Message::Customer(CustomerRequest::List),
            ),
        };
        Some(Cheat { how, to, message })
    }
}

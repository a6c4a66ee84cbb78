//! A log tells one story, or its coordinator gets no more work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tally_ledger::store::Change;
use tally_protocol::codec;
use tally_protocol::entry::Entry;
use tally_protocol::id::Hash;
use tally_protocol::merkle::{Frontier, leaf_hash};
use tally_protocol::time::Timestamp;
use tally_protocol::witness::{Fork, ForkKind};

use super::{Check, Oracle};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;
use crate::world::World;

/// How long a witness may take that is connected and has heard both stories: it asks for a head or a proof once in a
/// minute at least, and listens to one head of a log in ten seconds.
const CAUGHT_WITHIN: Duration = Duration::from_secs(150);

/// Follows the true logs of dishonest coordinators, and what each terminal has heard of them.
#[derive(Debug, Default)]
pub(super) struct Forks {
    logs: BTreeMap<Peer, TrueLog>,
    heard: BTreeMap<(Peer, Peer), Heard>,
    caught: BTreeSet<(Peer, Peer)>,
}

/// What a dishonest coordinator has written.
#[derive(Debug, Default)]
struct TrueLog {
    tree: Frontier,
    last_time: Timestamp,
    /// The root at each size.
    roots: Vec<Hash>,
    /// The smallest head that is not of this log. True ones from this size on contradict it, and all like it.
    forked_by: Option<u64>,
}

/// Heads of one log that a terminal has heard.
#[derive(Debug, Default)]
struct Heard {
    /// The largest true one.
    true_size: u64,
    /// Whether it has heard of another log.
    other: bool,
    /// When it was connected and had heard both.
    both: Option<Moment>,
}

impl Oracle for Forks {
    fn name(&self) -> &'static str {
        "one story"
    }

    fn claim(&self) -> &'static str {
        "An honest terminal that has heard two heads of a log that contradict each other has the evidence soon, keeps \
         it, and asks that coordinator for nothing any more; no honest coordinator is ever accused."
    }

    fn commits(&mut self, reference: &Reference, coordinator: Peer, change: &Change) -> Check {
        if reference.is_honest(coordinator) {
            return Check::Nothing;
        }
        let log = self.logs.entry(coordinator).or_default();
        for draft in &change.events {
            log.last_time = log.last_time.max(draft.at);
            let entry = Entry {
                sequence: log.tree.size(),
                at: log.last_time,
                event: draft.event.clone(),
                posting: draft.posting.clone(),
            };
            log.tree.push(leaf_hash(&codec::to_bytes(&entry)));
            log.roots.push(log.tree.root());
        }
        Check::Nothing
    }

    fn see(&mut self, reference: &Reference, at: Moment, what: &Happening) -> Check {
        match what {
            Happening::HeadHeard { by, of, size, root } if reference.is_honest(*by) => {
                if !reference.is_honest(*of) {
                    self.hear(at, (*by, *of), (*size, *root));
                }
                Check::Nothing
            }
            // It starts anew: what it asks, and what it waits for.
            Happening::Connected { node, to } => {
                if let Some(heard) = self.heard.get_mut(&(*node, *to)) {
                    heard.both = heard.both.map(|_| at);
                }
                Check::Nothing
            }
            Happening::ForkFound { by, of } => {
                self.caught.insert((*by, *of));
                Check::that(!reference.is_honest(*of), || {
                    format!("{by} accuses {of}, which is honest")
                })
            }
            Happening::Pulled { by, to, .. } if reference.is_honest(*by) => {
                let pair = (*by, *to);
                if self.caught.contains(&pair) {
                    return Check::Breaks(format!("{by} asks {to}, whose log has forked"));
                }
                let both = self.heard.get(&pair).and_then(|heard| heard.both);
                both.map_or(Check::Nothing, |both| {
                    Check::that(at.since(both) <= CAUGHT_WITHIN, || {
                        format!("{by} asks {to}, of which it has heard two stories since {both}")
                    })
                })
            }
            _ => Check::Nothing,
        }
    }

    fn at_end(&mut self, _: &Reference, world: &World) -> Check {
        for (peer, witness) in world.witnesses() {
            let caught = self.caught.iter().filter(|(by, _)| *by == peer);
            for (_, of) in caught {
                let of_log =
                    |log: &tally_protocol::witness::Witnessed<'_>| log.head.log() == world.id(*of);
                let log = witness.logs().find(of_log);
                let fork = log.and_then(|log| log.fork);
                if !fork.is_some_and(is_evidence) {
                    return Check::Breaks(format!("{peer} has lost the evidence against {of}"));
                }
            }
        }
        Check::Holds
    }
}

impl Forks {
    fn hear(&mut self, at: Moment, pair: (Peer, Peer), (size, root): (u64, Hash)) {
        let log = self.logs.entry(pair.1).or_default();
        let place = usize::try_from(size)
            .ok()
            .and_then(|size| size.checked_sub(1));
        let truth = place.and_then(|place| log.roots.get(place));
        let heard = self.heard.entry(pair).or_default();
        if truth == Some(&root) {
            heard.true_size = heard.true_size.max(size);
        } else {
            heard.other = true;
            log.forked_by = Some(log.forked_by.map_or(size, |smallest| smallest.min(size)));
        }
        let contradicted = log.forked_by.is_some_and(|size| heard.true_size >= size);
        if heard.other && contradicted {
            heard.both.get_or_insert(at);
        }
    }
}

/// Returns whether anybody can see what is wrong, or was told by the log itself.
fn is_evidence(fork: &Fork) -> bool {
    let (one, other) = (fork.one.head(), fork.other.head());
    let sizes = match fork.kind {
        ForkKind::SameSize => one.size == other.size,
        ForkKind::NotGrown => one.size != other.size,
    };
    sizes && one.root != other.root && fork.one.log() == fork.other.log()
}

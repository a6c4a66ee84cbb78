//! The story of a unit, from the submission of its task to the end of it.

use std::collections::{BTreeMap, BTreeSet};

use tally_protocol::coordinator::Compared;
use tally_protocol::entry::Ending;
use tally_protocol::id::{GrantId, ReceiptId};
use tally_protocol::message::work::ResultVerdict;

use super::{Cast, Telling};
use crate::happening::{Happening, Mark, Stop, Unit};
use crate::peer::Peer;

/// Tells of one unit, until its task is settled.
#[derive(Debug)]
pub(super) struct UnitTeller {
    unit: Unit,
    cast: Cast,
    coordinator: Option<Peer>,
    /// Grants in which the unit was leased, and to whom.
    grants: BTreeMap<GrantId, Peer>,
    /// Receipts that pay it.
    receipts: BTreeSet<ReceiptId>,
    /// Whether its customer knows how the task went, and nothing more is paid.
    is_satisfied: bool,
    /// See `is_satisfied`.
    is_settled: bool,
}

impl UnitTeller {
    pub(super) const fn new(unit: Unit, cast: Cast) -> Self {
        Self {
            unit,
            cast,
            coordinator: None,
            grants: BTreeMap::new(),
            receipts: BTreeSet::new(),
            is_satisfied: false,
            is_settled: false,
        }
    }

    pub(super) fn tell(&mut self, what: &Happening) -> Option<Telling> {
        if self.is_satisfied && self.is_settled {
            return None;
        }
        self.follow(what);
        self.of_task(what)
            .or_else(|| self.of_lease(what))
            .or_else(|| self.of_result(what))
            .or_else(|| self.of_payment(what))
            .or_else(|| self.of_node(what).map(Telling::new))
    }

    /// Keeps what later sentences need.
    fn follow(&mut self, what: &Happening) {
        if let Happening::Submitted { to, task, .. } = what
            && *task == self.unit.task
        {
            self.coordinator = Some(*to);
        }
        if let Happening::Leased {
            to,
            grant,
            task,
            leases,
            ..
        } = what
            && *task == self.unit.task
            && leases.iter().any(|lease| lease.unit == self.unit.unit)
        {
            self.grants.insert(*grant, *to);
        }
        if let Happening::Receipted {
            task,
            receipt,
            units,
            ..
        } = what
            && *task == self.unit.task
            && units.contains(&self.unit.unit)
        {
            self.receipts.insert(*receipt);
        }
        if let Happening::Satisfied { task, .. } = what {
            self.is_satisfied |= *task == self.unit.task;
        }
        if let Happening::Settled { task, .. } = what {
            self.is_settled |= *task == self.unit.task;
        }
    }

    fn of_task(&self, what: &Happening) -> Option<Telling> {
        let name = |node: &Peer| self.cast.name(*node);
        let mine = self.unit.task;
        let text = if let Happening::Submitted { by, to, task } = what
            && *task == mine
        {
            let task = task.short();
            format!("{} submits task {task} to {}", name(by), name(to))
        } else if let Happening::Accepted { by, task } = what
            && *task == mine
        {
            format!("{} has accepted the task, durably", name(by))
        } else if let Happening::Divided { by, task, units } = what
            && *task == mine
        {
            format!("{} has cut its input into {units} units", name(by))
        } else if let Happening::Offered { by, task, reached } = what
            && *task == mine
        {
            let text = format!("{} gossips an offer to {reached} nodes", name(by));
            return Some(Telling::many(text, "offers"));
        } else {
            return self.of_end(what);
        };
        Some(Telling::new(text))
    }

    fn of_end(&self, what: &Happening) -> Option<Telling> {
        let name = |node: &Peer| self.cast.name(*node);
        let mine = self.unit.task;
        let text = if let Happening::Merged { by, task, result } = what
            && *task == mine
        {
            let result = result.id.short();
            format!("{} has put all outputs together: {result}", name(by))
        } else if let Happening::Ended { task, ending, .. } = what
            && *task == mine
        {
            format!("the task has ended, durably: {}", ending_words(ending))
        } else if let Happening::Satisfied { by, task, result } = what
            && *task == mine
        {
            match result {
                Some(result) => format!("{} has the result: {}", name(by), result.id.short()),
                None => format!("{} knows that there will be no result", name(by)),
            }
        } else {
            return None;
        };
        Some(Telling::new(text))
    }

    fn of_lease(&self, what: &Happening) -> Option<Telling> {
        let name = |node: &Peer| self.cast.name(*node);
        let text = if let Happening::Leased {
            by,
            to,
            grant,
            leases,
            ..
        } = what
            && self.grants.contains_key(grant)
        {
            let own = leases.iter().find(|lease| lease.unit == self.unit.unit)?;
            let others = match leases.len() - 1 {
                0 => String::new(),
                1 => ", with 1 other unit".to_owned(),
                others => format!(", with {others} other units"),
            };
            format!(
                "{} leases it to {}, attempt {}{others} (grant {})",
                name(by),
                name(to),
                own.attempt,
                grant.short()
            )
        } else if let Happening::LeaseEnded { by, of, grant } = what
            && self.grants.contains_key(grant)
        {
            let grant = grant.short();
            format!("{} tells {} that grant {grant} is over", name(by), name(of))
        } else {
            return self.of_owner(what);
        };
        Some(Telling::new(text))
    }

    /// Tells what the owner of its terminal does to it.
    fn of_owner(&self, what: &Happening) -> Option<Telling> {
        let name = |node: &Peer| self.cast.name(*node);
        let text = if let Happening::Began {
            by, grant, units, ..
        } = what
            && self.grants.contains_key(grant)
            && units.contains(&self.unit.unit)
        {
            format!("{} begins to run it", name(by))
        } else if let Happening::Interrupted { of, how } = what
            && self.grants.values().any(|to| to == of)
        {
            format!("{} {}", name(of), how.words())
        } else if let Happening::GivenBack {
            by,
            to,
            grant,
            unit,
            fault,
        } = what
            && self.grants.contains_key(grant)
            && *unit == self.unit.unit
        {
            format!("{} gives it back to {}: {fault}", name(by), name(to))
        } else {
            return None;
        };
        Some(Telling::new(text))
    }

    fn of_result(&self, what: &Happening) -> Option<Telling> {
        let name = |node: &Peer| self.cast.name(*node);
        let mine = self.unit;
        let text = if let Happening::Ran { by, unit, gave, .. } = what
            && *unit == mine
        {
            match gave {
                Ok(gave) => format!("{} has run it: {gave}", name(by)),
                Err(fault) => format!("{} could not run it: {fault}", name(by)),
            }
        } else if let Happening::Reported { by, to, unit, .. } = what
            && *unit == mine
        {
            format!("{} reports to {}", name(by), name(to))
        } else if let Happening::Voted { at, by, unit, gave } = what
            && *unit == mine
        {
            format!("{} has the vote of {}, durably: {gave}", name(at), name(by))
        } else if let Happening::Answered {
            at,
            by,
            unit,
            compared,
            ..
        } = what
            && *unit == mine
        {
            let (at, by, how) = (name(at), name(by), compared_words(*compared));
            format!("{at} knew the answer: that of {by} is {how}, durably")
        } else if let Happening::Faulted {
            at,
            by,
            unit,
            fault,
        } = what
            && *unit == mine
        {
            format!("{} has noted the fault of {}: {fault}", name(at), name(by))
        } else {
            return self.of_verdict(what);
        };
        Some(Telling::new(text))
    }

    fn of_verdict(&self, what: &Happening) -> Option<Telling> {
        let name = |node: &Peer| self.cast.name(*node);
        let text = if let Happening::Judged {
            by,
            to,
            grant,
            unit,
            verdict,
        } = what
            && (*unit == self.unit.unit && self.grants.contains_key(grant))
        {
            let verdict = verdict_words(*verdict);
            format!("{} answers {}: {verdict}", name(by), name(to))
        } else if let Happening::Validated {
            by,
            unit,
            gave,
            agreed,
            outvoted,
        } = what
            && *unit == self.unit
        {
            let (agreed, outvoted) = (self.cast.names(agreed), self.cast.names(outvoted));
            let by = name(by);
            format!("{by} has validated it: {gave}; agreed: {agreed}; outvoted: {outvoted}")
        } else {
            return None;
        };
        Some(Telling::new(text))
    }

    fn of_payment(&self, what: &Happening) -> Option<Telling> {
        let name = |node: &Peer| self.cast.name(*node);
        let text = if let Happening::Receipted {
            by, to, receipt, ..
        } = what
            && self.receipts.contains(receipt)
        {
            let (by, to, receipt) = (name(by), name(to), receipt.short());
            format!("{by} has paid {to} for it, durably (receipt {receipt})")
        } else if let Happening::ReceiptKept { by, receipt, .. } = what
            && self.receipts.contains(receipt)
        {
            format!("{} keeps receipt {}", name(by), receipt.short())
        } else if let Happening::ClawedBack { of, receipt, .. } = what
            && self.receipts.contains(receipt)
        {
            let (of, receipt) = (name(of), receipt.short());
            format!("receipt {receipt} of {of} is taken back, durably")
        } else if let Happening::Settled { task, .. } = what
            && *task == self.unit.task
        {
            "the task is settled, durably".to_owned()
        } else {
            return None;
        };
        Some(Telling::new(text))
    }

    /// Tells what befalls those that have to do with it.
    fn of_node(&self, what: &Happening) -> Option<String> {
        let name = |node: &Peer| self.cast.name(*node);
        let holds = |node: &Peer| self.grants.values().any(|holder| holder == node);
        if let Happening::Stopped { node, how } = what
            && holds(node)
        {
            return Some(format!(
                "{}, which was leased it, {}",
                name(node),
                stop_words(*how)
            ));
        }
        if let Happening::Disconnected { node, from } = what
            && holds(node)
        {
            let (node, from) = (name(node), name(from));
            return Some(format!(
                "{node}, which was leased it, is cut off from {from}"
            ));
        }
        if let Happening::Breached { by, what } = what
            && Some(*by) == self.coordinator
        {
            return Some(format!("{} breaks an invariant: {what}", name(by)));
        }
        let Happening::Marked(mark) = what else {
            return None;
        };
        let coordinator = self.coordinator?;
        let concerns = match mark {
            Mark::Crash(node, _) | Mark::Restart(node) => *node == coordinator,
            Mark::ShopCrash(..) | Mark::ShopRestart(_) => false,
            Mark::CutBegins(_) | Mark::CutEnds(_) | Mark::Calm => true,
        };
        concerns.then(|| mark.to_string())
    }
}

fn ending_words(ending: &Ending) -> String {
    match ending {
        Ending::Done(_) => "done".to_owned(),
        Ending::Failed(reason) => format!("failed, {reason}"),
        Ending::Cancelled => "cancelled".to_owned(),
    }
}

/// Returns how a node went.
pub(super) const fn stop_words(how: Stop) -> &'static str {
    match how {
        Stop::Left => "is switched off",
        Stop::Crashed => "is gone without a word",
    }
}

pub(super) const fn compared_words(compared: Compared) -> &'static str {
    match compared {
        Compared::Same => "right",
        Compared::Other => "wrong",
    }
}

/// Returns what a verdict means.
pub(super) const fn verdict_words(verdict: ResultVerdict) -> &'static str {
    match verdict {
        ResultVerdict::Counted => "the result counts",
        ResultVerdict::Redundant => "the result was not needed any more",
        ResultVerdict::NotLeased => "it was not leased to you, or you have reported it",
        ResultVerdict::ShowGrant => "send it again and show the grant",
        ResultVerdict::OutputMissing => "the output could not be read",
        ResultVerdict::TaskEnded => "the task has ended",
    }
}

//! The story of a node: what it does, and what is done to it.

use tally_protocol::terminal::Standing;

use super::unit::{compared_words, stop_words, verdict_words};
use super::{Cast, Telling, named};
use crate::happening::{Happening, Mark, Payment};
use crate::peer::Peer;

/// Tells of one node. Sentences have no subject: it is the node.
#[derive(Debug)]
pub(super) struct NodeTeller {
    node: Peer,
    cast: Cast,
}

impl NodeTeller {
    pub(super) const fn new(node: Peer, cast: Cast) -> Self {
        Self { node, cast }
    }

    pub(super) fn tell(&self, what: &Happening) -> Option<Telling> {
        self.of_presence(what)
            .or_else(|| self.of_pull(what))
            .or_else(|| self.of_unit(what))
            .or_else(|| self.of_verdict(what))
            .or_else(|| self.of_task(what))
            .or_else(|| self.of_receipt(what))
            .or_else(|| self.of_money(what))
            .or_else(|| self.of_log(what))
            .or_else(|| self.of_sale(what))
            .or_else(|| self.of_partner(what))
            .or_else(|| self.of_trouble(what))
    }

    fn is_me(&self, node: &Peer) -> bool {
        *node == self.node
    }

    fn name(&self, node: &Peer) -> String {
        self.cast.name(*node)
    }

    fn of_presence(&self, what: &Happening) -> Option<Telling> {
        if let Happening::Started { node, start } = what
            && self.is_me(node)
        {
            let name = self.name(node);
            return Some(Telling::new(match start {
                1 => format!("{name} starts"),
                start => format!("{name} starts, for time {start}"),
            }));
        }
        if let Happening::Stopped { node, how } = what
            && self.is_me(node)
        {
            return Some(Telling::new(stop_words(*how)));
        }
        if let Happening::Interrupted { of, how } = what
            && self.is_me(of)
        {
            return Some(Telling::new(how.words().to_owned()));
        }
        if let Happening::LookedUp {
            by,
            requests,
            found,
        } = what
            && self.is_me(by)
        {
            let text = format!("looks up coordinators: {found} found with {requests} requests");
            return Some(Telling::many(text, "look-ups"));
        }
        if let Happening::Connected { node, to } = what {
            return self.between((node, to), "is connected to", "connections");
        }
        if let Happening::Disconnected { node, from } = what {
            return self.between((node, from), "is cut off from", "connections lost");
        }
        None
    }

    /// Tells of a connection at either end.
    fn between(
        &self,
        (node, to): (&Peer, &Peer),
        verb: &str,
        many: &'static str,
    ) -> Option<Telling> {
        if self.is_me(node) {
            return Some(Telling::new(format!("{verb} {}", self.name(to))));
        }
        self.is_me(to)
            .then(|| Telling::many(format!("{verb} {}", self.name(node)), many))
    }

    fn of_pull(&self, what: &Happening) -> Option<Telling> {
        let Happening::Pulled {
            by,
            to,
            want,
            results,
            ..
        } = what
        else {
            return None;
        };
        if self.is_me(to) {
            return Some(Telling::many(
                format!("is asked by {}", self.name(by)),
                "questions",
            ));
        }
        if !self.is_me(by) {
            return None;
        }
        let to = self.name(to);
        Some(match (want, results) {
            (0, 0) => Telling::many(format!("asks {to} to renew its leases"), "renewals"),
            (want, 0) => {
                let text = format!("asks {to} for work, up to {}", counted(*want, "unit"));
                Telling::many(text, "pulls without work")
            }
            (0, results) => {
                Telling::new(format!("reports {} to {to}", counted(*results, "result")))
            }
            (want, results) => Telling::new(format!(
                "reports {} to {to} and asks for up to {}",
                counted(*results, "result"),
                counted(*want, "unit")
            )),
        })
    }

    fn of_unit(&self, what: &Happening) -> Option<Telling> {
        if let Happening::Leased {
            by,
            to,
            grant,
            task,
            leases,
        } = what
        {
            let units = leases.iter().map(|lease| lease.unit).collect();
            let (task, grant) = (task.short(), grant.short());
            if self.is_me(to) {
                let rest = format!(" of {task} by {} (grant {grant})", self.name(by));
                return Some(Telling::units("is leased", units, rest));
            }
            let rest = format!(" of {task} to {} (grant {grant})", self.name(to));
            return self
                .is_me(by)
                .then(|| Telling::units("leases", units, rest));
        }
        if let Happening::LeaseEnded { by, of, grant } = what
            && self.is_me(of)
        {
            let (by, grant) = (self.name(by), grant.short());
            return Some(Telling::new(format!(
                "hears from {by} that grant {grant} is over"
            )));
        }
        if let Happening::GivenBack {
            by,
            to,
            grant,
            unit,
            fault,
        } = what
            && self.is_me(by)
        {
            let (to, grant) = (self.name(to), grant.short());
            let rest = format!(" of grant {grant} to {to}: {fault}");
            return Some(Telling::units("gives back", vec![*unit], rest));
        }
        if let Happening::Ran { by, unit, gave, .. } = what
            && self.is_me(by)
        {
            let rest = match gave {
                Ok(gave) => format!(" of {}: {}", unit.task.short(), gave.outcome),
                Err(fault) => format!(" of {}: it could not be run, {fault}", unit.task.short()),
            };
            return Some(Telling::units("has run", vec![unit.unit], rest));
        }
        if let Happening::Reported { by, to, unit, .. } = what
            && self.is_me(by)
        {
            let rest = format!(" of {} to {}", unit.task.short(), self.name(to));
            return Some(Telling::units("reports", vec![unit.unit], rest));
        }
        None
    }

    fn of_verdict(&self, what: &Happening) -> Option<Telling> {
        if let Happening::Voted { at, by, unit, .. } = what
            && self.is_me(by)
        {
            let rest = format!(", durably at {}", self.name(at));
            return Some(Telling::units("has voted on", vec![unit.unit], rest));
        }
        if let Happening::Answered {
            at,
            by,
            unit,
            compared,
            ..
        } = what
            && self.is_me(by)
        {
            let rest = format!(
                ", which {} knew: {}",
                self.name(at),
                compared_words(*compared)
            );
            return Some(Telling::units("has answered", vec![unit.unit], rest));
        }
        if let Happening::Judged {
            to, unit, verdict, ..
        } = what
            && self.is_me(to)
        {
            let rest = format!(": {}", verdict_words(*verdict));
            return Some(Telling::units("hears of", vec![unit.to_owned()], rest));
        }
        if let Happening::Validated {
            by,
            unit,
            agreed,
            outvoted,
            ..
        } = what
        {
            let units = vec![unit.unit];
            let task = unit.task.short();
            if agreed.contains(&self.node) {
                let rest = format!(" of {task}, which is validated");
                return Some(Telling::units("was right about", units, rest));
            }
            if outvoted.contains(&self.node) {
                return Some(Telling::units(
                    "is outvoted on",
                    units,
                    format!(" of {task}"),
                ));
            }
            let rest = format!(" of {task}, durably");
            return self
                .is_me(by)
                .then(|| Telling::units("has validated", units, rest));
        }
        None
    }

    fn of_task(&self, what: &Happening) -> Option<Telling> {
        let text = if let Happening::Submitted { by, to, task } = what
            && (self.is_me(by) || self.is_me(to))
        {
            let (by, to) = (self.name(by), self.name(to));
            format!("task {} goes from {by} to {to}", task.short())
        } else if let Happening::Accepted { by, task } = what
            && self.is_me(by)
        {
            format!("has accepted task {}, durably", task.short())
        } else if let Happening::Divided { by, task, units } = what
            && self.is_me(by)
        {
            format!("has cut task {} into {units} units", task.short())
        } else if let Happening::Offered { by, task, reached } = what
            && self.is_me(by)
        {
            let text = format!("offers task {} to {reached} nodes", task.short());
            return Some(Telling::many(text, "offers"));
        } else if let Happening::Ended { by, task, .. } = what
            && self.is_me(by)
        {
            format!("task {} has ended, durably", task.short())
        } else if let Happening::Forgotten { by, task } = what
            && self.is_me(by)
        {
            format!("has forgotten task {}", task.short())
        } else if let Happening::Told {
            to, phase, done, ..
        } = what
            && self.is_me(to)
        {
            let text = format!("is told: {phase}, {done} units done");
            return Some(Telling::many(text, "answers"));
        } else if let Happening::Satisfied { by, result, .. } = what
            && self.is_me(by)
        {
            match result {
                Some(result) => format!("has the result {}", result.id.short()),
                None => "knows that there will be no result".to_owned(),
            }
        } else {
            return None;
        };
        Some(Telling::new(text))
    }

    fn of_receipt(&self, what: &Happening) -> Option<Telling> {
        if let Happening::Receipted {
            by,
            to,
            task,
            receipt,
            units,
            ..
        } = what
        {
            let (task, receipt) = (task.short(), receipt.short());
            if self.is_me(to) {
                let rest = format!(" of {task} by {} (receipt {receipt})", self.name(by));
                return Some(Telling::units("is paid for", units.clone(), rest));
            }
            let text = format!("pays {} of {task} to {}", named(units), self.name(to));
            return self.is_me(by).then(|| Telling::many(text, "receipts"));
        }
        let text = if let Happening::ReceiptKept {
            by,
            from,
            receipt,
            standing,
        } = what
            && self.is_me(by)
        {
            let (receipt, standing) = (receipt.short(), standing_words(*standing));
            format!("keeps receipt {receipt} of {}, {standing}", self.name(from))
        } else if let Happening::Disputed { by, from, fault } = what
            && (self.is_me(by) || self.is_me(from))
        {
            let (by, from) = (self.name(by), self.name(from));
            return Some(Telling::many(
                format!("{by} finds a receipt of {from} wrong: {fault}"),
                "disputes",
            ));
        } else if let Happening::GivenUp { by, from, results } = what
            && self.is_me(by)
        {
            let (results, from) = (counted(*results, "result"), self.name(from));
            format!("hears from {from} that nobody pays {results}")
        } else {
            return None;
        };
        Some(Telling::new(text))
    }

    fn of_money(&self, what: &Happening) -> Option<Telling> {
        let text = if let Happening::MoneyMoved { by, how, of, money } = what
            && (self.is_me(by) || of.contains(&self.node))
        {
            let of = match of.as_slice() {
                [] => "the operator".to_owned(),
                of => self.cast.names(of),
            };
            match how {
                Payment::Deposit => format!("{money} have come in for {of}, durably"),
                Payment::Payout => format!("{money} are paid out for {of}, durably"),
                Payment::Refund => format!("{money} are given back to {of}, durably"),
            }
        } else if let Happening::ClawedBack { by, of, receipt } = what
            && (self.is_me(by) || self.is_me(of))
        {
            let (of, receipt) = (self.name(of), receipt.short());
            format!("receipt {receipt} of {of} is taken back, durably")
        } else if let Happening::PointsTurned { by, expired } = what
            && self.is_me(by)
        {
            let how = if *expired { "expire" } else { "leave escrow" };
            return Some(Telling::many(format!("points {how}"), "turns of points"));
        } else if let Happening::Settled { by, task } = what
            && self.is_me(by)
        {
            format!("has settled task {}, durably", task.short())
        } else {
            return None;
        };
        Some(Telling::new(text))
    }

    fn of_log(&self, what: &Happening) -> Option<Telling> {
        if let Happening::HeadTold { by, size, reached } = what
            && self.is_me(by)
        {
            let text = format!("gossips the head of its log, {size} entries, to {reached} nodes");
            return Some(Telling::many(text, "heads"));
        }
        if let Happening::HeadHeard { by, of, size, .. } = what
            && self.is_me(by)
        {
            let text = format!(
                "hears a head of the log of {}, {size} entries",
                self.name(of)
            );
            return Some(Telling::many(text, "heads"));
        }
        if let Happening::ForkFound { by, of } = what
            && (self.is_me(by) || self.is_me(of))
        {
            let (by, of) = (self.name(by), self.name(of));
            let text =
                format!("{by} has the evidence that the log of {of} has forked, and leaves it");
            return Some(Telling::new(text));
        }
        None
    }

    fn of_sale(&self, what: &Happening) -> Option<Telling> {
        let text = if let Happening::Redeemed {
            by,
            redemption,
            how,
        } = what
            && self.is_me(by)
        {
            format!(
                "points are {how} for redemption {}, durably",
                short(redemption)
            )
        } else if let Happening::OrderChanged { by, order, how } = what
            && self.is_me(by)
        {
            format!("order {}: {how}, durably", short(order))
        } else if let Happening::OrderPaid { by, to, order, .. } = what
            && (self.is_me(by) || self.is_me(to))
        {
            let (by, to) = (self.name(by), self.name(to));
            format!("{by} pays {to} its part of order {}", short(order))
        } else if let Happening::VoucherTaken {
            by, voucher, fee, ..
        } = what
            && self.is_me(by)
        {
            format!("says that voucher {} is good for {fee}", short(voucher))
        } else if let Happening::Contented { by } = what
            && self.is_me(by)
        {
            "wants nothing more".to_owned()
        } else {
            return None;
        };
        Some(Telling::new(text))
    }

    fn of_partner(&self, what: &Happening) -> Option<Telling> {
        let text = if let Happening::Agreed { by, with } = what
            && self.is_me(by)
        {
            format!("has an agreement with {}, durably", self.name(with))
        } else if let Happening::Registered { by, device, holds } = what
            && (self.is_me(by) || self.is_me(device))
        {
            let (by, device) = (self.name(by), self.name(device));
            let no = if *holds { "" } else { " no more" };
            format!("{device} is{no} registered, {by} has written durably")
        } else if let Happening::SettlementStands { by, number, how } = what
            && self.is_me(by)
        {
            format!("settlement {number} is {how}, durably")
        } else {
            return None;
        };
        Some(Telling::new(text))
    }

    fn of_trouble(&self, what: &Happening) -> Option<Telling> {
        if let Happening::Refused { by, from, why } = what {
            if self.is_me(from) {
                return Some(Telling::new(format!(
                    "is refused by {}: {why}",
                    self.name(by)
                )));
            }
            let text = || format!("refuses {}: {why}", self.name(from));
            return self.is_me(by).then(|| Telling::many(text(), "refusals"));
        }
        if let Happening::Sent {
            from,
            to,
            kind,
            arrives: false,
            ..
        } = what
            && (self.is_me(from) || self.is_me(to))
        {
            let (from, to) = (self.name(from), self.name(to));
            let text = format!("a message ({kind}) from {from} to {to} is lost");
            return Some(Telling::many(text, "messages lost"));
        }
        if let Happening::Cheated { by, to, how } = what
            && self.is_me(by)
        {
            let text = format!("cheats {}: {how}", self.name(to));
            return Some(Telling::many(text, "tricks of this kind or another"));
        }
        if let Happening::Breached { by, what } = what
            && self.is_me(by)
        {
            return Some(Telling::new(format!("breaks an invariant: {what}")));
        }
        let Happening::Marked(mark) = what else {
            return None;
        };
        let concerns = match mark {
            // Its start says so already.
            Mark::Restart(_) | Mark::ShopRestart(_) => false,
            Mark::Crash(node, _) | Mark::ShopCrash(node, _) => self.is_me(node),
            Mark::CutBegins(_) | Mark::CutEnds(_) | Mark::Calm => true,
        };
        concerns.then(|| Telling::new(mark.to_string()))
    }
}

const fn standing_words(standing: Standing) -> &'static str {
    match standing {
        Standing::Checked => "which is right",
        Standing::Unchecked => "which it cannot check",
    }
}

/// Returns the first digits of an id.
fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(8).collect()
}

/// Returns a number of things.
fn counted(number: u32, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

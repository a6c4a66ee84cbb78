//! The bugs: each stands between a node's driver and its machine, and gets one thing wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tally_netsim::happening::Unit;
use tally_netsim::wrap::{TerminalWrap, Wrap};
use tally_protocol::account::Holder;
use tally_protocol::coordinator::{
    Answer, Coordinator, Effect, Fact, Input, NewLeases, Pulled, Row,
};
use tally_protocol::entry::{Ending, Event};
use tally_protocol::id::{GrantId, NodeId, TaskId};
use tally_protocol::message::work::{Grant, ResultVerdict, UnitResult};
use tally_protocol::task::BlobRef;
use tally_protocol::terminal::{self, Terminal, Totals};
use tally_protocol::time::Timestamp;

/// A mistake in what the machine is told, or in what follows.
pub(crate) trait Bug: fmt::Debug {
    /// Sees an input, and may change it.
    fn before(&mut self, input: &mut Input) {
        let _ = input;
    }

    /// Makes something else of what follows from it.
    fn after(&mut self, at: (&Coordinator, Timestamp), effects: Vec<Effect>) -> Vec<Effect> {
        let _ = at;
        effects
    }
}

/// Plants a bug.
#[derive(Debug)]
pub(crate) struct Planted<B>(pub(crate) B);

impl<B: Bug> Wrap for Planted<B> {
    fn handle(
        &mut self,
        machine: &mut Coordinator,
        now: Timestamp,
        mut input: Input,
        out: &mut Vec<Effect>,
    ) {
        self.0.before(&mut input);
        let mut effects = Vec::new();
        machine.handle(now, input, &mut effects);
        out.extend(self.0.after((machine, now), effects));
    }
}

/// Returns what is reported, if the input is a report.
fn results(input: &mut Input) -> &mut [UnitResult] {
    if let Input::Pulled {
        report: Some(report),
        ..
    } = input
    {
        return &mut report.results;
    }
    &mut []
}

fn puller(input: &Input) -> Option<NodeId> {
    if let Input::Pulled { from, .. } = input {
        return Some(*from);
    }
    None
}

fn answer_of(effects: &mut [Effect]) -> Option<&mut Pulled> {
    effects.iter_mut().find_map(|effect| {
        if let Effect::Answer {
            answer: Answer::Pulled(pulled),
            ..
        } = effect
        {
            return Some(pulled.as_mut());
        }
        None
    })
}

/// Credits results twice if they come twice, or to whoever reported before.
#[derive(Debug, Default)]
pub(crate) struct Credits {
    /// What was recorded of each result, if it is to be recorded again.
    recorded: Option<BTreeMap<(GrantId, u32), Vec<Effect>>>,
    last: Option<Holder>,
    /// The results of the report that the machine takes.
    names: Vec<(GrantId, u32)>,
}

impl Credits {
    pub(crate) fn twice() -> Self {
        Self {
            recorded: Some(BTreeMap::new()),
            ..Self::default()
        }
    }

    pub(crate) fn to_the_last() -> Self {
        Self::default()
    }

    fn repeat(&mut self, effects: &mut Vec<Effect>) {
        let is_record =
            |effect: &&Effect| matches!(effect, Effect::Record(_) | Effect::Append { .. });
        let records: Vec<Effect> = effects.iter().filter(is_record).cloned().collect();
        let Some(recorded) = &mut self.recorded else {
            return;
        };
        for name in &self.names {
            if let Some(before) = recorded.get(name) {
                effects.splice(0..0, before.iter().cloned());
            } else if !records.is_empty() {
                recorded.insert(*name, records.clone());
            }
        }
    }
}

impl Bug for Credits {
    fn before(&mut self, input: &mut Input) {
        let reported = results(input).iter();
        self.names = reported.map(|result| (result.grant, result.unit)).collect();
    }

    fn after(&mut self, _: (&Coordinator, Timestamp), mut effects: Vec<Effect>) -> Vec<Effect> {
        if self.recorded.is_some() {
            self.repeat(&mut effects);
        } else {
            for effect in &mut effects {
                if let Effect::Record(Fact::Reported { holder, .. }) = effect {
                    let by = *holder;
                    *holder = self.last.replace(by).unwrap_or(by);
                }
            }
        }
        effects
    }
}

/// Takes every result of a unit for the first one that came.
#[derive(Debug, Default)]
pub(crate) struct IgnoresMismatch {
    /// The task of each grant.
    grants: BTreeMap<GrantId, TaskId>,
    first: BTreeMap<Unit, UnitResult>,
}

impl Bug for IgnoresMismatch {
    fn before(&mut self, input: &mut Input) {
        for result in results(input) {
            let Some(task) = self.grants.get(&result.grant).copied() else {
                continue;
            };
            let (grant, unit) = (result.grant, result.unit);
            let first = self.first.entry(Unit { task, unit });
            let first = first.or_insert_with(|| result.clone()).clone();
            *result = UnitResult { grant, ..first };
        }
    }

    fn after(&mut self, _: (&Coordinator, Timestamp), mut effects: Vec<Effect>) -> Vec<Effect> {
        if let Some(new) = answer_of(&mut effects).and_then(|pulled| pulled.leased.as_ref()) {
            self.grants.insert(new.grant.id, new.grant.task);
        }
        effects
    }
}

/// Makes a mistake with leases.
#[derive(Debug)]
pub(crate) struct Leases {
    mistake: Mistake,
    last: Option<NewLeases>,
    puller: Option<NodeId>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Mistake {
    /// A grant gets the name of the one before.
    SameName,
    /// Every attempt is the first.
    FirstAttempt,
    /// A grant has the units of the one before, whoever that was for.
    Shared,
    /// A device that gets nothing gets again what it was given last, under another name.
    Again,
}

impl Leases {
    pub(crate) const fn with(mistake: Mistake) -> Self {
        Self {
            mistake,
            last: None,
            puller: None,
        }
    }

    fn change(&mut self, grant: &mut Grant, before: Grant) {
        match self.mistake {
            Mistake::SameName => grant.id = before.id,
            Mistake::Shared if before.task == grant.task => grant.units = before.units,
            Mistake::FirstAttempt => {
                for leased in &mut grant.units {
                    leased.attempt = 0;
                }
            }
            Mistake::Shared | Mistake::Again => {}
        }
    }

    fn again(&self, to: NodeId) -> Option<NewLeases> {
        let last = self.last.as_ref();
        let mut again = last.filter(|last| last.grant.device == to)?.clone();
        let name = again.grant.id.as_bytes().map(|byte| !byte);
        again.grant.id = GrantId::from_bytes(name);
        for leased in &mut again.grant.units {
            leased.attempt += 1;
        }
        Some(again)
    }
}

impl Bug for Leases {
    fn before(&mut self, input: &mut Input) {
        self.puller = puller(input);
    }

    fn after(&mut self, _: (&Coordinator, Timestamp), mut effects: Vec<Effect>) -> Vec<Effect> {
        if let Some((from, pulled)) = self.puller.zip(answer_of(&mut effects)) {
            if let Some(new) = &mut pulled.leased {
                if let Some(before) = self.last.replace(new.clone()) {
                    self.change(&mut new.grant, before.grant);
                }
            } else if let Mistake::Again = self.mistake {
                pulled.leased = self.again(from);
                self.last = None;
            }
        }
        effects
    }
}

/// Tells everybody that all results count.
#[derive(Debug)]
pub(crate) struct CountsAll;

impl Bug for CountsAll {
    fn after(&mut self, _: (&Coordinator, Timestamp), mut effects: Vec<Effect>) -> Vec<Effect> {
        if let Some(pulled) = answer_of(&mut effects) {
            pulled.verdicts.fill(ResultVerdict::Counted);
        }
        effects
    }
}

/// Lets effects leave before their records are durable.
#[derive(Debug)]
pub(crate) struct TellsFirst;

impl Wrap for TellsFirst {
    fn records_first(&self) -> bool {
        false
    }
}

/// Writes the snapshot that it should have written the last time.
#[derive(Debug, Default)]
pub(crate) struct OldSnapshot(Option<Vec<u8>>);

impl Wrap for OldSnapshot {
    fn snapshot(&mut self, machine: &Coordinator) -> Vec<u8> {
        let snapshot = machine.snapshot();
        self.0.replace(snapshot.clone()).unwrap_or(snapshot)
    }
}

/// Makes something else of each effect.
#[derive(Debug)]
pub(crate) struct Twists(pub(crate) fn(Effect) -> Vec<Effect>);

impl Bug for Twists {
    fn after(&mut self, _: (&Coordinator, Timestamp), effects: Vec<Effect>) -> Vec<Effect> {
        effects.into_iter().flat_map(self.0).collect()
    }
}

pub(crate) fn reverse_verdicts(mut effect: Effect) -> Vec<Effect> {
    if let Some(pulled) = answer_of(std::slice::from_mut(&mut effect)) {
        pulled.verdicts.reverse();
    }
    vec![effect]
}

pub(crate) fn forget_acceptance(effect: Effect) -> Vec<Effect> {
    let is_acceptance = matches!(
        effect,
        Effect::Append {
            event: Event::TaskAccepted { .. },
            ..
        }
    );
    vec![effect; usize::from(!is_acceptance)]
}

pub(crate) fn end_twice(effect: Effect) -> Vec<Effect> {
    let is_end = matches!(
        effect,
        Effect::Append {
            event: Event::TaskEnded { .. },
            ..
        }
    );
    vec![effect; if is_end { 2 } else { 1 }]
}

pub(crate) fn forget_outputs(effect: Effect) -> Vec<Effect> {
    let is_output = matches!(
        &effect,
        Effect::Keep {
            row: Row::Output { .. },
            ..
        }
    );
    vec![effect; usize::from(!is_output)]
}

pub(crate) fn forget_merge(effect: Effect) -> Vec<Effect> {
    let is_merge = matches!(effect, Effect::Merge(_));
    vec![effect; usize::from(!is_merge)]
}

/// Credits one upt more than the receipt says.
pub(crate) fn pay_more(mut effect: Effect) -> Vec<Effect> {
    if let Effect::Append {
        event: Event::Receipted { .. },
        posting: Some(posting),
    } = &mut effect
        && let Some(first) = posting.transfers.first_mut()
    {
        first.amount += 1;
    }
    vec![effect]
}

pub(crate) fn forget_receipt(effect: Effect) -> Vec<Effect> {
    let is_receipt = matches!(
        effect,
        Effect::Append {
            event: Event::Receipted { .. },
            ..
        }
    );
    vec![effect; usize::from(!is_receipt)]
}

/// Writes receipts without what they do to the books.
pub(crate) fn forget_posting(mut effect: Effect) -> Vec<Effect> {
    if let Effect::Append { posting, .. } = &mut effect {
        *posting = None;
    }
    vec![effect]
}

/// Settles each task when its first unit is validated.
#[derive(Debug, Default)]
pub(crate) struct SettlesEarly(BTreeSet<TaskId>);

impl Bug for SettlesEarly {
    fn after(&mut self, (_, now): (&Coordinator, Timestamp), effects: Vec<Effect>) -> Vec<Effect> {
        let mut out = Vec::new();
        for effect in effects {
            let mut settles = None;
            if let Effect::Append {
                event: Event::BatchValidated { task, .. },
                ..
            } = &effect
            {
                settles = self.0.insert(*task).then_some(*task);
            }
            out.push(effect);
            if let Some(task) = settles {
                let (event, posting) = (Event::TaskSettled { task, at: now }, None);
                out.push(Effect::Append { event, posting });
            }
        }
        out
    }
}

/// Ends each task when all its units but one are validated.
#[derive(Debug, Default)]
pub(crate) struct EndsEarly {
    validated: BTreeMap<TaskId, usize>,
    ended: BTreeSet<TaskId>,
}

impl Bug for EndsEarly {
    fn after(
        &mut self,
        (machine, _): (&Coordinator, Timestamp),
        effects: Vec<Effect>,
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        for effect in effects {
            let mut ends = None;
            if let Effect::Append {
                event: Event::BatchValidated { task, units, .. },
                ..
            } = &effect
            {
                let count = self.validated.entry(*task).or_default();
                *count += units.len();
                let table = machine.division(task).map(|division| &division.table);
                let enough = table.is_some_and(|table| *count + 1 >= table.count() as usize);
                ends = (enough && self.ended.insert(*task)).then_some(*task);
            }
            out.push(effect);
            if let Some(task) = ends {
                let ending = Ending::Done(BlobRef::of(b"nearly all"));
                let (event, posting) = (Event::TaskEnded { task, ending }, None);
                out.push(Effect::Append { event, posting });
            }
        }
        out
    }
}

/// Keeps all agreed outputs but the tenth.
#[derive(Debug, Default)]
pub(crate) struct ForgetsRow(u32);

impl Bug for ForgetsRow {
    fn after(&mut self, _: (&Coordinator, Timestamp), mut effects: Vec<Effect>) -> Vec<Effect> {
        effects.retain(|effect| {
            let is_unit = matches!(
                effect,
                Effect::Keep {
                    row: Row::Unit { .. },
                    ..
                }
            );
            self.0 += u32::from(is_unit);
            !is_unit || self.0 != 10
        });
        effects
    }
}

/// Lets the editor run over what it has already edited.
#[derive(Debug, Default)]
pub(crate) struct EditsTwice(BTreeMap<TaskId, u32>);

impl Wrap for EditsTwice {
    fn handle(
        &mut self,
        machine: &mut Coordinator,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Effect>,
    ) {
        if let Input::Merged {
            task,
            result: Ok(merged),
        } = &input
        {
            let (task, merged) = (*task, *merged);
            let edits = machine.task(&task).is_some_and(|task| task.edit.is_some());
            let times = self.0.entry(task).or_default();
            *times += 1;
            // The first is the merge, the second the editor.
            if edits && *times == 2 {
                return out.push(Effect::Edit { task, merged });
            }
        }
        machine.handle(now, input, out);
    }
}

/// Never asks to be woken.
#[derive(Debug)]
pub(crate) struct NeverWakes;

impl Wrap for NeverWakes {
    fn next_deadline(&self, _: &Coordinator) -> Option<Timestamp> {
        None
    }
}

/// Answers no hundredth pull.
#[derive(Debug, Default)]
pub(crate) struct ForgetsAnswer(u32);

impl Bug for ForgetsAnswer {
    fn after(&mut self, _: (&Coordinator, Timestamp), mut effects: Vec<Effect>) -> Vec<Effect> {
        if answer_of(&mut effects).is_some() {
            self.0 += 1;
            let is_forgotten = |effect: &Effect| matches!(effect, Effect::Answer { .. });
            effects.retain(|effect| !self.0.is_multiple_of(100) || !is_forgotten(effect));
        }
        effects
    }
}

/// Takes all that a coordinator owes for settled, again and again.
#[derive(Debug)]
pub(crate) struct ForgetsDebts;

impl TerminalWrap for ForgetsDebts {
    fn handle(
        &mut self,
        machine: &mut Terminal,
        now: Timestamp,
        input: terminal::Input,
        out: &mut Vec<terminal::Effect>,
    ) {
        let known: Vec<NodeId> = machine.credits().map(|(node, _)| node).collect();
        for coordinator in known {
            machine.remember(coordinator, Totals::default());
        }
        machine.handle(now, input, out);
    }
}

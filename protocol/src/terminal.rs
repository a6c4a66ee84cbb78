//! The terminal: asks coordinators for units, has them run, reports the results.
//!
//! A state machine without I/O, driven like the [coordinator](crate::coordinator). It keeps a second or so of work in
//! store, so that the sandboxes never wait for the network: it pulls when the store runs low, reports what is done
//! with the same message, and renews the grants that it still works on. A terminal that gets nothing waits
//! for a nudge, an offer or the end of its pause, whichever is first; coordinators that fail to answer are asked
//! less and less often.
//!
//! Nothing here is durable: what a crash loses is computed again by somebody, after the lease has expired.
//!
//! One that owes too much gets no more done than a unit on trial now and then. The owner of the computer comes first: what
//! it does not allow any more is suspended or given back at once.
//!
//! Invariants: one question at a time to each coordinator; a result is kept until the coordinator has given
//! its verdict; a coordinator that is distrusted is never asked again; no more work is taken than [`STORE_UNITS_MAX`], no more results kept than [`RESULTS_MAX`].

mod allowance;
mod contact;
mod earning;
mod gauges;
mod link;
mod owner;
mod pull;
mod registered;
mod standing;
mod tally;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a story looks for one effect among many"
)]
mod tests;
mod wallet;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::certificate::{self, DeviceCertificate};
use crate::coordinator::Question;
use crate::id::{BlobId, GrantId, Hash, NodeId, ReceiptId, TaskId};
use crate::merkle;
use crate::message::Refusal;
use crate::message::announce::Offer;
use crate::message::work::{Batch, Grant, RENEWALS_MAX, UnitResult};
use crate::rate_card::RateCard;
use crate::receipt::Receipt;
use crate::registration::Registration;
use crate::signed::{Signed, Verified};
use crate::task::BlobRef;
use crate::time::Timestamp;
use crate::unit::{Fault, Outcome, ProfileId};

pub use allowance::Allowance;
pub use earning::{DECLINED_FOR, Declined};
pub use gauges::Gauges;
pub use owner::SUSPENDED_MAX;
pub use pull::{Answer, Beside, PullOut};
pub use registered::REGISTRATIONS_MAX;
pub use standing::{LinkStanding, Suspended};
pub use tally::Tally;
pub use wallet::{
    Credit, Dispute, Effort, KeptReceipt, LEAVES_MAX, ReceiptFault, Standing, Totals, UnpaidLeaf,
};

use earning::Earnings;
use link::{Asking, Link, Pause, Settled};
use registered::Registrations;
use wallet::{Claims, Collected, Reported, Told, Wallet};
use work::{Pace, Room, Work};

/// The most units waiting to be run.
pub const STORE_UNITS_MAX: usize = 4_096;
/// The most results waiting for a coordinator: beyond it no more of its work is run.
pub const RESULTS_MAX: usize = 16_384;
/// The most coordinators that a terminal keeps in touch with.
const LINKS_MAX: usize = 64;
/// The most coordinators that are distrusted at a time: more than the witness has evidence of.
const DISTRUSTED_MAX: usize = 1_024;
/// The longest pause that a coordinator may ask for.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long no work is asked for after a grant that cannot be used.
const BAD_GRANT_PAUSE: Duration = Duration::from_secs(30);
/// Grants in a row that are not what the owner wants after which the same holds: one may have crossed a change of mind.
const UNWANTED_GRANTS_MAX: u32 = 3;

/// What a terminal is told at its start.
#[derive(Debug, Clone)]
pub struct TerminalConfig {
    /// Its own id.
    pub me: NodeId,
    /// The profile of its sandbox.
    pub profile: ProfileId,
    /// The most units that it ever runs at a time.
    pub slots: usize,
    /// What the owner allows now.
    pub allowance: Allowance,
    /// Whose it is; its own if there is none.
    pub certificate: Option<Verified<DeviceCertificate>>,
    /// Where it is registered; of more than [`REGISTRATIONS_MAX`], those that hold longest.
    pub registrations: Vec<Verified<Registration>>,
}

impl TerminalConfig {
    /// Returns in which bounds units may run now.
    fn room(&self) -> Room {
        let Allowance {
            run,
            slots,
            memory_bytes,
            ..
        } = self.allowance;
        Room {
            slots: if run { slots.min(self.slots) } else { 0 },
            memory_bytes,
        }
    }
}

/// Names a piece of work that the shell was told to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Job(pub u64);

/// What happened.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an input is moved once, from the shell to the machine"
)]
pub enum Input {
    /// A coordinator is connected and has shown its role.
    Found(NodeId),
    /// Its connection is gone.
    Lost(NodeId),
    /// There is evidence against a coordinator: nothing is done for it from now on.
    Distrusted(NodeId),
    /// A coordinator has offered units.
    OfferHeard(Box<Verified<Offer>>),
    /// A coordinator has units of a task.
    Nudged {
        /// The coordinator.
        by: NodeId,
        /// The task.
        task: TaskId,
    },
    /// A pull was answered.
    Answered {
        /// The question.
        question: Question,
        /// The answer, its grant checked.
        answer: Answer,
    },
    /// A pull was not answered, or refused.
    Failed {
        /// The question.
        question: Question,
        /// The refusal, none if there was no answer.
        refusal: Option<Refusal>,
    },
    /// Units of a job were run.
    Ran {
        /// The job.
        job: Job,
        /// The units.
        runs: Vec<Run>,
    },
    /// All units of a job were run, or it was stopped: a slot is free.
    Finished(Job),
    /// An app server has registered this terminal.
    Registered(Box<Verified<Registration>>),
    /// Where other terminals may reach this one has changed.
    Shared(Vec<String>),
    /// Receipts came from the log of a coordinator; those that are in the wallet are not told.
    Logged {
        /// Whose log it is.
        by: NodeId,
        /// The receipts.
        receipts: Vec<Verified<Receipt>>,
    },
    /// Receipts of a coordinator are durable: they may be acknowledged.
    Kept {
        /// Who signed them.
        by: NodeId,
        /// Which.
        receipts: Vec<ReceiptId>,
    },
    /// The owner allows something else. If nothing may run any more, the shell has suspended what runs.
    Allowed(Box<Allowance>),
    /// The memory of the units at work is needed: they are stopped and given back.
    Withdraw,
    /// No more work is to be taken; what is there is finished and reported. What is suspended is given back.
    Drain,
    /// The time of [`Terminal::next_deadline`] has come.
    DeadlineReached,
}

/// How one unit ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The unit.
    pub unit: u32,
    /// What it gave, or why it gave nothing.
    pub result: Result<Ran, Fault>,
    /// How long it ran.
    pub took: Duration,
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub fuel: u64,
    /// What it wrote.
    pub output: BlobRef,
    /// The output itself, if it is small.
    pub inline: Option<Vec<u8>>,
}

/// What the shell has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask a coordinator: sign the results, show the grants.
    Pull(Box<PullOut>),
    /// Get program and inputs of a grant, so that they are there when it is run.
    Prepare(GrantId),
    /// Run units of a grant, in this order.
    Execute {
        /// Repeated with the results.
        job: Job,
        /// The grant.
        grant: GrantId,
        /// The units, as places in the grant.
        places: std::ops::Range<usize>,
    },
    /// Stop running a job.
    Stop(Job),
    /// The program and inputs of a grant are not needed any more.
    Release(GrantId),
    /// The outputs are not needed any more.
    Discard(Vec<BlobId>),
    /// Try to connect to a coordinator.
    Dial(Box<Verified<Offer>>),
    /// Write a receipt to the wallet, then say [`Input::Kept`].
    KeepReceipt(Box<KeptReceipt>),
    /// Note a receipt that is wrong: the wallet keeps it as evidence.
    Dispute(Box<Dispute>),
    /// Note results of a coordinator that will not be paid.
    GiveUp(NodeId, Vec<UnpaidLeaf>),
    /// Write down how things stand with a coordinator, for [`Terminal::remember`].
    Settle(NodeId, Totals),
    /// Receipts of a coordinator are missing: get them from its log.
    CatchUp(NodeId),
}

/// Whom a question went to, and what it was.
#[derive(Debug)]
struct Asked {
    to: NodeId,
    want: u32,
    /// The batch that it carries.
    root: Option<Hash>,
    /// The receipts that it acknowledges.
    kept: Vec<ReceiptId>,
    /// The app server of the registration that it shows.
    registration: Option<NodeId>,
}

/// The state of a terminal.
#[derive(Debug)]
pub struct Terminal {
    config: TerminalConfig,
    seed: [u8; 32],
    asked: u64,
    links: BTreeMap<NodeId, Link>,
    questions: BTreeMap<Question, Asked>,
    work: Work,
    distrusted: BTreeSet<NodeId>,
    wallet: Wallet,
    registrations: Registrations,
    share: Vec<String>,
    earnings: Earnings,
    /// Since when nothing may run, if it is so.
    suspended_since: Option<Timestamp>,
    draining: bool,
    tally: Tally,
}

impl Terminal {
    /// Starts without work. `seed` spreads pauses and names questions.
    #[must_use]
    pub fn new(mut config: TerminalConfig, seed: [u8; 32]) -> Self {
        let work = Work::new(&config.room());
        let wallet = Wallet::new(config.me, config.profile.clone(), config.slots);
        let registrations = Registrations::of(std::mem::take(&mut config.registrations));
        Self {
            config,
            seed,
            asked: 0,
            links: BTreeMap::new(),
            questions: BTreeMap::new(),
            work,
            distrusted: BTreeSet::new(),
            wallet,
            registrations,
            share: Vec::new(),
            earnings: Earnings::default(),
            suspended_since: None,
            draining: false,
            tally: Tally::default(),
        }
    }

    /// Takes how things stood with a coordinator when the last run of this terminal ended: before the first input.
    pub fn remember(&mut self, coordinator: NodeId, totals: Totals) {
        self.wallet.remember(coordinator, totals);
    }

    /// Takes one input. Never fails, never waits.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Effect>) {
        self.wallet.note_time(now);
        match input {
            Input::Found(node) => self.found(now, node),
            Input::Lost(node) => {
                if let Some(link) = self.links.get_mut(&node) {
                    link.lose(now);
                }
            }
            Input::Distrusted(node) => self.distrust(node, out),
            Input::OfferHeard(offer) => self.heard(now, offer, out),
            Input::Nudged { by, .. } => {
                if let Some(link) = self.links.get_mut(&by) {
                    link.nudge(now);
                }
            }
            Input::Answered { question, answer } => self.answered(now, question, answer, out),
            Input::Failed { question, refusal } => self.failed(now, question, refusal, out),
            Input::Ran { job, runs } => self.ran(now, job, runs, out),
            Input::Finished(job) => self.finished(now, job, out),
            Input::Registered(registration) => self.registered(now, *registration),
            Input::Shared(addresses) => self.share = addresses,
            Input::Logged { by, receipts } => {
                let told = Told {
                    receipts,
                    ..Told::default()
                };
                carry(by, self.wallet.collect(now, by, told), out);
            }
            Input::Kept { by, receipts } => self.wallet.kept(by, &receipts),
            Input::Allowed(allowance) => self.allowed(now, *allowance, out),
            Input::Withdraw => self.withdraw(now, out),
            Input::Drain => self.draining = true,
            Input::DeadlineReached => {}
        }
        self.give_up_lost(now, out);
        self.withdraw_where_due(now, out);
        self.work.start_jobs(
            |coordinator| {
                self.links
                    .get(&coordinator)
                    .is_none_or(|link| link.kept() < RESULTS_MAX)
            },
            out,
        );
        self.pull_where_due(now, out);
    }

    /// Returns when [`Input::DeadlineReached`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let due = |(node, link): (&NodeId, &Link)| {
            link.due(self.wants(*node), self.asked_every(*node))
                .or_else(|| link.given_up_at())
        };
        let links = self.links.iter().filter_map(due);
        links.chain(self.withdrawn_at()).min()
    }

    /// Returns what was done since the start.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Returns whether everything is finished and reported.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.work.is_empty() && self.links.values().all(Link::is_done)
    }

    /// Returns units in store and units being run.
    #[must_use]
    pub fn busy(&self) -> (usize, usize) {
        (self.work.stored(), self.work.running())
    }

    /// Returns for whom it earns.
    #[must_use]
    pub fn owner(&self, now: Timestamp) -> NodeId {
        let certificate = self.shown(now);
        certificate.map_or(self.config.me, Verified::signer)
    }

    /// Returns the certificate, while it holds.
    fn shown(&self, now: Timestamp) -> Option<&Verified<DeviceCertificate>> {
        let certificate = self.config.certificate.as_ref();
        certificate.filter(|shown| certificate::holder(self.config.me, Some(shown), now).is_ok())
    }

    /// Returns how things stand with each coordinator that it has worked for.
    pub fn credits(&self) -> impl Iterator<Item = (NodeId, Credit)> + '_ {
        self.wallet.credits()
    }

    /// Returns the coordinators in touch.
    pub fn coordinators(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.links
            .iter()
            .filter(|(_, link)| link.is_connected())
            .map(|(node, _)| *node)
    }

    /// Returns whether more work is taken at all.
    fn takes_work(&self) -> bool {
        self.config.allowance.take && self.config.room().slots > 0 && !self.draining
    }

    /// Returns how many more units are wanted from this coordinator.
    fn wants(&self, from: NodeId) -> u32 {
        let full = self.work.count_of(from) >= RENEWALS_MAX;
        if !self.takes_work() || full || self.wallet.is_owing(from) {
            return 0;
        }
        let asked: usize = self
            .questions
            .values()
            .map(|asked| asked.want as usize)
            .sum();
        let room = STORE_UNITS_MAX.saturating_sub(self.work.stored() + asked);
        self.work
            .wants()
            .min(u32::try_from(room).unwrap_or(u32::MAX))
    }

    /// Returns how long after its last answer a coordinator is asked again even if no work is wanted. While there is work
    /// of it, receipts come with the answers to reports and renewals.
    fn asked_every(&self, node: NodeId) -> Option<Duration> {
        let renew = self.work.renew_every(node);
        renew.or_else(|| self.wallet.collect_every(node))
    }

    /// Asks each coordinator for which something is due.
    fn pull_where_due(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let is_due = |(node, link): &(&NodeId, &Link)| {
            link.due(self.wants(**node), self.asked_every(**node))
                .is_some_and(|at| at <= now)
        };
        let due: Vec<NodeId> = self
            .links
            .iter()
            .filter(is_due)
            .map(|(node, _)| *node)
            .collect();
        for to in due {
            let pull = self.pull(now, to);
            out.extend(pull.map(|pull| Effect::Pull(Box::new(pull))));
        }
    }

    /// Returns whether a coordinator that owes too much is asked for a unit on trial: one at a time, when nothing else of
    /// it is here, and if there is a slot for it.
    fn may_try(&mut self, now: Timestamp, to: NodeId) -> bool {
        let is_idle = self.links.get(&to).is_some_and(Link::is_done) && self.work.count_of(to) == 0;
        let is_free = self.takes_work() && self.work.wants() > 0;
        is_idle && is_free && self.wallet.may_try(now, to)
    }

    /// Asks a coordinator for work and reports what is there.
    fn pull(&mut self, now: Timestamp, to: NodeId) -> Option<PullOut> {
        self.earnings.forget(now, self.config.allowance.hourly_min);
        let wishes = self.wishes();
        let is_shunned = self.links.get(&to).is_some_and(|link| link.is_shunned(now));
        let want = if is_shunned {
            0
        } else if self.wallet.is_owing(to) {
            u32::from(self.may_try(now, to))
        } else {
            self.wants(to)
        };
        let holder = self.holder(now);
        let link = self.links.get_mut(&to)?;
        let shown = link.showing.take(&self.registrations, (holder, now));
        let (registered_at, registration) = shown.unzip();
        let Asking {
            results,
            abandoned,
            show,
        } = link.ask(now);
        let shown = show.iter().filter_map(|grant| self.work.grant(grant));
        let grants: Vec<Signed<Grant>> = shown.map(|grant| grant.signed().clone()).collect();
        let terms = |(result, took): &(UnitResult, Duration)| {
            let terms = self.work.terms(&result.grant)?;
            Some(Reported::new(terms.clone(), result, *took))
        };
        let reported: Option<Vec<Reported>> = results.iter().map(terms).collect();
        let results: Vec<UnitResult> = results.into_iter().map(|(result, _)| result).collect();
        let reports = !results.is_empty() || !grants.is_empty();
        let batch = reports.then(|| Batch::of(&results, to, now));
        let root = batch.as_ref().map(|batch| batch.root);
        let certificate = self.shown(now).map(|shown| shown.signed().clone());
        let remembered = (root.unwrap_or_else(|| merkle::root([])), holder.owner);
        let Claims { kept, owed } = self
            .wallet
            .ask(to, remembered, reported.unwrap_or_default());
        self.asked += 1;
        let question = Question(self.asked);
        let asked = Asked {
            to,
            want,
            root,
            kept: kept.clone(),
            registration: registered_at,
        };
        self.questions.insert(question, asked);
        Some(PullOut {
            question,
            to,
            want,
            wishes,
            renew: self.work.of(to),
            abandoned,
            batch,
            results,
            grants,
            share: self.share.clone(),
            certificate,
            registration,
            kept,
            owed,
        })
    }

    fn answered(
        &mut self,
        now: Timestamp,
        question: Question,
        answer: Answer,
        out: &mut Vec<Effect>,
    ) {
        let Some(asked) = self.questions.remove(&question) else {
            return;
        };
        let (from, want) = (asked.to, asked.want);
        let Some(link) = self.links.get_mut(&from) else {
            return;
        };
        let has_grant = answer.grant.is_some();
        let config = &self.config;
        let grant = answer
            .grant
            .filter(|grant| is_usable(grant, config, from, want));
        let grant = grant.zip(answer.card.filter(|card| is_in_order(card, from)));
        let grant = grant.filter(|(grant, card)| grant.rate_card == card.id());
        let pause = if want == 0 || has_grant {
            Pause::None
        } else {
            let pause = Duration::from_millis(answer.retry_millis).min(RETRY_MAX);
            Pause::Idle(spread(&self.seed, question, pause))
        };
        let settled = link.answered(now, pause, &answer.verdicts);
        if has_grant && grant.is_none() {
            link.shun(now + BAD_GRANT_PAUSE);
        } else if want > 0 && !has_grant {
            link.note_nothing(now, answer.unfit);
        }
        // A coordinator ends its own grants, nobody else's.
        let is_foreign = |grant: &GrantId| {
            let held = self.work.grant(grant);
            held.is_some_and(|held| held.signer() != from)
        };
        let mut ended = answer.ended;
        ended.retain(|grant| !is_foreign(grant));
        let is_ours = |grant: &GrantId| {
            let held = self.work.grant(grant);
            held.is_some_and(|held| held.signer() == from)
        };
        link.show_unknown(now, answer.unknown.into_iter().filter(is_ours));
        for grant in ended {
            discard(link.forget(grant), out);
            self.work.end(grant, out);
        }
        self.settle(settled, out);
        let told = Told {
            root: asked.root,
            verdicts: &answer.verdicts,
            receipts: answer.receipts,
            unpaid: &answer.unpaid,
        };
        let collected = self.wallet.collect(now, from, told);
        carry(from, collected, out);
        if let Some((grant, card)) = grant {
            self.take(now, grant, &card.rates, out);
        }
    }

    fn settle(&mut self, settled: Settled, out: &mut Vec<Effect>) {
        self.tally.counted += settled.counted;
        self.tally.uncounted += settled.uncounted;
        self.tally.count_verdicts(&settled.verdicts);
        discard(settled.outputs, out);
        for grant in settled.grants {
            self.work.reported(grant, out);
        }
    }

    fn failed(
        &mut self,
        now: Timestamp,
        question: Question,
        refusal: Option<Refusal>,
        out: &mut Vec<Effect>,
    ) {
        let Some(asked) = self.questions.remove(&question) else {
            return;
        };
        self.wallet.unanswered(asked.to, asked.kept);
        let Some(link) = self.links.get_mut(&asked.to) else {
            return;
        };
        let jitter = |pause| spread(&self.seed, question, pause);
        let settled = link.failed(now, refusal.as_ref(), jitter);
        if let (None | Some(Refusal::Busy), Some(app_server)) = (&refusal, asked.registration) {
            link.showing.show_again(app_server);
        }
        self.settle(settled, out);
    }

    fn ran(&mut self, now: Timestamp, job: Job, runs: Vec<Run>, out: &mut Vec<Effect>) {
        let (mut unwanted, mut measured) = (Vec::new(), BTreeSet::new());
        for run in runs {
            let ours = self.work.ran(job, &run);
            let link = ours.and_then(|ours| {
                let link = self.links.get_mut(&ours.coordinator)?;
                Some((ours, link))
            });
            let Some((ours, link)) = link else {
                let ran = run.result.ok().filter(|ran| ran.inline.is_none());
                unwanted.extend(ran.map(|ran| ran.output.id));
                continue;
            };
            self.tally.units += 1;
            match run.result {
                Ok(ran) => {
                    self.tally.fuel = self.tally.fuel.saturating_add(ran.fuel);
                    let result = ran.reported(ours.grant, run.unit);
                    let terms = self.work.terms(&ours.grant);
                    let points = terms.and_then(|terms| terms.points(&result));
                    if let Some(points) = points.filter(|_| ours.pace == Pace::Steady) {
                        self.earnings.note(now, ours.task, (points, run.took));
                        measured.insert((ours.task, ours.grant));
                    }
                    link.keep(now, ours.within, (result, run.took));
                }
                Err(fault) => {
                    let grant = (ours.coordinator, ours.grant);
                    self.give_back(now, grant, ([run.unit], fault), out);
                }
            }
        }
        discard(unwanted, out);
        self.judge(now, measured, out);
        self.report_if_idle(now);
    }

    /// Frees the slot of a job. Units that it should have run and did not are given back.
    fn finished(&mut self, now: Timestamp, job: Job, out: &mut Vec<Effect>) {
        let Some((ours, left)) = self.work.finished(job) else {
            return;
        };
        // What dies while it is suspended, the computer had no room for.
        let fault = if self.config.allowance.run {
            Fault::Killed
        } else {
            Fault::Withdrawn
        };
        self.give_back(now, (ours.coordinator, ours.grant), (left, fault), out);
        self.work.drop_if_done(ours.grant, out);
    }

    /// Reports at once if nothing is left to run, so that small tasks end fast.
    fn report_if_idle(&mut self, now: Timestamp) {
        if self.work.stored() == 0 {
            for link in self.links.values_mut() {
                link.report_now(now);
            }
        }
    }
}

impl Ran {
    fn reported(self, grant: GrantId, unit: u32) -> UnitResult {
        let Self {
            outcome,
            fuel,
            output,
            inline,
        } = self;
        UnitResult {
            grant,
            unit,
            outcome,
            fuel,
            output,
            inline,
        }
    }
}

/// Returns whether a grant is by whom was asked, for this terminal, not more than it wants, and of each unit once.
fn is_usable(grant: &Verified<Grant>, config: &TerminalConfig, from: NodeId, want: u32) -> bool {
    let units = grant.units.iter().map(|leased| leased.unit);
    let is_short = grant.units.len() <= want as usize;
    is_short
        && units.collect::<BTreeSet<u32>>().len() == grant.units.len()
        && grant.signer() == from
        && grant.device == config.me
        && grant.profile == config.profile
}

/// Returns whether a rate card is by whom was asked, and makes sense.
fn is_in_order(card: &Verified<RateCard>, from: NodeId) -> bool {
    card.signer() == from && card.rates.check().is_ok()
}

/// Has the shell write down what came of an answer.
fn carry(from: NodeId, collected: Collected, out: &mut Vec<Effect>) {
    let kept = collected.kept.into_iter().map(Box::new);
    out.extend(kept.map(Effect::KeepReceipt));
    let disputes = collected.disputes.into_iter().map(Box::new);
    out.extend(disputes.map(Effect::Dispute));
    if !collected.unpaid.is_empty() {
        out.push(Effect::GiveUp(from, collected.unpaid));
    }
    let totals = collected.totals;
    out.extend(totals.map(|totals| Effect::Settle(from, totals)));
    if collected.missing {
        out.push(Effect::CatchUp(from));
    }
}

fn discard(outputs: Vec<BlobId>, out: &mut Vec<Effect>) {
    if !outputs.is_empty() {
        out.push(Effect::Discard(outputs));
    }
}

/// Returns `pause` plus up to half of it, so that terminals do not come back together.
fn spread(seed: &[u8; 32], question: Question, pause: Duration) -> Duration {
    let draw = blake3::keyed_hash(seed, &question.0.to_be_bytes());
    pause + pause * u32::from(draw.as_bytes()[0]) / 512
}

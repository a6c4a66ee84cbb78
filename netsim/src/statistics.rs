//! The numbers of a run, counted while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tally_protocol::coordinator::Compared;
use tally_protocol::entry::Ending;
use tally_protocol::id::TaskId;
use tally_protocol::terminal::Standing;

use crate::conduct::Kind;
use crate::execution::Execution;
use crate::happening::{Gave, Happening, Lease, Observer, Payment, Unit};
use crate::links::Traffic;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::{Reference, TaskReference};
use crate::report::spread::Recorder;
use crate::report::{self, LiarReport, Population, RunReport, Series, TaskReport};

/// Distance of the first samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// When there are so many samples, every other one is dropped and their distance doubled.
const SAMPLES_MAX: usize = 400;

/// What is sampled at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Terminals that are there.
    pub(crate) online: u64,
    /// Their slots.
    pub(crate) slots: u64,
    /// Slots that run a unit.
    pub(crate) busy: u64,
    /// Bytes that all nodes have sent.
    pub(crate) bytes: u64,
}

/// Counts what happens.
#[derive(Debug)]
pub struct Statistics {
    tasks: BTreeMap<TaskId, TaskCount>,
    conducts: BTreeMap<Peer, Kind>,
    liars: BTreeMap<Peer, LiarCount>,
    rights: Arc<Execution>,
    latency: Recorder,
    validated: u64,
    submitted: u64,
    pulls: u64,
    bytes: u64,
    series: Series,
    marks: Vec<report::Mark>,
    refusals: BTreeMap<String, u64>,
    deeds: BTreeMap<String, BTreeMap<String, u64>>,
    leases: BTreeMap<String, u64>,
    colluded: u64,
    messages_lost: u64,
    accounts: report::Accounts,
    sales: report::Sales,
}

#[derive(Debug)]
struct TaskCount {
    units: u32,
    submitted: Option<Moment>,
    ended: Option<(Moment, String)>,
    first_lease: Vec<Option<Moment>>,
    leases: Vec<u32>,
    results: Vec<u32>,
}

#[derive(Debug)]
struct LiarCount {
    lied: Moment,
    detected: Option<Moment>,
    lies: u64,
    outvoted: u64,
}

impl Statistics {
    pub(crate) fn new(reference: &Reference) -> Self {
        let count = |units: u32| TaskCount {
            units,
            submitted: None,
            ended: None,
            first_lease: vec![None; units as usize],
            leases: vec![0; units as usize],
            results: vec![0; units as usize],
        };
        let tasks = reference.tasks().iter();
        Self {
            tasks: tasks.map(|(id, task)| (*id, count(task.units))).collect(),
            conducts: reference.dishonest().collect(),
            liars: BTreeMap::new(),
            rights: Arc::clone(&reference.execution),
            latency: Recorder::new(),
            validated: 0,
            submitted: 0,
            pulls: 0,
            bytes: 0,
            series: Series {
                every_seconds: SAMPLE_EVERY.as_secs_f64(),
                ..Series::default()
            },
            marks: Vec::new(),
            refusals: BTreeMap::new(),
            deeds: BTreeMap::new(),
            leases: BTreeMap::new(),
            colluded: 0,
            messages_lost: 0,
            accounts: report::Accounts::default(),
            sales: report::Sales::default(),
        }
    }

    /// Returns the units validated so far.
    #[must_use]
    pub const fn validated_units(&self) -> u64 {
        self.validated
    }

    pub(crate) fn sample(&mut self, sample: Sample) {
        let series = &mut self.series;
        series.validated.push(self.validated);
        series.submitted.push(self.submitted);
        series.online.push(sample.online);
        series.slots.push(sample.slots);
        series.busy.push(sample.busy);
        series.pulls.push(std::mem::take(&mut self.pulls));
        series.bytes.push(sample.bytes - self.bytes);
        self.bytes = sample.bytes;
        if series.validated.len() >= SAMPLES_MAX {
            let levels = [
                &mut series.validated,
                &mut series.submitted,
                &mut series.online,
                &mut series.slots,
                &mut series.busy,
            ];
            for samples in levels {
                *samples = samples.chunks(2).map(|pair| pair[pair.len() - 1]).collect();
            }
            for samples in [&mut series.pulls, &mut series.bytes] {
                *samples = samples.chunks(2).map(|pair| pair.iter().sum()).collect();
            }
            series.every_seconds *= 2.0;
        }
    }

    /// Returns the distance of the next sample.
    pub(crate) fn sample_every(&self) -> Duration {
        Duration::from_secs_f64(self.series.every_seconds)
    }

    /// Returns the numbers; name, seed and the like are left to the world.
    pub(crate) fn report(
        &self,
        reference: &Reference,
        nodes: (u32, u32),
        traffic: Vec<Traffic>,
    ) -> RunReport {
        let (mut sent, mut received) = (Recorder::new(), Recorder::new());
        for traffic in &traffic {
            sent.record(traffic.sent);
            received.record(traffic.received);
        }
        let mut dishonest = BTreeMap::new();
        for kind in self.conducts.values() {
            *dishonest.entry(kind.name().to_owned()).or_insert(0) += 1;
        }
        let mut tasks: Vec<(u32, TaskReport)> = reference
            .tasks()
            .iter()
            .map(|(id, task)| (task.number, self.task_report(id, task)))
            .collect();
        tasks.sort_by_key(|(number, _)| *number);
        RunReport {
            population: Population {
                terminals: nodes.0,
                coordinators: nodes.1,
                customers: u32::try_from(reference.tasks().len()).unwrap_or(u32::MAX),
                dishonest,
            },
            tasks: tasks.into_iter().map(|(_, task)| task).collect(),
            series: self.series.clone(),
            marks: self.marks.clone(),
            replicas_per_unit: counted(self.tasks.values().flat_map(|task| &task.results)),
            leases_per_unit: counted(self.tasks.values().flat_map(|task| &task.leases)),
            validated_units: self.validated,
            messages_lost: self.messages_lost,
            accounts: self.accounts.clone(),
            sales: self.sales.clone(),
            unit_latency: self.latency.spread(1e-6),
            bytes_sent: sent.spread(1.0),
            bytes_received: received.spread(1.0),
            liars: self.liars(),
            refusals: self.refusals.clone(),
            deeds: self.deeds.clone(),
            leases: self.leases.clone(),
            colluded_units: self.colluded,
            ..RunReport::default()
        }
    }

    fn task_report(&self, id: &TaskId, task: &TaskReference) -> TaskReport {
        let count = &self.tasks[id];
        let ended = count.ended.as_ref();
        TaskReport {
            name: task.name.clone(),
            units: task.units,
            agree: task.agree,
            submitted: count.submitted.map_or(0.0, Moment::as_secs_f64),
            ended: ended.map(|(at, _)| at.as_secs_f64()),
            ending: ended.map_or_else(|| "has not ended".to_owned(), |(_, ending)| ending.clone()),
        }
    }

    fn liars(&self) -> Vec<LiarReport> {
        let mut liars: Vec<(&Peer, &LiarCount)> = self.liars.iter().collect();
        liars.sort_by_key(|(_, liar)| liar.lied);
        let report = |(peer, liar): (&Peer, &LiarCount)| LiarReport {
            device: peer.to_string(),
            conduct: self
                .conducts
                .get(peer)
                .map_or("honest", |kind| kind.name())
                .to_owned(),
            lied: liar.lied.as_secs_f64(),
            detected: liar.detected.map(Moment::as_secs_f64),
            lies: liar.lies,
            outvoted: liar.outvoted,
        };
        liars.into_iter().map(report).collect()
    }

    fn is_right(&self, unit: Unit, gave: &Gave) -> bool {
        let right = self.rights.right(&unit.task, unit.unit);
        right.is_some_and(|right| Gave::from(&right) == *gave)
    }

    fn deed(&mut self, how: &str, with: &str) {
        let met = self.deeds.entry(how.to_owned()).or_default();
        *met.entry(with.to_owned()).or_insert(0) += 1;
    }

    fn leased(&mut self, at: Moment, (to, task): (Peer, &TaskId), leases: &[Lease]) {
        let kind = self.conducts.get(&to).copied().unwrap_or_default();
        *self.leases.entry(kind.name().to_owned()).or_insert(0) += leases.len() as u64;
        if let Some(task) = self.tasks.get_mut(task) {
            for lease in leases {
                task.first_lease[lease.unit as usize].get_or_insert(at);
                task.leases[lease.unit as usize] += 1;
            }
        }
    }

    fn voted(&mut self, at: Moment, by: Peer, (unit, gave): (Unit, &Gave)) {
        if let Some(task) = self.tasks.get_mut(&unit.task) {
            task.results[unit.unit as usize] += 1;
        }
        // Only of those that may lie: looking up the right result costs something.
        if self.conducts.contains_key(&by) && !self.is_right(unit, gave) {
            let liar = self.liars.entry(by).or_insert(LiarCount {
                lied: at,
                detected: None,
                lies: 0,
                outvoted: 0,
            });
            liar.lies += 1;
        }
    }

    fn validated(
        &mut self,
        at: Moment,
        (unit, gave): (Unit, &Gave),
        (agreed, outvoted): (&[Peer], &[Peer]),
    ) {
        self.validated += 1;
        let task = self.tasks.get(&unit.task);
        if let Some(first) = task.and_then(|task| task.first_lease[unit.unit as usize]) {
            let micros = at.since(first).as_micros();
            self.latency
                .record(u64::try_from(micros).unwrap_or(u64::MAX));
        }
        for peer in outvoted {
            if let Some(liar) = self.liars.get_mut(peer) {
                liar.detected.get_or_insert(at);
                liar.outvoted += 1;
            }
        }
        let liars = agreed.iter().any(|peer| self.conducts.contains_key(peer));
        if liars && !self.is_right(unit, gave) {
            self.colluded += 1;
        }
    }
}

/// Returns how often each number but zero is there.
fn counted<'a>(numbers: impl Iterator<Item = &'a u32>) -> BTreeMap<u32, u64> {
    let mut counted = BTreeMap::new();
    for number in numbers.filter(|number| **number > 0) {
        *counted.entry(*number).or_insert(0) += 1;
    }
    counted
}

fn told(ending: &Ending) -> String {
    match ending {
        Ending::Done(_) => "done".to_owned(),
        Ending::Failed(reason) => format!("failed: {reason}"),
        Ending::Cancelled => "cancelled".to_owned(),
    }
}

impl Statistics {
    /// Counts what became of receipts.
    fn earned(&mut self, what: &Happening) {
        if let Happening::Receipted { .. } = what {
            self.accounts.receipts += 1;
        } else if let Happening::ReceiptKept { standing, .. } = what {
            self.accounts.kept.0 += 1;
            self.accounts.kept.1 += u64::from(*standing == Standing::Checked);
        } else if let Happening::Disputed { fault, .. } = what {
            *self.accounts.disputes.entry(fault.to_string()).or_insert(0) += 1;
        } else if let Happening::Answered { compared, .. } = what {
            self.accounts.known.0 += 1;
            self.accounts.known.1 += u64::from(*compared == Compared::Other);
        } else if let Happening::GivenUp { results, .. } = what {
            self.accounts.unpaid += u64::from(*results);
        } else if let Happening::MoneyMoved {
            how: Payment::Payout,
            money,
            ..
        } = what
        {
            self.accounts.paid_out += money.minor;
        }
    }

    fn submitted(&mut self, at: Moment, task: &TaskId) {
        if let Some(task) = self.tasks.get_mut(task) {
            task.submitted.get_or_insert(at);
            self.submitted += u64::from(task.units);
        }
    }

    fn ended(&mut self, at: Moment, task: &TaskId, ending: &Ending) {
        if let Some(task) = self.tasks.get_mut(task) {
            task.ended = Some((at, told(ending)));
        }
    }

    /// Counts what concerns app servers.
    fn sold(&mut self, what: &Happening) {
        if let Happening::Redeemed { how, .. } = what {
            *self.sales.redemptions.entry(how.to_string()).or_default() += 1;
        } else if let Happening::OrderChanged { how, .. } = what {
            *self.sales.orders.entry((*how).to_owned()).or_default() += 1;
        } else if let Happening::VoucherTaken { .. } = what {
            self.sales.vouchers += 1;
        }
    }
}

impl Observer for Statistics {
    fn see(&mut self, at: Moment, what: &Happening) {
        match what {
            Happening::Submitted { task, .. } => self.submitted(at, task),
            Happening::Leased {
                to, task, leases, ..
            } => self.leased(at, (*to, task), leases),
            Happening::Pulled { .. } => self.pulls += 1,
            Happening::Voted { by, unit, gave, .. } => self.voted(at, *by, (*unit, gave)),
            Happening::Validated {
                unit,
                gave,
                agreed,
                outvoted,
                ..
            } => self.validated(at, (*unit, gave), (agreed, outvoted)),
            Happening::Ended { task, ending, .. } => self.ended(at, task, ending),
            Happening::Receipted { .. }
            | Happening::ReceiptKept { .. }
            | Happening::Answered { .. }
            | Happening::Disputed { .. }
            | Happening::GivenUp { .. }
            | Happening::MoneyMoved { .. } => self.earned(what),
            Happening::Sent { arrives: false, .. } => self.messages_lost += 1,
            Happening::Refused { why, .. } => {
                *self.refusals.entry((*why).to_owned()).or_insert(0) += 1;
            }
            Happening::Cheated { how, .. } => self.deed(how, "done"),
            Happening::Met { how, with, .. } => self.deed(how, with),
            Happening::Marked(mark) => self.marks.push(report::Mark {
                at: at.as_secs_f64(),
                what: mark.to_string(),
            }),
            Happening::ForkFound { .. } => self.accounts.forks += 1,
            Happening::Redeemed { .. }
            | Happening::OrderChanged { .. }
            | Happening::VoucherTaken { .. }
            | Happening::Agreed { .. }
            | Happening::Registered { .. }
            | Happening::OrderPaid { .. }
            | Happening::SettlementStands { .. }
            | Happening::Contented { .. } => self.sold(what),
            Happening::Started { .. }
            | Happening::Stopped { .. }
            | Happening::Connected { .. }
            | Happening::Disconnected { .. }
            | Happening::LookedUp { .. }
            | Happening::Offered { .. }
            | Happening::Accepted { .. }
            | Happening::Divided { .. }
            | Happening::LeaseEnded { .. }
            | Happening::Interrupted { .. }
            | Happening::Began { .. }
            | Happening::GivenBack { .. }
            | Happening::Ran { .. }
            | Happening::Reported { .. }
            | Happening::Faulted { .. }
            | Happening::Judged { .. }
            | Happening::Merged { .. }
            | Happening::Settled { .. }
            | Happening::ClawedBack { .. }
            | Happening::PointsTurned { .. }
            | Happening::HeadTold { .. }
            | Happening::HeadHeard { .. }
            | Happening::Forgotten { .. }
            | Happening::Told { .. }
            | Happening::Satisfied { .. }
            | Happening::Sent { arrives: true, .. }
            | Happening::Breached { .. } => {}
        }
    }
}

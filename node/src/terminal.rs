//! The terminal's shell: one task owns the [machine](tally_protocol::terminal), feeds it what happens and carries out
//! what it wants: signs and sends pulls, gets programs and inputs, gives orders to the sandboxes.

mod catch_up;
mod keeper;
mod prepare;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use libp2p::Multiaddr;
use serde::Serialize;
use tally_ledger::wallet::{KeptBatch, Papers, Wallet, Write};
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::coordinator::Question;
use tally_protocol::id::{BlobId, GrantId, Hash, NetworkId, NodeId, ReceiptId, TaskId};
use tally_protocol::message::Refusal;
use tally_protocol::message::announce::Offer;
use tally_protocol::message::work::{
    Grant, Leased, Pull, PullReply, ResultVerdict, UnitResult, WorkReply, WorkRequest,
};
use tally_protocol::receipt::Receipt;
use tally_protocol::registration::Registration;
use tally_protocol::signed::Verified;
use tally_protocol::terminal::{
    Allowance, Answer, Beside, Credit, Declined, Dispute, Effect, Input, Job, LinkStanding,
    PullOut, Run, Suspended, Terminal, TerminalConfig,
};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::{Fault, ProfileId};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::blobs::{Access, BlobStore};
use crate::clock;
use crate::error::{chain, joined};
use crate::peers::Peers;
use crate::worker::{AtWork, Order, Report, Workers};
use catch_up::{Logged, Look};
use keeper::Keeper;
use prepare::{Prepared, Programs};

/// Messages that wait for the terminal: more make their senders wait.
pub const MAILBOX_MAX: usize = 1_024;
/// Inputs taken at once before effects are carried out.
const INPUTS_MAX: usize = 256;
/// Other terminals that are dialled for the gossip mesh.
const MESH_DIALS_MAX: usize = 8;

/// What the shell is told.
#[derive(Debug)]
pub enum Message {
    /// For the machine.
    Input(Box<Input>),
    /// From a slot.
    Worker(Report),
    /// The answer to a pull.
    Pulled(Question, Result<Box<Pulled>, Option<Refusal>>),
    /// Program and inputs of a grant are here.
    Prepared(GrantId, Result<Prepared, String>),
    /// The wallet cannot be written.
    WalletFailed(String),
    /// A receipt stands in the log of its coordinator.
    Logged(Box<Logged>),
    /// A look at the log of a coordinator is over.
    Looked(NodeId),
    /// Somebody asks whether nothing is at hand: nothing to compute, nothing to report.
    IsDone(oneshot::Sender<bool>),
    /// Somebody asks how it is.
    Status(oneshot::Sender<TerminalStatus>),
    /// Finish what is there, then stop.
    Drain,
}

impl Message {
    /// Makes a message for the machine.
    #[must_use]
    pub fn input(input: Input) -> Self {
        Self::Input(Box::new(input))
    }
}

/// A checked answer to a pull, with what came beside the grant.
#[derive(Debug)]
pub struct Pulled {
    answer: Answer,
    beside: Beside,
}

/// How a terminal is, for people.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub struct TerminalStatus {
    /// Coordinators in touch.
    pub coordinators: Vec<NodeId>,
    /// Units in store.
    pub stored: usize,
    /// Jobs that run.
    pub running: usize,
    /// Units run since the start.
    pub units: u64,
    /// Results that counted.
    pub counted: u64,
    /// Results that did not count.
    pub uncounted: u64,
    /// Units that could not be run.
    pub faults: u64,
    /// Fuel of all results.
    pub fuel: u64,
    /// For whom it earns.
    pub owner: NodeId,
    /// How things stand with coordinators that it has worked for.
    pub credits: Vec<(NodeId, Credit)>,
    /// How things stand with coordinators that it asks for work.
    pub standings: Vec<(NodeId, LinkStanding)>,
    /// Units that do not go on at the moment.
    pub suspended: Option<Suspended>,
    /// Since when it takes no more work because the node stops.
    pub draining: Option<Timestamp>,
    /// Units given back because the owner wanted the computer.
    pub withdrawn: u64,
    /// Verdicts on results since the start.
    pub verdicts: BTreeMap<ResultVerdict, u64>,
    /// Units that could not be run since the start, by why.
    pub faults_by: BTreeMap<Fault, u64>,
    /// Tasks that earn too little here.
    pub declined: Vec<(TaskId, Declined)>,
    /// What the slots are at.
    pub at_work: Vec<AtWork>,
}

#[cfg(test)]
impl TerminalStatus {
    /// Returns how a terminal is that has just been started.
    pub(crate) fn empty(owner: NodeId) -> Self {
        Self {
            coordinators: Vec::new(),
            stored: 0,
            running: 0,
            units: 0,
            counted: 0,
            uncounted: 0,
            faults: 0,
            fuel: 0,
            owner,
            credits: Vec::new(),
            standings: Vec::new(),
            suspended: None,
            draining: None,
            withdrawn: 0,
            verdicts: BTreeMap::new(),
            faults_by: BTreeMap::new(),
            declined: Vec::new(),
            at_work: Vec::new(),
        }
    }
}

/// What a terminal needs.
#[derive(Debug)]
pub struct Setup {
    /// The node's key.
    pub key: SigningKey,
    /// The network.
    pub network: NetworkId,
    /// Its profile.
    pub profile: ProfileId,
    /// What the owner allows at the start.
    pub allowance: Allowance,
    /// Units run at a time.
    pub slots: usize,
    /// Contents.
    pub store: BlobStore,
    /// Who may read them.
    pub access: Access,
    /// The way to others.
    pub peers: Peers,
    /// The sandboxes.
    pub workers: Arc<Workers>,
    /// Whose it is; its own if there is none.
    pub certificate: Option<Verified<DeviceCertificate>>,
    /// Where it is registered.
    pub registrations: Vec<Verified<Registration>>,
    /// Told when a receipt came.
    pub earned: Arc<Notify>,
    /// What it has earned.
    pub wallet: Arc<Wallet>,
    /// The most bytes of that.
    pub wallet_bytes_max: u64,
    /// Where the shell's own tasks report to.
    pub mailbox: mpsc::Sender<Message>,
}

/// The shell.
#[derive(Debug)]
pub struct Shell {
    setup: Setup,
    machine: Terminal,
    programs: Programs,
    grants: BTreeMap<GrantId, Held>,
    /// What the wallet keeps of the grants.
    papers: BTreeMap<GrantId, Arc<Papers>>,
    /// Proofs that wait for their receipts to be written.
    proven: Vec<Logged>,
    keeper: Keeper,
    /// When the log of each coordinator may be looked at again, none while that is done; and the last entry that was.
    looks: BTreeMap<NodeId, (Option<Timestamp>, Option<u64>)>,
    writing: std::thread::JoinHandle<()>,
    meshed: BTreeSet<String>,
    draining: Option<Timestamp>,
}

/// A grant with what is needed to run it.
#[derive(Debug)]
enum Held {
    /// On its way; these jobs wait for it.
    Preparing(
        Box<(Verified<Grant>, Leased)>,
        VecDeque<(Job, Range<usize>)>,
    ),
    Ready(Prepared),
    Failed(Arc<Grant>),
}

/// The terminal cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// No sandbox can be started any more.
    #[error("run units: {0}")]
    Sandbox(String),
    /// The wallet cannot be written: what is earned would be lost.
    #[error("{0}")]
    Wallet(String),
}

impl Shell {
    /// Starts without work, with what the wallet knows of coordinators.
    ///
    /// # Errors
    /// [`Broken::Wallet`] if it cannot be read.
    pub fn new(setup: Setup) -> Result<Self, Broken> {
        let me = crate::keys::node_id(&setup.key);
        let config = TerminalConfig {
            me,
            profile: setup.profile.clone(),
            slots: setup.slots,
            allowance: setup.allowance.clone(),
            certificate: setup.certificate.clone(),
            registrations: setup.registrations.clone(),
        };
        let mut machine = Terminal::new(config, rand::random());
        let accounts = setup.wallet.accounts();
        let mut looks = BTreeMap::new();
        for (coordinator, account) in accounts.map_err(|error| Broken::Wallet(chain(&error)))? {
            machine.remember(coordinator, account.totals);
            looks.insert(coordinator, (Some(Timestamp::default()), account.looked_at));
        }
        let (wallet, mailbox) = (Arc::clone(&setup.wallet), setup.mailbox.clone());
        let (keeper, writing) = Keeper::start(wallet, setup.wallet_bytes_max, mailbox);
        Ok(Self {
            setup,
            machine,
            programs: Programs::default(),
            grants: BTreeMap::new(),
            papers: BTreeMap::new(),
            proven: Vec::new(),
            keeper,
            looks,
            writing,
            meshed: BTreeSet::new(),
            draining: None,
        })
    }

    /// Runs until it is told to stop and has reported everything, or all senders are gone.
    ///
    /// # Errors
    /// [`Broken`] if no sandbox can be started any more, or the wallet cannot be written.
    pub async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) -> Result<(), Broken> {
        let mut messages = Vec::with_capacity(INPUTS_MAX);
        if let Some(own) = self.setup.peers.own_coordinator() {
            messages.push(Message::input(Input::Found(own)));
        }
        loop {
            let mut effects = Vec::new();
            for message in messages.drain(..) {
                self.take(message, &mut effects)?;
            }
            for effect in effects {
                self.carry_out(effect);
            }
            self.prove();
            self.look_where_due();
            if self.draining.is_some() && self.machine.is_drained() {
                break;
            }
            if self.keeper.is_stuck() {
                let reason = "write the wallet: the disk does not keep up";
                return Err(Broken::Wallet(reason.to_owned()));
            }
            tokio::select! {
                count = mailbox.recv_many(&mut messages, INPUTS_MAX) => if count == 0 { break },
                () = clock::sleep_until(self.machine.next_deadline()) => {
                    messages.push(Message::input(Input::DeadlineReached));
                }
                () = self.keeper.hand_over() => {}
            }
        }
        self.keeper.finish().await;
        // The thread still tells what it has written, and nobody needs to hear it.
        drop(mailbox);
        let writing = self.writing;
        let _ = tokio::task::spawn_blocking(move || writing.join()).await;
        Ok(())
    }

    fn take(&mut self, message: Message, effects: &mut Vec<Effect>) -> Result<(), Broken> {
        let mut brought = None;
        let input = match message {
            Message::Input(input) => *input,
            Message::Worker(Report::Ran(job, runs)) => Input::Ran { job, runs },
            Message::Worker(Report::Finished(job)) => Input::Finished(job),
            Message::Worker(Report::Broken(reason)) => return Err(Broken::Sandbox(reason)),
            Message::WalletFailed(reason) => return Err(Broken::Wallet(reason)),
            Message::Pulled(question, Ok(pulled)) => {
                let Pulled { answer, beside } = *pulled;
                self.mesh(beside.peers);
                if let (Some(grant), Some(leased)) = (&answer.grant, beside.leased) {
                    self.papers
                        .entry(grant.id)
                        .or_insert_with(|| Arc::new(papers_of(grant, &leased)));
                    // One that is sent again must not undo what was prepared for it.
                    self.grants.entry(grant.id).or_insert_with(|| {
                        brought = Some(grant.id);
                        Held::Preparing(Box::new((grant.clone(), leased)), VecDeque::new())
                    });
                }
                Input::Answered { question, answer }
            }
            Message::Pulled(question, Err(refusal)) => Input::Failed { question, refusal },
            Message::Logged(logged) => {
                let (by, receipt) = (logged.receipt.signer(), logged.receipt.clone());
                self.proven.push(*logged);
                let known = self.setup.wallet.known(&[receipt.id()]);
                if known.is_ok_and(|known| !known.is_empty()) {
                    return Ok(());
                }
                let receipts = vec![receipt];
                Input::Logged { by, receipts }
            }
            Message::Looked(coordinator) => {
                let (next, _) = self.looks.entry(coordinator).or_default();
                *next = Some(clock::now() + catch_up::EVERY);
                return Ok(());
            }
            Message::Prepared(grant, result) => {
                self.prepared(grant, result);
                return Ok(());
            }
            Message::IsDone(reply) => {
                let _ = reply.send(self.machine.is_drained());
                return Ok(());
            }
            Message::Status(reply) => {
                let _ = reply.send(self.status());
                return Ok(());
            }
            Message::Drain => {
                self.draining.get_or_insert(clock::now());
                Input::Drain
            }
        };
        self.machine.handle(clock::now(), input, effects);
        // What came with a grant that the machine does not take is not kept.
        if let Some(grant) = brought.filter(|grant| !effects.contains(&Effect::Prepare(*grant))) {
            self.grants.remove(&grant);
            self.papers.remove(&grant);
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Pull(pull) => self.pull(*pull),
            Effect::Prepare(grant) => self.prepare(grant),
            Effect::Execute { job, grant, places } => self.execute(job, grant, places),
            Effect::Stop(job) => {
                if self.take_back(job) || self.setup.workers.stop(job) {
                    self.tell([Message::Worker(Report::Finished(job))]);
                }
            }
            Effect::Release(grant) => {
                self.grants.remove(&grant);
                self.papers.remove(&grant);
            }
            Effect::Discard(blobs) => self.discard(blobs),
            Effect::Dial(offer) => self.dial(&offer),
            Effect::KeepReceipt(kept) => {
                self.setup.earned.notify_one();
                self.keeper.write(Write::Receipt(kept));
            }
            Effect::Dispute(dispute) => self.dispute(dispute),
            Effect::GiveUp(coordinator, leaves) => {
                self.keeper.write(Write::GiveUp(coordinator, leaves));
            }
            Effect::Settle(coordinator, totals) => {
                self.keeper.write(Write::Totals(coordinator, totals));
            }
            Effect::CatchUp(coordinator) => {
                if let Some((Some(next), _)) = self.looks.get_mut(&coordinator) {
                    *next = (*next).min(clock::now() + catch_up::EVERY_MIN);
                }
            }
        }
    }

    /// Keeps the proofs that came, behind their receipts.
    fn prove(&mut self) {
        for logged in std::mem::take(&mut self.proven) {
            let (by, id) = (logged.receipt.signer(), logged.receipt.id());
            let (proof, sequence) = (Box::new(logged.proof), logged.sequence);
            self.keeper.write(Write::Proof(id, proof));
            self.keeper.write(Write::LookedAt(by, sequence));
            if let Some((_, looked_at)) = self.looks.get_mut(&by) {
                *looked_at = Some(sequence);
            }
        }
    }

    /// Looks for receipts in the logs of the coordinators in touch, each now and then.
    fn look_where_due(&mut self) {
        let now = clock::now();
        for coordinator in self.machine.coordinators().collect::<Vec<_>>() {
            let first = (Some(now + catch_up::EVERY_MIN), None);
            let (next, after) = self.looks.entry(coordinator).or_insert(first);
            if self.draining.is_some() || next.is_none_or(|next| next > now) {
                continue;
            }
            *next = None;
            let look = Look {
                coordinator,
                after: *after,
                network: self.setup.network.clone(),
                key: self.setup.key.clone(),
                peers: self.setup.peers.clone(),
                mailbox: self.setup.mailbox.clone(),
            };
            tokio::spawn(look.run());
        }
    }

    /// Keeps a receipt that is wrong as evidence.
    fn dispute(&mut self, dispute: Box<Dispute>) {
        let (coordinator, receipt) = (dispute.from, dispute.receipt.id());
        tracing::warn!(?coordinator, %receipt, "a receipt is not taken: {}", dispute.fault);
        self.keeper.write(Write::Dispute(dispute));
    }

    fn status(&self) -> TerminalStatus {
        let (stored, running) = self.machine.busy();
        let tally = self.machine.tally();
        TerminalStatus {
            coordinators: self.machine.coordinators().collect(),
            stored,
            running,
            units: tally.units,
            counted: tally.counted,
            uncounted: tally.uncounted,
            faults: tally.faults,
            fuel: tally.fuel,
            owner: self.machine.owner(clock::now()),
            credits: self.machine.credits().collect(),
            standings: self.machine.standings().collect(),
            suspended: self.machine.suspended(),
            draining: self.draining,
            withdrawn: tally.withdrawn,
            verdicts: tally.verdicts.clone(),
            faults_by: tally.faults_by.clone(),
            declined: self.machine.declined().collect(),
            at_work: self.setup.workers.at_work(),
        }
    }

    /// Signs and sends a pull; the answer comes back as a message. What it reports goes into the wallet meanwhile.
    fn pull(&mut self, out: PullOut) {
        let named: BTreeSet<GrantId> = out.results.iter().map(|result| result.grant).collect();
        let papers = named.iter().filter_map(|grant| self.papers.get(grant));
        let papers: Vec<Arc<Papers>> = papers.cloned().collect();
        let Setup {
            key,
            network,
            profile,
            peers,
            mailbox,
            access,
            wallet,
            ..
        } = &self.setup;
        for result in out.results.iter().filter(|result| result.inline.is_none()) {
            access.allow_reader(result.output.id, out.to);
        }
        let (question, to) = (out.question, out.to);
        let (network, peers, mailbox) = (network.clone(), peers.clone(), mailbox.clone());
        let wallet = Arc::clone(wallet);
        let root = out.batch.as_ref().map(|batch| batch.root);
        let pull = out.into_pull(profile.clone(), |batch| {
            Verified::sign(batch, &network, key).signed().clone()
        });
        if let Some(batch) = root.and_then(|root| batch_of(&pull, (to, root), papers)) {
            self.keeper.write(Write::Batch(Box::new(batch)));
        }
        tokio::spawn(async move {
            let result = match peers.ask_work(to, WorkRequest::Pull(Box::new(pull))).await {
                Ok(WorkReply::Pulled(reply)) => match checked(*reply, &network) {
                    Some(pulled) => Ok(leave_out_known(pulled, to, (wallet, &mailbox)).await),
                    None => Err(None),
                },
                Ok(WorkReply::Refused(refusal)) => {
                    tracing::info!(coordinator = ?to, "pull refused: {refusal}");
                    Err(Some(refusal))
                }
                Ok(WorkReply::Role(_) | WorkReply::Nudged) => Err(Some(Refusal::Malformed)),
                Err(error) => {
                    tracing::debug!(coordinator = ?to, "no answer to a pull: {error}");
                    Err(None)
                }
            };
            let _ = mailbox.send(Message::Pulled(question, result)).await;
        });
    }

    fn prepare(&mut self, id: GrantId) {
        let Some(Held::Preparing(held, _)) = self.grants.get(&id) else {
            return;
        };
        let (grant, leased) = (**held).clone();
        let prepare = self
            .programs
            .prepare(grant, leased, self.setup.peers.clone());
        let mailbox = self.setup.mailbox.clone();
        tokio::spawn(async move {
            let result = prepare.await;
            let _ = mailbox.send(Message::Prepared(id, result)).await;
        });
    }

    fn prepared(&mut self, id: GrantId, result: Result<Prepared, String>) {
        let Some(Held::Preparing(held, waiting)) = self.grants.remove(&id) else {
            return;
        };
        let ready = match result {
            Ok(prepared) => {
                self.programs.keep(&prepared.program);
                Held::Ready(prepared)
            }
            Err(reason) => {
                tracing::warn!(grant = ?id, "cannot get program or inputs: {reason}");
                Held::Failed(Arc::new(held.0.value().clone()))
            }
        };
        self.grants.insert(id, ready);
        for (job, places) in waiting {
            self.execute(job, id, places);
        }
    }

    fn execute(&mut self, job: Job, id: GrantId, places: Range<usize>) {
        match self.grants.get_mut(&id) {
            Some(Held::Preparing(_, waiting)) => waiting.push_back((job, places)),
            Some(Held::Ready(prepared)) => {
                let Prepared {
                    grant,
                    program,
                    inputs,
                } = prepared.clone();
                let order = Order {
                    job,
                    grant,
                    places,
                    program,
                    inputs,
                };
                // The machine gives no more jobs than there are slots.
                if !self.setup.workers.give(order) {
                    self.tell([Message::Worker(Report::Finished(job))]);
                }
            }
            Some(Held::Failed(grant)) => {
                let lost = grant.units[places].iter().map(|leased| leased.unit);
                let run = |unit| Run {
                    unit,
                    result: Err(Fault::Unavailable),
                    took: Duration::ZERO,
                };
                let runs = lost.map(run).collect();
                self.tell([
                    Message::Worker(Report::Ran(job, runs)),
                    Message::Worker(Report::Finished(job)),
                ]);
            }
            None => self.tell([Message::Worker(Report::Finished(job))]),
        }
    }

    /// Takes a job back that waits for program and inputs. Returns whether it did.
    fn take_back(&mut self, job: Job) -> bool {
        let mut taken = false;
        for held in self.grants.values_mut() {
            if let Held::Preparing(_, waiting) = held {
                let before = waiting.len();
                waiting.retain(|(other, _)| *other != job);
                taken |= waiting.len() < before;
            }
        }
        taken
    }

    /// Sends messages to the shell itself without waiting for it.
    fn tell<const N: usize>(&self, messages: [Message; N]) {
        let mailbox = self.setup.mailbox.clone();
        tokio::spawn(async move {
            for message in messages {
                let _ = mailbox.send(message).await;
            }
        });
    }

    fn discard(&self, blobs: Vec<BlobId>) {
        let (store, access) = (self.setup.store.clone(), self.setup.access.clone());
        tokio::task::spawn_blocking(move || {
            for blob in blobs {
                access.forget(blob);
                if let Err(error) = store.remove(blob) {
                    tracing::warn!(?blob, "cannot remove an output: {error}");
                }
            }
        });
    }

    fn dial(&self, offer: &Verified<Offer>) {
        let addresses: Vec<Multiaddr> = offer
            .addresses
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let (peers, to) = (self.setup.peers.clone(), offer.signer());
        tokio::spawn(async move {
            if let Err(error) = peers.connect(to, addresses).await {
                tracing::debug!(coordinator = ?to, "cannot reach it: {error}");
            }
        });
    }

    /// Connects to other terminals, so that gossip has more than one way.
    fn mesh(&mut self, peers: Vec<String>) {
        for address in peers {
            if self.meshed.len() >= MESH_DIALS_MAX || !self.meshed.insert(address.clone()) {
                continue;
            }
            let (Ok(address), peers) = (address.parse::<Multiaddr>(), self.setup.peers.clone())
            else {
                continue;
            };
            tokio::spawn(async move {
                if let Err(error) = peers.dial(address).await {
                    tracing::debug!("cannot reach another terminal: {error}");
                }
            });
        }
    }
}

/// Checks the signatures of an answer.
fn checked(reply: PullReply, network: &NetworkId) -> Option<Box<Pulled>> {
    let (answer, beside) = Answer::check(reply, network, |claim| claim.holds())?;
    Some(Box::new(Pulled { answer, beside }))
}

/// Takes receipts out of an answer that are in the wallet already, from before this terminal was started or because their
/// acknowledgement was lost: they need only be acknowledged.
async fn leave_out_known(
    mut pulled: Box<Pulled>,
    by: NodeId,
    (wallet, mailbox): (Arc<Wallet>, &mpsc::Sender<Message>),
) -> Box<Pulled> {
    let receipts = pulled.answer.receipts.iter();
    let ids: Vec<ReceiptId> = receipts.map(|receipt| receipt.id()).collect();
    if ids.is_empty() {
        return pulled;
    }
    let read = tokio::task::spawn_blocking(move || wallet.known(&ids)).await;
    let known = joined(read);
    let receipts = known.unwrap_or_else(|error| {
        tracing::warn!("cannot read the wallet: {}", chain(&error));
        Vec::new()
    });
    let new = |receipt: &Verified<Receipt>| !receipts.contains(&receipt.id());
    pulled.answer.receipts.retain(new);
    if !receipts.is_empty() {
        let kept = Input::Kept { by, receipts };
        let _ = mailbox.send(Message::input(kept)).await;
    }
    pulled
}

/// Returns what the wallet keeps of a grant.
fn papers_of(grant: &Verified<Grant>, leased: &Leased) -> Papers {
    Papers {
        id: grant.id,
        grant: grant.signed().clone(),
        read: leased.read.clone(),
        card: leased.rate_card.clone(),
        card_id: leased.rate_card.id(),
    }
}

/// Returns what the wallet keeps of the results that a pull reports, if there are any.
fn batch_of(
    pull: &Pull,
    (coordinator, root): (NodeId, Hash),
    papers: Vec<Arc<Papers>>,
) -> Option<KeptBatch> {
    let report = pull.report.as_ref()?;
    let without_inline = |result: &UnitResult| UnitResult {
        inline: None,
        ..*result
    };
    (!report.results.is_empty()).then(|| KeptBatch {
        coordinator,
        root,
        batch: report.batch.clone(),
        results: report.results.iter().map(without_inline).collect(),
        papers,
    })
}

/// A nudge for this terminal.
#[must_use]
pub fn nudge(by: NodeId, task: TaskId) -> Message {
    Message::input(Input::Nudged { by, task })
}

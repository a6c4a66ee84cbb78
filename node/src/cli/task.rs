//! `tally task`: the customer's side.

mod estimate;
mod report;
mod submit;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use libp2p::Multiaddr;
use serde_json::json;
use tally_protocol::customer::{Ending, Goal};
use tally_protocol::id::TaskId;
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::{
    CustomerReply, CustomerRequest, Phase, TaskStatus, TaskSummary,
};

use super::output::{BarUnit, Output};
use super::{Common, Exit, Failure, Joining};
use crate::admin::{AskError, Request, ask};
use crate::customer::{Book, CheckedTerms, CustomerNode, News, Record};
use crate::keys;
use report::{failure, status_text, tasks_table};

/// `tally task`.
#[derive(Debug, Subcommand)]
pub(super) enum TaskCommand {
    /// Run sample units here and say what the task will cost.
    Estimate {
        /// The job file.
        job: PathBuf,
        /// The coordinator whose price is asked for, as /ip4/ADDRESS/tcp/PORT/p2p/ID.
        #[arg(long, value_name = "ADDRESS")]
        coordinator: Option<Multiaddr>,
        #[command(flatten)]
        joining: Joining,
    },
    /// Hand a task to a coordinator. Strangers' computers will see its input.
    Submit(Box<Submit>),
    /// The tasks that this folder has submitted, or those of the coordinator that runs on it.
    List {
        #[command(flatten)]
        joining: Joining,
    },
    /// How a task is, once.
    Status {
        #[command(flatten)]
        one: One,
    },
    /// Follow a task until it ends; serves its input while that is needed.
    Watch {
        #[command(flatten)]
        one: One,
    },
    /// Get the result of a task; waits until there is one.
    Result {
        #[command(flatten)]
        one: One,
        /// Where the result goes. [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Stop a task.
    Cancel {
        #[command(flatten)]
        one: One,
    },
}

/// One task.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The task's id, or the start of it.
    #[arg(value_name = "TASK")]
    id: String,
    #[command(flatten)]
    joining: Joining,
}

/// `tally task submit`.
#[derive(Debug, Args)]
pub(super) struct Submit {
    /// The job file.
    job: PathBuf,
    /// The coordinator, as /ip4/ADDRESS/tcp/PORT/p2p/ID. [default: the first that is found]
    #[arg(long, value_name = "ADDRESS")]
    coordinator: Option<Multiaddr>,
    /// Follow the task until it ends.
    #[arg(long)]
    watch: bool,
    /// Follow the task and write its result to this file.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    joining: Joining,
}

impl TaskCommand {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Estimate {
                job,
                coordinator,
                joining,
            } => estimate::estimate(common, &job, (coordinator.as_ref(), &joining)).await,
            Self::Submit(submit) => submit.run(common).await,
            Self::List { joining } => list(common, &joining).await,
            Self::Status { one } => {
                one.status(common, |task| Request::Task { task }, watch_once)
                    .await
            }
            Self::Cancel { one } => {
                one.status(
                    common,
                    |task| Request::Cancel { task },
                    CustomerRequest::Cancel,
                )
                .await
            }
            Self::Watch { one } => one.follow(common, Goal::Ended, None).await,
            Self::Result { one, out } => {
                one.follow(common, Goal::Result, Some(Destination(out)))
                    .await
            }
        }
    }
}

const fn watch_once(task: TaskId) -> CustomerRequest {
    CustomerRequest::Watch { task, seen: 0 }
}

/// Where a result goes: a file, or standard output.
#[derive(Debug)]
struct Destination(Option<PathBuf>);

/// The customer's folder, configuration and book.
pub(super) struct Desk {
    pub(super) folder: crate::folder::Folder,
    pub(super) config: crate::config::Config,
    book: Book,
}

impl Desk {
    pub(super) fn open(common: &Common, joining: &Joining) -> Result<Self, Failure> {
        let folder = common.folder()?;
        let config = joining.config(&folder)?;
        let key = match keys::read(&folder.key()) {
            Err(keys::KeyError::Missing { path, .. }) => {
                let key = keys::create(&path)?;
                common
                    .output()
                    .note(format!("made the key of {}", keys::node_id(&key)));
                key
            }
            key => key?,
        };
        let book = Book::new(&folder, config.network.clone(), keys::node_id(&key));
        Ok(Self {
            folder,
            config,
            book,
        })
    }

    /// Asks the coordinator at `address` what a customer is told before it submits.
    pub(super) async fn terms(
        common: &Common,
        joining: &Joining,
        address: &Multiaddr,
    ) -> Result<CheckedTerms, Failure> {
        let desk = Self::open(common, joining)?;
        let mut node = CustomerNode::join(&desk.folder, &desk.config)?;
        let terms = async {
            let coordinator = node.coordinator_at(address).await?;
            node.terms(coordinator).await
        };
        let terms = terms.await;
        node.leave().await;
        terms.map_err(|error| Failure::from(error).exit(Exit::Unreached))
    }

    fn find(&self, id: &str) -> Result<(TaskId, Record), Failure> {
        self.book.find(id).map_err(|error| {
            Failure::from(error)
                .exit(Exit::NotFound)
                .hint("`tally task list` shows the tasks of this folder")
        })
    }
}

async fn list(common: &Common, joining: &Joining) -> Result<(), Failure> {
    let output = common.output();
    match ask::<Vec<TaskSummary>>(&common.folder()?.socket(), &Request::Tasks).await {
        Ok(tasks) => return output.result(&tasks, || tasks_table(&tasks)),
        Err(AskError::NotRunning | AskError::Refused(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let desk = Desk::open(common, joining)?;
    let records = desk.book.read()?;
    if records.is_empty() {
        return output.result(&json!([]), || {
            "this folder has submitted no task".to_owned()
        });
    }
    let node = CustomerNode::join(&desk.folder, &desk.config)?;
    let mut tasks = Vec::new();
    for (id, record) in &records {
        let status =
            tokio::time::timeout(Duration::from_secs(10), node.ask(record, watch_once(*id))).await;
        tasks.push(match status {
            Ok(Ok(CustomerReply::Status(status))) => status.summary,
            Ok(Ok(CustomerReply::Refused(Refusal::UnknownTask))) => {
                summary(*id, record, "the coordinator has forgotten it")
            }
            _ => summary(*id, record, "the coordinator does not answer"),
        });
    }
    node.leave().await;
    output.result(&tasks, || tasks_table(&tasks))
}

/// Returns what the book knows of a task whose coordinator tells nothing.
fn summary(task: TaskId, record: &Record, why: &str) -> TaskSummary {
    TaskSummary {
        task,
        name: String::new(),
        phase: Phase::Failed(why.to_owned()),
        units: 0,
        done: 0,
        accepted: record.submitted,
    }
}

impl One {
    /// Asks the coordinator that runs on this folder, or as its customer the coordinator of the task.
    async fn status(
        &self,
        common: &Common,
        of_node: impl FnOnce(TaskId) -> Request,
        of_coordinator: impl FnOnce(TaskId) -> CustomerRequest,
    ) -> Result<(), Failure> {
        let (output, socket) = (common.output(), common.folder()?.socket());
        match ask::<Vec<TaskSummary>>(&socket, &Request::Tasks).await {
            Ok(tasks) => {
                let task = self.pick(&tasks)?;
                let status: TaskStatus = ask(&socket, &of_node(task)).await?;
                return output.result(&status, || status_text(&status));
            }
            Err(AskError::NotRunning | AskError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let desk = Desk::open(common, &self.joining)?;
        let (id, record) = desk.find(&self.id)?;
        let node = CustomerNode::join(&desk.folder, &desk.config)?;
        let reply = node
            .ask(&record, of_coordinator(id))
            .await
            .map_err(|error| Failure::from(error).exit(Exit::Unreached))?;
        node.leave().await;
        match reply {
            CustomerReply::Status(status) => output.result(&status, || status_text(&status)),
            CustomerReply::Refused(refusal) => Err(refused(&refusal)),
            CustomerReply::Tasks(_) | CustomerReply::Terms(_) => Err(Failure::new(
                Exit::Failed,
                "understand the coordinator's answer",
            )),
        }
    }

    fn pick(&self, tasks: &[TaskSummary]) -> Result<TaskId, Failure> {
        let mut found = tasks
            .iter()
            .filter(|task| task.task.to_string().starts_with(&self.id));
        match (found.next(), found.next()) {
            (Some(task), None) => Ok(task.task),
            (None, _) => Err(Failure::new(
                Exit::NotFound,
                format!("find a task {:?} on this coordinator", self.id),
            )
            .hint("`tally task list` shows its tasks")),
            (Some(_), Some(_)) => Err(Failure::new(
                Exit::Usage,
                format!("tell tasks {:?} apart: write more of the id", self.id),
            )),
        }
    }

    async fn follow(
        &self,
        common: &Common,
        goal: Goal,
        out: Option<Destination>,
    ) -> Result<(), Failure> {
        let desk = Desk::open(common, &self.joining)?;
        let (id, record) = desk.find(&self.id)?;
        let mut node = CustomerNode::join(&desk.folder, &desk.config)?;
        let followed = follow(common.output(), &mut node, (id, &record), goal, out).await;
        node.leave().await;
        followed
    }
}

/// Follows a task up to the goal with a progress bar, and shows its end.
async fn follow(
    output: Output,
    node: &mut CustomerNode,
    task: (TaskId, &Record),
    goal: Goal,
    out: Option<Destination>,
) -> Result<(), Failure> {
    let mut shown = Shown {
        output,
        bar: None,
        phase: None,
        waiting: None,
    };
    let ending = tokio::select! {
        ending = node.follow(task, goal, |news| shown.tell(&news)) => ending?,
        _ = tokio::signal::ctrl_c() => {
            let hint = format!("the task goes on without you; `tally task watch {}` comes back to it", task.0.short());
            return Err(Failure::new(Exit::Interrupted, format!("stopped watching: {hint}")));
        }
    };
    shown.clear();
    let status = match ending {
        Ending::Refused(refusal) => return Err(refused(&refusal)),
        Ending::Reached(status) => status,
    };
    let to_file = match (out, status.result) {
        (Some(Destination(Some(path))), Some(result)) => {
            node.write_result(result, &path)?;
            output.note(format!(
                "result: {} ({} bytes)",
                path.display(),
                result.bytes
            ));
            true
        }
        (Some(Destination(None)), Some(result)) => {
            let mut file = node.store().open_file(result.id)?;
            std::io::copy(&mut file, &mut std::io::stdout().lock())?;
            return Ok(());
        }
        _ => false,
    };
    if output.is_json() || goal == Goal::Ended || to_file {
        output.result(&status, || status_text(&status))?;
    }
    if let Some(reason) = failure(&status.summary.phase) {
        return Err(Failure::new(
            Exit::Unsuccessful,
            format!("finish the task: {reason}"),
        ));
    }
    if status.summary.phase == Phase::Cancelled && goal == Goal::Result {
        return Err(Failure::new(
            Exit::Unsuccessful,
            "get a result: the task was cancelled",
        ));
    }
    Ok(())
}

fn refused(refusal: &Refusal) -> Failure {
    let refused = Failure::new(
        Exit::Refused,
        format!("have the coordinator do it: {refusal}"),
    );
    match refusal {
        Refusal::NotAdmitted => {
            refused.hint("ask its operator to add your id (`tally key show`) to `customers`")
        }
        Refusal::UnknownTask => refused
            .exit(Exit::NotFound)
            .hint("a coordinator forgets ended tasks after some days"),
        Refusal::Stale => {
            refused.hint("look at the clocks of both computers, or submit the job again")
        }
        Refusal::Busy => refused.hint("try again later, or another coordinator"),
        Refusal::InsufficientFunds { .. } => refused.hint(
            "have the coordinator's operator enter a payment: `tally account deposit --customer ID AMOUNT` \
             (`tally key show` says your id), or write a lower max_price into the job",
        ),
        Refusal::OtherRateCard => refused.hint("submit the job again: it is estimated anew"),
        Refusal::BadCertificate
        | Refusal::NotRegistered
        | Refusal::NoAgreement
        | Refusal::Malformed
        | Refusal::Unverified
        | Refusal::WrongRole
        | Refusal::WrongProfile
        | Refusal::UnknownBlob
        | Refusal::UnknownEntry
        | Refusal::InvalidTask(_) => refused,
    }
}

/// What people see while they follow a task.
struct Shown {
    output: Output,
    bar: Option<ProgressBar>,
    phase: Option<Phase>,
    waiting: Option<String>,
}

impl Shown {
    fn tell(&mut self, news: &News<'_>) {
        match news {
            News::Status(status) => self.status(status),
            News::Result(progress) => {
                if self.phase != Some(Phase::Done) || self.bar.is_none() {
                    self.phase = Some(Phase::Done);
                    self.start(BarUnit::Bytes, "result");
                }
                self.move_to(progress.bytes, progress.total);
            }
        }
    }

    fn status(&mut self, status: &TaskStatus) {
        let phase = &status.summary.phase;
        if self.phase.as_ref() != Some(phase) {
            self.clear();
            self.phase = Some(phase.clone());
            match phase {
                Phase::Uploading => self.start(BarUnit::Bytes, "uploading"),
                Phase::Running => self.start(BarUnit::Units, "running"),
                Phase::Dividing | Phase::Merging | Phase::Editing => {
                    self.start(BarUnit::Time, &phase.to_string())
                }
                Phase::Done | Phase::Failed(_) | Phase::Cancelled => {}
            }
        }
        if *phase == Phase::Uploading {
            self.move_to(status.uploaded.0, status.uploaded.1);
        } else if *phase == Phase::Running {
            let (done, units) = (status.summary.done, status.summary.units);
            self.move_to(u64::from(done), u64::from(units));
        }
        if self.waiting != status.waiting_for {
            self.waiting.clone_from(&status.waiting_for);
            if let (Some(reason), false) = (&self.waiting, self.output.is_json()) {
                let line = format!("waiting for {reason}");
                match &self.bar {
                    Some(bar) if !bar.is_hidden() => bar.println(line),
                    _ => self.output.note(line),
                }
            }
        }
    }

    fn start(&mut self, unit: BarUnit, message: &str) {
        let bar = self.output.bar(unit);
        bar.set_message(message.to_owned());
        if bar.is_hidden() && !self.output.is_json() {
            self.output.note(message);
        }
        self.bar = Some(bar);
    }

    fn move_to(&self, position: u64, length: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(length);
            bar.set_position(position);
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

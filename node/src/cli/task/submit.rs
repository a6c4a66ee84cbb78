//! `tally task submit`: read the job, sign the task, write it into the book, hand it over.

use std::path::Path;

use anyhow::Context;
use serde_json::json;
use tally_protocol::customer::Goal;
use tally_protocol::id::{NodeId, TaskId};
use tally_protocol::message::Refusal;
use tally_protocol::signed::Verified;
use tally_protocol::task::job::{Contents, Job, JobError, Payment, Program};
use tally_protocol::task::{BlobRef, Task};

use super::estimate::{Quote, run_samples};
use super::{Desk, Destination, Submit, follow, refused};
use crate::blobs::BlobStore;
use crate::cli::output::BarUnit;
use crate::cli::{Common, Exit, Failure, Output};
use crate::clock;
use crate::customer::{CheckedTerms, CustomerNode, Record};
use crate::keys;
use crate::programs::{BUILTINS, builtin};

/// What is said before strangers see an input.
const NOTICE: &str = "note: computers of strangers will see this task's program and input";

impl Submit {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let output = common.output();
        let job = read_job(&self.job)?;
        let desk = Desk::open(common, &self.joining)?;
        let mut node = CustomerNode::join(&desk.folder, &desk.config)?;
        let contents = contents(&job, &self.job, node.store())?;
        let me = keys::node_id(node.key());
        // What makes no sense is refused before anybody is asked.
        job.task(me, clock::now(), contents, Payment::NOTHING)
            .map_err(|error| usage(error, &self.job))?;
        output.note(NOTICE);
        let submitted = self
            .hand_over(output, &desk, &mut node, (&job, contents))
            .await;
        node.leave().await;
        let id = submitted?;
        if self.goal() == Goal::Uploaded && !output.is_json() {
            output.result(&json!({"task": id}), || id.to_string())?;
            output.note(format!("`tally task watch {}` follows it", id.short()));
        }
        Ok(())
    }

    fn goal(&self) -> Goal {
        match (&self.out, self.watch) {
            (Some(_), _) => Goal::Result,
            (None, true) => Goal::Ended,
            (None, false) => Goal::Uploaded,
        }
    }

    /// Submits to the coordinator that was named, or to one after the other that is found until one takes the task.
    async fn hand_over(
        &self,
        output: Output,
        desk: &Desk,
        node: &mut CustomerNode,
        (job, contents): (&Job, Contents),
    ) -> Result<TaskId, Failure> {
        let mut refused: Option<Failure> = None;
        loop {
            let coordinator = match self.find(output, node).await {
                Ok(coordinator) => coordinator,
                Err(failure) => return Err(refused.unwrap_or(failure)),
            };
            let addresses = match &self.coordinator {
                Some(address) => vec![address.to_string()],
                None => node.addresses_of(coordinator).await,
            };
            let task = self
                .task_for(output, node, (job, contents), coordinator)
                .await;
            let task = match task {
                Err(failure) if failure.exit == Exit::Refused && self.coordinator.is_none() => {
                    output.note(format!("{}; looking for another", failure.message));
                    refused = Some(failure);
                    continue;
                }
                task => task?,
            };
            let id = task.task_id();
            let (signed, submitted) = (task.signed().clone(), task.created);
            let record = Record {
                signed,
                coordinator,
                addresses,
                submitted,
            };
            desk.book.write(&id, &record)?;
            output.note(format!(
                "task {} for coordinator ..{}",
                id.short(),
                coordinator.short()
            ));
            let out = self.out.clone().map(|path| Destination(Some(path)));
            match follow(output, node, (id, &record), self.goal(), out).await {
                Err(failure) if failure.exit == Exit::Refused && self.coordinator.is_none() => {
                    output.note(format!(
                        "it refuses: {}; looking for another",
                        failure.message
                    ));
                    refused = Some(failure);
                }
                ended => return ended.map(|()| id),
            }
        }
    }

    /// Makes and signs the task for one coordinator, whose rate card it names.
    async fn task_for(
        &self,
        output: Output,
        node: &CustomerNode,
        (job, contents): (&Job, Contents),
        coordinator: NodeId,
    ) -> Result<Verified<Task>, Failure> {
        let terms = node.terms(coordinator).await;
        let terms = terms.map_err(|error| Failure::from(error).exit(Exit::Unreached))?;
        let (me, rate_card) = (keys::node_id(node.key()), terms.rate_card.id());
        let make = |max_price: u64| {
            let payment = Payment {
                rate_card,
                max_price,
            };
            let task = job.task(me, clock::now(), contents, payment);
            task.map_err(|error| usage(error, &self.job))
        };
        let rates = &terms.rate_card.rates;
        let max_price = if rates.is_free() {
            0
        } else {
            let estimate = || {
                let estimated = run_samples(output, &make(0)?, node.store(), Some(rates))?;
                Ok(estimated.price())
            };
            max_price(output, job, &terms, estimate)?
        };
        Ok(Verified::sign(make(max_price)?, node.network(), node.key()))
    }

    async fn find(&self, output: Output, node: &mut CustomerNode) -> Result<NodeId, Failure> {
        let bar = output.bar(BarUnit::Time);
        bar.set_message("looking for a coordinator");
        let found = match &self.coordinator {
            Some(address) => node.coordinator_at(address).await,
            None => node.find_coordinator().await,
        };
        bar.finish_and_clear();
        found.map_err(|error| {
            Failure::from(error).exit(Exit::Unreached).hint(
                "name one with --coordinator /ip4/.../tcp/.../p2p/ID, or a node that knows one with --bootstrap",
            )
        })
    }
}

/// Returns the most that the task may cost: what the job says, else what the estimate leaves room for.
fn max_price(
    output: Output,
    job: &Job,
    terms: &CheckedTerms,
    estimate: impl FnOnce() -> Result<Option<Quote>, Failure>,
) -> Result<u64, Failure> {
    let (currency, available) = (terms.rate_card.rates.currency, terms.available);
    let max_price = match job.max_price() {
        Some(money) if money.currency != currency => {
            let text = format!("pay {money}: the coordinator counts in {currency}");
            return Err(Failure::new(Exit::Refused, text)
                .hint("write max_price of the job in that currency, or name another coordinator"));
        }
        Some(money) => money,
        None => {
            let quote = estimate()?.context("add up the price: the amount is too large")?;
            let expected = quote.expected;
            output.note(format!("the estimate is {expected}, with every replica"));
            // What is there may be enough, even if it leaves less room.
            let most = quote.max_price.min(available);
            if most < expected { expected } else { most }
        }
    };
    if max_price > available {
        return Err(refused(&Refusal::InsufficientFunds {
            needed: max_price,
            available,
        }));
    }
    output.note(format!(
        "up to {max_price} of your {available} there are held for it"
    ));
    Ok(max_price.minor)
}

/// Reads a job file.
pub(super) fn read_job(path: &Path) -> Result<Job, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(
            Exit::NotFound,
            format!("read the job file {}: {error}", path.display()),
        )
    })?;
    text.parse().map_err(|error| usage(error, path))
}

pub(super) fn usage(error: JobError, path: &Path) -> Failure {
    Failure::from(error)
        .exit(Exit::Usage)
        .hint(format!("correct {} and try again", path.display()))
}

/// Puts program, input and editor of a job where the coordinator can read them. Files are read where they lie.
pub(super) fn contents(job: &Job, path: &Path, store: &BlobStore) -> Result<Contents, Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let input = match (&job.input.file, &job.input.text) {
        (Some(file), _) => in_place(store, &folder.join(file), "input")?,
        (None, text) => store.put(text.as_deref().unwrap_or_default().as_bytes())?,
    };
    let program = program(&job.program, folder, store)?;
    let edit = match &job.edit {
        Some(edit) => Some(self::program(edit, folder, store)?),
        None => None,
    };
    Ok(Contents {
        program,
        input,
        edit,
    })
}

fn program(program: &Program, folder: &Path, store: &BlobStore) -> Result<BlobRef, Failure> {
    let blob = match (&program.builtin, &program.file) {
        (Some(name), _) => {
            let known = builtin(name).ok_or_else(|| {
                let names: Vec<&str> = BUILTINS.iter().map(|program| program.name).collect();
                Failure::new(
                    Exit::Usage,
                    format!(
                        "find the program {name:?}: Tally comes with {}",
                        names.join(", ")
                    ),
                )
                .hint("name a file of your own with file = \"...\"")
            })?;
            store.put(known.module)?
        }
        (None, file) => in_place(
            store,
            &folder.join(file.as_deref().unwrap_or_default()),
            "program",
        )?,
    };
    let module = std::fs::read(
        store
            .path(blob.id)
            .context("find the program in the store")?,
    )?;
    tally_sandbox::check(&module).map_err(|refusal| {
        Failure::new(Exit::Usage, format!("use the program: it {refusal}"))
            .hint("docs/programs.md says what a program may be; `tally program check` checks one")
    })?;
    Ok(blob)
}

fn in_place(store: &BlobStore, path: &Path, what: &str) -> Result<BlobRef, Failure> {
    if !path.is_file() {
        let hint = "paths in a job file are relative to the job file";
        return Err(Failure::new(
            Exit::NotFound,
            format!("read the {what} {}: no such file", path.display()),
        )
        .hint(hint));
    }
    let path = path.canonicalize()?;
    Ok(store
        .import_in_place(&path)
        .with_context(|| format!("read the {what} {}", path.display()))?)
}

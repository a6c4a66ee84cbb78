//! `tally task submit`: read the job, sign the task, write it into the book, hand it over.

use std::path::Path;

use anyhow::Context;
use serde_json::json;
use tally_protocol::customer::Goal;
use tally_protocol::id::NodeId;
use tally_protocol::signed::Verified;
use tally_protocol::task::job::{Contents, Job, JobError, Program};
use tally_protocol::task::{BlobRef, Task};

use super::{Desk, Destination, Submit, follow};
use crate::blobs::BlobStore;
use crate::cli::output::BarUnit;
use crate::cli::{Common, Exit, Failure, Output};
use crate::clock;
use crate::customer::{CustomerNode, Record};
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
        let task = job
            .task(me, clock::now(), contents)
            .map_err(|error| usage(error, &self.job))?;
        let task = Verified::sign(task, &desk.config.network, node.key());
        output.note(NOTICE);
        let submitted = self.hand_over(output, &desk, &mut node, &task).await;
        node.leave().await;
        submitted?;
        if self.goal() == Goal::Uploaded && !output.is_json() {
            let id = task.task_id();
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
        task: &Verified<Task>,
    ) -> Result<(), Failure> {
        let id = task.task_id();
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
                ended => return ended,
            }
        }
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

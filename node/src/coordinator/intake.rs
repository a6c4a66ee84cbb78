//! Customers: what they ask, and getting program and input from them.

use std::time::{Duration, Instant};

use tally_protocol::coordinator::{Effect, Input};
use tally_protocol::id::{NodeId, TaskId};
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::{CustomerReply, CustomerRequest};
use tally_protocol::task::{BlobRef, Task};
use tally_protocol::time::Timestamp;

use super::{Message, PROGRESS_EVERY, Parts, Shell};
use crate::blobs::{self, FetchError, StoreError};
use crate::error::chain;
use crate::network::Answer;

/// The pause before a customer that is away is asked again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

impl Shell {
    pub(super) fn asked(
        &mut self,
        now: Timestamp,
        (from, request): (NodeId, CustomerRequest),
        answer: Answer<CustomerReply>,
        effects: &mut Vec<Effect>,
    ) {
        match request {
            CustomerRequest::Submit(signed) => {
                let parts = self.parts.clone();
                tokio::spawn(async move {
                    match signed.verify(parts.network.network()) {
                        Ok(task) if task.signer() == from => {
                            let message = Message::Submitted {
                                task: Box::new(task),
                                answer,
                            };
                            let _ = parts.mailbox.send(message).await;
                        }
                        Ok(_) => answer.send(CustomerReply::Refused(Refusal::NotAdmitted)),
                        Err(error) => {
                            tracing::info!(customer = ?from, "task refused: {}", chain(&error));
                            answer.send(CustomerReply::Refused(Refusal::Unverified));
                        }
                    }
                });
            }
            CustomerRequest::Watch { task, seen } => {
                self.watchers
                    .add(now, (task, from, seen), answer, &self.machine)
            }
            CustomerRequest::List => answer.send(CustomerReply::Tasks(self.machine.list(from))),
            CustomerRequest::Terms => answer.send(match self.machine.terms(from) {
                Some(terms) => CustomerReply::Terms(Box::new(terms)),
                None => CustomerReply::Refused(Refusal::Busy),
            }),
            CustomerRequest::Cancel(task) => {
                let question = self.question();
                self.customers.insert(question, answer);
                self.machine.handle(
                    now,
                    Input::Cancelled {
                        question,
                        task,
                        by: from,
                    },
                    effects,
                );
            }
        }
    }

    /// Reads program and input from the customer, for as long as it takes.
    pub(super) fn fetch(&mut self, id: TaskId) {
        let Some(task) = self.machine.task(&id) else {
            return;
        };
        let (task, parts) = (task.value().clone(), self.parts.clone());
        let fetching = tokio::spawn(async move {
            let result = fetch_all(id, &task, &parts).await;
            let _ = parts
                .mailbox
                .send(Message::input(Input::Arrived { task: id, result }))
                .await;
        });
        self.fetching.insert(id, fetching.abort_handle());
    }
}

async fn fetch_all(id: TaskId, task: &Task, parts: &Parts) -> Result<(), String> {
    let editor = task.edit.as_ref().map(|edit| edit.program);
    let mut before = 0;
    for blob in [task.program, task.input].into_iter().chain(editor) {
        fetch_one(id, task.customer, blob, before, parts).await?;
        before += blob.bytes;
    }
    Ok(())
}

/// Reads one blob, waiting for the customer while it is away.
async fn fetch_one(
    id: TaskId,
    from: NodeId,
    blob: BlobRef,
    before: u64,
    parts: &Parts,
) -> Result<(), String> {
    let mut told = Instant::now();
    loop {
        let progress = |progress: blobs::Progress| {
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                let bytes = before + progress.bytes;
                // Full mailbox: the next progress will do.
                let _ = parts
                    .mailbox
                    .try_send(Message::input(Input::Arriving { task: id, bytes }));
            }
        };
        match blobs::fetch(&parts.network, &parts.blobs, from, blob, None, progress).await {
            Ok(()) => return Ok(()),
            Err(FetchError::Store(StoreError::Full { .. })) => {
                return Err(
                    "the coordinator's disk space for tasks is full; try again later or elsewhere"
                        .to_owned(),
                );
            }
            Err(error @ (FetchError::Length { .. } | FetchError::Store(_))) => {
                return Err(chain(&error));
            }
            Err(error) => {
                tracing::debug!(task = %id.short(), "waiting for the customer: {}", chain(&error))
            }
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

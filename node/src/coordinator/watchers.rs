//! Customers that wait for news of a task.
//!
//! A watcher is answered when the task's version is above the one it has seen: at once if the task has ended, else not
//! more often than ten times a second; and with no news after twenty seconds, so that it asks again.

use std::collections::BTreeMap;
use std::time::Duration;

use tally_protocol::coordinator::Coordinator;
use tally_protocol::id::{NodeId, TaskId};
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::CustomerReply;
use tally_protocol::time::Timestamp;

use crate::clock;
use crate::network::Answer;

/// The most customers that wait at a time.
const WATCHERS_MAX: usize = 4_096;
/// News are not told more often.
const NEWS_EVERY: Duration = Duration::from_millis(100);
/// Without news a watcher is answered after this.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(super) struct Watchers {
    waiting: BTreeMap<TaskId, Vec<Watcher>>,
    count: usize,
}

#[derive(Debug)]
struct Watcher {
    by: NodeId,
    seen: u64,
    /// Not answered before, unless the task ends.
    earliest: Timestamp,
    latest: Timestamp,
    answer: Answer<CustomerReply>,
}

impl Watchers {
    /// Answers at once if there is news, else keeps the question.
    pub(super) fn add(
        &mut self,
        now: Timestamp,
        (task, by, seen): (TaskId, NodeId, u64),
        answer: Answer<CustomerReply>,
        machine: &Coordinator,
    ) {
        let Some(news) = machine.news(&task, by) else {
            return answer.send(CustomerReply::Refused(Refusal::UnknownTask));
        };
        let first = seen == 0 || news.version < seen;
        if first || (news.version > seen && news.is_final) {
            return answer.send(reply(now, &task, by, machine));
        }
        if self.count >= WATCHERS_MAX {
            return answer.send(CustomerReply::Refused(Refusal::Busy));
        }
        self.count += 1;
        let watcher = Watcher {
            by,
            seen,
            earliest: now + NEWS_EVERY,
            latest: now + PATIENCE,
            answer,
        };
        self.waiting.entry(task).or_default().push(watcher);
    }

    /// Tells the end of a task at once.
    pub(super) fn changed(&mut self, now: Timestamp, task: TaskId, machine: &Coordinator) {
        let ended = |watcher: &Watcher| {
            let news = machine.news(&task, watcher.by);
            news.is_some_and(|news| news.is_final)
        };
        if self
            .waiting
            .get(&task)
            .and_then(|watchers| watchers.first())
            .is_some_and(ended)
        {
            self.count -= self.waiting.get(&task).map_or(0, Vec::len);
            for watcher in self.waiting.remove(&task).unwrap_or_default() {
                answer(now, task, watcher, machine);
            }
        }
    }

    /// Waits until somebody may have to be answered.
    pub(super) async fn due(&self) {
        if self.waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        let next = self
            .waiting
            .values()
            .flatten()
            .map(|watcher| watcher.earliest)
            .min();
        let soon = clock::now() + NEWS_EVERY;
        clock::sleep_until(next.map(|next| next.max(soon))).await;
    }

    /// Answers those for whom there is news, and those who have waited long.
    pub(super) fn answer_due(&mut self, now: Timestamp, machine: &Coordinator) {
        for (task, watchers) in &mut self.waiting {
            let news = |watcher: &Watcher| {
                let version = machine
                    .news(task, watcher.by)
                    .map_or(u64::MAX, |news| news.version);
                watcher.latest <= now || (watcher.earliest <= now && version > watcher.seen)
            };
            let due: Vec<Watcher> = watchers.extract_if(.., |watcher| news(watcher)).collect();
            self.count -= due.len();
            for watcher in due {
                answer(now, *task, watcher, machine);
            }
        }
        self.waiting.retain(|_, watchers| !watchers.is_empty());
    }
}

fn answer(now: Timestamp, task: TaskId, watcher: Watcher, machine: &Coordinator) {
    let reply = reply(now, &task, watcher.by, machine);
    watcher.answer.send(reply);
}

fn reply(now: Timestamp, task: &TaskId, by: NodeId, machine: &Coordinator) -> CustomerReply {
    match machine.status(now, task, by) {
        Some(status) => CustomerReply::Status(Box::new(status)),
        None => CustomerReply::Refused(Refusal::UnknownTask),
    }
}

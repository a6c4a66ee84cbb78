//! Customers that wait for news of a task, answered as a real node answers them (node/src/coordinator/watchers.rs).

use std::collections::BTreeMap;
use std::time::Duration;

use tally_protocol::id::{NodeId, TaskId};
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::{CustomerReply, TaskStatus};

use super::{Asker, CoordinatorNode, NEXT_LOOK, Within};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::stage::{Body, Stage};

/// News are not told more often.
const NEWS_EVERY: Duration = Duration::from_millis(100);
/// Without news a watcher is answered after this.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(super) struct Watchers(BTreeMap<TaskId, Vec<Watcher>>);

#[derive(Debug)]
struct Watcher {
    asker: Asker,
    by: NodeId,
    seen: u64,
    earliest: Moment,
    latest: Moment,
}

impl CoordinatorNode {
    pub(super) fn watch(
        &mut self,
        stage: &mut Stage,
        asker: Asker,
        (task, by, seen): (TaskId, NodeId, u64),
    ) {
        let now = self.setup.clock.read(stage.now);
        let Some(up) = &mut self.up else {
            return;
        };
        let to = (asker.peer, asker.ask);
        let Some(news) = up.machine.news(&task, by) else {
            let reply = CustomerReply::Refused(Refusal::UnknownTask);
            return self.reply(stage, to, Body::CustomerAnswered(reply));
        };
        let first = seen == 0 || news.version < seen;
        if first || (news.version > seen && news.is_final) {
            let status = up.machine.status(now, &task, by);
            return self.tell(stage, to, status.expect("there is news of it"));
        }
        let watcher = Watcher {
            asker,
            by,
            seen,
            earliest: stage.now + NEWS_EVERY,
            latest: stage.now + PATIENCE,
        };
        up.watchers.0.entry(task).or_default().push(watcher);
        self.plan(stage, stage.now + NEWS_EVERY, Within::News(task));
        self.plan(stage, stage.now + PATIENCE, Within::News(task));
    }

    /// Answers those for whom there is news, and those who have waited long.
    pub(super) fn news(&mut self, stage: &mut Stage, task: TaskId) {
        if self.is_writing() {
            // The machine is ahead of the disk.
            return self.plan(stage, stage.now + NEXT_LOOK, Within::News(task));
        }
        let now = self.setup.clock.read(stage.now);
        let Some(up) = &mut self.up else {
            return;
        };
        let Some(watchers) = up.watchers.0.get_mut(&task) else {
            return;
        };
        let mut told: Vec<((Peer, u64), TaskStatus)> = Vec::new();
        watchers.retain(|watcher| {
            let Some(news) = up.machine.news(&task, watcher.by) else {
                return false;
            };
            let is_news =
                news.version > watcher.seen && (watcher.earliest <= stage.now || news.is_final);
            if !is_news && watcher.latest > stage.now {
                return true;
            }
            if let Some(status) = up.machine.status(now, &task, watcher.by) {
                told.push(((watcher.asker.peer, watcher.asker.ask), status));
            }
            false
        });
        if watchers.is_empty() {
            up.watchers.0.remove(&task);
        }
        for (to, status) in told {
            self.tell(stage, to, status);
        }
    }

    pub(super) fn has_watchers(&self, task: &TaskId) -> bool {
        let watchers = self.up.as_ref().map(|up| &up.watchers.0);
        watchers.is_some_and(|watchers| watchers.contains_key(task))
    }

    pub(super) fn tell(&self, stage: &mut Stage, to: (Peer, u64), status: TaskStatus) {
        stage.note(&Happening::Told {
            by: self.peer,
            to: to.0,
            task: status.summary.task,
            phase: inside_name(&status),
            done: status.summary.done,
        });
        let reply = CustomerReply::Status(Box::new(status));
        self.reply(stage, to, Body::CustomerAnswered(reply));
    }
}

const fn inside_name(status: &TaskStatus) -> &'static str {
    use tally_protocol::message::customer::Phase;
    match status.summary.phase {
        Phase::Uploading => "uploading",
        Phase::Dividing => "dividing",
        Phase::Running => "running",
        Phase::Merging => "merging",
        Phase::Editing => "editing",
        Phase::Done => "done",
        Phase::Failed(_) => "failed",
        Phase::Cancelled => "cancelled",
    }
}

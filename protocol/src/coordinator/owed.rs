//! What a device need not wait for any more.
//!
//! A device is told once when a result will not be paid, and a receipt is sent until it is acknowledged; both are
//! forgotten in a crash, and there is room for so many. So a device that waits in vain asks about the results
//! themselves, and the answer follows from what is durable.

use super::Coordinator;
use crate::account::Holder;
use crate::id::NodeId;
use crate::message::work::{OWED_MAX, OWED_TASKS_MAX, Owed, UNPAID_MAX, Unpaid, UnpaidReason};

impl Coordinator {
    /// Returns the results for which a device gets nothing more than it has or the log holds: those of which it was not
    /// told yet, and those that it asks about. Reasons that are known come last, so that they count.
    pub(super) fn unpaid(&mut self, device: NodeId, holder: Holder, asked: &[Owed]) -> Vec<Unpaid> {
        let mut news = self.devices.unpaid(device);
        if asked.is_empty() {
            return news;
        }
        let room = UNPAID_MAX.saturating_sub(news.len());
        let mut unpaid = self.settled(holder, asked);
        unpaid.truncate(room);
        unpaid.append(&mut news);
        unpaid
    }

    /// Returns the results of which nothing is undecided or due.
    fn settled(&self, holder: Holder, asked: &[Owed]) -> Vec<Unpaid> {
        let mut left = OWED_MAX;
        let mut settled = Vec::new();
        for Owed { task, units } in asked.iter().take(OWED_TASKS_MAX) {
            let run = self.tasks.get(task);
            let due = run.map(|run| run.dues.due_of(holder)).unwrap_or_default();
            let open = run.and_then(|run| run.units());
            let is_open = |unit: u32| {
                due.contains(&unit)
                    || open.is_some_and(|open| open.has_reported(unit, holder.device))
            };
            let units = &units[..units.len().min(left)];
            left -= units.len();
            let over = units.iter().copied().filter(|unit| !is_open(*unit));
            settled.extend(over.map(|unit| Unpaid {
                task: *task,
                unit,
                reason: UnpaidReason::Settled,
            }));
        }
        settled
    }
}

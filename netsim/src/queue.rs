//! What is to come, in the order of (time, number): of two things at one moment the one that was planned first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::moment::Moment;

/// Events to come.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<Planned<E>>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Moment,
    number: u64,
    event: E,
}

impl<E> Planned<E> {
    const fn order(&self) -> (Moment, u64) {
        (self.at, self.number)
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            planned: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Plans an event.
    pub(crate) fn push(&mut self, at: Moment, event: E) {
        self.planned += 1;
        let number = self.planned;
        self.heap.push(Reverse(Planned { at, number, event }));
    }

    /// Takes the next event.
    pub(crate) fn pop(&mut self) -> Option<(Moment, E)> {
        let Reverse(Planned { at, event, .. }) = self.heap.pop()?;
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_moment_in_the_order_of_planning() {
        let mut queue = Queue::default();
        for (seconds, name) in [(2, "c"), (1, "a"), (1, "b")] {
            queue.push(Moment::from_secs(seconds), name);
        }
        let names: Vec<&str> = std::iter::from_fn(|| queue.pop())
            .map(|(_, name)| name)
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
    }
}

//! What the terminal's loop, the slots' threads and the governor share: the queue, who is at what, and what is allowed.
//!
//! The lock is held for a few lines of bookkeeping and for signals, never while a child is started or waited for, and
//! never while something is reported. So the loop never waits for a slot.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tally_protocol::terminal::Job;
use tally_sandbox::{KillHandle, UnitMax};

use super::governor::Demand;
use super::{AtWork, Leave, Order};

/// See the module.
#[derive(Debug)]
pub(super) struct Board {
    state: Mutex<State>,
    /// There may be something to do for a slot.
    work: Condvar,
    /// There may be something to do for the governor.
    govern: Condvar,
    slots: Vec<SlotHandle>,
    /// How many processors this computer has.
    processors: f64,
}

/// What of a slot needs no lock.
#[derive(Debug)]
struct SlotHandle {
    sandbox: KillHandle,
    done: AtomicUsize,
}

#[derive(Debug)]
struct State {
    leave: Leave,
    /// Whether all wait because the share is used up.
    throttled: bool,
    /// Whether the governor has something to hold.
    governed: bool,
    queue: VecDeque<Order>,
    slots: Vec<Slot>,
    begun: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Slot {
    work: Option<Work>,
    /// It waits with a child that still knows its programs.
    warm: bool,
    /// The child is to end as soon as it is free.
    rest: bool,
}

#[derive(Debug)]
struct Work {
    at: AtWork,
    /// Counts up: those that have begun first go on first.
    rank: u64,
    /// Ended to give its memory back.
    given_back: bool,
}

/// What a slot does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Run this, each unit with so much.
    Run(Order, UnitMax),
    /// End the child.
    Rest,
    /// No more.
    End,
}

impl Board {
    pub(super) fn new(sandboxes: Vec<KillHandle>) -> Self {
        let processors = std::thread::available_parallelism();
        let processors =
            processors.map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
        let slot = |sandbox| SlotHandle {
            sandbox,
            done: AtomicUsize::new(0),
        };
        Self {
            state: Mutex::new(State {
                leave: Leave::default(),
                throttled: false,
                governed: false,
                queue: VecDeque::new(),
                slots: sandboxes.iter().map(|_| Slot::default()).collect(),
                begun: 0,
                closed: false,
            }),
            work: Condvar::new(),
            govern: Condvar::new(),
            slots: sandboxes.into_iter().map(slot).collect(),
            processors: f64::from(processors),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // For the loop.

    pub(super) fn set(&self, leave: Leave) {
        let mut state = self.lock();
        state.leave = leave;
        self.settle(&mut state);
        drop(state);
        self.work.notify_all();
        self.govern.notify_one();
    }

    pub(super) fn give(&self, order: Order) -> bool {
        let mut state = self.lock();
        let fits = state.queue.len() < self.slots.len();
        if fits {
            state.queue.push_back(order);
        }
        drop(state);
        self.work.notify_all();
        fits
    }

    pub(super) fn stop(&self, job: Job) -> bool {
        let mut state = self.lock();
        if let Some(place) = state.queue.iter().position(|order| order.job == job) {
            state.queue.remove(place);
            return true;
        }
        for (slot, handle) in state.slots.iter().zip(&self.slots) {
            if slot.work.as_ref().is_some_and(|work| work.at.job == job) {
                handle.sandbox.kill();
            }
        }
        false
    }

    pub(super) fn rest_paused(&self) {
        let mut state = self.lock();
        let allowed = state.allowed();
        for ((slot, handle), may) in state.slots.iter_mut().zip(&self.slots).zip(allowed) {
            match &mut slot.work {
                Some(_) if may => continue,
                Some(work) => {
                    work.given_back = true;
                    handle.sandbox.kill();
                }
                None => {}
            }
            slot.rest = true;
        }
        drop(state);
        self.work.notify_all();
    }

    pub(super) fn at_work(&self) -> Vec<AtWork> {
        let state = self.lock();
        let paused = state.allowed().into_iter().map(|may| !may);
        let slots = state.slots.iter().zip(&self.slots).zip(paused);
        slots
            .filter_map(|((slot, handle), paused)| {
                let at = slot.work.as_ref()?.at;
                let done = handle.done.load(Ordering::Relaxed);
                Some(AtWork { done, paused, ..at })
            })
            .collect()
    }

    pub(super) fn cpu_time(&self) -> Duration {
        self.slots.iter().map(|slot| slot.sandbox.cpu_time()).sum()
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        let slots = self.slots.iter();
        slots.filter_map(|slot| slot.sandbox.pid()).collect()
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queue.clear();
        for handle in &self.slots {
            handle.sandbox.kill();
        }
        drop(state);
        self.work.notify_all();
        self.govern.notify_all();
    }

    // For a slot.

    /// Waits for something to do. A slot with a child waits no longer than `idle_max` before that is to rest.
    pub(super) fn next(&self, slot: usize, idle_max: Option<Duration>) -> Next {
        let begin = Instant::now();
        let mut state = self.lock();
        state.slots[slot].warm = idle_max.is_some();
        loop {
            if state.closed {
                return Next::End;
            }
            if let Some(order) = state.take(slot) {
                self.slots[slot].done.store(0, Ordering::Relaxed);
                self.slots[slot].sandbox.announce();
                self.settle(&mut state);
                return Next::Run(order, state.leave.unit);
            }
            state = match idle_max {
                None => self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(idle_max) => {
                    let left = idle_max.saturating_sub(begin.elapsed());
                    if left.is_zero() || state.slots[slot].rest {
                        state.slots[slot] = Slot::default();
                        return Next::Rest;
                    }
                    let (state, _) = self
                        .work
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner);
                    state
                }
            };
        }
    }

    /// Counts a unit that a slot has run.
    pub(super) fn count(&self, slot: usize) {
        self.slots[slot].done.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether the job of a slot was ended to give its memory back.
    pub(super) fn is_given_back(&self, slot: usize) -> bool {
        let state = self.lock();
        let work = state.slots[slot].work.as_ref();
        work.is_some_and(|work| work.given_back)
    }

    /// The job of a slot is over.
    pub(super) fn finish(&self, slot: usize) {
        let mut state = self.lock();
        state.slots[slot].work = None;
        // From now on, so that the next order is not taken by one that has to start a child.
        state.slots[slot].warm = true;
        self.settle(&mut state);
        drop(state);
        // Another may begin where fewer are allowed than there are slots.
        self.work.notify_all();
    }

    // For the governor.

    /// Returns what is to be held, if more wants to go on than the share allows.
    pub(super) fn demand(&self) -> Option<Demand> {
        self.lock().demand(self.processors)
    }

    /// Waits until there is something to hold. Returns whether there ever will be.
    pub(super) fn await_demand(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.closed {
                return false;
            }
            if state.demand(self.processors).is_some() {
                return true;
            }
            if state.throttled {
                state.throttled = false;
                self.settle(&mut state);
            }
            state = self
                .govern
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has all wait, or go on.
    pub(super) fn throttle(&self, must_wait: bool) {
        let mut state = self.lock();
        if state.throttled != must_wait {
            state.throttled = must_wait;
            self.settle(&mut state);
        }
    }

    /// Waits for so long, or until something has changed.
    pub(super) fn pass(&self, time: Duration) {
        let state = self.lock();
        if !state.closed {
            drop(self.govern.wait_timeout(state, time));
        }
    }

    /// Stops and wakes children as it is allowed.
    fn settle(&self, state: &mut State) {
        let allowed = state.allowed();
        for ((slot, handle), may) in state.slots.iter().zip(&self.slots).zip(allowed) {
            match slot.work {
                Some(_) if may && !state.throttled => handle.sandbox.resume(),
                Some(_) => handle.sandbox.pause(),
                None => {}
            }
        }
        let governed = state.demand(self.processors).is_some();
        if governed != state.governed {
            state.governed = governed;
            self.govern.notify_one();
        }
    }
}

impl State {
    /// Takes the next order, if the slot may begin it.
    fn take(&mut self, slot: usize) -> Option<Order> {
        let warm = self.slots.iter().filter(|slot| slot.warm);
        let is_left_to_the_warm = !self.slots[slot].warm && self.queue.len() <= warm.count();
        if !self.leave.run || self.working() >= self.leave.slots || is_left_to_the_warm {
            return None;
        }
        let order = self.queue.pop_front()?;
        let units = &order.grant.units;
        let place = |place: usize| units.get(place).map_or(0, |leased| leased.unit);
        self.begun += 1;
        self.slots[slot] = Slot {
            work: Some(Work {
                at: AtWork {
                    slot,
                    job: order.job,
                    program: order.grant.program.id,
                    task: order.grant.task,
                    first: place(order.places.start),
                    last: place(order.places.end.saturating_sub(1)),
                    since: crate::clock::now(),
                    units: order.places.len(),
                    done: 0,
                    paused: false,
                },
                rank: self.begun,
                given_back: false,
            }),
            ..Slot::default()
        };
        Some(order)
    }

    fn working(&self) -> usize {
        self.slots.iter().filter(|slot| slot.work.is_some()).count()
    }

    /// Returns for each slot whether it is at work and may go on, but for the share.
    fn allowed(&self) -> Vec<bool> {
        let mut ranks: Vec<u64> = self.ranks().flatten().collect();
        ranks.sort_unstable();
        let last = ranks.into_iter().take(self.leave.slots).next_back();
        let may = |rank: Option<u64>| self.leave.run && rank.is_some() && rank <= last;
        self.ranks().map(may).collect()
    }

    fn ranks(&self) -> impl Iterator<Item = Option<u64>> {
        let rank = |slot: &Slot| slot.work.as_ref().map(|work| work.rank);
        self.slots.iter().map(rank)
    }

    fn demand(&self, processors: f64) -> Option<Demand> {
        let going = self.working().min(self.leave.slots);
        let going = f64::from(u32::try_from(going).unwrap_or(u32::MAX));
        let rate = self.leave.cpu * processors;
        let is_short = self.leave.run && self.leave.cpu < 1.0 && going > rate;
        is_short.then_some(Demand { rate, going })
    }
}

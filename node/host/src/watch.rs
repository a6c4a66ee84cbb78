//! What watchers have seen last, and how they end.
//!
//! Each watcher is one thread or one task, and writes its own field. Whoever looks takes the newest value, or is told that
//! the watcher has fallen silent. All watchers end when the [`Computer`](crate::Computer) is dropped.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::idle::{Session, Sight};
use crate::{Disk, Power, Unknown};

/// How long an answer is believed, if it is renewed every few seconds.
const FRESH: Duration = Duration::from_secs(60);
/// The shortest and the longest wait before something that is not there is tried again.
const RETRY: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];

/// What watchers share with whoever looks.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Mutex<Seen>,
    orders: Mutex<Orders>,
    ordered: Condvar,
    /// Notified when an owner is seen who was away.
    pub(crate) returned: Arc<Notify>,
}

/// What watchers that rest are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    ended: bool,
    /// How often they were told to look at once.
    hurried: u64,
}

/// The newest answers.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) sessions: Answer<Vec<Session>>,
    pub(crate) x11: Answer<Sight>,
    pub(crate) wayland: Answer<Sight>,
    pub(crate) gnome: Answer<Sight>,
    pub(crate) metered: Answer<bool>,
    pub(crate) power: Answer<Power>,
    pub(crate) disk: Answer<Disk>,
    pub(crate) running: Answer<Vec<String>>,
    /// What to look for among the programs.
    pub(crate) programs: Vec<String>,
}

/// An answer and when it was given.
#[derive(Clone, Debug)]
pub(crate) struct Answer<T> {
    value: Result<T, Unknown>,
    at: Option<Instant>,
}

impl Watch {
    /// Locks the answers, for the time of a copy.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all watchers that are threads, within seconds.
    pub(crate) fn end(&self) {
        self.order(|orders| orders.ended = true);
    }

    /// Has all watchers that rest look at once.
    pub(crate) fn hurry(&self) {
        self.order(|orders| orders.hurried = orders.hurried.wrapping_add(1));
    }

    fn order(&self, order: impl FnOnce(&mut Orders)) {
        order(&mut self.lock());
        self.ordered.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to do, at most for a time, and says whether the watcher goes on.
    pub(crate) fn rest(&self, time: Duration) -> bool {
        self.rest_since(self.orders(), time)
    }

    /// Returns what watchers have been told so far.
    pub(crate) fn orders(&self) -> Orders {
        *self.lock()
    }

    /// Waits as `rest`, but not if there were orders since a moment: so none is missed by who was at work.
    pub(crate) fn rest_since(&self, before: Orders, time: Duration) -> bool {
        let nothing_new = |orders: &mut Orders| !orders.ended && *orders == before;
        let waited = self
            .ordered
            .wait_timeout_while(self.lock(), time, nothing_new);
        let (orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !orders.ended
    }

    /// Tells whoever waits that the owner is back.
    pub(crate) fn owner_returned(&self) {
        self.returned.notify_one();
    }
}

impl<T> Default for Answer<T> {
    fn default() -> Self {
        Self {
            value: Err(Unknown::NotYet),
            at: None,
        }
    }
}

impl<T> From<Result<T, Unknown>> for Answer<T> {
    fn from(value: Result<T, Unknown>) -> Self {
        Self {
            value,
            at: Some(Instant::now()),
        }
    }
}

impl<T: Clone> Answer<T> {
    /// Returns the answer, unless it is old. Why there is none does not age.
    pub(crate) fn fresh(&self, now: Instant) -> Result<T, Unknown> {
        let old = self
            .at
            .is_some_and(|at| now.saturating_duration_since(at) > FRESH);
        if old && self.value.is_ok() {
            Err(Unknown::Silent)
        } else {
            self.value.clone()
        }
    }

    /// Returns the answer however old, of a watcher that is told of changes only.
    pub(crate) fn last(&self) -> Result<T, Unknown> {
        self.value.clone()
    }
}

/// Waits that grow while something is not there.
#[derive(Debug)]
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(RETRY[0])
    }

    /// Returns how long to wait now; twice that the next time.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = wait.saturating_mul(2).min(RETRY[1]);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_answers_are_silence() {
        let now = Instant::now();
        let mut answer = Answer::<u8>::default();
        assert_eq!(answer.fresh(now), Err(Unknown::NotYet));
        answer = Ok(7).into();
        assert_eq!(answer.fresh(now + Duration::from_secs(59)), Ok(7));
        assert_eq!(
            answer.fresh(now + Duration::from_secs(70)),
            Err(Unknown::Silent)
        );
        assert_eq!(answer.last(), Ok(7));
    }

    #[test]
    fn what_is_not_there_is_asked_less_and_less() {
        let mut patience = Patience::new();
        let waits: Vec<u64> = (0..7).map(|_| patience.next().as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn watchers_end_at_once() {
        let watch = Arc::new(Watch::default());
        let other = Arc::clone(&watch);
        let thread = std::thread::spawn(move || other.rest(Duration::from_secs(3600)));
        watch.end();
        assert!(!thread.join().unwrap());
        assert!(!watch.rest(Duration::ZERO));
    }

    #[test]
    fn watchers_that_rest_are_told_to_look_at_once() {
        let watch = Watch::default();
        let before = watch.orders();
        watch.hurry();
        assert!(watch.rest_since(before, Duration::from_secs(3600)));
    }
}

//! A host that sees what a test says.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::{Disk, Host, Idle, LocalTime, Memory, Observed, Power, Source};

/// A computer on mains that nobody has used for an hour, until a test says otherwise. Clones see the same.
#[derive(Clone, Debug)]
pub struct Fake {
    observed: Arc<Mutex<Observed>>,
    programs: Arc<Mutex<Vec<String>>>,
    returned: Arc<Notify>,
}

impl Fake {
    /// Changes what the next looks see. An owner who is active where nobody was before has returned.
    pub fn change(&self, change: impl FnOnce(&mut Observed)) {
        let mut observed = lock(&self.observed);
        let before = observed.idle;
        change(&mut observed);
        let returned = matches!((before, observed.idle), (Ok(before), Ok(now)) if now.duration < before.duration);
        if returned {
            self.returned.notify_one();
        }
    }

    /// Returns the programs that somebody looks for.
    pub fn looked_for(&self) -> Vec<String> {
        lock(&self.programs).clone()
    }
}

impl Default for Fake {
    fn default() -> Self {
        let observed = Observed {
            idle: Ok(Idle {
                duration: Duration::from_secs(3600),
                source: Source::Nobody,
            }),
            power: Ok(Power::NoBattery),
            others_cpu: Ok(0.0),
            memory: Ok(Memory {
                total: 16 << 30,
                available: 12 << 30,
                pressure: Some(0.0),
            }),
            disk: Ok(Disk {
                total: 256 << 30,
                free: 128 << 30,
            }),
            metered: Ok(false),
            running: Ok(Vec::new()),
            local: LocalTime {
                weekday: 2,
                second: 12 * 3600,
            },
            slept: Duration::ZERO,
        };
        Self {
            observed: Arc::new(Mutex::new(observed)),
            programs: Arc::default(),
            returned: Arc::default(),
        }
    }
}

impl Host for Fake {
    fn observe(&mut self, _own_processor_time: Duration) -> Observed {
        lock(&self.observed).clone()
    }

    fn look_for(&mut self, programs: &[String]) {
        *lock(&self.programs) = programs.to_vec();
    }

    fn owner_returned(&self) -> Arc<Notify> {
        Arc::clone(&self.returned)
    }
}

/// A test that failed while it changed something must not hide its message behind that of another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

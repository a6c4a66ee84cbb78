//! How many bytes come and go, and how fast content may.
//!
//! Everything that passes a connection is counted, below encryption: [`Traffic`]. What may be slowed down is content:
//! whoever reads or writes it asks [`Throttle`] before each piece. Messages are small and pass at once.
//!
//! Invariants: a limit holds over any ten seconds for what is written and read; bytes of content that a peer has sent
//! ahead, at most 256 KiB a stream, lie in buffers until they are read. Nobody waits on the task of the swarm.

mod bucket;
mod counted;
mod kept;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tally_protocol::time::Timestamp;
use tokio::sync::Notify;

use bucket::Bucket;
pub(super) use counted::Counted;
use kept::Day;

use super::now;

/// The slowest limit, in bytes a second: below it peers take a transfer for broken. A lower one counts as this one.
pub const RATE_MIN: u64 = 4 << 10;
/// How often the bytes of the day are written.
const KEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Bytes of all connections, with what encryption and framing add.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Bytes sent.
    pub up: u64,
    /// Bytes received.
    pub down: u64,
}

/// The traffic of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSeen {
    /// Since the node was started.
    pub since_start: Moved,
    /// The day in UTC, such as `2026-01-31`.
    pub day: String,
    /// On that day, over restarts.
    pub today: Moved,
}

/// Counts the bytes of a node. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
    day: Mutex<Day>,
}

impl Traffic {
    /// Returns what has come and gone.
    #[must_use]
    pub fn seen(&self) -> TrafficSeen {
        self.seen_at(now())
    }

    /// Goes on from what `path` says of this day, and writes it there each minute while the network lives.
    pub(crate) async fn keep(&self, path: PathBuf) {
        let from = path.clone();
        let kept = tokio::task::spawn_blocking(move || kept::load(&from)).await;
        if let Ok(Some(kept)) = kept {
            self.day().go_on(&kept, &day_of(now()));
        }
        let counts = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut written = None;
            loop {
                tokio::time::sleep(KEEP_INTERVAL).await;
                let Some(counts) = counts.upgrade() else {
                    return;
                };
                let seen = Self(counts).seen();
                if written.as_ref() == Some(&seen) {
                    continue;
                }
                written = Some(seen.clone());
                let to = path.clone();
                let stored = tokio::task::spawn_blocking(move || kept::store(&to, &seen)).await;
                if let Ok(Err(error)) = stored {
                    tracing::warn!(%error, path = %path.display(), "did not write the traffic of the day");
                }
            }
        });
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.0.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.0.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn seen_at(&self, at: Timestamp) -> TrafficSeen {
        let since_start = Moved {
            up: self.0.up.load(Ordering::Relaxed),
            down: self.0.down.load(Ordering::Relaxed),
        };
        let (day, today) = self.day().at(day_of(at), since_start);
        TrafficSeen {
            since_start,
            day,
            today,
        }
    }

    fn day(&self) -> MutexGuard<'_, Day> {
        self.0.day.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the day of a moment in UTC.
fn day_of(at: Timestamp) -> String {
    at.to_string().chars().take_while(|c| *c != 'T').collect()
}

/// Slows content down to what its owner allows. Clones share the limits.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    up: Arc<Gate>,
    down: Arc<Gate>,
}

impl Throttle {
    /// Sets how many bytes of content may be sent and received in a second; `None` for as many as there are. Holds at
    /// once, for transfers under way too. Less than [`RATE_MIN`] counts as that.
    pub fn set_limits(&self, up: Option<u64>, down: Option<u64>) {
        self.up.set_limit(up);
        self.down.set_limit(down);
    }

    /// Returns the limits of sending and receiving, in bytes a second.
    #[must_use]
    pub fn limits(&self) -> (Option<u64>, Option<u64>) {
        (self.up.bucket().rate(), self.down.bucket().rate())
    }

    /// Returns what slows sending down.
    pub(crate) fn up(&self) -> &Arc<Gate> {
        &self.up
    }

    /// Returns what slows receiving down.
    pub(crate) fn down(&self) -> &Arc<Gate> {
        &self.down
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    bucket: Mutex<Bucket>,
    /// Whoever waits holds it, so that they go in turn.
    turn: tokio::sync::Mutex<()>,
    /// Streams under way, and who is told when one ends or the limit changes.
    streams: Mutex<u64>,
    freed: Notify,
}

/// A stream that may go on. Others wait for its end if the limit has no room for more.
#[derive(Debug)]
pub(crate) struct StreamTurn(Arc<Gate>);

impl Gate {
    /// Waits until bytes may pass, and returns how many: at least one, at most `most`, which is more than none.
    pub(crate) async fn pass(&self, most: usize) -> usize {
        if self.bucket().rate().is_none() {
            return most;
        }
        let _turn = self.turn.lock().await;
        loop {
            let passed = self.bucket().pass(most, Instant::now());
            match passed {
                Ok(bytes) => return bytes,
                // Short, so that a new limit need not wake anybody.
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Returns leave for one more stream, if each has at least [`RATE_MIN`] then: peers give up slower ones.
    pub(crate) fn try_stream(self: &Arc<Self>) -> Option<StreamTurn> {
        let room = self
            .bucket()
            .rate()
            .map_or(u64::MAX, |rate| rate / RATE_MIN);
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        (*streams < room.max(1)).then(|| {
            *streams += 1;
            StreamTurn(Arc::clone(self))
        })
    }

    /// Waits for leave for one more stream.
    pub(crate) async fn stream(self: &Arc<Self>) -> StreamTurn {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(turn) = self.try_stream() {
                return turn;
            }
            freed.await;
        }
    }

    fn set_limit(&self, rate: Option<u64>) {
        self.bucket().set_rate(rate.map(|rate| rate.max(RATE_MIN)));
        self.freed.notify_waiters();
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamTurn {
    fn drop(&mut self) {
        let streams = &self.0.streams;
        *streams.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MILLIS: u64 = 24 * 3_600 * 1_000;

    fn at(day: u64) -> Timestamp {
        Timestamp::from_millis(day * DAY_MILLIS + 5)
    }

    #[test]
    fn a_day_begins_at_nothing_and_the_sum_goes_on() {
        let traffic = Traffic::default();
        traffic.sent(3);
        let first = traffic.seen_at(at(0));
        assert_eq!(first.day, "1970-01-01");
        assert_eq!(first.today, Moved { up: 3, down: 0 });
        traffic.received(10);
        assert_eq!(traffic.seen_at(at(0)).today, Moved { up: 3, down: 10 });
        let second = traffic.seen_at(at(1));
        assert_eq!(second.today, Moved::default());
        traffic.sent(4);
        let second = traffic.seen_at(at(1));
        assert_eq!(second.today, Moved { up: 4, down: 0 });
        assert_eq!(second.since_start, Moved { up: 7, down: 10 });
    }

    #[test]
    fn what_was_kept_of_a_day_counts_on_that_day_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traffic.json");
        assert_eq!(kept::load(&path), None);
        let before = Traffic::default();
        before.sent(100);
        kept::store(&path, &before.seen_at(at(5))).unwrap();
        let kept = kept::load(&path).unwrap();
        for (day, up) in [(5, 107), (6, 7)] {
            let after = Traffic::default();
            after.day().go_on(&kept, &day_of(at(day)));
            after.sent(7);
            let seen = after.seen_at(at(day));
            assert_eq!((seen.today.up, seen.since_start.up), (up, 7));
        }
        std::fs::write(&path, "no JSON").unwrap();
        assert_eq!(kept::load(&path), None);
    }

    #[tokio::test]
    async fn without_a_limit_nothing_waits_and_a_limit_gives_each_stream_enough() {
        let throttle = Throttle::default();
        assert_eq!(throttle.down().pass(1 << 20).await, 1 << 20);
        let many: Vec<_> = (0..9)
            .map(|_| throttle.up().try_stream().unwrap())
            .collect();
        throttle.set_limits(Some(2 * RATE_MIN), Some(1));
        assert_eq!(throttle.limits(), (Some(2 * RATE_MIN), Some(RATE_MIN)));
        assert!(throttle.up().try_stream().is_none());
        drop(many);
        let one = throttle.up().try_stream().unwrap();
        let _two = throttle.up().try_stream().unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(throttle.up());
            async move { gate.stream().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(one);
        let _three = waiting.await.unwrap();
    }
}

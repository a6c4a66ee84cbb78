//! The time of day, the only place where the node reads it for the role machines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tally_ledger::wallet::UtcOffset;
use tally_protocol::time::Timestamp;

/// Returns the time of day.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns how far the clock on the wall is before UTC at a moment, in the time zone of this computer.
#[must_use]
pub fn utc_offset(at: Timestamp) -> UtcOffset {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let zone = jiff::tz::TimeZone::system();
    let seconds =
        jiff::Timestamp::from_millisecond(millis).map_or(0, |at| zone.to_offset(at).seconds());
    UtcOffset::nearest(seconds / 60)
}

/// Sleeps until `deadline`; for ever if there is none.
pub async fn sleep_until(deadline: Option<Timestamp>) {
    match deadline {
        Some(at) => tokio::time::sleep(at.since(now())).await,
        None => std::future::pending().await,
    }
}

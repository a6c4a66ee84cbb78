//! `poll_oneoff`: nothing here ever blocks, so a subscription to a stream is ready at once, and one to a clock
//! lets virtual time pass.

use super::Outcome;
use super::abi::{EVENT_BYTES, Errno, SUBSCRIPTION_BYTES, rights};
use super::guest::{Guest, element, i32_at, u64_at};
use super::streams::Stream;
use crate::unit::UnitState;

/// The parameters of the call: two lists, their length, and where the number of events goes.
pub(super) struct Lists {
    pub(super) from: i32,
    pub(super) to: i32,
    pub(super) count: i32,
    pub(super) ready: i32,
}

const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;
const FLAG_ABSOLUTE: u8 = 1;

/// What a subscription waits for.
struct Subscription {
    user: u64,
    kind: u8,
    wait: Wait,
}

enum Wait {
    /// The time until a clock event, in nanoseconds.
    Clock(u64),
    /// An answer that is there already: error and bytes that can be read.
    Ready(Errno, u64),
}

pub(super) fn poll_oneoff(unit: &mut UnitState, guest: &mut Guest<'_>, lists: Lists) -> Outcome {
    let count = lists.count.cast_unsigned();
    if count == 0 {
        return Err(Errno::Inval.into());
    }
    // The first pass finds how long the wait is: until the earliest clock, or not at all.
    let mut passed = u64::MAX;
    for index in 0..count {
        passed = passed.min(match subscription(unit, guest, lists.from, index)?.wait {
            Wait::Clock(nanos) => nanos,
            Wait::Ready(..) => 0,
        });
    }
    let mut events = 0;
    for index in 0..count {
        let subscription = subscription(unit, guest, lists.from, index)?;
        let (errno, bytes) = match subscription.wait {
            Wait::Clock(nanos) if nanos > passed => continue,
            Wait::Clock(_) => (Errno::Success, 0),
            Wait::Ready(errno, bytes) => (errno, bytes),
        };
        let mut event = [0; EVENT_BYTES];
        event[..8].copy_from_slice(&subscription.user.to_le_bytes());
        event[8] = u8::try_from(errno.code()).map_err(|_| Errno::Inval)?;
        event[10] = subscription.kind;
        event[16..24].copy_from_slice(&bytes.to_le_bytes());
        guest.write(element(lists.to, events, EVENT_BYTES)?, &event)?;
        events += 1;
    }
    unit.clock.advance(passed);
    Ok(guest.write_u32(lists.ready, events)?)
}

fn subscription(
    unit: &UnitState,
    guest: &mut Guest<'_>,
    list: i32,
    index: u32,
) -> Result<Subscription, Errno> {
    let record: [u8; SUBSCRIPTION_BYTES] =
        guest.array(element(list, index, SUBSCRIPTION_BYTES)?)?;
    let kind = record[8];
    let wait = match kind {
        CLOCK => clock(unit, &record),
        FD_READ | FD_WRITE => stream(unit, i32_at(&record, 16)),
        _ => return Err(Errno::Inval),
    };
    Ok(Subscription {
        user: u64_at(&record, 0),
        kind,
        wait,
    })
}

fn clock(unit: &UnitState, record: &[u8; SUBSCRIPTION_BYTES]) -> Wait {
    let (id, timeout) = (i32_at(record, 16), u64_at(record, 24));
    let until = unit.clock.until(id, timeout);
    match until {
        Err(errno) => Wait::Ready(errno, 0),
        Ok(until) if record[40] & FLAG_ABSOLUTE != 0 => Wait::Clock(until),
        Ok(_) => Wait::Clock(timeout),
    }
}

fn stream(unit: &UnitState, fd: i32) -> Wait {
    match unit.streams.permitted(fd, rights::POLL_FD_READWRITE) {
        Err(errno) => Wait::Ready(errno, 0),
        Ok(Stream::In) => Wait::Ready(Errno::Success, unit.streams.input.rest.len() as u64),
        Ok(Stream::Out | Stream::Err) => Wait::Ready(Errno::Success, 0),
    }
}

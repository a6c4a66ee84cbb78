//! The kernel ABI: a program without imports that gets one buffer and gives one back.
//!
//! The buffer holds the length of the argument block (u32, little-endian), the block (the job's arguments
//! joined by NUL, then, if the unit has parameters, NUL and these), and the input.

use wasmtime::{Instance, Memory, Store};

use crate::fixed::HOST_BYTE_FUEL;
use crate::unit::{Stop, UnitState};

/// Version of this ABI, a part of the profile id.
pub(crate) const VERSION: u32 = 1;

/// Calls `alloc`, copies the buffer in, calls `run`, and copies the result out.
pub(crate) fn run(
    store: &mut Store<UnitState>,
    instance: &Instance,
    memory: Memory,
) -> wasmtime::Result<()> {
    let alloc = instance.get_typed_func::<i32, i32>(&mut *store, "alloc")?;
    let run = instance.get_typed_func::<(i32, i32), i64>(&mut *store, "run")?;
    let block = argument_block(store.data());
    let block_len = u32::try_from(block.len()).map_err(|_| Stop::Abi)?;
    let input_len = store.data().streams.input.rest.len();
    let len = u32::try_from(4 + block.len() + input_len).map_err(|_| Stop::Abi)?;
    charge(store, u64::from(len))?;

    let start = alloc.call(&mut *store, len.cast_signed())?;
    let (bytes, unit) = memory.data_and_store_mut(&mut *store);
    let buffer = part_mut(bytes, start.cast_unsigned(), len)?;
    buffer[..4].copy_from_slice(&block_len.to_le_bytes());
    buffer[4..4 + block.len()].copy_from_slice(&block);
    let input = &unit.streams.input;
    buffer[4 + block.len()..].copy_from_slice(input.memory.bytes(input.rest.clone()));

    let packed = run
        .call(&mut *store, (start, len.cast_signed()))?
        .cast_unsigned();
    let [start, len] =
        [packed >> 32, packed & 0xffff_ffff].map(|half| u32::try_from(half).unwrap_or(u32::MAX));
    charge(store, u64::from(len))?;
    let (bytes, unit) = memory.data_and_store_mut(&mut *store);
    unit.streams.output.append(part_mut(bytes, start, len)?)?;
    Ok(())
}

fn argument_block(unit: &UnitState) -> Vec<u8> {
    let args = unit.args.iter().skip(1).map(String::as_str);
    let mut block = args.collect::<Vec<_>>().join("\0");
    if !unit.place.params.is_empty() {
        block.push('\0');
        block.push_str(&unit.place.params);
    }
    block.into_bytes()
}

fn part_mut(bytes: &mut [u8], start: u32, len: u32) -> Result<&mut [u8], Stop> {
    let (start, len) = (start as usize, len as usize);
    bytes.get_mut(start..start + len).ok_or(Stop::Abi)
}

fn charge(store: &mut Store<UnitState>, bytes: u64) -> wasmtime::Result<()> {
    let left = store
        .get_fuel()?
        .checked_sub(bytes * HOST_BYTE_FUEL)
        .ok_or(Stop::OutOfFuel)?;
    store.set_fuel(left)
}

//! The program's memory as the host sees it: every address is checked, every byte counted.

use super::abi::{Errno, IOVEC_BYTES};

/// The memory of the calling program.
pub(super) struct Guest<'a> {
    bytes: &'a mut [u8],
    moved: u64,
}

impl<'a> Guest<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, moved: 0 }
    }

    /// Returns how many bytes the host has looked at or written.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    pub(super) fn slice(&mut self, start: i32, len: i32) -> Result<&[u8], Errno> {
        self.slice_mut(start, len).map(|bytes| &*bytes)
    }

    pub(super) fn slice_mut(&mut self, start: i32, len: i32) -> Result<&mut [u8], Errno> {
        let (start, len) = (start.cast_unsigned() as usize, len.cast_unsigned() as usize);
        let bytes = self.bytes.get_mut(start..start + len).ok_or(Errno::Fault)?;
        self.moved += len as u64;
        Ok(bytes)
    }

    /// Copies `bytes` to the start of a buffer that must lie inside memory as a whole.
    pub(super) fn fill(&mut self, start: i32, len: i32, bytes: &[u8]) -> Result<(), Errno> {
        let start = start.cast_unsigned() as usize;
        let buffer = self
            .bytes
            .get_mut(start..start + len.cast_unsigned() as usize)
            .ok_or(Errno::Fault)?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        self.moved += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn write(&mut self, start: i32, bytes: &[u8]) -> Result<(), Errno> {
        let len = i32::try_from(bytes.len()).map_err(|_| Errno::Fault)?;
        self.slice_mut(start, len)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn write_u32(&mut self, start: i32, value: u32) -> Result<(), Errno> {
        self.write(start, &value.to_le_bytes())
    }

    pub(super) fn write_u64(&mut self, start: i32, value: u64) -> Result<(), Errno> {
        self.write(start, &value.to_le_bytes())
    }

    pub(super) fn array<const N: usize>(&mut self, start: i32) -> Result<[u8; N], Errno> {
        let len = i32::try_from(N).map_err(|_| Errno::Fault)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.slice(start, len)?);
        Ok(bytes)
    }

    /// Reads the list of buffers of a read or a write: address and length of entry `index`.
    pub(super) fn iovec(&mut self, list: i32, index: u32) -> Result<(i32, i32), Errno> {
        let entry: [u8; IOVEC_BYTES] = self.array(element(list, index, IOVEC_BYTES)?)?;
        Ok((i32_at(&entry, 0), i32_at(&entry, 4)))
    }

    /// Writes the number of texts and the bytes that they take with their NULs.
    pub(super) fn write_sizes(
        &mut self,
        texts: &[String],
        count: i32,
        size: i32,
    ) -> super::Outcome {
        let bytes: usize = texts.iter().map(|text| text.len() + 1).sum();
        self.write_u32(count, u32::try_from(texts.len()).map_err(|_| Errno::Inval)?)?;
        Ok(self.write_u32(size, u32::try_from(bytes).map_err(|_| Errno::Inval)?)?)
    }

    /// Writes texts that end with NUL to `target` and their addresses to `pointers`.
    pub(super) fn write_strings(
        &mut self,
        texts: &[String],
        pointers: i32,
        target: i32,
    ) -> super::Outcome {
        let mut target = target.cast_unsigned();
        for (index, text) in (0u32..).zip(texts) {
            self.write_u32(element(pointers, index, 4)?, target)?;
            self.write(target.cast_signed(), text.as_bytes())?;
            target = target
                .checked_add(u32::try_from(text.len()).map_err(|_| Errno::Fault)?)
                .ok_or(Errno::Fault)?;
            self.write(target.cast_signed(), &[0])?;
            target = target.checked_add(1).ok_or(Errno::Fault)?;
        }
        Ok(())
    }
}

/// Returns the address of an element of a list in the program's memory.
pub(super) fn element(list: i32, index: u32, size: usize) -> Result<i32, Errno> {
    let offset = u32::try_from(size)
        .ok()
        .and_then(|size| index.checked_mul(size));
    let address = offset.and_then(|offset| list.cast_unsigned().checked_add(offset));
    address.map(u32::cast_signed).ok_or(Errno::Fault)
}

/// Reads a little-endian i32 from the bytes of a record.
///
/// # Panics
/// If the record is shorter: positions come from the ABI, not from the program.
pub(super) fn i32_at(record: &[u8], position: usize) -> i32 {
    i32::from_le_bytes(
        record[position..position + 4]
            .try_into()
            .expect("four bytes"),
    )
}

/// Reads a little-endian u64 from the bytes of a record.
///
/// # Panics
/// If the record is shorter: positions come from the ABI, not from the program.
pub(super) fn u64_at(record: &[u8], position: usize) -> u64 {
    u64::from_le_bytes(
        record[position..position + 8]
            .try_into()
            .expect("eight bytes"),
    )
}

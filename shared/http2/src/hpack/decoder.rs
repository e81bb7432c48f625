//! Header blocks, read.

use std::borrow::Cow;

use bytes::Bytes;

use super::static_table::ENTRIES;
use super::table::Table;
use super::{ENTRY_OVERHEAD, Malformed, huffman, integer};

/// The size of the dynamic table that the peer may use: the initial value of SETTINGS_HEADER_TABLE_SIZE, which we never
/// change.
const TABLE: usize = 4096;

/// Reads the header blocks of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { table: Table::new(TABLE) }
    }

    /// Reads a whole block and calls `take` with the name and the value of each field, until they exceed `limit` bytes by
    /// the measure of SETTINGS_MAX_HEADER_LIST_SIZE; whether all fields were within it.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        limit: usize,
        mut take: impl FnMut(&[u8], Bytes),
    ) -> Result<bool, Malformed> {
        let mut size = 0_usize;
        let mut may_resize = true;
        while let Some(first) = block.first() {
            if first & 0xe0 == 0x20 {
                let largest = integer::decode(&mut block, 5)?;
                if !may_resize || largest > TABLE {
                    return Err(Malformed);
                }
                self.table.resize(largest);
                continue;
            }
            may_resize = false;
            let (name, value) = self.field(*first, &mut block)?;
            size = size.saturating_add(name.len() + value.len() + ENTRY_OVERHEAD);
            if size <= limit {
                take(&name, value);
            }
        }
        Ok(size <= limit)
    }

    fn field<'a>(&mut self, first: u8, block: &mut &'a [u8]) -> Result<(Cow<'a, [u8]>, Bytes), Malformed> {
        if first & 0x80 != 0 {
            let index = integer::decode(block, 7)?;
            return self.entry(index);
        }
        let is_remembered = first & 0x40 != 0;
        let index = integer::decode(block, if is_remembered { 6 } else { 4 })?;
        let name = if index == 0 { string(block)? } else { self.entry(index)?.0 };
        let value = match string(block)? {
            Cow::Borrowed(value) => Bytes::copy_from_slice(value),
            Cow::Owned(value) => Bytes::from(value),
        };
        if is_remembered {
            self.table.add(Bytes::copy_from_slice(&name), Bytes::copy_from_slice(&value));
        }
        Ok((name, value))
    }

    fn entry(&self, index: usize) -> Result<(Cow<'static, [u8]>, Bytes), Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = ENTRIES.get(place) {
            return Ok((Cow::Borrowed(name.as_bytes()), Bytes::from_static(value.as_bytes())));
        }
        let (name, value) = self.table.entry(place - ENTRIES.len()).ok_or(Malformed)?;
        Ok((Cow::Owned(name.to_vec()), value.clone()))
    }
}

/// A string, as it is or Huffman-coded (section 5.2).
fn string<'a>(block: &mut &'a [u8]) -> Result<Cow<'a, [u8]>, Malformed> {
    let is_coded = block.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer::decode(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    Ok(if is_coded { Cow::Owned(huffman::decode(bytes)?) } else { Cow::Borrowed(bytes) })
}

#[cfg(test)]
mod tests;

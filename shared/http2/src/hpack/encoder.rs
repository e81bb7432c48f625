//! Header blocks, written: indexes of the static table and literals, nothing that has to be remembered.

use super::static_table::ENTRIES;
use super::{huffman, integer};

/// The size of the peer's dynamic table until it says otherwise.
const TABLE: u32 = 4096;

/// Writes the header blocks of one connection.
///
/// It never refers to the dynamic table. Statuses are written as other libraries do, which tells the peer to remember
/// them: a handful of entries at most.
#[derive(Debug)]
pub(crate) struct Encoder {
    table: u32,
    /// The peer must be told that its smaller table is empty (section 4.2).
    owes_update: bool,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { table: TABLE, owes_update: false }
    }

    /// The peer has set its SETTINGS_HEADER_TABLE_SIZE.
    pub(crate) fn resize(&mut self, table: u32) {
        if table < self.table {
            self.table = 0;
            self.owes_update = true;
        }
    }

    /// To be called before the first field of each block.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.owes_update) {
            integer::encode(out, 0x20, 5, 0);
        }
    }

    /// Appends a field.
    pub(crate) fn field(&self, out: &mut Vec<u8>, name: &str, value: &[u8]) {
        let first = ENTRIES.iter().position(|entry| entry.0 == name);
        // Entries of one name stand in a row.
        let named = ENTRIES.iter().enumerate().skip(first.unwrap_or(ENTRIES.len()));
        let mut named = named.take_while(|(_, entry)| entry.0 == name);
        if let Some((place, _)) = named.find(|(_, entry)| entry.1.as_bytes() == value) {
            return integer::encode(out, 0x80, 7, place + 1);
        }
        match first {
            Some(place) if name == ":status" => {
                integer::encode(out, 0x40, 6, place + 1);
                let mut coded = Vec::with_capacity(value.len());
                huffman::encode(&mut coded, value);
                integer::encode(out, 0x80, 7, coded.len());
                out.extend_from_slice(&coded);
            }
            Some(place) => {
                integer::encode(out, 0, 4, place + 1);
                string(out, value);
            }
            None => {
                out.push(0);
                string(out, name.as_bytes());
                string(out, value);
            }
        }
    }
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    integer::encode(out, 0, 7, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::hpack::Decoder;

    fn encode(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        encoder.start(&mut block);
        fields.iter().for_each(|(name, value)| encoder.field(&mut block, name, value.as_bytes()));
        block
    }

    #[test]
    fn fields_are_written_as_shortly_as_no_memory_allows() {
        let mut encoder = Encoder::new();
        assert_eq!(encode(&mut encoder, &[(":status", "200")]), [0x88]);
        assert_eq!(encode(&mut encoder, &[(":status", "401")]), [0x48, 0x82, 0x68, 0x01]);
        assert_eq!(encode(&mut encoder, &[(":method", "CONNECT")]), b"\x02\x07CONNECT");
        assert_eq!(encode(&mut encoder, &[(":authority", "a:80")]), b"\x01\x04a:80");
        assert_eq!(encode(&mut encoder, &[("x", "y")]), b"\x00\x01x\x01y");
    }

    #[test]
    fn a_peer_with_a_smaller_table_is_told_once() {
        let mut encoder = Encoder::new();
        encoder.resize(8192);
        assert_eq!(encode(&mut encoder, &[(":status", "200")]), [0x88]);
        encoder.resize(4095);
        assert_eq!(encode(&mut encoder, &[(":status", "200")]), [0x20, 0x88]);
        encoder.resize(0);
        assert_eq!(encode(&mut encoder, &[(":status", "200")]), [0x88]);
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(fields in proptest::collection::vec(("[:a-z-]{1,20}", ".{0,300}"), 0..20)) {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let block = encode(&mut encoder, &fields);
            let mut read = Vec::new();
            let take = |name: &[u8], value: Bytes| read.push((name.to_vec(), value));
            prop_assert_eq!(decoder.decode(&block, usize::MAX, take), Ok(true));
            let expected: Vec<_> =
                fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), Bytes::copy_from_slice(value.as_bytes()))).collect();
            prop_assert_eq!(read, expected);
        }
    }
}

//! The bytes of nf_tables messages: numbers of `linux/netfilter/nf_tables.h` and nested attributes.

use std::io;

use crate::netlink::{ALIGNMENT, HEADER, aligned};

/// Length of `struct nfgenmsg`, which starts every message's payload.
pub(super) const FAMILY_HEADER: usize = 4;
/// `NFNL_SUBSYS_NFTABLES`, the upper byte of a message's kind and the resource of a batch.
const SUBSYSTEM: u16 = 10;
/// Attributes that hold attributes say so.
const NESTED: u16 = 1 << 15;

/// Kinds of attributes, by what they belong to.
pub(super) mod kind {
    pub(in super::super) const LIST_ELEMENT: u16 = 1;
    pub(in super::super) const TABLE_NAME: u16 = 1;

    pub(in super::super) const CHAIN_TABLE: u16 = 1;
    pub(in super::super) const CHAIN_NAME: u16 = 3;
    pub(in super::super) const CHAIN_HOOK: u16 = 4;
    pub(in super::super) const CHAIN_POLICY: u16 = 5;
    pub(in super::super) const CHAIN_TYPE: u16 = 7;
    pub(in super::super) const HOOK_NUMBER: u16 = 1;
    pub(in super::super) const HOOK_PRIORITY: u16 = 2;

    pub(in super::super) const RULE_TABLE: u16 = 1;
    pub(in super::super) const RULE_CHAIN: u16 = 2;
    pub(in super::super) const RULE_EXPRESSIONS: u16 = 4;
    pub(in super::super) const RULE_USERDATA: u16 = 7;

    pub(in super::super) const SET_TABLE: u16 = 1;
    pub(in super::super) const SET_NAME: u16 = 2;
    pub(in super::super) const SET_FLAGS: u16 = 3;
    pub(in super::super) const SET_KEY_TYPE: u16 = 4;
    pub(in super::super) const SET_KEY_LENGTH: u16 = 5;
    pub(in super::super) const SET_ID: u16 = 10;
    pub(in super::super) const SET_USERDATA: u16 = 13;
    pub(in super::super) const ELEMENTS_TABLE: u16 = 1;
    pub(in super::super) const ELEMENTS_SET: u16 = 2;
    pub(in super::super) const ELEMENTS_LIST: u16 = 3;
    pub(in super::super) const ELEMENT_KEY: u16 = 1;
    pub(in super::super) const ELEMENT_USERDATA: u16 = 6;

    pub(in super::super) const DATA_VALUE: u16 = 1;
    pub(in super::super) const DATA_VERDICT: u16 = 2;
    pub(in super::super) const VERDICT_CODE: u16 = 1;
    pub(in super::super) const VERDICT_CHAIN: u16 = 2;
    pub(in super::super) const EXPRESSION_NAME: u16 = 1;
    pub(in super::super) const EXPRESSION_DATA: u16 = 2;
}

/// User data that `nft` shows as a comment, on rules and on elements alike.
pub(super) const COMMENT: u8 = 0;
/// User data of a set that tells `nft` the byte order of its keys.
pub(super) const KEY_BYTE_ORDER: u8 = 0;
/// Longest comment in bytes: one byte counts them, and `nft` stops at 128 with the NUL byte.
pub(super) const LONGEST_COMMENT: usize = 127;

/// Appends messages, with their lengths filled in.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// An attribute got longer than its length field can say.
    is_too_long: bool,
}

impl Writer {
    /// How many bytes there are so far.
    pub(super) fn position(&self) -> usize {
        self.bytes.len()
    }

    /// All messages.
    pub(super) fn into_bytes(self) -> io::Result<Vec<u8>> {
        if self.is_too_long {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a rule or name is too long for a message"));
        }
        Ok(self.bytes)
    }

    /// A message of nf_tables.
    pub(super) fn message(
        &mut self,
        message: i32,
        flags: u16,
        family: u8,
        sequence: u32,
        content: impl FnOnce(&mut Self),
    ) {
        let message = u16::try_from(message).unwrap_or_default();
        self.frame([SUBSYSTEM << 8 | message, flags], family, sequence, 0, content);
    }

    /// The message that begins or ends a batch.
    pub(super) fn batch(&mut self, message: i32, sequence: u32) {
        let message = u16::try_from(message).unwrap_or_default();
        self.frame([message, crate::netlink::REQUEST], 0, sequence, SUBSYSTEM, |_| {});
    }

    fn frame(
        &mut self,
        [kind, flags]: [u16; 2],
        family: u8,
        sequence: u32,
        resource: u16,
        content: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | crate::netlink::REQUEST).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        debug_assert_eq!(self.bytes.len() - start, HEADER);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        content(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    /// An attribute with these bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.bytes.extend(value));
    }

    /// An attribute with a text that ends with a NUL byte.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.bytes.extend(value.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// An attribute with a number, which nf_tables wants in network byte order.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute that holds attributes.
    pub(super) fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, content);
    }

    /// User data with one entry.
    pub(super) fn userdata(&mut self, kind: u16, entry: u8, value: &[u8]) {
        self.attribute(kind, |writer| {
            writer.is_too_long |= value.len() > usize::from(u8::MAX);
            writer.bytes.extend([entry, u8::try_from(value.len()).unwrap_or_default()]);
            writer.bytes.extend(value);
        });
    }

    fn attribute(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        content(self);
        let length = u16::try_from(self.bytes.len() - start);
        self.is_too_long |= length.is_err();
        self.patch(start, &length.unwrap_or_default().to_ne_bytes());
        self.bytes.resize(aligned(self.bytes.len()), 0);
        debug_assert_eq!(self.bytes.len() % ALIGNMENT, 0);
    }

    fn patch(&mut self, start: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(start..start + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

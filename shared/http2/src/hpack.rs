//! Header compression ([RFC 7541](https://www.rfc-editor.org/rfc/rfc7541)).

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod static_table;
mod table;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

/// What every entry of a table or of a header list costs besides its characters (section 4.1).
pub(crate) const ENTRY_OVERHEAD: usize = 32;

/// The header block makes no sense; the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

//! `traceparent`: ties a connection to a trace ([W3C trace context](https://www.w3.org/TR/trace-context/)).

use std::fmt;

use http::{HeaderMap, HeaderValue};
use rand::{Rng, RngExt};

const NAME: &str = "traceparent";

/// The length of version 00: two digits, 32, 16, two, and three dashes.
const LENGTH: usize = 55;

/// A trace and the span in it that made the request.
///
/// ```
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
/// assert_eq!(hbone::TraceParent::parse(text).unwrap().to_string(), text);
/// assert_eq!(hbone::TraceParent::parse("00-0af7"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never zero.
    pub trace: u128,
    /// The span; never zero.
    pub parent: u64,
    /// The flags; bit 0 says that the trace is recorded.
    pub flags: u8,
}

impl TraceParent {
    /// A fresh trace, not recorded.
    pub fn random(rng: &mut impl Rng) -> Self {
        Self { trace: rng.random::<u128>().max(1), parent: rng.random::<u64>().max(1), flags: 0 }
    }

    /// Reads exactly 55 characters; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_lower_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f' | b'-');
        if text.len() != LENGTH || !text.bytes().all(is_lower_hex) {
            return None;
        }
        let mut parts = text.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let has_right_lengths = (version.len(), trace.len(), parent.len(), flags.len()) == (2, 32, 16, 2);
        if !has_right_lengths || version == "ff" || parts.next().is_some() {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let parent = u64::from_str_radix(parent, 16).ok().filter(|parent| *parent != 0)?;
        Some(Self { trace, parent, flags: u8::from_str_radix(flags, 16).ok()? })
    }

    /// Reads the header of a message; `None` when it is absent or malformed.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get(NAME)?.to_str().ok().and_then(Self::parse)
    }

    pub(crate) fn insert_into(self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.to_string()) {
            headers.insert(NAME, value);
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.parent, self.flags)
    }
}

//! SETTINGS ([RFC 9113, section 6.5](https://www.rfc-editor.org/rfc/rfc9113#section-6.5)).

use crate::config::{Config, Role};
use crate::error::Reason;
use crate::frame::{LARGEST_LIMIT, SMALLEST_LIMIT};

/// The window of every stream and of the connection until somebody says otherwise.
pub(crate) const INITIAL_WINDOW: i32 = 65_535;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// What a peer changes; what it does not mention stays.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) header_table: Option<u32>,
    pub(crate) streams: Option<u32>,
    pub(crate) window: Option<i32>,
    pub(crate) frame_size: Option<u32>,
}

/// Reads a whole number of entries; the last of a kind counts.
pub(crate) fn parse(payload: &[u8], own_role: Role) -> Result<Changes, Reason> {
    let mut changes = Changes::default();
    for entry in payload.as_chunks::<6>().0 {
        let [a, b, w, x, y, z] = *entry;
        let value = u32::from_be_bytes([w, x, y, z]);
        match u16::from_be_bytes([a, b]) {
            HEADER_TABLE_SIZE => changes.header_table = Some(value),
            // A server must not offer push at all.
            ENABLE_PUSH if value > 1 || (value == 1 && own_role == Role::Client) => return Err(Reason::PROTOCOL_ERROR),
            MAX_CONCURRENT_STREAMS => changes.streams = Some(value),
            INITIAL_WINDOW_SIZE => {
                changes.window = Some(i32::try_from(value).map_err(|_too_large| Reason::FLOW_CONTROL_ERROR)?);
            }
            MAX_FRAME_SIZE if !(SMALLEST_LIMIT..=LARGEST_LIMIT).contains(&value) => return Err(Reason::PROTOCOL_ERROR),
            MAX_FRAME_SIZE => changes.frame_size = Some(value),
            _ => {}
        }
    }
    Ok(changes)
}

/// What this end announces.
pub(crate) fn announce(config: &Config, role: Role) -> Vec<u8> {
    let first = match role {
        Role::Client => (ENABLE_PUSH, 0),
        Role::Server => (MAX_CONCURRENT_STREAMS, config.streams),
    };
    let entries = [
        first,
        (INITIAL_WINDOW_SIZE, config.stream_window),
        (MAX_FRAME_SIZE, config.frame_size),
        (MAX_HEADER_LIST_SIZE, config.header_list),
    ];
    entries.iter().flat_map(|(kind, value)| [&kind.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u16, value: u32) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
    }

    #[test]
    fn values_are_checked() {
        for (kind, value, reason) in [
            (ENABLE_PUSH, 2, Reason::PROTOCOL_ERROR),
            (INITIAL_WINDOW_SIZE, 1 << 31, Reason::FLOW_CONTROL_ERROR),
            (MAX_FRAME_SIZE, 16_383, Reason::PROTOCOL_ERROR),
            (MAX_FRAME_SIZE, 1 << 24, Reason::PROTOCOL_ERROR),
        ] {
            assert_eq!(parse(&entry(kind, value), Role::Server), Err(reason), "{kind}={value}");
        }
        assert_eq!(parse(&entry(ENABLE_PUSH, 1), Role::Client), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(parse(&entry(ENABLE_PUSH, 1), Role::Server), Ok(Changes::default()));
    }

    #[test]
    fn the_last_of_a_kind_counts_and_unknown_kinds_do_not() {
        let entries = [entry(3, 1), entry(0xff, 9), entry(3, 7), entry(4, 0x7fff_ffff), entry(5, 16_384), entry(1, 0)];
        let expected =
            Changes { header_table: Some(0), streams: Some(7), window: Some(i32::MAX), frame_size: Some(16_384) };
        assert_eq!(parse(&entries.concat(), Role::Client), Ok(expected));
    }
}

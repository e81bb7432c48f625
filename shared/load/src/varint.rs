//! Whole numbers in groups of seven bits, the least significant group first (LEB128), as protobuf writes them.

use bytes::BufMut;

/// A number that is cut off, or has more than 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

pub(crate) fn write(bytes: &mut impl BufMut, mut number: u64) {
    while number >= 0x80 {
        bytes.put_u8(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.put_u8(number.to_le_bytes()[0]);
}

/// Takes a number off the front of `bytes`.
pub(crate) fn read(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    // Ten groups of seven bits hold every number of 64.
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        let group = u64::from(byte & 0x7f);
        if (group << shift) >> shift != group {
            return Err(Malformed);
        }
        number |= group << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_more() {
        for (number, length) in [(0, 1), (127, 1), (128, 2), (300, 2), (1 << 35, 6), (u64::MAX, 10)] {
            let mut bytes = Vec::new();
            write(&mut bytes, number);
            assert_eq!(bytes.len(), length, "{number}");
            bytes.push(7);
            let mut rest = bytes.as_slice();
            assert_eq!((read(&mut rest), rest), (Ok(number), &[7][..]));
            bytes.truncate(length - 1);
            assert_eq!(read(&mut bytes.as_slice()), Err(Malformed), "{number} cut off");
        }
        // 70 bits.
        assert_eq!(read(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..]), Err(Malformed));
    }
}

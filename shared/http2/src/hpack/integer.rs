//! Integers with a prefix of some bits (RFC 7541, section 5.1).

use super::Malformed;

/// The most bytes behind the prefix: 28 bits, more than any length here can be.
const LONGEST: u32 = 4;

/// Takes an integer off the front of `bytes`; the bits above the prefix are the caller's.
pub(super) fn decode(bytes: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let (first, mut rest) = bytes.split_first().ok_or(Malformed)?;
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, behind) = rest.split_first().ok_or(Malformed)?;
            rest = behind;
            if shift >= 7 * LONGEST {
                return Err(Malformed);
            }
            value += usize::from(*byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *bytes = rest;
    Ok(value)
}

/// Appends an integer; `first` holds the bits above the prefix.
pub(super) fn encode(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        out.push(first | low_byte(value));
        return;
    }
    out.push(first | low_byte(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(low_byte(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_byte(rest));
}

fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // Appendix C.1: 10 and 1337 with five bits, 42 at the start of a byte.
        for (bytes, prefix, value) in [(&[0xea_u8, 0xff][..1], 5, 10), (&[0x1f, 0x9a, 0x0a], 5, 1337), (&[0x2a], 8, 42)]
        {
            let mut rest = bytes;
            assert_eq!(decode(&mut rest, prefix), Ok(value));
            assert!(rest.is_empty());
        }
        let mut out = Vec::new();
        encode(&mut out, 0, 5, 1337);
        assert_eq!(out, [0x1f, 0x9a, 0x0a]);
    }

    #[test]
    fn what_does_not_end_or_is_too_large_is_malformed() {
        for bytes in [
            &[][..],
            &[0x1f],
            &[0x1f, 0x80],
            &[0x1f, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x1f, 0x80, 0x80, 0x80, 0x80, 0x00],
        ] {
            assert_eq!(decode(&mut &*bytes, 5), Err(Malformed), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn integers_survive_a_round_trip(value in 0_usize..1 << 28, prefix in 4_u32..8) {
            let mut out = Vec::new();
            encode(&mut out, 0, prefix, value);
            prop_assert_eq!(decode(&mut out.as_slice(), prefix), Ok(value));
        }
    }
}

//! The Huffman code of strings (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: the lengths say it all. Codes of one length are consecutive, in the order of their symbols, and
//! shorter codes come before longer ones.

use super::Malformed;

/// End of string; as padding, its first bits may follow the last symbol.
const END: usize = 256;

const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// Bits of the code of each byte, and of [`END`].
const LENGTHS: [u8; END + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];

/// All codes of one length.
#[derive(Clone, Copy)]
struct Group {
    /// The first code.
    first: u32,
    /// How many codes there are.
    count: u32,
    /// Where their symbols begin in [`Code::symbols`].
    start: u32,
}

struct Code {
    groups: [Group; LONGEST + 1],
    /// By length, then by value.
    symbols: [u16; END + 1],
    /// The code of each symbol.
    codes: [u32; END + 1],
}

static CODE: Code = Code::derive();

impl Code {
    #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "evaluated by the compiler")]
    const fn derive() -> Self {
        let mut code = Self {
            groups: [Group { first: 0, count: 0, start: 0 }; LONGEST + 1],
            symbols: [0; END + 1],
            codes: [0; END + 1],
        };
        let (mut next, mut place, mut length) = (0_u32, 0_u32, SHORTEST);
        while length <= LONGEST {
            let mut group = Group { first: next, count: 0, start: place };
            let mut symbol = 0;
            while symbol <= END {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[place as usize] = symbol as u16;
                    code.codes[symbol] = next;
                    next += 1;
                    place += 1;
                    group.count += 1;
                }
                symbol += 1;
            }
            code.groups[length] = group;
            next <<= 1;
            length += 1;
        }
        code
    }

    /// The symbol at the front of `count` bits, and its length.
    fn find(&self, bits: u64, count: usize) -> Option<(usize, usize)> {
        (SHORTEST..=count.min(LONGEST)).find_map(|length| {
            let group = self.groups.get(length)?;
            let front = u32::try_from(bits >> (count - length)).ok()?;
            let offset = front.checked_sub(group.first).filter(|offset| *offset < group.count)?;
            let symbol = self.symbols.get((group.start + offset) as usize)?;
            Some((usize::from(*symbol), length))
        })
    }
}

/// Decodes a string.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut decoded = Vec::with_capacity(bytes.len() + bytes.len() / 2);
    // What has not been decoded: at most a code that is not complete, and a byte.
    let (mut bits, mut count) = (0_u64, 0_usize);
    for byte in bytes {
        bits = bits << 8 | u64::from(*byte);
        count += 8;
        while let Some((symbol, length)) = CODE.find(bits, count) {
            decoded.push(u8::try_from(symbol).map_err(|_end| Malformed)?);
            count -= length;
            bits &= (1 << count) - 1;
        }
        if count >= LONGEST {
            return Err(Malformed);
        }
    }
    // Less than a byte of ones may follow.
    if count < 8 && bits == (1 << count) - 1 { Ok(decoded) } else { Err(Malformed) }
}

/// Appends the code of a string.
pub(super) fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    let (mut bits, mut count) = (0_u64, 0_u32);
    for byte in bytes {
        let symbol = usize::from(*byte);
        let length = LENGTHS.get(symbol).copied().unwrap_or_default();
        let code = CODE.codes.get(symbol).copied().unwrap_or_default();
        bits = bits << length | u64::from(code);
        count += u32::from(length);
        while count >= 8 {
            count -= 8;
            out.push((bits >> count).to_le_bytes()[0]);
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        out.push(((bits << (8 - count)) | (0xff >> count)).to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_code_is_complete() {
        let taken: u64 = LENGTHS.iter().map(|length| 1 << (LONGEST - usize::from(*length))).sum();
        assert_eq!(taken, 1 << LONGEST);
        assert_eq!(CODE.codes[END], 0x3fff_ffff);
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // Appendix C.4 and C.6.
        let examples: [(&str, &[u8]); 5] = [
            ("www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("custom-value", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]),
            ("302", &[0x64, 0x02]),
            ("private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
        ];
        for (text, bytes) in examples {
            let mut encoded = Vec::new();
            encode(&mut encoded, text.as_bytes());
            assert_eq!(encoded, bytes, "{text}");
            assert_eq!(decode(bytes).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn wrong_padding_and_the_end_are_malformed() {
        // A whole byte of padding, padding with a zero, the end of string itself.
        for bytes in [&[0xff_u8][..], &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbe], &[0xff, 0xff, 0xff, 0xff], &[0xff; 9]] {
            assert_eq!(decode(bytes), Err(Malformed), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive_a_round_trip(bytes: Vec<u8>) {
            let mut encoded = Vec::new();
            encode(&mut encoded, &bytes);
            prop_assert_eq!(decode(&encoded), Ok(bytes));
        }

        #[test]
        fn what_can_be_decoded_was_encoded_so(bytes: Vec<u8>) {
            if let Ok(decoded) = decode(&bytes) {
                let mut encoded = Vec::new();
                encode(&mut encoded, &decoded);
                prop_assert_eq!(encoded, bytes);
            }
        }
    }
}

//! The examples of RFC 7541, appendix C, and blocks that make no sense.

use proptest::prelude::*;

use super::*;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8], limit: usize) -> Result<(Vec<(String, String)>, bool), Malformed> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let is_within = decoder.decode(block, limit, |name, value| fields.push((text(name), text(&value))))?;
    Ok((fields, is_within))
}

/// Blocks in a row, each with its fields and the size of the table behind it.
fn expect(blocks: &[(&str, Fields<'_>, usize)], table: usize) {
    let mut decoder = Decoder::new();
    decoder.table.resize(table);
    for (block, fields, size) in blocks {
        let (decoded, is_within) = decode(&mut decoder, &bytes(block), 1 << 16).unwrap();
        let decoded: Vec<_> = decoded.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!((decoded.as_slice(), is_within, decoder.table.size()), (*fields, true, *size), "{block}");
    }
}

#[test]
fn representations_of_fields() {
    expect(
        &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &[("custom-key", "custom-header")], 55)],
        4096,
    );
    expect(&[("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], 0)], 4096);
    expect(&[("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], 0)], 4096);
    expect(&[("82", &[(":method", "GET")], 0)], 4096);
}

const REQUESTS: [Fields<'_>; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

#[test]
fn requests_as_they_are() {
    expect(
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0], 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1], 110),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", REQUESTS[2], 164),
        ],
        4096,
    );
}

#[test]
fn requests_with_huffman_coding() {
    expect(
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0], 57),
            ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1], 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2], 164),
        ],
        4096,
    );
}

#[test]
fn responses_that_evict_entries() {
    let date = "Mon, 21 Oct 2013 20:13:21 GMT";
    let later = "Mon, 21 Oct 2013 20:13:22 GMT";
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    let place = "https://www.example.com";
    expect(
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 \
                 63c7 8f0b 97c8 e9ae 82ae 43d3",
                &[(":status", "302"), ("cache-control", "private"), ("date", date), ("location", place)],
                222,
            ),
            (
                "4883 640e ffc1 c0bf",
                &[(":status", "307"), ("cache-control", "private"), ("date", date), ("location", place)],
                222,
            ),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 \
                 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                &[
                    (":status", "200"),
                    ("cache-control", "private"),
                    ("date", later),
                    ("location", place),
                    ("content-encoding", "gzip"),
                    ("set-cookie", cookie),
                ],
                215,
            ),
        ],
        256,
    );
}

#[test]
fn a_size_update_empties_the_table_and_comes_first() {
    let mut decoder = Decoder::new();
    decode(&mut decoder, &bytes("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"), 4096).unwrap();
    assert_eq!(decode(&mut decoder, &[0xbe], 4096).unwrap().0.len(), 1);
    // Down to nothing and up again.
    decode(&mut decoder, &[0x20, 0x3f, 0xe1, 0x1f, 0x82], 4096).unwrap();
    assert_eq!(decode(&mut decoder, &[0xbe], 4096), Err(Malformed));
    // Not behind a field, and not more than was offered.
    assert_eq!(decode(&mut decoder, &[0x82, 0x20], 4096), Err(Malformed));
    assert_eq!(decode(&mut decoder, &[0x3f, 0xe2, 0x1f], 4096), Err(Malformed));
}

#[test]
fn an_entry_that_is_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new();
    decode(&mut decoder, &[0x40, 1, b'a', 1, b'b'], 1 << 16).unwrap();
    let mut block = vec![0x40, 1, b'a', 0x7f, 0x81, 0x1f];
    block.resize(block.len() + 4096, b'x');
    assert_eq!(decode(&mut decoder, &block, 1 << 16).unwrap().0[0].1.len(), 4096);
    assert_eq!(decoder.table.size(), 0);
}

#[test]
fn fields_over_the_limit_are_decoded_and_not_kept() {
    let mut decoder = Decoder::new();
    // Each costs 34 bytes; the third is beyond 100, and in the table nevertheless.
    let block = [0x40, 1, b'a', 1, b'b', 0xbe, 0x40, 1, b'c', 1, b'd'];
    let (fields, is_within) = decode(&mut decoder, &block, 100).unwrap();
    assert_eq!((fields.len(), is_within), (2, false));
    assert_eq!(decode(&mut decoder, &[0xbe], 100).unwrap(), (vec![("c".into(), "d".into())], true));
}

#[test]
fn what_makes_no_sense_is_malformed() {
    // Index 0, an index beyond the table, strings that are cut off, bad Huffman padding.
    for block in [&[0x80][..], &[0xfe], &[0x40], &[0x40, 1], &[0x00, 1, b'a', 5, b'b'], &[0x41], &[0x41, 0x81, 0xff]] {
        assert_eq!(decode(&mut Decoder::new(), block, 4096), Err(Malformed), "{block:x?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_leave_a_bounded_table(blocks: Vec<Vec<u8>>) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let outcome = decode(&mut decoder, &block, 1000);
            prop_assert!(decoder.table.size() <= TABLE);
            if let Ok((fields, _)) = outcome {
                let size: usize = fields.iter().map(|(name, value)| name.len().max(value.len())).sum();
                prop_assert!(size <= 3000);
            }
        }
    }
}

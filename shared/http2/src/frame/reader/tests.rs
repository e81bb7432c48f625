//! Frames in pieces of any size, and frames that no peer may send.

use proptest::prelude::*;

use super::*;
use crate::frame::write;

const LARGEST: u32 = 1 << 20;

/// Kind, stream and payload.
type Frame = (u8, u32, Vec<u8>);

/// What comes of these pieces: frames with their payload, DATA in one piece.
fn read(pieces: &[&[u8]], owned: bool) -> Result<Vec<Frame>, Reason> {
    let mut reader = Reader::new(LARGEST, LARGEST);
    let (mut frames, mut data, mut head) = (Vec::new(), Vec::new(), None);
    for piece in pieces {
        let mut input = if owned { Input::Owned(Bytes::copy_from_slice(piece)) } else { Input::Borrowed(piece) };
        while let Some(event) = reader.next(&mut input)? {
            match event {
                Event::Frame(head, payload) => frames.push((head.kind, head.stream, payload.to_vec())),
                Event::Data(begun) => head = Some(begun),
                Event::Piece(payload, is_last) => {
                    data.extend_from_slice(&payload.into_bytes());
                    if is_last {
                        frames.push((kind::DATA, head.take().unwrap().stream, std::mem::take(&mut data)));
                    }
                }
            }
        }
        assert!(reader.rest.len() < LARGEST as usize);
    }
    Ok(frames)
}

fn sample() -> (Vec<u8>, Vec<Frame>) {
    let mut bytes = Vec::new();
    let long: Vec<u8> = (0..251_u8).cycle().take(20_000).collect();
    write(&mut bytes, kind::HEADERS, flag::PADDED | flag::PRIORITY, 1, &[2, 0, 0, 0, 0, 9, 7, 7, 0, 0]);
    write(&mut bytes, kind::CONTINUATION, flag::END_HEADERS, 1, &[8]);
    write(&mut bytes, 0xbe, 0xff, 77, b"grease");
    write(&mut bytes, kind::PRIORITY, 0, 5, &[0; 5]);
    write(&mut bytes, kind::DATA, 0, 1, b"short");
    write(&mut bytes, kind::DATA, flag::PADDED, 1, &[&[3][..], b"padded", &[0; 3]].concat());
    write(&mut bytes, kind::DATA, 0, 3, &long);
    write(&mut bytes, kind::DATA, flag::PADDED, 3, &[&[255][..], &long, &[0; 255]].concat());
    write(&mut bytes, kind::DATA, flag::END_STREAM, 1, b"");
    write(&mut bytes, kind::PING, 0, 0, b"12345678");
    let frames = vec![
        (kind::HEADERS, 1, vec![7, 7]),
        (kind::CONTINUATION, 1, vec![8]),
        (kind::DATA, 1, b"short".to_vec()),
        (kind::DATA, 1, b"padded".to_vec()),
        (kind::DATA, 3, long.clone()),
        (kind::DATA, 3, long),
        (kind::DATA, 1, Vec::new()),
        (kind::PING, 0, b"12345678".to_vec()),
    ];
    (bytes, frames)
}

#[test]
fn frames_are_the_same_in_pieces_of_any_size() {
    let (bytes, frames) = sample();
    for size in [1, 2, 3, 8, 9, 10, 100, 4096, 10_000, 1 << 20] {
        for owned in [false, true] {
            let pieces: Vec<_> = bytes.chunks(size).collect();
            assert_eq!(read(&pieces, owned).unwrap(), frames, "pieces of {size} bytes");
        }
    }
}

#[test]
fn the_end_of_a_frame_is_known() {
    let (bytes, _) = sample();
    let mut reader = Reader::new(LARGEST, LARGEST);
    for (at, byte) in bytes.iter().enumerate() {
        let mut input = Input::Borrowed(std::slice::from_ref(byte));
        while reader.next(&mut input).unwrap().is_some() {}
        let is_last = at + 1 == bytes.len();
        assert!(reader.is_between_frames() || !is_last, "byte {at}");
    }
    let mut input = Input::Borrowed(&bytes[..5]);
    assert!(reader.next(&mut input).unwrap().is_none());
    assert!(!reader.is_between_frames());
}

#[test]
fn a_large_frame_that_dribbles_in_is_not_many_small_chunks() {
    let mut bytes = Vec::new();
    write(&mut bytes, kind::DATA, 0, 1, &[1; 20_000]);
    let (mut reader, mut pieces) = (Reader::new(LARGEST, LARGEST), Vec::new());
    for byte in &bytes {
        let mut input = Input::Borrowed(std::slice::from_ref(byte));
        while let Some(event) = reader.next(&mut input).unwrap() {
            if let Event::Piece(payload, _) = event {
                pieces.push(payload.len());
            }
        }
    }
    assert_eq!(pieces, [4096, 4096, 4096, 4096, 20_000 - 4 * 4096]);
}

#[test]
fn what_no_peer_may_send_ends_the_connection() {
    let frame = |kind, flags, stream, payload: &[u8]| {
        let mut bytes = Vec::new();
        write(&mut bytes, kind, flags, stream, payload);
        bytes
    };
    let (protocol, size) = (Reason::PROTOCOL_ERROR, Reason::FRAME_SIZE_ERROR);
    let cases = [
        (frame(kind::DATA, 0, 0, b"x"), protocol),
        (frame(kind::HEADERS, 0, 0, b"x"), protocol),
        (frame(kind::PRIORITY, 0, 0, &[0; 5]), protocol),
        (frame(kind::PRIORITY, 0, 1, &[0; 4]), size),
        (frame(kind::RST_STREAM, 0, 0, &[0; 4]), protocol),
        (frame(kind::RST_STREAM, 0, 1, &[0; 5]), size),
        (frame(kind::SETTINGS, 0, 1, &[]), protocol),
        (frame(kind::SETTINGS, 0, 0, &[0; 7]), size),
        (frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), size),
        (frame(kind::SETTINGS, 0, 0, &[0; 18_000]), size),
        (frame(kind::PUSH_PROMISE, 0, 1, &[0; 8]), protocol),
        (frame(kind::PING, 0, 1, &[0; 8]), protocol),
        (frame(kind::PING, 0, 0, &[0; 9]), size),
        (frame(kind::GOAWAY, 0, 1, &[0; 8]), protocol),
        (frame(kind::GOAWAY, 0, 0, &[0; 7]), size),
        (frame(kind::WINDOW_UPDATE, 0, 1, &[0; 3]), size),
        (frame(kind::CONTINUATION, 0, 1, b"x"), protocol),
        (frame(kind::DATA, flag::PADDED, 1, &[]), size),
        (frame(kind::DATA, flag::PADDED, 1, &[1]), protocol),
        (frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 1, &[1]), protocol),
        (frame(kind::HEADERS, flag::PRIORITY | flag::END_HEADERS, 1, &[0; 4]), protocol),
        (vec![0xff, 0xff, 0xff, 0xee, 0, 0, 0, 0, 0], size),
        ([frame(kind::HEADERS, 0, 1, b"x"), frame(kind::PING, 0, 0, &[0; 8])].concat(), protocol),
        ([frame(kind::HEADERS, 0, 1, b"x"), frame(0xbe, 0, 0, &[])].concat(), protocol),
        ([frame(kind::HEADERS, 0, 1, b"x"), frame(kind::CONTINUATION, 0, 3, b"x")].concat(), protocol),
    ];
    for (bytes, reason) in cases {
        assert_eq!(read(&[&bytes], false), Err(reason), "{bytes:x?}");
    }
}

#[test]
fn a_frame_of_a_header_block_is_not_gathered_without_limit() {
    let mut reader = Reader::new(LARGEST, 100);
    let head = Head::new(kind::HEADERS, 0, 1, 101).to_bytes();
    assert_eq!(reader.next(&mut Input::Borrowed(&head)).unwrap_err(), Reason::ENHANCE_YOUR_CALM);
}

#[test]
fn large_payloads_share_memory_and_small_ones_do_not_hold_it() {
    let mut bytes = Vec::new();
    write(&mut bytes, kind::DATA, 0, 1, &[1; 10]);
    write(&mut bytes, kind::DATA, 0, 1, &[2; 16 << 10]);
    let bytes = Bytes::from(bytes);
    let memory = bytes.as_ptr_range();
    let (mut reader, mut input) = (Reader::new(LARGEST, LARGEST), Input::Owned(bytes));
    let mut shared = Vec::new();
    while let Some(event) = reader.next(&mut input).unwrap() {
        if let Event::Piece(payload, _) = event {
            shared.push(memory.contains(&payload.into_bytes().as_ptr()));
        }
    }
    assert_eq!(shared, [false, true]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_the_same_in_any_pieces(bytes: Vec<u8>, size in 1_usize..40) {
        let pieces: Vec<_> = bytes.chunks(size).collect();
        // Only what is complete before an error counts, so that the outcome is the same.
        prop_assert_eq!(read(&pieces, false).is_ok(), read(&[&bytes], true).is_ok());
    }
}

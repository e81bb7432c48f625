//! The byte stream inside: half-close, reset and reading without copies, from both sides.

use std::io::{ErrorKind, IoSlice};

use bytes::Bytes;
use hbone::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::raw::*;
use crate::support::*;

/// Runs a check on a stream of either side.
macro_rules! on_both_sides {
    ($name:ident, $check:path) => {
        #[tokio::test]
        async fn $name() {
            let (_served, stream, raw) = accepted().await;
            $check(stream, raw).await;
            let (_dialled, stream, raw) = opened().await;
            $check(stream, raw).await;
        }
    };
}

on_both_sides!(the_peers_end_leaves_our_direction_open, peer_ends_first);
async fn peer_ends_first(mut stream: Stream, mut raw: Raw) {
    raw.send(DATA, 0, 1, b"over ").await;
    raw.send(DATA, END_STREAM, 1, b"there").await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "over there");
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the end is not stable");
    stream.write_all(b"and back").await.unwrap();
    assert_eq!(raw.data(1, 8).await, b"and back");
    stream.shutdown().await.unwrap();
    let end = raw.next(DATA).await;
    assert!(end.ends_stream() && end.payload.is_empty());
}

on_both_sides!(our_end_leaves_the_peers_direction_open, we_end_first);
async fn we_end_first(mut stream: Stream, mut raw: Raw) {
    stream.write_all(b"over there").await.unwrap();
    stream.shutdown().await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(raw.data(1, 11).await, b"over there");
    assert_eq!(stream.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    raw.send(DATA, 0, 1, b"and ").await;
    raw.send(DATA, END_STREAM, 1, b"back").await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "and back");
}

on_both_sides!(an_end_without_data_is_an_end, peer_ends_with_trailers);
async fn peer_ends_with_trailers(mut stream: Stream, mut raw: Raw) {
    raw.send(DATA, 0, 1, b"body").await;
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &headers(&[("checksum", "1")])).await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "body");
}

on_both_sides!(a_peaceful_reset_reads_as_the_end, peer_resets_in_peace);
async fn peer_resets_in_peace(mut stream: Stream, mut raw: Raw) {
    raw.send(DATA, 0, 1, b"all there is").await;
    raw.send_reset(1, CANCEL).await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "all there is");
    assert_eq!(stream.write(b"hello?").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

on_both_sides!(no_error_reads_as_the_end_and_lets_us_shut_down, peer_wants_no_more);
async fn peer_wants_no_more(mut stream: Stream, mut raw: Raw) {
    raw.send(DATA, END_STREAM, 1, b"all").await;
    raw.send_reset(1, NO_ERROR).await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "all");
    raw.send(PING, 0, 0, &[0; 8]).await;
    raw.next(PING).await;
    stream.shutdown().await.unwrap();
}

on_both_sides!(any_other_reset_is_an_error, peer_resets_in_anger);
async fn peer_resets_in_anger(mut stream: Stream, mut raw: Raw) {
    raw.send_reset(1, INTERNAL_ERROR).await;
    assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(stream.write(b"hello?").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(stream.shutdown().await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

on_both_sides!(a_reset_wakes_a_writer_that_waits_for_capacity, peer_resets_a_full_stream);
async fn peer_resets_a_full_stream(mut stream: Stream, mut raw: Raw) {
    let fill = async {
        loop {
            if let Err(error) = stream.write(&[0; 4096]).await {
                return error.kind();
            }
        }
    };
    let reset = async {
        raw.data(1, 65_535).await;
        raw.send_reset(1, CANCEL).await;
    };
    let (kind, ()) = tokio::join!(fill, reset);
    assert_eq!(kind, ErrorKind::BrokenPipe);
}

on_both_sides!(a_stream_dropped_before_its_end_is_reset_as_cut, we_drop);
async fn we_drop(stream: Stream, mut raw: Raw) {
    drop(stream);
    let reset = raw.next(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number()), (1, CONNECT_ERROR));
}

on_both_sides!(a_stream_dropped_after_both_ends_is_not_reset, we_drop_late);
async fn we_drop_late(mut stream: Stream, mut raw: Raw) {
    raw.send(DATA, END_STREAM, 1, b"").await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    stream.shutdown().await.unwrap();
    raw.next(DATA).await;
    drop(stream);
    raw.send(PING, 0, 0, &[7; 8]).await;
    let next = loop {
        let frame = raw.frame().await.unwrap();
        if matches!(frame.kind, RST_STREAM | PING) {
            break frame;
        }
    };
    assert_eq!((next.kind, next.flags & ACK), (PING, ACK), "{next:?}");
}

on_both_sides!(halves_work_apart, halves);
async fn halves(stream: Stream, mut raw: Raw) {
    let (mut read, mut write) = stream.into_halves();
    raw.send(DATA, END_STREAM, 1, b"in").await;
    let mut text = String::new();
    read.read_to_string(&mut text).await.unwrap();
    drop(read);
    write.write_all(b"out").await.unwrap();
    write.shutdown().await.unwrap();
    assert_eq!((text.as_str(), raw.data(1, 4).await.as_slice()), ("in", &b"out"[..]));
}

on_both_sides!(chunks_are_frames_and_sends_are_not_copied, chunks);
async fn chunks(mut stream: Stream, mut raw: Raw) {
    raw.send(DATA, 0, 1, b"first").await;
    raw.send(DATA, END_STREAM, 1, b"second").await;
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "first");
    // Byte-slice reads and chunks may alternate within a frame.
    assert_eq!(stream.read_u8().await.unwrap(), b's');
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "econd");
    assert_eq!(stream.chunk().await.unwrap(), None);
    stream.send(Bytes::from_static(b"whole")).await.unwrap();
    assert_eq!(raw.next(DATA).await.payload, b"whole");
    stream.send(Bytes::new()).await.unwrap();
    let slices = [IoSlice::new(b"in "), IoSlice::new(b""), IoSlice::new(b"one")];
    assert_eq!(stream.write_vectored(&slices).await.unwrap(), 6);
    assert_eq!(raw.next(DATA).await.payload, b"in one");
}

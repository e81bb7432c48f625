//! Both ends of a connection in one thread, and peers that do what no peer should.

mod chaos;
mod hostile;
mod pair;

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::error::Side;
use crate::frame::{HEAD, Head, flag};
use crate::output::Output;

const CONFIG: Config = Config {
    stream_window: 4 << 20,
    connection_window: 16 << 20,
    frame_size: 1 << 20,
    header_list: 16 << 10,
    streams: 10,
    send_buffer: 256 << 10,
    reset_streams: 20,
    stream_errors: Some(50),
    small_frame_budget: 32 << 20,
};

fn config() -> Config {
    CONFIG
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// All that a connection has to send.
fn sent(connection: &mut Connection) -> Vec<u8> {
    let (mut bytes, mut output) = (Vec::new(), Output::default());
    while connection.has_output() {
        connection.transmit(&mut output);
        while !output.is_empty() {
            // A transport that takes a little at a time.
            let slice = output.slices().into_iter().find(|slice| !slice.is_empty()).unwrap();
            let count = slice.len().min(1000);
            bytes.extend_from_slice(&slice[..count]);
            output.advance(count);
        }
    }
    bytes
}

/// Frames with their payload.
fn frames(mut bytes: &[u8]) -> Vec<(Head, Vec<u8>)> {
    let mut frames = Vec::new();
    bytes = bytes.strip_prefix(PREFACE.as_slice()).unwrap_or(bytes);
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let head = Head::parse(*head);
        let (payload, rest) = rest.split_at(head.length as usize);
        frames.push((head, payload.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty());
    frames
}

/// The reasons of the frames of this kind.
fn reasons(frames: &[(Head, Vec<u8>)], kind: u8) -> Vec<(u32, Reason)> {
    let of_kind = frames.iter().filter(|(head, _)| head.kind == kind);
    of_kind
        .map(|(head, payload)| {
            (head.stream, Reason(u32::from_be_bytes(payload[payload.len() - 4..].try_into().unwrap())))
        })
        .collect()
}

fn open(client: &mut Connection) -> Key {
    match client.poll_open(&mut cx(), "a:80", &HeaderMap::new()) {
        Poll::Ready(Ok(key)) => key,
        other => panic!("{other:?}"),
    }
}

fn accept(server: &mut Connection) -> Key {
    let (key, request) = server.next_request().expect("a request");
    assert_eq!(request.authority.as_deref(), Some("a:80"));
    server.respond(key, 200, &HeaderMap::new(), false).unwrap();
    key
}

/// Sends as much as is allowed.
fn send(connection: &mut Connection, key: Key, bytes: &[u8]) -> usize {
    match connection.poll_capacity(key, &mut cx()) {
        Poll::Ready(Ok(capacity)) => {
            let count = capacity.min(bytes.len());
            connection.send(key, Bytes::copy_from_slice(&bytes[..count]));
            count
        }
        Poll::Pending => 0,
        Poll::Ready(Err(error)) => panic!("{error:?}"),
    }
}

/// Reads what has arrived; the bytes, and whether that was all there will be.
fn read(connection: &mut Connection, key: Key) -> Result<(Vec<u8>, bool), Http2Error> {
    let mut bytes = Vec::new();
    loop {
        match connection.poll_receive(key, &mut cx(), usize::MAX) {
            Poll::Ready(Ok(chunk)) if chunk.is_empty() => return Ok((bytes, true)),
            Poll::Ready(Ok(chunk)) => bytes.extend_from_slice(&chunk),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok((bytes, false)),
        }
    }
}

/// Nothing is kept by a connection that has no streams and nothing to say.
fn expect_at_rest(connection: &Connection) {
    let state = &connection.state;
    assert!(state.streams.is_empty(), "{:?}", state.streams);
    assert_eq!((state.active, state.first, state.control.capacity(), state.block.capacity()), (0, NOBODY, 0, 0));
    assert!(connection.reader.is_between_frames());
}

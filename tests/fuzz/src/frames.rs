//! What an HTTP/2 peer sends, to a server and to a client with an open request.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http2::{Config, Connection, Input, Key, Output, Role};

/// The first byte says how many bytes arrive at a time.
pub(crate) fn run(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let pieces = || bytes.chunks(usize::from(*size) * usize::from(*size) + 1);
    serve(pieces());
    ask(pieces());
}

fn config() -> Config {
    Config {
        stream_window: 100_000,
        connection_window: 200_000,
        frame_size: 32 << 10,
        header_list: 16 << 10,
        streams: 5,
        send_buffer: 1000,
        reset_streams: 5,
        stream_errors: Some(20),
        small_frame_budget: 50_000,
    }
}

/// A server that accepts everything and sends every byte back.
fn serve<'a>(pieces: impl Iterator<Item = &'a [u8]>) {
    let mut connection = Connection::new(Role::Server, config());
    let mut keys = Vec::new();
    for piece in pieces {
        receive(&mut connection, Input::Borrowed(piece));
        while let Some((key, _)) = connection.next_request() {
            let _ = connection.respond(key, 200, &HeaderMap::new(), false);
            keys.push(key);
        }
        keys.retain(|key| echo(&mut connection, *key));
        transmit(&mut connection);
    }
    keys.into_iter().for_each(|key| connection.release(key));
    end(connection);
}

/// A client with one request.
fn ask<'a>(pieces: impl Iterator<Item = &'a [u8]>) {
    let mut connection = Connection::new(Role::Client, config());
    connection.add_handle();
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(key)) = connection.poll_open(&mut context, "a:80", &HeaderMap::new()) else {
        panic!("a new connection takes no request")
    };
    for piece in pieces {
        receive(&mut connection, Input::Owned(Bytes::copy_from_slice(piece)));
        let _ = connection.poll_response(key, &mut context);
        let _ = connection.poll_receive(key, &mut context, 100);
        transmit(&mut connection);
    }
    connection.release(key);
    end(connection);
}

fn receive(connection: &mut Connection, input: Input<'_>) {
    if connection.wants_input() {
        connection.receive(input, tokio::time::Instant::now().into_std());
    }
}

/// Moves what can be moved; false when the stream is over.
fn echo(connection: &mut Connection, key: Key) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(capacity) = connection.poll_capacity(key, &mut context) {
        let most = capacity.unwrap_or_default();
        match connection.poll_receive(key, &mut context, most.max(1)) {
            Poll::Pending => return true,
            Poll::Ready(Ok(chunk)) if most > 0 && !chunk.is_empty() => connection.send(key, chunk),
            _ => {
                let _ = connection.finish(key);
                connection.release(key);
                return false;
            }
        }
    }
    true
}

/// Takes everything, in the order that a transport would.
fn transmit(connection: &mut Connection) {
    let mut output = Output::default();
    while connection.has_output() {
        connection.transmit(&mut output);
        let length = output.slices().iter().map(|slice| slice.len()).sum();
        output.advance(length);
        assert!(output.is_empty(), "more than it says");
    }
}

/// However it went, it comes to an end.
fn end(mut connection: Connection) {
    connection.abort();
    transmit(&mut connection);
    assert!(connection.outcome().is_some(), "it does not end");
}

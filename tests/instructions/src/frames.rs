//! HTTP/2 without transport and runtime.

use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::HeaderMap;
use http2::{Config, Connection, Input, Output, PREFACE, Role};

/// A message of one stream there and back.
const MESSAGE: &[u8] = &[7; 1000];

fn config() -> Config {
    Config {
        stream_window: 4 << 20,
        connection_window: 16 << 20,
        frame_size: 1 << 20,
        header_list: 16 << 10,
        streams: 200,
        send_buffer: 256 << 10,
        reset_streams: 1024,
        stream_errors: None,
        small_frame_budget: 32 << 20,
    }
}

/// A request of 1,000 bytes and an answer of the same length, on an open stream.
pub(crate) fn frame(times: u32) -> Result<()> {
    let mut context = Context::from_waker(Waker::noop());
    let (mut client, mut server) = (Connection::new(Role::Client, config()), Connection::new(Role::Server, config()));
    client.add_handle();
    let Poll::Ready(Ok(near)) = client.poll_open(&mut context, "10.0.0.1:80", &HeaderMap::new()) else {
        bail!("no stream")
    };
    let mut output = Output::default();
    carry(&mut client, &mut server, &mut output);
    carry(&mut server, &mut client, &mut output);
    let (far, _) = server.next_request().context("no request")?;
    server.respond(far, 200, &HeaderMap::new(), false)?;
    carry(&mut server, &mut client, &mut output);
    for _ in 0..times {
        client.send(near, Bytes::from_static(MESSAGE));
        carry(&mut client, &mut server, &mut output);
        let Poll::Ready(Ok(message)) = server.poll_receive(far, &mut context, usize::MAX) else { bail!("no message") };
        server.send(far, message);
        carry(&mut server, &mut client, &mut output);
        let Poll::Ready(Ok(_)) = client.poll_receive(near, &mut context, usize::MAX) else { bail!("no answer") };
    }
    Ok(())
}

/// Moves what one says to the other.
fn carry(from: &mut Connection, to: &mut Connection, output: &mut Output) {
    while from.has_output() {
        from.transmit(output);
        for slice in output.slices() {
            let bytes = slice.strip_prefix(PREFACE.as_slice()).unwrap_or(&slice);
            to.receive(Input::Borrowed(bytes), tokio::time::Instant::now().into_std());
        }
        let length = output.slices().iter().map(|slice| slice.len()).sum();
        output.advance(length);
    }
}

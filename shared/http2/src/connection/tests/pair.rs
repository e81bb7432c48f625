//! A client and a server that keep the rules.

use super::*;

/// Both ends, and what is on its way between them.
struct Pair {
    client: Connection,
    server: Connection,
    /// Bytes that arrive at a time.
    piece: usize,
}

impl Pair {
    fn new(piece: usize) -> Self {
        Self::with(piece, config(), config())
    }

    fn with(piece: usize, client: Config, server: Config) -> Self {
        let (mut client, server) = (Connection::new(Role::Client, client), Connection::new(Role::Server, server));
        client.add_handle();
        let mut pair = Self { client, server, piece };
        pair.flow();
        pair
    }

    /// Moves bytes until nobody has anything to say.
    fn flow(&mut self) {
        loop {
            let (mut to_server, to_client) = (sent(&mut self.client), sent(&mut self.server));
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
            if to_server.starts_with(PREFACE) {
                to_server.drain(..PREFACE.len());
            }
            deliver(&mut self.server, &to_server, self.piece);
            deliver(&mut self.client, &to_client, self.piece);
        }
    }

    /// An open stream: the client's key and the server's.
    fn stream(&mut self) -> (Key, Key) {
        let near = open(&mut self.client);
        self.flow();
        let far = accept(&mut self.server);
        self.flow();
        let response = self.client.poll_response(near, &mut cx());
        assert!(matches!(response, Poll::Ready(Ok(response)) if response.status == 200));
        (near, far)
    }
}

fn deliver(connection: &mut Connection, bytes: &[u8], piece: usize) {
    for (at, bytes) in bytes.chunks(piece).enumerate() {
        assert!(connection.wants_input());
        let input = if at % 2 == 0 { Input::Borrowed(bytes) } else { Input::Owned(Bytes::copy_from_slice(bytes)) };
        connection.receive(input, now());
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..251).cycle().take(length).collect()
}

#[test]
fn bytes_and_ends_arrive_however_they_are_cut() {
    for piece in [1, 7, 1000, 60_000, 1 << 20] {
        let mut pair = Pair::new(piece);
        let (near, far) = pair.stream();
        let bytes = pattern(300_000);
        let (mut written, mut received) = (0, Vec::new());
        while written < bytes.len() {
            written += send(&mut pair.client, near, &bytes[written..bytes.len().min(written + 70_000)]);
            pair.flow();
            received.extend(read(&mut pair.server, far).unwrap().0);
        }
        pair.client.finish(near).unwrap();
        send(&mut pair.server, far, b"answer");
        pair.server.finish(far).unwrap();
        pair.flow();
        let (rest, has_ended) = read(&mut pair.server, far).unwrap();
        received.extend(rest);
        assert!(has_ended && received == bytes, "pieces of {piece}");
        assert_eq!(read(&mut pair.client, near).unwrap(), (b"answer".to_vec(), true));
        pair.client.release(near);
        pair.server.release(far);
        pair.flow();
        expect_at_rest(&pair.client);
        expect_at_rest(&pair.server);
        pair.client.remove_handle();
        assert!(matches!(pair.client.outcome(), Some(Ok(()))));
        pair.flow();
        assert!(matches!(pair.server.outcome(), Some(Ok(()))));
    }
}

#[test]
fn a_message_does_not_wait_behind_a_bulk_streams_queue() {
    let mut pair = Pair::new(1 << 20);
    let ((bulk, _), (quick, _)) = (pair.stream(), pair.stream());
    assert_eq!(send(&mut pair.client, bulk, &[1; 256 << 10]), 256 << 10);
    send(&mut pair.client, quick, b"quick");
    let frames = frames(&sent(&mut pair.client));
    let order: Vec<_> = frames.iter().map(|(head, payload)| (head.stream, payload.len())).collect();
    assert_eq!(order[..3], [(1, 60 << 10), (3, 5), (1, 60 << 10)]);
}

#[test]
fn bulk_streams_take_turns_of_one_frame() {
    let mut pair = Pair::new(1 << 20);
    let streams: Vec<_> = (0..5).map(|_| pair.stream().0).collect();
    for stream in &streams {
        send(&mut pair.client, *stream, &[1; 200 << 10]);
    }
    let frames = frames(&sent(&mut pair.client));
    let order: Vec<_> = frames.iter().map(|(head, _)| head.stream).collect();
    assert_eq!(order[..15], [1, 3, 5, 7, 9].repeat(3));
}

#[test]
fn small_messages_of_many_streams_leave_together() {
    let mut pair = Pair::new(1 << 20);
    let streams: Vec<_> = (0..10).map(|_| pair.stream().0).collect();
    for stream in &streams {
        send(&mut pair.client, *stream, &[1; 500]);
        send(&mut pair.client, *stream, &[2; 500]);
    }
    let mut output = Output::default();
    pair.client.transmit(&mut output);
    let [small, large] = output.slices();
    // One frame each, of both messages.
    assert_eq!((small.len(), large.len()), (10 * (HEAD + 1000), 0));
    output.advance(small.len());
    assert!(output.is_empty() && !pair.client.has_output());
}

#[test]
fn a_large_chunk_is_sent_without_a_copy() {
    let mut pair = Pair::new(1 << 20);
    let (near, _) = pair.stream();
    let chunk = Bytes::from(pattern(50_000));
    pair.client.send(near, chunk.clone());
    let mut output = Output::default();
    pair.client.transmit(&mut output);
    let [head, payload] = output.slices();
    assert_eq!((head.len(), payload.as_ptr(), payload.len()), (HEAD, chunk.as_ptr(), chunk.len()));
}

#[test]
fn the_windows_are_kept_and_returned_in_large_steps() {
    let small = Config { stream_window: 100_000, connection_window: 150_000, ..config() };
    let mut pair = Pair::with(1 << 20, config(), small);
    let ((near, far), (other, _)) = (pair.stream(), pair.stream());
    let mut written = 0;
    loop {
        let count = send(&mut pair.client, near, &[0; 30_000]);
        pair.flow();
        written += count;
        if count == 0 {
            break;
        }
    }
    assert_eq!(written, 100_000);
    // What the other stream sends beyond the connection's window waits.
    assert_eq!(send(&mut pair.client, other, &[0; 80_000]), 80_000);
    pair.flow();
    assert_eq!(pair.client.state.windows.out_window, 0);
    pair.client.finish(near).unwrap();
    pair.flow();
    assert!(pair.client.park(Waker::noop()), "nothing can be sent, and the end of the first was");
    // A little of it is worth no frame, half of it is.
    for _ in 0..4 {
        assert!(
            matches!(pair.server.poll_receive(far, &mut cx(), 10_000), Poll::Ready(Ok(chunk)) if chunk.len() == 10_000)
        );
    }
    assert!(!pair.server.has_output());
    assert_eq!(read(&mut pair.server, far).unwrap(), (vec![0; 60_000], true));
    let updates = frames(&sent(&mut pair.server));
    assert_eq!(updates.len(), 1, "the stream needs no more: {updates:?}");
    assert_eq!((updates[0].0.kind, updates[0].0.stream), (kind::WINDOW_UPDATE, 0));
}

#[test]
fn a_window_can_be_changed_while_the_stream_is_open() {
    let mut pair = Pair::with(1 << 20, config(), Config { stream_window: 1000, ..config() });
    let (near, far) = pair.stream();
    assert_eq!(send(&mut pair.client, near, &[0; 100_000]), 1000);
    pair.server.set_window(far, 50_000);
    pair.flow();
    assert_eq!(send(&mut pair.client, near, &[0; 100_000]), 49_000);
    pair.flow();
    // Made smaller, it is not returned until so much is gone.
    pair.server.set_window(far, 2000);
    assert_eq!(read(&mut pair.server, far).unwrap().0.len(), 50_000);
    pair.flow();
    assert_eq!(send(&mut pair.client, near, &[0; 100_000]), 2000);
}

#[test]
fn a_reset_overtakes_what_waits_and_an_end_does_not() {
    let mut pair = Pair::new(1 << 20);
    let ((cut, _), (ended, far)) = (pair.stream(), pair.stream());
    send(&mut pair.client, cut, &[0; 100_000]);
    send(&mut pair.client, ended, &[0; 100_000]);
    pair.client.reset(cut, Reason::CONNECT_ERROR);
    pair.client.finish(ended).unwrap();
    pair.client.release(cut);
    pair.client.release(ended);
    let frames = frames(&sent(&mut pair.client));
    assert_eq!(reasons(&frames, kind::RST_STREAM), [(1, Reason::CONNECT_ERROR), (3, Reason::CANCEL)]);
    let of_ended = frames.iter().filter(|(head, _)| head.stream == 3);
    let kinds: Vec<_> = of_ended.map(|(head, _)| (head.kind, head.flags)).collect();
    assert_eq!(kinds, [(kind::DATA, 0), (kind::DATA, flag::END_STREAM), (kind::RST_STREAM, 0)]);
    expect_at_rest(&pair.client);
    pair.server.release(far);
}

#[test]
fn those_who_come_when_all_places_are_taken_wait() {
    let mut pair = Pair::new(1 << 20);
    let streams: Vec<_> = (0..10).map(|_| pair.stream()).collect();
    assert!(pair.client.poll_open(&mut cx(), "a:80", &HeaderMap::new()).is_pending());
    let (near, far) = streams[4];
    pair.client.finish(near).unwrap();
    pair.server.finish(far).unwrap();
    pair.flow();
    open(&mut pair.client);
}

#[test]
fn a_server_that_drains_serves_what_crosses_its_announcement() {
    let mut pair = Pair::new(1 << 20);
    let (near, far) = pair.stream();
    pair.server.drain();
    pair.server.drain();
    let late = open(&mut pair.client);
    pair.flow();
    accept(&mut pair.server);
    pair.flow();
    assert!(matches!(pair.client.poll_response(late, &mut cx()), Poll::Ready(Ok(_))));
    assert!(!pair.client.is_usable());
    assert!(pair.client.poll_open(&mut cx(), "a:80", &HeaderMap::new()).is_ready());
    assert!(pair.server.outcome().is_none());
    pair.client.finish(near).unwrap();
    pair.server.finish(far).unwrap();
    pair.client.release(late);
    pair.flow();
    assert!(matches!(pair.server.outcome(), Some(Ok(()))));
}

#[test]
fn a_broken_transport_ends_streams_after_what_was_received() {
    let mut pair = Pair::new(1 << 20);
    let (near, far) = pair.stream();
    send(&mut pair.client, near, b"last words");
    pair.flow();
    pair.server.receive_end(None);
    let mut first = pair.server.poll_receive(far, &mut cx(), 4);
    assert!(matches!(&first, Poll::Ready(Ok(bytes)) if bytes == "last"));
    first = pair.server.poll_receive(far, &mut cx(), 400);
    assert!(matches!(&first, Poll::Ready(Ok(bytes)) if bytes == " words"));
    assert!(matches!(pair.server.poll_receive(far, &mut cx(), 1), Poll::Ready(Err(Http2Error::Io(_)))));
    assert!(matches!(pair.server.poll_capacity(far, &mut cx()), Poll::Ready(Err(Some(Http2Error::Io(_))))));
    assert!(matches!(pair.server.outcome(), Some(Ok(()))));
    pair.server.release(far);
    expect_at_rest(&pair.server);
}

#[test]
fn an_idle_connection_is_small() {
    let size = size_of::<Connection>();
    assert!(size <= 640, "{size} bytes");
}

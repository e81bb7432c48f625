//! Flow control: nobody sends more than was allowed, nobody waits for more than he must.

use std::time::Duration;

use bytes::Bytes;
use hbone::{Parameters, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::{advance, timeout};

use crate::peer::{Peer, echo, read_all, send_all, send_until_stalled};
use crate::raw::*;
use crate::support::*;

const INITIAL_WINDOW_SIZE: u16 = 4;
const STREAM_WINDOW: usize = 4 << 20;
const CONNECTION_WINDOW: usize = 16 << 20;

/// Our server, a hand-written client with this stream window, and open streams 1, 3, ….
async fn accepted(window: u32, count: u32) -> (Served, Raw, Vec<Stream>) {
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let mut raw = Raw::client(far, &[(INITIAL_WINDOW_SIZE, window)]).await;
    let mut streams = Vec::new();
    for index in 0..count {
        raw.send_connect(2 * index + 1, "a:80").await;
        streams.push(served.accept().await);
        raw.next(HEADERS).await;
    }
    (served, raw, streams)
}

/// Asserts that no DATA is under way: what was sent before the answer to a PING is here before it.
async fn expect_no_data(raw: &mut Raw) {
    raw.send(PING, 0, 0, b"anybody?").await;
    loop {
        let frame = raw.frame().await.unwrap();
        assert_ne!(frame.kind, DATA, "{} bytes too many", frame.payload.len());
        if frame.kind == PING && frame.payload == b"anybody?" {
            return;
        }
    }
}

#[tokio::test]
async fn a_writer_stays_within_the_peers_stream_window() {
    let (_served, mut raw, mut streams) = accepted(10, 1).await;
    let mut stream = streams.remove(0);
    let writer = tokio::spawn(async move {
        stream.write_all(b"0123456789abcdefghij").await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    });
    assert_eq!(raw.data(1, 10).await, b"0123456789");
    expect_no_data(&mut raw).await;
    raw.send_window(1, 3).await;
    assert_eq!(raw.data(1, 3).await, b"abc");
    expect_no_data(&mut raw).await;
    raw.send_window(1, 1000).await;
    assert_eq!(raw.data(1, 8).await, b"defghij");
    writer.await.unwrap();
}

#[tokio::test]
async fn the_end_needs_no_window() {
    let (_served, mut raw, mut streams) = accepted(0, 1).await;
    streams[0].shutdown().await.unwrap();
    assert!(raw.next(DATA).await.ends_stream());
}

#[tokio::test]
async fn writers_share_the_connection_window() {
    let (_served, mut raw, streams) = accepted(1 << 20, 2).await;
    let writers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                stream.write_all(&[0; 50_000]).await.unwrap();
                stream.shutdown().await.unwrap();
                stream
            })
        })
        .collect();
    let (mut received, mut ended) = (0, 0);
    while received < 65_535 {
        let frame = raw.next(DATA).await;
        received += frame.payload.len();
        ended += u32::from(frame.ends_stream());
    }
    assert_eq!(received, 65_535);
    raw.send_window(0, 100_000).await;
    while ended < 2 {
        let frame = raw.next(DATA).await;
        received += frame.payload.len();
        ended += u32::from(frame.ends_stream());
    }
    assert_eq!(received, 100_000);
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_whose_peer_takes_nothing_does_not_stop_another() {
    let (_served, mut raw, mut streams) = accepted(65_535, 2).await;
    raw.send_window(0, 1 << 30).await;
    let (mut flowing, mut stuck) = (streams.pop().unwrap(), streams.pop().unwrap());
    let stuck = tokio::spawn(async move { stuck.write_all(&[0; 1 << 20]).await });
    raw.data(1, 65_535).await;
    let flowing = tokio::spawn(async move {
        flowing.write_all(&[1; 1 << 20]).await.unwrap();
        flowing.shutdown().await.unwrap();
        flowing
    });
    let mut received = 0;
    loop {
        let frame = raw.next(DATA).await;
        assert_eq!(frame.stream, 3);
        received += frame.payload.len();
        if frame.ends_stream() {
            break;
        }
        if !frame.payload.is_empty() {
            raw.send_window(3, u32::try_from(frame.payload.len()).unwrap()).await;
        }
    }
    assert_eq!(received, 1 << 20);
    flowing.await.unwrap();
    assert!(!stuck.is_finished());
    stuck.abort();
}

#[tokio::test]
async fn a_peer_that_stops_reading_its_socket_costs_a_bounded_buffer() {
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let mut raw = Raw::client(far, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]).await;
    raw.send_window(0, 0x7000_0000).await;
    raw.send_connect(1, "a:80").await;
    let mut stream = served.accept().await;
    raw.next(HEADERS).await;
    let mut taken = 0;
    while let Ok(count) = timeout(Duration::from_secs(1), stream.write(&[0; 16 << 10])).await {
        taken += count.unwrap();
    }
    let parameters = Parameters::default();
    assert!(taken <= parameters.send_buffer + 2 * PIPE + (16 << 10), "{taken} bytes are waiting");
}

#[tokio::test]
async fn a_reader_that_pauses_stops_its_peer_and_not_its_siblings() {
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let peer = Peer::new(far).await;
    let (mut paused_send, _paused_answer) = peer.open().await;
    let mut paused = served.accept().await;
    assert_eq!(send_until_stalled(&mut paused_send, 10 * STREAM_WINDOW).await, STREAM_WINDOW);

    let (mut send, _answer) = peer.open().await;
    let mut flowing = served.accept().await;
    let bytes = Bytes::from(vec![2; 3 * CONNECTION_WINDOW]);
    let read = async {
        let mut count = 0;
        while let Some(chunk) = flowing.chunk().await.unwrap() {
            count += chunk.len();
        }
        count
    };
    let ((), count) = timeout(DEADLINE, async { tokio::join!(send_all(&mut send, bytes), read) }).await.unwrap();
    assert_eq!(count, 3 * CONNECTION_WINDOW);

    // The paused one goes on where it stopped.
    let mut buffer = vec![0; STREAM_WINDOW];
    paused.read_exact(&mut buffer).await.unwrap();
    assert!(send_until_stalled(&mut paused_send, 1 << 20).await > 0);
}

#[tokio::test]
async fn paused_readers_hold_the_connection_window_and_give_it_back() {
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let peer = Peer::new(far).await;
    let mut paused = Vec::new();
    for _ in 0..CONNECTION_WINDOW / STREAM_WINDOW {
        let (mut send, answer) = peer.open().await;
        let stream = served.accept().await;
        assert_eq!(send_until_stalled(&mut send, STREAM_WINDOW).await, STREAM_WINDOW);
        paused.push((stream, send, answer));
    }
    let (mut send, _answer) = peer.open().await;
    let _stream = served.accept().await;
    assert_eq!(send_until_stalled(&mut send, 1).await, 0, "more than the connection window was sent");
    // Dropping unread streams, or reading them, makes room.
    paused.pop();
    let (stream, _, _) = &mut paused[0];
    let mut buffer = vec![0; STREAM_WINDOW];
    stream.read_exact(&mut buffer).await.unwrap();
    assert!(send_until_stalled(&mut send, STREAM_WINDOW).await > STREAM_WINDOW / 2);
}

#[tokio::test]
async fn streams_dropped_unread_do_not_use_up_the_connection() {
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let peer = Peer::new(far).await;
    for round in 0..12 {
        let (mut send, _answer) = peer.open().await;
        let stream = served.accept().await;
        assert_eq!(send_until_stalled(&mut send, 2 << 20).await, 2 << 20, "round {round}");
        drop(stream);
    }
}

#[tokio::test]
async fn a_chatty_peer_of_a_paused_reader_does_not_end_the_connection() {
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let mut raw = Raw::client(far, &[]).await;
    for stream in [1, 3] {
        raw.send_connect(stream, "a:80").await;
    }
    let (mut paused, mut sibling) = (served.accept().await, served.accept().await);
    // The larger window counts once SETTINGS are acknowledged.
    raw.next(HEADERS).await;
    for _ in 0..100_000 {
        raw.send(DATA, 0, 1, b"x").await;
    }
    raw.send(DATA, END_STREAM, 3, b"alive").await;
    let mut text = String::new();
    sibling.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "alive");
    let mut buffer = vec![0; 100_000];
    paused.read_exact(&mut buffer).await.unwrap();
}

/// Different bytes for each stream, of a length that fits no frame.
fn pattern(index: u8) -> Vec<u8> {
    (0..251).cycle().take(100_003 + usize::from(index)).map(|byte: u8| byte ^ index).collect()
}

#[tokio::test]
async fn a_hundred_streams_of_ours_come_back_whole() {
    let (near, far) = duplex(PIPE);
    let _echo = echo(far);
    let dialled = Dialled::new(near, &Parameters::default()).await;
    let mut tasks = Vec::new();
    for index in 0..100 {
        let stream = dialled.open("a:80").await;
        tasks.push(tokio::spawn(async move {
            let (mut read, mut write) = stream.into_halves();
            let sent = pattern(index);
            let send = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let ((), outcome) = tokio::join!(send, read.read_to_end(&mut received));
            outcome.unwrap();
            assert!(received == sent, "stream {index} came back different");
        }));
    }
    for task in tasks {
        timeout(DEADLINE, task).await.expect("a stream stalls").unwrap();
    }
}

#[tokio::test]
async fn a_hundred_streams_of_a_peer_are_served_whole() {
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let peer = Peer::new(far).await;
    let mut tasks = Vec::new();
    for index in 0..100 {
        let (mut send, answer) = peer.open().await;
        let mut stream = served.accept().await;
        tasks.push(tokio::spawn(async move {
            while let Some(chunk) = stream.chunk().await.unwrap() {
                stream.send(chunk).await.unwrap();
            }
            stream.shutdown().await.unwrap();
        }));
        tasks.push(tokio::spawn(async move {
            let sent = pattern(index);
            let mut receive = answer.await.unwrap().into_body();
            let ((), received) = tokio::join!(send_all(&mut send, Bytes::from(sent.clone())), read_all(&mut receive));
            assert!(received == sent, "stream {index} came back different");
        }));
    }
    for task in tasks {
        timeout(DEADLINE, task).await.expect("a stream stalls").unwrap();
    }
}

/// What a peer may send on stream 1, as it is told.
struct Sender {
    raw: Raw,
    credit: usize,
}

impl Sender {
    /// A millisecond in which 64 KiB go out on stream 1 if they may, and some bytes on stream 3 if wanted.
    async fn millisecond(&mut self, is_quick: bool) {
        advance(Duration::from_millis(1)).await;
        for _ in 0..4 {
            let count = self.credit.min(16 << 10);
            self.credit -= count;
            self.raw.send(DATA, 0, 1, &vec![0; count]).await;
        }
        if is_quick {
            self.raw.send(DATA, 0, 3, b"a question").await;
        }
        self.raw.send(PING, 0, 0, b"anybody?").await;
        loop {
            let frame = self.raw.frame().await.unwrap();
            match (frame.kind, frame.stream) {
                (WINDOW_UPDATE, 1) => self.credit += frame.number() as usize,
                (PING, _) if frame.payload == b"anybody?" => return,
                _ => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bulk_stream_may_run_far_ahead_only_while_it_is_alone() {
    const LITTLE: usize = 256 << 10;
    let (_served, raw, streams) = accepted(65_535, 2).await;
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| tokio::spawn(async move { while stream.chunk().await.unwrap().is_some() {} }))
        .collect();
    let mut sender = Sender { raw, credit: STREAM_WINDOW };
    for _ in 0..300 {
        sender.millisecond(false).await;
    }
    assert!(sender.credit >= STREAM_WINDOW / 2, "{} bytes of credit alone", sender.credit);
    for _ in 0..300 {
        sender.millisecond(true).await;
    }
    assert!(sender.credit > 0 && sender.credit <= LITTLE, "{} bytes of credit beside others", sender.credit);
    for _ in 0..300 {
        sender.millisecond(false).await;
    }
    assert!(sender.credit >= STREAM_WINDOW / 2, "{} bytes of credit alone again", sender.credit);
    readers.iter().for_each(tokio::task::JoinHandle::abort);
}

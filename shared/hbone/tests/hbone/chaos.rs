//! Against the h2 crate, on transports that take and give a few bytes at a time, with windows of any size, and with
//! streams that are cut wherever it hurts: what arrives is a beginning of what was sent, and all of it unless it was cut.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hbone::server::Incoming;
use hbone::{Parameters, Stream};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::time::timeout;

use crate::peer::{Peer, echo_on};
use crate::support::*;

/// Connections of each kind.
const ROUNDS: u64 = 40;

/// Streams of each connection.
const STREAMS: u64 = 30;

/// A transport that takes and gives at most so many bytes at a time, sometimes none.
struct Chaotic {
    inner: DuplexStream,
    random: SmallRng,
    most: usize,
}

impl Chaotic {
    /// Two ends, each with its own moods.
    fn pair(seed: u64) -> (Self, Self) {
        let mut random = SmallRng::seed_from_u64(seed);
        let most = [1, 20, 1000, 1 << 20][random.random_range(0..4)];
        let (near, far) = duplex([100, 1000, 1 << 16][random.random_range(0..3)]);
        let end = |inner, seed| Self { inner, random: SmallRng::seed_from_u64(seed), most };
        (end(near, seed + 1_000_000), end(far, seed + 2_000_000))
    }

    /// How much this time; `None` for not now.
    fn mood(&mut self, cx: &Context<'_>) -> Option<usize> {
        if self.random.random_range(0..8) == 0 {
            cx.waker().wake_by_ref();
            return None;
        }
        Some(self.random.random_range(1..=self.most))
    }
}

impl ::io::Transport for Chaotic {}

impl AsyncRead for Chaotic {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(most) = self.mood(cx) else { return Poll::Pending };
        let mut space = vec![0; most.min(buf.remaining())];
        let mut read = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut read))?;
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Chaotic {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(most) = self.mood(cx) else { return Poll::Pending };
        Pin::new(&mut self.inner).poll_write(cx, &buf[..most.min(buf.len())])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn window(random: &mut SmallRng) -> u32 {
    [1, 10, 1000, 65_535, 4 << 20][random.random_range(0..5)]
}

fn parameters(random: &mut SmallRng) -> Parameters {
    Parameters {
        stream_window: window(random),
        connection_window: [65_535, 16 << 20][random.random_range(0..2)],
        frame_size: [16 << 10, 1 << 20][random.random_range(0..2)],
        send_buffer: [10, 1000, 256 << 10][random.random_range(0..3)],
        ..Parameters::default()
    }
}

/// The most that goes at a time.
fn least(parameters: &Parameters) -> u32 {
    parameters.stream_window.min(u32::try_from(parameters.send_buffer).unwrap())
}

/// What a stream is to say: more where more fits at a time.
fn text(random: &mut SmallRng, windows: u32) -> Vec<u8> {
    let most = (windows as usize * 100).clamp(300, 100_000);
    let mut bytes = vec![0; random.random_range(0..most)];
    random.fill(bytes.as_mut_slice());
    bytes
}

/// Sends in pieces and reads what comes back, both to the end, or leaves in between.
async fn converse(stream: Stream, bytes: &[u8], mut random: SmallRng, is_cut: bool) -> Option<Vec<u8>> {
    let (mut read, mut write) = stream.into_halves();
    let patience = if is_cut { random.random_range(0..=bytes.len()) } else { bytes.len() };
    let send = async {
        let mut rest = &bytes[..patience];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.random_range(1..=rest.len()));
            if random.random_range(0..2) == 0 {
                write.send(Bytes::copy_from_slice(piece)).await.unwrap();
            } else {
                write.write_all(piece).await.unwrap();
            }
            rest = behind;
        }
        if is_cut {
            drop(write);
        } else {
            write.shutdown().await.unwrap();
        }
    };
    let mut received = Vec::new();
    let ((), outcome) = tokio::join!(send, read.read_to_end(&mut received));
    assert!(bytes.starts_with(&received), "something else came back");
    assert_eq!(outcome.is_err(), is_cut, "{outcome:?}");
    (!is_cut).then_some(received)
}

#[tokio::test]
async fn our_client_in_front_of_any_server() {
    for seed in 0..ROUNDS {
        let mut random = SmallRng::seed_from_u64(seed);
        let (near, far) = Chaotic::pair(seed);
        let (parameters, peers) = (parameters(&mut random), window(&mut random));
        let mut settings = h2::server::Builder::new();
        settings.initial_window_size(peers).max_concurrent_streams(random.random_range(1..40));
        settings.max_frame_size([16 << 10, 1 << 20][random.random_range(0..2)]);
        // It has limits of its own for peers that cut streams and send little at a time, as these do.
        settings.max_pending_accept_reset_streams(1000).max_concurrent_reset_streams(1000);
        settings.data_frame_budget(1 << 30).max_local_error_reset_streams(None);
        let _echo = echo_on(far, settings);
        let dialled = std::sync::Arc::new(Dialled::new(near, &parameters).await);
        // Before it knows the peer's limit, nobody but the pool keeps a client from opening too many.
        while dialled.client.peer_limit().is_none() {
            tokio::task::yield_now().await;
        }
        let windows = least(&parameters).min(peers);
        let tasks: Vec<_> = (0..STREAMS)
            .map(|index| {
                let (dialled, mut random) =
                    (std::sync::Arc::clone(&dialled), SmallRng::seed_from_u64(seed << 32 | index));
                tokio::spawn(async move {
                    let stream = dialled.open("a:80").await;
                    let bytes = text(&mut random, windows);
                    let is_cut = random.random_range(0..4) == 0;
                    if let Some(received) = converse(stream, &bytes, random, is_cut).await {
                        assert!(received == bytes, "seed {seed}, stream {index}");
                    }
                })
            })
            .collect();
        for task in tasks {
            timeout(DEADLINE, task).await.unwrap_or_else(|_| panic!("seed {seed}: a stream stalls")).unwrap();
        }
    }
}

/// A server of ours that sends every byte back, in pieces.
async fn echo_all(mut served: Served) {
    loop {
        let request = match served.next().await {
            Some(Incoming::Request(request)) => request,
            end => return drop(served.end().await.inspect_err(|error| panic!("{end:?}: {error}"))),
        };
        let Ok(stream) = request.accept(None) else { continue };
        tokio::spawn(async move {
            let (mut read, mut write) = stream.into_halves();
            let mut space = vec![0; 700];
            loop {
                match read.read(&mut space).await {
                    Ok(0) => break,
                    Ok(count) if write.write_all(&space[..count]).await.is_ok() => {}
                    _ => return,
                }
                let Ok(Some(chunk)) = read.chunk().await else { break };
                if write.send(chunk).await.is_err() {
                    return;
                }
            }
            let _ = write.shutdown().await;
        });
    }
}

#[tokio::test]
async fn our_server_in_front_of_any_client() {
    for seed in 0..ROUNDS {
        let mut random = SmallRng::seed_from_u64(seed);
        let (near, far) = Chaotic::pair(seed);
        let (parameters, peers) = (parameters(&mut random), window(&mut random));
        let mut settings = h2::client::Builder::new();
        settings.initial_window_size(peers).header_table_size([0, 4096][random.random_range(0..2)]);
        settings.max_frame_size([16 << 10, 1 << 20][random.random_range(0..2)]).max_concurrent_reset_streams(1000);
        settings.data_frame_budget(1 << 30).max_local_error_reset_streams(None);
        let windows = least(&parameters).min(peers);
        let echo = tokio::spawn(echo_all(Served::new(near, parameters)));
        let peer = Peer::with(far, &settings).await;
        let mut tasks = Vec::new();
        for index in 0..STREAMS {
            let mut random = SmallRng::seed_from_u64(seed << 32 | index);
            let (send, answer) = peer.open().await;
            let bytes = text(&mut random, windows);
            let is_cut = random.random_range(0..4) == 0;
            tasks.push(tokio::spawn(async move {
                let received = talk(send, answer, &bytes, is_cut).await;
                assert!(is_cut || received == bytes, "seed {seed}, stream {index}");
            }));
        }
        for task in tasks {
            timeout(DEADLINE, task).await.unwrap_or_else(|_| panic!("seed {seed}: a stream stalls")).unwrap();
        }
        drop(peer);
        timeout(DEADLINE, echo).await.expect("the connection stays").unwrap();
    }
}

/// Sends everything and reads what comes back; or resets the stream half way.
async fn talk(
    mut send: h2::SendStream<Bytes>,
    answer: h2::client::ResponseFuture,
    bytes: &[u8],
    is_cut: bool,
) -> Vec<u8> {
    if is_cut {
        send.send_data(Bytes::copy_from_slice(&bytes[..bytes.len() / 2]), false).unwrap();
        send.send_reset(h2::Reason::CANCEL);
        return Vec::new();
    }
    let mut receive = answer.await.unwrap().into_body();
    let sent = crate::peer::send_all(&mut send, Bytes::copy_from_slice(bytes));
    tokio::join!(sent, crate::peer::read_all(&mut receive)).1
}

//! Half-close, backpressure, fairness and size.

use std::task::Waker;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::*;
use crate::duplex::READ;

mod chaos;
mod failures;

/// Two peers with a running copy between them.
struct Joined {
    client: DuplexStream,
    server: DuplexStream,
    counters: &'static Counters,
    copy: tokio::task::JoinHandle<Result<(), CopyError>>,
}

fn join(room: usize) -> Joined {
    let (client, downstream) = duplex(room);
    let (server, upstream) = duplex(room);
    let counters: &'static Counters = Box::leak(Box::default());
    let copy = tokio::spawn(copy_bidirectional(downstream, upstream, counters));
    Joined { client, server, counters, copy }
}

/// What never comes fails the test.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.unwrap()
}

async fn reads(stream: &mut DuplexStream, expected: &[u8]) {
    let mut read = vec![0; expected.len()];
    soon(stream.read_exact(&mut read)).await.unwrap();
    assert_eq!(read, expected);
}

async fn reads_to_end(stream: &mut DuplexStream) -> Vec<u8> {
    let mut read = Vec::new();
    soon(stream.read_to_end(&mut read)).await.unwrap();
    read
}

#[tokio::test]
async fn a_half_closed_connection_goes_on_in_the_other_direction() {
    for client_is_first in [true, false] {
        let Joined { client, server, counters, copy } = join(64);
        let (mut first, mut second) = if client_is_first { (client, server) } else { (server, client) };
        first.write_all(b"request").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(reads_to_end(&mut second).await, b"request", "the end arrives while the other direction is open");
        assert!(!copy.is_finished());
        for _ in 0..3 {
            second.write_all(b"answer").await.unwrap();
            reads(&mut first, b"answer").await;
        }
        second.shutdown().await.unwrap();
        soon(copy).await.unwrap().unwrap();
        let counted = (counters.to_upstream(), counters.to_downstream());
        assert_eq!(counted, if client_is_first { (7, 18) } else { (18, 7) });
    }
}

#[tokio::test]
async fn bytes_are_counted_when_they_are_written() {
    let Joined { mut client, mut server, counters, copy } = join(4);
    client.write_all(b"0123").await.unwrap();
    client.write_all(b"4567").await.unwrap();
    // Four bytes fit into the server's pipe; the rest waits.
    let waits = async {
        while counters.to_upstream() < 4 {
            tokio::task::yield_now().await;
        }
        client.write_all(b"8").await.unwrap();
    };
    soon(waits).await;
    assert_eq!(counters.to_upstream(), 4);
    reads(&mut server, b"012345678").await;
    assert_eq!(counters.to_upstream(), 9);
    drop((client, server));
    soon(copy).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_holds_its_sender_back() {
    let Joined { mut client, mut server, counters, copy } = join(1024);
    let data = vec![7; 4 * READ];
    let mut accepted = 0;
    // What the copy takes without the server reading a byte: one buffer, besides the two pipes.
    while let Ok(count) = timeout(Duration::from_millis(100), client.write(&data)).await {
        accepted += count.unwrap();
    }
    assert!(accepted <= READ + 2 * 1024, "{accepted}");
    assert_eq!(counters.to_upstream(), 1024);
    client.shutdown().await.unwrap();
    assert_eq!(reads_to_end(&mut server).await.len(), accepted);
    drop((client, server));
    soon(copy).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_blocked_direction_does_not_hold_back_the_other() {
    let Joined { mut client, mut server, .. } = join(16);
    let _blocked = timeout(Duration::from_millis(50), client.write_all(&[0; 200_000])).await.unwrap_err();
    for _ in 0..100 {
        server.write_all(b"news").await.unwrap();
        reads(&mut client, b"news").await;
    }
}

#[tokio::test]
async fn real_sockets_carry_megabytes_both_ways_with_half_close() {
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }
    async fn talk(mut stream: TcpStream, seed: u8) -> Vec<u8> {
        let (mut reader, mut writer) = stream.split();
        let data: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8 ^ seed).collect();
        let write = async {
            writer.write_all(&data).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let (_, count) = tokio::join!(write, reader.read_to_end(&mut read));
        assert_eq!(count.unwrap(), data.len());
        read
    }
    let ((client, downstream), (upstream, server)) = (pair().await, pair().await);
    let counters = Counters::new();
    let run = async {
        let (result, at_client, at_server) =
            tokio::join!(copy_bidirectional(downstream, upstream, &counters), talk(client, 1), talk(server, 2));
        result.unwrap();
        assert!(at_client.iter().zip(0_u32..).all(|(&byte, index)| byte == (index % 251) as u8 ^ 2));
        assert!(at_server.iter().zip(0_u32..).all(|(&byte, index)| byte == (index % 251) as u8 ^ 1));
    };
    soon(run).await;
    assert_eq!((counters.to_upstream(), counters.to_downstream()), (3_000_000, 3_000_000));
}

/// Always readable, never ending; takes everything.
struct Hose;

impl Duplex for Hose {}

impl AsyncRead for Hose {
    fn poll_read(self: Pin<&mut Self>, _context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buffer.initialize_unfilled();
        buffer.set_filled(buffer.capacity());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Hose {
    fn poll_write(self: Pin<&mut Self>, _context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn one_poll_of_a_fast_connection_is_bounded() {
    let counters = Counters::new();
    let mut copy = Box::pin(copy_bidirectional(Hose, Hose, &counters));
    let mut context = Context::from_waker(Waker::noop());
    for polls in 1..4 {
        assert!(copy.as_mut().poll(&mut context).is_pending());
        assert_eq!(counters.to_upstream(), polls * 4 * READ as u64);
        assert_eq!(counters.to_downstream(), counters.to_upstream());
    }
}

#[test]
fn an_idle_copy_is_small_and_owns_no_buffer() {
    let counters = Counters::new();
    let (_client, downstream) = duplex(1);
    let (_server, upstream) = duplex(1);
    let mut copy = Box::pin(copy_bidirectional(downstream, upstream, &counters));
    assert!(copy.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    // The future holds its two streams twice (as arguments and while it runs); the rest is its own.
    let own = size_of_val(&*copy) - 2 * 2 * size_of::<DuplexStream>();
    assert!(own <= 256, "{own} bytes");
}

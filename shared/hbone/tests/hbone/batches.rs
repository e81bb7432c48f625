//! What leaves in one piece: each piece is a system call, and wakes the peer.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hbone::client::Pool;
use hbone::server::Incoming;
use hbone::{DialError, HboneError, Parameters, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::time::timeout;

use crate::support::*;

/// A transport that holds what is written until it is flushed, as TLS does.
struct Holding {
    inner: DuplexStream,
    held: Vec<u8>,
    pieces: Pieces,
}

/// What was flushed, each time.
type Pieces = Arc<Mutex<Vec<Vec<u8>>>>;

impl ::io::Transport for Holding {}

impl AsyncRead for Holding {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Holding {
    fn poll_write(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.held.is_empty() {
            this.pieces.lock().unwrap().push(this.held.clone());
        }
        while !this.held.is_empty() {
            let count = ready!(Pin::new(&mut this.inner).poll_write(cx, &this.held))?;
            this.held.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A transport whose peer takes everything, and what leaves through it.
fn holding(inner: DuplexStream) -> (Holding, Pieces) {
    let pieces = Pieces::default();
    (Holding { inner, held: Vec::new(), pieces: Arc::clone(&pieces) }, pieces)
}

/// What leaves first.
async fn first_piece(pieces: &Pieces, far: &mut DuplexStream) -> Vec<u8> {
    timeout(DEADLINE, far.read_u8()).await.expect("nothing arrives").unwrap();
    pieces.lock().unwrap()[0].clone()
}

/// Opens a tunnel to `a:80` in a pool whose only connection this becomes.
async fn open_on(near: Holding, parameters: Parameters) -> Result<(Pool<&'static str>, Stream), HboneError> {
    let near = Mutex::new(Some(near));
    let dial = move || {
        let near = near.lock().unwrap().take();
        async move { near.ok_or_else(|| DialError::connect(io::Error::other("one is enough"))) }
    };
    let pool = Pool::new(parameters);
    let connected = pool.open(&"key", &connect("a:80"), deadline(), dial).await?;
    Ok((pool, connected.stream))
}

/// What a pool sends first when somebody wants a tunnel to `a:80`.
async fn first_of_a_client() -> Vec<u8> {
    let (near, mut far) = duplex(PIPE);
    let (near, pieces) = holding(near);
    let open = tokio::spawn(async move { open_on(near, Parameters::default()).await.map(drop) });
    let piece = first_piece(&pieces, &mut far).await;
    open.abort();
    piece
}

/// Serves a client that says the end of its stream after the server's: with the answer in the server's first piece.
async fn serve_one(far: DuplexStream) {
    let (far, _pieces) = holding(far);
    let mut server = hbone::server::handshake(far, &Parameters::default()).await.unwrap();
    let Some(Ok(Incoming::Request(request))) = server.next().await else { panic!("a request was sent") };
    let mut stream = request.accept(None).unwrap();
    let driver = tokio::spawn(async move { server.next().await.is_none() });
    stream.read_u8().await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(stream.read_u8().await.is_err());
    assert!(timeout(DEADLINE, driver).await.unwrap().unwrap());
}

/// Types and flags of the frames in `bytes`.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8)> {
    let mut frames = Vec::new();
    while let Some(([a, b, c, kind, flags], rest)) = bytes.split_first_chunk::<5>() {
        frames.push((*kind, *flags));
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        bytes = &rest[4 + length..];
    }
    frames
}

const DATA: (u8, u8) = (0, 0);
const END_OF_STREAM: (u8, u8) = (0, 1);
const GOAWAY: (u8, u8) = (7, 0);
const HEADERS: u8 = 1;
const SETTINGS: (u8, u8) = (4, 0);
const SETTINGS_TAKEN: (u8, u8) = (4, 1);

#[tokio::test]
async fn a_request_goes_along_with_the_first_bytes_of_its_connection() {
    let piece = first_of_a_client().await;
    let found = frames(piece.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap());
    assert_eq!(found[0], SETTINGS);
    assert!(found.iter().any(|(kind, _)| *kind == HEADERS), "{found:?}");
}

#[tokio::test]
async fn a_server_that_has_the_clients_settings_answers_them_with_its_own() {
    let (mut near, far) = duplex(PIPE);
    near.write_all(&first_of_a_client().await).await.unwrap();
    let (far, pieces) = holding(far);
    let _served = Served::new(far, Parameters::default());
    let found = frames(&first_piece(&pieces, &mut near).await);
    assert_eq!(found[0], SETTINGS);
    assert!(found.contains(&SETTINGS_TAKEN), "{found:?}");
}

#[tokio::test]
async fn a_server_that_waits_for_its_client_says_its_settings_meanwhile() {
    let (mut near, far) = duplex(PIPE);
    let (far, pieces) = holding(far);
    let _served = Served::new(far, Parameters::default());
    assert_eq!(frames(&first_piece(&pieces, &mut near).await)[0], SETTINGS);
}

#[tokio::test]
async fn an_answer_that_is_there_at_once_goes_along_with_the_servers_settings() {
    let (mut near, far) = duplex(PIPE);
    near.write_all(&first_of_a_client().await).await.unwrap();
    let (far, pieces) = holding(far);
    let mut server = hbone::server::handshake(far, &Parameters::default()).await.unwrap();
    let Some(Ok(Incoming::Request(request))) = server.next().await else { panic!("a request was sent") };
    assert!(pieces.lock().unwrap().is_empty(), "nothing was sent before the answer could be");
    let _stream = request.accept(None).unwrap();
    let task = tokio::spawn(async move { server.next().await.is_none() });
    let found = frames(&first_piece(&pieces, &mut near).await);
    assert_eq!(found[0], SETTINGS);
    assert!(found.iter().any(|(kind, _)| *kind == HEADERS), "{found:?}");
    task.abort();
}

#[tokio::test]
async fn the_last_words_of_a_connection_leave_in_one_piece() {
    let (near, far) = duplex(PIPE);
    let (near, pieces) = holding(near);
    let mut served = Served::new(far, Parameters::default());
    let (client, driver) = hbone::client::handshake(near, &Parameters::default()).await.unwrap();
    let driver = tokio::spawn(driver);
    let request = connect("a:80");
    let (connected, mut accepted) = tokio::join!(client.connect(&request, deadline()), served.accept());
    let mut stream = connected.unwrap().stream;
    accepted.shutdown().await.unwrap();
    assert_eq!(timeout(DEADLINE, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    pieces.lock().unwrap().clear();
    stream.shutdown().await.unwrap();
    drop((stream, client));
    timeout(DEADLINE, driver).await.unwrap().unwrap().unwrap();
    let pieces: Vec<_> = pieces.lock().unwrap().iter().map(|piece| frames(piece)).collect();
    assert_eq!(pieces, [[END_OF_STREAM, GOAWAY]]);
}

#[tokio::test]
async fn what_a_tunnel_carries_first_and_last_goes_along_with_what_its_connection_has_to_say() {
    let (near, far) = duplex(PIPE);
    let (near, pieces) = holding(near);
    let parameters = Parameters { idle_timeout: Duration::ZERO, ..Parameters::default() };
    let open = tokio::spawn(async move {
        let (pool, mut stream) = open_on(near, parameters).await.unwrap();
        stream.write_u8(7).await.unwrap();
        (pool, stream)
    });
    eventually("a request", || !pieces.lock().unwrap().is_empty()).await;
    let served = tokio::spawn(serve_one(far));
    let (pool, mut stream) = open.await.unwrap();
    assert_eq!(timeout(DEADLINE, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    stream.shutdown().await.unwrap();
    drop(stream);
    timeout(DEADLINE, served).await.unwrap().unwrap();
    let pieces: Vec<_> = pieces.lock().unwrap().iter().skip(1).map(|piece| frames(piece)).collect();
    assert_eq!(pieces, [[SETTINGS_TAKEN, DATA], [END_OF_STREAM, GOAWAY]]);
    assert_eq!(pool.connections(), 0);
}

//! The h2 crate used directly, as a polite peer for bulk and for many streams.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response, Uri};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::DEADLINE;

/// A client whose windows are as large as ours.
pub(crate) struct Peer {
    send: h2::client::SendRequest<Bytes>,
    task: JoinHandle<()>,
}

impl Peer {
    pub(crate) async fn new(io: DuplexStream) -> Self {
        let mut settings = h2::client::Builder::new();
        settings.initial_window_size(4 << 20).initial_connection_window_size(16 << 20);
        Self::with(io, &settings).await
    }

    /// A client with these settings, on any transport.
    pub(crate) async fn with<T>(io: T, settings: &h2::client::Builder) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = settings.handshake(io);
        let (send, connection) = timeout(DEADLINE, handshake).await.unwrap().unwrap();
        let task =
            tokio::spawn(async move { connection.await.unwrap_or_else(|error| eprintln!("the client: {error}")) });
        Self { send, task }
    }

    /// Sends CONNECT; the answer comes with the first use of the receiving half.
    pub(crate) async fn open(&self) -> (SendStream<Bytes>, h2::client::ResponseFuture) {
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::from_static("10.0.0.1:80");
        let mut send = self.send.clone().ready().await.unwrap();
        let (response, stream) = send.send_request(request, false).unwrap();
        (stream, response)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends what the windows allow, at most `bytes`; returns how much that was once nothing more is allowed.
pub(crate) async fn send_until_stalled(stream: &mut SendStream<Bytes>, bytes: usize) -> usize {
    let mut sent = 0;
    while sent < bytes {
        stream.reserve_capacity((bytes - sent).min(64 << 10));
        let granted = poll_fn(|cx| stream.poll_capacity(cx));
        // In memory, capacity that does not come within a second does not come.
        let Ok(Some(Ok(granted))) = timeout(std::time::Duration::from_secs(1), granted).await else { break };
        stream.send_data(Bytes::from(vec![1; granted]), false).unwrap();
        sent += granted;
    }
    stream.reserve_capacity(0);
    sent
}

/// Sends all bytes and the end.
pub(crate) async fn send_all(stream: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let granted = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        stream.send_data(bytes.split_to(granted.min(bytes.len())), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
}

/// Reads to the end.
pub(crate) async fn read_all(stream: &mut RecvStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.unwrap();
        stream.flow_control().release_capacity(chunk.len()).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

/// A server that sends every byte back.
pub(crate) fn echo(io: DuplexStream) -> JoinHandle<()> {
    echo_on(io, h2::server::Builder::new().max_concurrent_streams(100).clone())
}

/// As [`echo`], on any transport and with these settings.
pub(crate) fn echo_on<T>(io: T, settings: h2::server::Builder) -> JoinHandle<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let mut connection = settings.handshake(io).await.unwrap();
        while let Some(accepted) = connection.accept().await {
            let Ok((request, mut respond)) = accepted.inspect_err(|error| eprintln!("the server: {error}")) else {
                return;
            };
            assert_eq!(request.method(), Method::CONNECT);
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            let mut receive = request.into_body();
            tokio::spawn(async move {
                while let Some(Ok(chunk)) = receive.data().await {
                    receive.flow_control().release_capacity(chunk.len()).unwrap();
                    let mut rest = chunk;
                    while !rest.is_empty() {
                        send.reserve_capacity(rest.len());
                        let Some(Ok(granted)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                        send.send_data(rest.split_to(granted.min(rest.len())), false).unwrap();
                    }
                }
                let _ = send.send_data(Bytes::new(), true);
            });
        }
    })
}

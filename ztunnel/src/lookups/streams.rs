//! Lookups over TCP: each message has its length before it; RFC 7766.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use dns::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::{Begun, Server};
use crate::accept::{ACCEPT_PAUSE, retired};

/// Connections of one pod that are served at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 64;

/// How long a client may take to send a query, and to take the answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Serves connections until the pod leaves or the process ends; a lookup under way is finished.
pub(super) async fn serve(server: &Arc<Server>, listener: std::net::TcpListener) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(pod = %server.lane.pod.uid, %error, "cannot watch a listener for lookups");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    accept_until(server, &listener, &places, retired(&server.lane)).await;
    // What is in the queue was promised a listener; the kernel resets it when the listener closes.
    while let Ok((stream, client)) = linux::socket::accept(&listener) {
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        begin(server, stream, client, None);
    }
}

async fn accept_until(
    server: &Arc<Server>,
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    end: impl Future<Output = ()>,
) {
    let mut end = pin!(end);
    let accept = async || {
        let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
        listener.accept().await.map(|(stream, client)| (place, stream, client))
    };
    loop {
        tokio::select! {
            biased;
            () = &mut end => return,
            accepted = accept() => match accepted {
                Ok((place, stream, client)) => begin(server, stream, client, Some(place)),
                Err(error) => {
                    tracing::debug!(pod = %server.lane.pod.uid, %error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Serves a connection in a task of its own; its place, if it took one, is given back at its end.
fn begin(server: &Arc<Server>, stream: TcpStream, client: SocketAddr, place: Option<OwnedSemaphorePermit>) {
    let (server, guard) = (Arc::clone(server), server.lane.drain.guard());
    drop(tokio::spawn(async move {
        Box::pin(converse(&server, stream, client)).await;
        drop((place, guard));
    }));
}

async fn converse(server: &Server, mut stream: TcpStream, client: SocketAddr) {
    let drain = &server.lane.drain;
    let mut is_first = true;
    loop {
        let received = async { timeout(DEADLINE, receive(&mut stream)).await };
        // Between two queries is the time to end; the first one was promised an answer.
        let received = if is_first { Some(received.await) } else { drain.unless_draining(received).await };
        is_first = false;
        let query = match received {
            Some(Ok(Ok(Some(query)))) => query,
            Some(Ok(Err(error))) => return tracing::debug!(%client, %error, "a connection for lookups ended early"),
            // The client has ended, or idles for too long, or the pod leaves.
            Some(Ok(Ok(None)) | Err(_)) | None => return,
        };
        let answer = match server.begin(&query, Transport::Tcp) {
            Begun::Nothing => continue,
            Begun::Answered(answer) => answer,
            Begun::Pending(pending) => server.finish(pending).await,
        };
        let Some(message) = framed(&answer) else { return };
        if !matches!(timeout(DEADLINE, stream.write_all(&message)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// The next message; `None` at the end of the stream.
pub(super) async fn receive(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// The message with its length before it; `None` when it has no such length.
pub(super) fn framed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([&length.to_be_bytes(), message].concat())
}

//! Lookups over UDP.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use dns::Transport;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::{Begun, Server};
use crate::accept::{ACCEPT_PAUSE, retired};

/// A receiver of this size takes any query that a resolver sends, in bytes.
const LARGEST_QUERY: usize = 4096;

/// Answers datagrams until the pod leaves or the process ends.
pub(super) async fn serve(server: &Arc<Server>, socket: std::net::UdpSocket) {
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => Arc::new(socket),
        Err(error) => {
            tracing::error!(pod = %server.lane.pod.uid, %error, "cannot watch a socket for lookups");
            return;
        }
    };
    let lane = &server.lane;
    receive_until(server, &socket, retired(lane)).await;
    // What comes from now on is for the successor; what is in the queue is not.
    if let Err(error) = retire(&socket) {
        tracing::debug!(pod = %lane.pod.uid, %error, "lookups may be lost on the way to a successor");
    }
    let mut buffer = vec![0; LARGEST_QUERY];
    while let Ok((length, client)) = socket.try_recv_from(&mut buffer) {
        handle(server, &socket, buffer.get(..length).unwrap_or_default(), client);
    }
}

/// The kernel's socket is the same in both types.
fn retire(socket: &UdpSocket) -> std::io::Result<()> {
    let same = std::os::fd::AsFd::as_fd(socket).try_clone_to_owned()?;
    linux::socket::retire(&std::net::UdpSocket::from(same))
}

async fn receive_until(server: &Arc<Server>, socket: &Arc<UdpSocket>, end: impl Future<Output = ()>) {
    let mut end = pin!(end);
    let mut buffer = vec![0; LARGEST_QUERY];
    loop {
        tokio::select! {
            biased;
            () = &mut end => return,
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, client)) => handle(server, socket, buffer.get(..length).unwrap_or_default(), client),
                Err(error) => {
                    tracing::debug!(pod = %server.lane.pod.uid, %error, "receiving a lookup failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn handle(server: &Arc<Server>, socket: &Arc<UdpSocket>, bytes: &[u8], client: SocketAddr) {
    match server.begin(bytes, Transport::Udp) {
        Begun::Nothing => {}
        Begun::Answered(answer) => send(socket, &answer, client),
        Begun::Pending(pending) => {
            let (server, socket, guard) = (Arc::clone(server), Arc::clone(socket), server.lane.drain.guard());
            drop(tokio::spawn(async move {
                let answer = Box::pin(server.finish(pending)).await;
                send(&socket, &answer, client);
                drop(guard);
            }));
        }
    }
}

/// A client that does not make room for its answers loses them, as with any datagram.
fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, client) {
        tracing::debug!(%client, %error, "an answer to a lookup was lost");
    }
}

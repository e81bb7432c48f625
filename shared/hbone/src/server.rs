//! The server: accepts CONNECT requests and turns them into streams.

mod request;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::io::Transport;
use bytes::Bytes;
use h2::server::{Builder, Connection};
use h2::{Reason, RecvStream, server::SendResponse};
use tokio::time::timeout;

pub use request::Request;

use crate::activity::Activity;
use crate::client::RESET_STREAMS;
use crate::keepalive::Heartbeat;
use crate::pace::Neighbours;
use crate::{HboneError, Parameters, Refusal};

/// How many protocol errors on single streams a client may make in the life of a connection.
///
/// Frames that cross a reset by more than a second count; a busy client on a slow link makes some every day.
const STREAM_ERRORS: usize = 1 << 14;

/// One connection of a client.
///
/// Clients of a busy server give up by the hundred; that must not end the connection for those who still wait, which
/// is what h2 does after twenty. The limit of concurrent streams bounds the work.
///
/// [`Server::next`] moves the frames of all streams: call it again and again until it returns `None`, also while
/// streams are being served, which is best done by tasks of their own.
pub struct Server<T> {
    connection: Connection<Activity<T>, Bytes>,
    heartbeat: Option<Heartbeat>,
    neighbours: Arc<Neighbours>,
    has_ended: bool,
}

/// What a client asked for.
#[derive(Debug)]
pub enum Incoming {
    /// A CONNECT request with a well-formed authority, to be accepted or refused.
    Request(Request),
    /// A request that made no sense; it has been answered.
    Refused(Refusal),
}

/// Starts HTTP/2 on a transport.
///
/// # Errors
/// [`HboneError::Handshake`] when the peer does not speak HTTP/2, [`HboneError::Timeout`] when it does not speak at all.
pub async fn handshake<T>(io: T, parameters: &Parameters) -> Result<Server<T>, HboneError>
where
    T: Transport + Send,
{
    let round_trip = io.round_trip();
    let (io, seen) = Activity::new(io);
    let neighbours = Neighbours::new(seen.clone(), round_trip, parameters);
    let mut connection = timeout(parameters.handshake_timeout, builder(parameters).handshake(io))
        .await
        .map_err(|_elapsed| HboneError::Timeout("the HTTP/2 handshake"))?
        .map_err(|error| HboneError::Handshake(Arc::new(error)))?;
    let heartbeat = connection.ping_pong().map(|pings| Heartbeat::new(pings, seen, parameters.keepalive));
    Ok(Server { connection, heartbeat, neighbours, has_ended: false })
}

fn builder(parameters: &Parameters) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(parameters.stream_window)
        .initial_connection_window_size(parameters.connection_window)
        .max_frame_size(parameters.frame_size)
        .max_header_list_size(parameters.server_header_list)
        .max_concurrent_streams(parameters.server_streams)
        .max_send_buffer_size(parameters.send_buffer)
        .max_concurrent_reset_streams(RESET_STREAMS)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(Some(STREAM_ERRORS))
        .data_frame_budget(parameters.small_frame_budget());
    builder
}

impl<T> Server<T>
where
    T: Transport,
{
    /// The next request; `None` when the connection is over in peace.
    ///
    /// Cancelling the call loses nothing.
    ///
    /// # Errors
    /// Once, when the connection breaks or the client no longer answers; `None` follows.
    pub async fn next(&mut self) -> Option<Result<Incoming, HboneError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next request; see [`Server::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, HboneError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if let Some(heartbeat) = &mut self.heartbeat
            && heartbeat.poll_dead(cx).is_ready()
        {
            self.has_ended = true;
            self.connection.abrupt_shutdown(Reason::NO_ERROR);
            // One try: a peer that is gone takes no GOAWAY.
            let _ = self.connection.poll_closed(cx);
            return Poll::Ready(Some(Err(HboneError::Timeout("the answer to PING"))));
        }
        match ready!(self.connection.poll_accept(cx)) {
            Some(Ok((request, respond))) => Poll::Ready(Some(Ok(examine(request, respond, &self.neighbours)))),
            Some(Err(error)) => {
                self.has_ended = true;
                Poll::Ready(Some(Err(HboneError::Stream(Arc::new(error)))))
            }
            None => {
                self.has_ended = true;
                Poll::Ready(None)
            }
        }
    }

    /// Says GOAWAY: no new streams, those that are open go on.
    ///
    /// Keep calling [`Server::next`]: it returns `None` once the last stream has ended.
    pub fn drain(&mut self) {
        self.connection.graceful_shutdown();
    }

    /// Says GOAWAY and ends all streams at once.
    ///
    /// Keep calling [`Server::next`], with a deadline, to get it sent.
    pub fn abort(&mut self) {
        self.connection.abrupt_shutdown(Reason::NO_ERROR);
    }
}

impl<T> fmt::Debug for Server<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

/// Answers what is no CONNECT request; the rest is for the caller.
fn examine(request: http::Request<RecvStream>, respond: SendResponse<Bytes>, among: &Arc<Neighbours>) -> Incoming {
    match Request::new(request, respond, among) {
        Ok(request) => Incoming::Request(request),
        Err((refusal, respond)) => {
            tracing::debug!(%refusal, "refusing a malformed request");
            request::answer(respond, refusal.status());
            Incoming::Refused(refusal)
        }
    }
}

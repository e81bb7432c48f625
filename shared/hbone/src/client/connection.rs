//! One client connection: the handle that opens streams and the driver that moves its frames.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ::io::Transport;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::member::Slot;
use super::{Connect, Connected};
use crate::activity::{Activity, Seen};
use crate::keepalive::Heartbeat;
use crate::pace::{Neighbours, Pace};
use crate::{HboneError, Parameters, Stream};

/// Stands for "no SETTINGS yet"; a peer cannot send it, its limit being 32 bits wide.
const UNKNOWN: usize = usize::MAX - 1;

/// How many frames a peer may keep sending on streams that were reset, for one second each, before it is an error.
///
/// Tunnels are cut all the time, and the other side's bytes are then still on their way.
pub(crate) const RESET_STREAMS: usize = 1024;

/// Opens tunnels on one connection; cheap to clone.
///
/// The connection closes when all clones and all streams are gone.
#[derive(Clone)]
pub struct Client {
    send: SendRequest<Bytes>,
    limit: Limit,
    seen: Seen,
    neighbours: Arc<Neighbours>,
}

/// How many streams the peer allows; shared between driver and handles.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    streams: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

/// Moves the frames of one connection; spawn it, and own the task.
///
/// It ends when the connection does: in peace when all handles and streams are gone, with an error when the transport
/// broke or the peer no longer answers. Dropping it closes the transport and breaks the streams.
pub struct Driver<T> {
    connection: h2::client::Connection<Activity<T>, Bytes>,
    heartbeat: Option<Heartbeat>,
    limit: Limit,
}

/// Starts HTTP/2 on a transport.
///
/// The first request may be sent before the peer's SETTINGS arrive.
///
/// # Errors
/// [`HboneError::Handshake`] when the transport breaks, [`HboneError::Timeout`] when it takes no bytes.
pub async fn handshake<T>(io: T, parameters: &Parameters) -> Result<(Client, Driver<T>), HboneError>
where
    T: Transport + Send,
{
    let round_trip = io.round_trip();
    let (io, seen) = Activity::new(io);
    let neighbours = Neighbours::new(seen.clone(), round_trip, parameters);
    let handshake = builder(parameters).handshake(io);
    let (send, mut connection) = timeout(parameters.handshake_timeout, handshake)
        .await
        .map_err(|_elapsed| HboneError::Timeout("the HTTP/2 handshake"))?
        .map_err(|error| HboneError::Handshake(Arc::new(error)))?;
    let heartbeat = connection.ping_pong().map(|pings| Heartbeat::new(pings, seen.clone(), parameters.keepalive));
    let limit = Limit::default();
    let client = Client { send, limit: limit.clone(), seen, neighbours };
    Ok((client, Driver { connection, heartbeat, limit }))
}

fn builder(parameters: &Parameters) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(parameters.stream_window)
        .initial_connection_window_size(parameters.connection_window)
        .max_frame_size(parameters.frame_size)
        .max_header_list_size(parameters.client_header_list)
        .max_send_buffer_size(parameters.send_buffer)
        .enable_push(false)
        .initial_max_send_streams(UNKNOWN)
        .max_concurrent_reset_streams(RESET_STREAMS)
        .data_frame_budget(parameters.small_frame_budget())
        // A server that answers late on streams that were cut is no reason to cut the others.
        .max_local_error_reset_streams(None);
    builder
}

impl Client {
    /// Asks for a tunnel and waits for the answer.
    ///
    /// # Errors
    /// [`HboneError::Status`] when the peer answers anything but 200, [`HboneError::Timeout`] at the deadline,
    /// [`HboneError::Closed`] or [`HboneError::Stream`] when the connection cannot be used.
    pub async fn connect(&self, request: &Connect, deadline: Instant) -> Result<Connected, HboneError> {
        let attempt = self.connect_on(request, None);
        timeout_at(deadline, attempt).await.map_err(|_elapsed| HboneError::Timeout("the answer to CONNECT"))?
    }

    /// As [`Client::connect`] without a deadline; `slot` is kept for as long as the stream lives.
    pub(crate) async fn connect_on(&self, request: &Connect, slot: Option<Slot>) -> Result<Connected, HboneError> {
        let request = request.to_http()?;
        let mut send = self.send.clone();
        poll_fn(|cx| send.poll_ready(cx)).await.map_err(|_error| HboneError::Closed)?;
        let (response, send) = send.send_request(request, false).map_err(stream_error)?;
        let (head, body) = response.await.map_err(stream_error)?.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(HboneError::Status(head.status.as_u16()));
        }
        let pace = Pace::new(Arc::clone(&self.neighbours));
        Ok(Connected { stream: Stream::new(body, send, pace, slot), headers: head.headers })
    }

    /// How many streams the peer allows; `None` before it has said so.
    #[must_use]
    pub fn peer_limit(&self) -> Option<usize> {
        let limit = self.limit.streams.load(Ordering::Relaxed);
        (limit != UNKNOWN).then_some(limit)
    }

    pub(crate) fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Whether the peer has sent anything since a moment.
    pub(crate) fn was_heard_since(&self, moment: Instant) -> bool {
        self.seen.last() >= self.seen.to_the_millisecond(moment)
    }

    /// Whether new streams can still be opened: false after GOAWAY and when the transport broke.
    pub(crate) fn is_usable(&self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        !matches!(self.send.clone().poll_ready(&mut context), Poll::Ready(Err(_)))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("peer_limit", &self.peer_limit()).finish_non_exhaustive()
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self { streams: Arc::new(AtomicUsize::new(UNKNOWN)), changed: Arc::new(Notify::new()) }
    }
}

impl Limit {
    /// Signalled when the peer's limit changes; the one permit is for the connection's task.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    fn publish(&self, streams: usize) {
        if self.streams.swap(streams, Ordering::Relaxed) != streams {
            self.changed.notify_one();
        }
    }
}

impl<T> Future for Driver<T>
where
    T: Transport,
{
    type Output = Result<(), HboneError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(heartbeat) = &mut this.heartbeat
            && heartbeat.poll_dead(cx).is_ready()
        {
            return Poll::Ready(Err(HboneError::Timeout("the answer to PING")));
        }
        let outcome = Pin::new(&mut this.connection).poll(cx);
        this.limit.publish(this.connection.max_concurrent_send_streams());
        outcome.map_err(stream_error)
    }
}

impl<T> fmt::Debug for Driver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

pub(crate) fn stream_error(error: h2::Error) -> HboneError {
    HboneError::Stream(Arc::new(error))
}

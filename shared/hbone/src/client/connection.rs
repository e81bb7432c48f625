//! One client connection: the handle that opens streams and the driver that moves its frames.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ::io::Transport;
use http::StatusCode;
use http2::Role;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::member::Slot;
use super::{Connect, Connected};
use crate::handle::{Handle, Shared};
use crate::keepalive::Heartbeat;
use crate::mover::Mover;
use crate::{HboneError, Parameters, Stream};

/// Stands for "no SETTINGS yet"; a peer cannot send it, its limit being 32 bits wide.
const UNKNOWN: usize = usize::MAX - 1;

/// Opens tunnels on one connection; cheap to clone.
///
/// The connection closes when all clones and all streams are gone.
pub struct Client {
    shared: Shared,
    limit: Limit,
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
    mover: Mover<T>,
    heartbeat: Heartbeat,
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
    let mut mover = Mover::new(io, Role::Client, parameters);
    // The first flush is the driver's, so that a request may go along.
    timeout(parameters.handshake_timeout, poll_fn(|cx| mover.poll_write(cx)))
        .await
        .map_err(|_elapsed| HboneError::Timeout("the HTTP/2 handshake"))?
        .map_err(|error| HboneError::Handshake(Arc::new(http2::Http2Error::io(error))))?;
    let heartbeat = Heartbeat::new(parameters.keepalive);
    let limit = Limit::default();
    let client = Client::new(mover.shared().clone(), limit.clone());
    Ok((client, Driver { mover, heartbeat, limit }))
}

impl Client {
    fn new(shared: Shared, limit: Limit) -> Self {
        shared.lock().add_handle();
        Self { shared, limit }
    }

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
        let (authority, headers) = request.to_http()?;
        let open = poll_fn(|cx| self.shared.lock().poll_open(cx, authority.as_str(), &headers));
        let key = open.await.map_err(|_error| HboneError::Closed)?;
        let handle = Handle::new(self.shared.clone(), key);
        let response = poll_fn(|cx| self.shared.lock().poll_response(key, cx)).await.map_err(stream_error)?;
        if response.status != StatusCode::OK.as_u16() {
            return Err(HboneError::Status(response.status));
        }
        Ok(Connected { stream: Stream::new(handle, slot), headers: response.headers })
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
        let seen = self.shared.seen();
        seen.last() >= seen.to_the_millisecond(moment)
    }

    /// Whether new streams can still be opened: false after GOAWAY and when the transport broke.
    pub(crate) fn is_usable(&self) -> bool {
        self.shared.lock().is_usable()
    }
}

impl Clone for Client {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone(), self.limit.clone())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.lock().remove_handle();
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
        if this.heartbeat.poll_dead(cx, this.mover.shared()).is_ready() {
            return Poll::Ready(Err(HboneError::Timeout("the answer to PING")));
        }
        let outcome = this.mover.poll(cx);
        if let Some(streams) = this.mover.shared().lock().peer_streams() {
            this.limit.publish(streams);
        }
        outcome.map_err(stream_error)
    }
}

impl<T> fmt::Debug for Driver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

pub(crate) fn stream_error(error: http2::Http2Error) -> HboneError {
    HboneError::Stream(Arc::new(error))
}

//! The server: accepts CONNECT requests and turns them into streams.

mod request;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::io::Transport;
use http2::{Http2Error, PREFACE, Role};
use tokio::io::ReadBuf;
use tokio::time::timeout;

pub use request::Request;

use crate::handle::Handle;
use crate::keepalive::Heartbeat;
use crate::mover::Mover;
use crate::{HboneError, Parameters, Refusal};

/// One connection of a client.
///
/// Clients of a busy server give up by the hundred; that must not end the connection for those who still wait. The limit
/// of concurrent streams bounds the work.
///
/// [`Server::next`] moves the frames of all streams: call it again and again until it returns `None`, also while
/// streams are being served, which is best done by tasks of their own.
pub struct Server<T> {
    mover: Mover<T>,
    heartbeat: Heartbeat,
    /// The first look at what the client wants is over.
    has_begun: bool,
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
    let mut mover = Mover::new(io, Role::Server, parameters);
    timeout(parameters.handshake_timeout, greet(&mut mover))
        .await
        .map_err(|_elapsed| HboneError::Timeout("the HTTP/2 handshake"))?
        .map_err(|error| HboneError::Handshake(Arc::new(error)))?;
    let heartbeat = Heartbeat::new(parameters.keepalive);
    Ok(Server { mover, heartbeat, has_begun: false, has_ended: false })
}

/// Waits for the client's preface; our SETTINGS go out meanwhile, or with the answer to the client's if those are there.
async fn greet<T>(mover: &mut Mover<T>) -> Result<(), Http2Error>
where
    T: Transport,
{
    let mut expected = PREFACE.as_slice();
    let mut space = [0; PREFACE.len()];
    while !expected.is_empty() {
        let mut read = ReadBuf::new(space.get_mut(..expected.len()).unwrap_or_default());
        poll_fn(|cx| {
            let received = mover.poll_read_raw(cx, &mut read);
            if received.is_pending()
                && let Poll::Ready(Err(error)) = mover.poll_send(cx)
            {
                return Poll::Ready(Err(error));
            }
            received
        })
        .await
        .map_err(Http2Error::io)?;
        if read.filled().is_empty() {
            return Err(Http2Error::io(io::ErrorKind::UnexpectedEof.into()));
        }
        expected = expected.strip_prefix(read.filled()).ok_or(Http2Error::NotHttp2)?;
    }
    Ok(())
}

impl<T> Server<T>
where
    T: Transport,
{
    /// The next request; `None` when the connection is over in peace.
    ///
    /// A request that came along with the connection's beginning is returned before anything is sent: an answer that is
    /// there by the next call leaves with our SETTINGS.
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
        if self.heartbeat.poll_dead(cx, self.mover.shared()).is_ready() {
            self.has_ended = true;
            self.abort();
            // One try: a peer that is gone takes no GOAWAY.
            let _ = self.mover.poll(cx);
            return Poll::Ready(Some(Err(HboneError::Timeout("the answer to PING"))));
        }
        if !self.has_begun {
            self.has_begun = true;
            self.mover.poll_receive(cx);
        }
        if let Some(incoming) = self.take_request() {
            return Poll::Ready(Some(Ok(incoming)));
        }
        let moved = self.mover.poll(cx);
        if let Some(incoming) = self.take_request() {
            // What came of the moving is asked for again.
            return Poll::Ready(Some(Ok(incoming)));
        }
        let outcome = ready!(moved);
        self.has_ended = true;
        Poll::Ready(outcome.err().map(|error| Err(HboneError::Stream(Arc::new(error)))))
    }

    fn take_request(&self) -> Option<Incoming> {
        let shared = self.mover.shared();
        let (key, request) = shared.lock().next_request()?;
        Some(examine(Handle::new(shared.clone(), key), request))
    }

    /// Says GOAWAY: no new streams, those that are open go on.
    ///
    /// Keep calling [`Server::next`]: it returns `None` once the last stream has ended.
    pub fn drain(&mut self) {
        self.mover.shared().lock().drain();
    }

    /// Says GOAWAY and ends all streams at once.
    ///
    /// Keep calling [`Server::next`], with a deadline, to get it sent.
    pub fn abort(&mut self) {
        self.mover.shared().lock().abort();
    }
}

impl<T> fmt::Debug for Server<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

/// Answers what is no CONNECT request; the rest is for the caller.
fn examine(handle: Handle, request: http2::Request) -> Incoming {
    match Request::new(handle, request) {
        Ok(request) => Incoming::Request(request),
        Err((refusal, handle)) => {
            tracing::debug!(%refusal, "refusing a malformed request");
            request::answer(&handle, refusal.status());
            Incoming::Refused(refusal)
        }
    }
}

//! A CONNECT request that waits for its answer.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use types::Authority;

use crate::handle::Handle;
use crate::{Baggage, Forwarded, HboneError, Refusal, Status, Stream, TraceParent, X_FORWARDED_NETWORK};

/// A CONNECT request; answer it with [`Request::accept`] or [`Request::refuse`].
///
/// Dropping it unanswered resets the stream.
pub struct Request {
    authority: Authority,
    headers: HeaderMap,
    handle: Handle,
}

impl Request {
    /// Takes a request apart; gives the stream back together with the reason when it makes no sense.
    pub(super) fn new(handle: Handle, request: http2::Request) -> Result<Self, (Refusal, Handle)> {
        if request.method != Method::CONNECT {
            return Err((Refusal::NotConnect, handle));
        }
        match request.authority.and_then(|authority| authority.parse().ok()) {
            Some(authority) => Ok(Self { authority, headers: request.headers, handle }),
            None => Err((Refusal::BadAuthority, handle)),
        }
    }

    /// Where the tunnel shall lead.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// How the client's proxy describes its workload; empty when it does not. Never proof of anything.
    #[must_use]
    pub fn baggage(&self) -> Baggage {
        Baggage::from_headers(&self.headers)
    }

    /// Which client and host the request was made for; empty when not told. Never proof of anything.
    #[must_use]
    pub fn forwarded(&self) -> Forwarded {
        Forwarded::from_headers(&self.headers)
    }

    /// The trace that the connection belongs to.
    #[must_use]
    pub fn traceparent(&self) -> Option<TraceParent> {
        TraceParent::from_headers(&self.headers)
    }

    /// The network of the client, if it came through a gateway.
    #[must_use]
    pub fn network(&self) -> Option<&str> {
        self.headers.get(X_FORWARDED_NETWORK)?.to_str().ok()
    }

    /// Answers 200 and opens the tunnel; `baggage` describes the destination.
    ///
    /// # Errors
    /// [`HboneError::Stream`] when the client has gone meanwhile.
    pub fn accept(self, baggage: Option<&Baggage>) -> Result<Stream, HboneError> {
        let mut headers = HeaderMap::new();
        if let Some(baggage) = baggage {
            baggage.insert_into(&mut headers);
        }
        let (mut connection, key) = self.handle.lock();
        let answered = connection.respond(key, StatusCode::OK.as_u16(), &headers, false);
        drop(connection);
        answered.map_err(|error| HboneError::Stream(Arc::new(error)))?;
        Ok(Stream::new(self.handle, None))
    }

    /// Answers with a status and ends the stream.
    pub fn refuse(self, status: Status) {
        answer(&self.handle, status);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// Headers with END_STREAM.
pub(super) fn answer(handle: &Handle, status: Status) {
    let (mut connection, key) = handle.lock();
    if let Err(error) = connection.respond(key, status.code(), &HeaderMap::new(), true) {
        tracing::debug!(%error, "client left before it was refused");
    }
}

//! A CONNECT request that waits for its answer.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Method, Response};
use types::Authority;

use crate::pace::{Neighbours, Pace};
use crate::{Baggage, Forwarded, HboneError, Refusal, Status, Stream, TraceParent, X_FORWARDED_NETWORK};

/// A CONNECT request; answer it with [`Request::accept`] or [`Request::refuse`].
///
/// Dropping it unanswered resets the stream.
pub struct Request {
    authority: Authority,
    headers: HeaderMap,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    neighbours: Arc<Neighbours>,
}

impl Request {
    /// Takes a request apart; gives the responder back together with the reason when it makes no sense.
    pub(super) fn new(
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
        among: &Arc<Neighbours>,
    ) -> Result<Self, (Refusal, SendResponse<Bytes>)> {
        let (head, body) = request.into_parts();
        if head.method != Method::CONNECT {
            return Err((Refusal::NotConnect, respond));
        }
        let authority = head.uri.authority().and_then(|authority| authority.as_str().parse().ok());
        match authority {
            Some(authority) => {
                Ok(Self { authority, headers: head.headers, body, respond, neighbours: Arc::clone(among) })
            }
            None => Err((Refusal::BadAuthority, respond)),
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
    pub fn accept(mut self, baggage: Option<&Baggage>) -> Result<Stream, HboneError> {
        let mut response = Response::new(());
        if let Some(baggage) = baggage {
            baggage.insert_into(response.headers_mut());
        }
        let send = self.respond.send_response(response, false).map_err(|error| HboneError::Stream(Arc::new(error)))?;
        Ok(Stream::new(self.body, send, Pace::new(self.neighbours), None))
    }

    /// Answers with a status and ends the stream.
    pub fn refuse(self, status: Status) {
        answer(self.respond, status);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// Headers with END_STREAM.
pub(super) fn answer(mut respond: SendResponse<Bytes>, status: Status) {
    let mut response = Response::new(());
    *response.status_mut() = status.to_http();
    if let Err(error) = respond.send_response(response, true) {
        tracing::debug!(%error, "client left before it was refused");
    }
}

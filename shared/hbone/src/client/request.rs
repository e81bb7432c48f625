//! One CONNECT request and its answer.

use std::fmt;

use http::{HeaderMap, HeaderValue, uri};
use types::Authority;

use crate::{Baggage, Forwarded, HboneError, Stream, TraceParent, X_FORWARDED_NETWORK};

/// What to ask the peer for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Where the tunnel shall lead.
    pub authority: Authority,
    /// Who is asking, for the peer's metrics.
    pub baggage: Option<Baggage>,
    /// From where, and which service was dialled.
    pub forwarded: Option<Forwarded>,
    /// The trace that the connection belongs to.
    pub traceparent: Option<TraceParent>,
    /// The own network id, for the inner request of double HBONE.
    pub network: Option<String>,
}

/// A tunnel that the peer has opened.
pub struct Connected {
    /// The bytes.
    pub stream: Stream,
    /// The headers of the answer.
    pub headers: HeaderMap,
}

impl Connect {
    /// A request without any header.
    #[must_use]
    pub fn new(authority: Authority) -> Self {
        Self { authority, baggage: None, forwarded: None, traceparent: None, network: None }
    }

    /// `:authority`, which with `:method` is all that there is of pseudo headers (RFC 9113, section 8.5), and the headers.
    pub(crate) fn to_http(&self) -> Result<(uri::Authority, HeaderMap), HboneError> {
        let authority = uri::Authority::try_from(self.authority.to_string());
        let authority = authority.map_err(|_error| HboneError::Malformed("authority"))?;
        let mut headers = HeaderMap::new();
        if let Some(baggage) = &self.baggage {
            baggage.insert_into(&mut headers);
        }
        if let Some(forwarded) = &self.forwarded {
            forwarded.insert_into(&mut headers);
        }
        if let Some(traceparent) = self.traceparent {
            traceparent.insert_into(&mut headers);
        }
        if let Some(network) = &self.network {
            let value = HeaderValue::try_from(network).map_err(|_error| HboneError::Malformed(X_FORWARDED_NETWORK))?;
            headers.insert(X_FORWARDED_NETWORK, value);
        }
        Ok((authority, headers))
    }
}

impl Connected {
    /// How the peer describes the destination; empty when it does not.
    #[must_use]
    pub fn baggage(&self) -> Baggage {
        Baggage::from_headers(&self.headers)
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").field("stream", &self.stream).finish_non_exhaustive()
    }
}

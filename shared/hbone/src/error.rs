//! Why a tunnel did not come about, told apart so that a caller knows whether another endpoint may do.

use std::error::Error as StdError;
use std::sync::Arc;

/// The cause of a failed dial; shared by all who waited for it.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// What a dialler reports when it has no connection to offer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The transport: refused, unreachable, timed out.
    #[error("connection failed: {0}")]
    Connect(#[source] Cause),
    /// TLS: the peer is not who it should be, or thinks so of us.
    #[error("TLS failed: {0}")]
    Tls(#[source] Cause),
}

impl DialError {
    /// A failure of the transport.
    pub fn connect(error: impl StdError + Send + Sync + 'static) -> Self {
        Self::Connect(Arc::new(error))
    }

    /// A failure of TLS.
    pub fn tls(error: impl StdError + Send + Sync + 'static) -> Self {
        Self::Tls(Arc::new(error))
    }
}

/// Why a CONNECT request failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HboneError {
    /// There is no connection to send it on.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The HTTP/2 handshake failed.
    #[error("HTTP/2 handshake failed: {0}")]
    Handshake(#[source] Arc<http2::Http2Error>),
    /// The connection or the stream broke before the answer came.
    #[error("HTTP/2 stream failed: {0}")]
    Stream(#[source] Arc<http2::Http2Error>),
    /// The connection went away before the request could be sent.
    #[error("connection closed")]
    Closed,
    /// The peer answered, but not with 200.
    #[error("http status: {0}")]
    Status(u16),
    /// The deadline passed.
    #[error("timed out while waiting for {0}")]
    Timeout(&'static str),
    /// A header of the request cannot be sent.
    #[error("malformed {0}")]
    Malformed(&'static str),
}

impl HboneError {
    /// Whether another endpoint may be tried: true unless the peer understood the request and turned it down.
    ///
    /// Never after 401, which is a verdict, nor after 400, which would be the same elsewhere.
    #[must_use]
    pub fn permits_another_endpoint(&self) -> bool {
        match self {
            Self::Status(code) => *code == 503,
            Self::Malformed(_) => false,
            _ => true,
        }
    }

    /// Whether the connection, rather than the peer behind it, is the reason: then another connection may do.
    #[must_use]
    pub fn was_closing(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Stream(cause) => cause.is_io() || self.was_turned_away(),
            _ => false,
        }
    }

    /// Whether the peer said that it has not looked at the request, and will not: it is about to close.
    pub(crate) fn was_turned_away(&self) -> bool {
        matches!(self, Self::Stream(cause)
            if cause.is_go_away() || cause.reason() == Some(http2::Reason::REFUSED_STREAM))
    }
}

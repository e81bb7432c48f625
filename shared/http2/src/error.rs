//! Why a stream or a connection ended.

use std::fmt;
use std::io;
use std::sync::Arc;

/// An error code of RST_STREAM or GOAWAY ([RFC 9113, section 7](https://www.rfc-editor.org/rfc/rfc9113#section-7)).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(pub u32);

impl Reason {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// Something went wrong inside.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// The peer sent more than it may.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// The peer sent a frame on a stream that is over.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame has the wrong length.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The request was not looked at.
    pub const REFUSED_STREAM: Self = Self(7);
    /// The stream is no longer wanted.
    pub const CANCEL: Self = Self(8);
    /// The header compression is out of step.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The connection behind a CONNECT was cut.
    pub const CONNECT_ERROR: Self = Self(10);
    /// The peer makes more work than is good.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);

    /// What it means, in words.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self.0 {
            0 => "not a result of an error",
            1 => "unspecific protocol error detected",
            2 => "unexpected internal error encountered",
            3 => "flow-control protocol violated",
            4 => "settings ACK not received in timely manner",
            5 => "received frame when stream half-closed",
            6 => "frame with invalid size",
            7 => "refused stream before processing any application logic",
            8 => "stream no longer needed",
            9 => "unable to maintain the header compression context",
            10 => "connection established in response to a CONNECT request was reset or abnormally closed",
            11 => "detected excessive load generating behavior",
            12 => "security properties do not meet minimum requirements",
            13 => "endpoint requires HTTP/1.1",
            _ => "unknown reason",
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reason({}: {})", self.0, self.description())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}

/// Who ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This end of the connection.
    Local,
    /// The peer.
    Remote,
}

/// Why a stream or the whole connection ended other than by both ends finishing.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Http2Error {
    /// A stream was reset.
    #[error("stream error {}: {reason}", by(*side))]
    Reset {
        /// Why.
        reason: Reason,
        /// By whom.
        side: Side,
    },
    /// The connection was given up with GOAWAY.
    #[error("connection error {}: {reason}", by(*side))]
    GoAway {
        /// Why.
        reason: Reason,
        /// By whom.
        side: Side,
    },
    /// The peer does not begin as a client does.
    #[error("the peer does not speak HTTP/2")]
    NotHttp2,
    /// The transport broke.
    #[error(transparent)]
    Io(Arc<io::Error>),
}

impl Http2Error {
    pub(crate) fn local(reason: Reason) -> Self {
        Self::GoAway { reason, side: Side::Local }
    }

    /// The transport broke like this.
    #[must_use]
    pub fn io(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }

    /// Whether the transport broke.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io(_))
    }

    /// Whether the connection was given up with GOAWAY.
    #[must_use]
    pub fn is_go_away(&self) -> bool {
        matches!(self, Self::GoAway { .. })
    }

    /// Whether a stream was reset.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        matches!(self, Self::Reset { .. })
    }

    /// Whether the peer ended it.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Reset { side: Side::Remote, .. } | Self::GoAway { side: Side::Remote, .. })
    }

    /// The error code, if there is one.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Reset { reason, .. } | Self::GoAway { reason, .. } => Some(*reason),
            Self::Io(_) | Self::NotHttp2 => None,
        }
    }
}

fn by(side: Side) -> &'static str {
    match side {
        Side::Local => "detected",
        Side::Remote => "sent by the peer",
    }
}

//! Which status answers which trouble.

use std::fmt;

use http::StatusCode;

/// The statuses with which a server turns a CONNECT request down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 400: the request makes no sense here.
    BadRequest,
    /// 401: policy denies it; a client must not try another endpoint.
    Denied,
    /// 503: there is nothing to connect to at the moment; another endpoint may do.
    Unavailable,
}

impl Status {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        self.to_http().as_u16()
    }

    pub(crate) fn to_http(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Denied => StatusCode::UNAUTHORIZED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code().fmt(f)
    }
}

/// Why a server turns a request down before it looks at where it leads; what it leads to is for the caller to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another method than CONNECT.
    #[error("method is not CONNECT")]
    NotConnect,
    /// The authority is not an address or host name with a port.
    #[error("authority is not host:port")]
    BadAuthority,
}

impl Refusal {
    /// The status that tells the client.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::NotConnect | Self::BadAuthority => Status::BadRequest,
        }
    }
}

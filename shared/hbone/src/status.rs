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

/// Why a server turned a CONNECT request down, in the order in which it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another method than CONNECT.
    #[error("method is not CONNECT")]
    NotConnect,
    /// The authority is not an address or host name with a port.
    #[error("authority is not host:port")]
    BadAuthority,
    /// The workload that was addressed is not known here yet.
    #[error("unknown local workload")]
    UnknownWorkload,
    /// The authority names a destination that this workload does not serve.
    #[error("destination does not belong to this workload")]
    WrongDestination,
    /// Unknown host name, no such port, or a port that would loop.
    #[error("no upstream for this destination")]
    NoUpstream,
    /// A policy denies the connection.
    #[error("denied by policy")]
    Denied,
    /// The application could not be reached in time.
    #[error("application unreachable")]
    Unreachable,
}

impl Refusal {
    /// The status that tells the client.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::NotConnect | Self::BadAuthority | Self::WrongDestination => Status::BadRequest,
            Self::Denied => Status::Denied,
            Self::UnknownWorkload | Self::NoUpstream | Self::Unreachable => Status::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_the_status_of_the_wire() {
        let expected = [
            (Refusal::NotConnect, 400),
            (Refusal::BadAuthority, 400),
            (Refusal::UnknownWorkload, 503),
            (Refusal::WrongDestination, 400),
            (Refusal::NoUpstream, 503),
            (Refusal::Denied, 401),
            (Refusal::Unreachable, 503),
        ];
        for (refusal, code) in expected {
            assert_eq!(refusal.status().code(), code, "{refusal}");
        }
    }
}

//! Writing the header that tells an application who connects.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ::io::ProxyHeader;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use types::Identity;

use crate::error::ConnectionError;

/// How long an application may take for the header, which fits into the socket's buffer.
const DEADLINE: Duration = Duration::from_secs(10);

/// A header, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header(ProxyHeader);

impl Header {
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr, identity: Option<&Identity>) -> Self {
        let identity = identity.map(ToString::to_string);
        Self(ProxyHeader::new(source, destination, identity.as_deref()))
    }

    /// Writes the header; nothing may precede it.
    pub(crate) async fn write(&self, application: &mut (impl AsyncWrite + Unpin)) -> Result<(), ConnectionError> {
        let written = timeout(DEADLINE, application.write_all(self.0.as_bytes())).await;
        let written = written.unwrap_or_else(|_elapsed| Err(io::Error::from(io::ErrorKind::TimedOut)));
        written.map_err(ConnectionError::ProxyHeader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_application_that_takes_nothing_is_given_up() {
        let (mut near, _far) = tokio::io::duplex(4);
        let header = Header::new("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap(), None);
        let error = header.write(&mut near).await.unwrap_err();
        assert!(error.to_string().starts_with("writing the PROXY header failed"), "{error}");
    }
}

//! The clients: [`load`] opens a connection per request at a steady rate, [`stream`] checks one long stream, [`crowd`]
//! holds many connections at the same time.

pub mod crowd;
pub mod load;
pub mod stream;
mod tally;

use std::net::SocketAddr;

use crate::EchoError;

/// First address of `target` (`host:port`).
async fn resolve(target: &str) -> Result<SocketAddr, EchoError> {
    let failed = |source| EchoError::Resolve { target: target.to_owned(), source };
    let mut found = tokio::net::lookup_host(target).await.map_err(failed)?;
    found.next().ok_or_else(|| failed(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address")))
}

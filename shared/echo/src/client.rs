//! The clients: [`load`] opens a connection per request at a steady rate, [`stream`] checks one long stream, [`crowd`]
//! holds many connections at the same time.

pub mod crowd;
pub mod load;
pub mod stream;
mod tally;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use crate::EchoError;

/// First address of `target` (`host:port`).
async fn resolve(target: &str) -> Result<SocketAddr, EchoError> {
    let failed = |source| EchoError::Resolve { target: target.to_owned(), source };
    let mut found = tokio::net::lookup_host(target).await.map_err(failed)?;
    found.next().ok_or_else(|| failed(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address")))
}

/// Resolves when the time is over or `stop` does, whichever is first; without a time, when `stop` does.
async fn ended(time: Option<Duration>, stop: impl Future<Output = ()>) {
    match time {
        Some(time) => tokio::time::timeout(time, stop).await.unwrap_or_default(),
        None => stop.await,
    }
}

//! The server that plans are carried out against: HTTP/1.1, HTTP/2 without TLS, gRPC and the raw kinds on one port, told
//! apart by the first bytes.
//!
//! Answers are as long as asked for (`?size=` in a path, or gRPC metadata), and nothing in them matters.
//! Bulk connections are served on a thread of their own, so that they do not hold up answers.

mod bulk;
mod connection;
mod http1;
mod http2;
mod raw;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use connection::Shared;

use crate::threads::{self, AFTER_FAILURE, Threads};

/// What to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Threads, at least one, each with connections of its own; the system spreads them. Default 1.
    pub threads: usize,
    /// How long each answer is held back, but for the raw kinds other than ping-pong. Default none.
    pub delay: Duration,
    /// Connections at a time, over all threads; more wait to be accepted. Default 20,000.
    pub max_connections: usize,
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listeners: Vec<std::net::TcpListener>,
    options: Options,
}

impl Options {
    /// The defaults, at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, threads: 1, delay: Duration::ZERO, max_connections: 20_000 }
    }
}

impl Server {
    /// Listens, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub fn bind(options: &Options) -> io::Result<Self> {
        let (address, listeners) = threads::bind(options.address, options.threads)?;
        Ok(Self { address, listeners, options: options.clone() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on threads of its own until `end` resolves, then closes everything.
    ///
    /// # Errors
    ///
    /// The system refuses a thread or what a runtime needs.
    pub async fn serve(self, end: impl Future<Output = ()>) -> io::Result<()> {
        // Each bulk connection comes through here once.
        let (bulk, streams) = mpsc::channel(16);
        let shared = Arc::new(Shared {
            delay: self.options.delay,
            places: Arc::new(Semaphore::new(self.options.max_connections.min(Semaphore::MAX_PERMITS))),
            bulk,
        });
        let mut threads = Threads::new();
        for listener in self.listeners {
            threads.spawn("load-server", work(listener, shared.clone()))?;
        }
        threads.spawn("load-server-bulk", bulk::serve(streams))?;
        threads.until(end).await
    }
}

async fn work(listener: std::net::TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let Ok(place) = shared.places.clone().acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    connection::serve(stream, &shared).await;
                    drop(place);
                });
            }
            // The peer has gone already, or nothing is left to serve it with.
            Err(_) => tokio::time::sleep(AFTER_FAILURE).await,
        }
    }
}

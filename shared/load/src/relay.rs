//! A relay that carries each connection to one address, and does nothing else.
//!
//! It encrypts nothing, asks nobody and counts nothing: what it costs is what any proxy in user space costs at least.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use ::io::{Counters, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::threads::{self, AFTER_FAILURE, Threads};

/// A relay that listens.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    listeners: Vec<std::net::TcpListener>,
    to: SocketAddr,
}

impl Relay {
    /// Listens, in the calling thread's network namespace, for connections that lead to `to`.
    ///
    /// There are `threads` threads, at least one, each with connections of its own; the system spreads them.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub fn bind(address: SocketAddr, to: SocketAddr, threads: usize) -> io::Result<Self> {
        let (address, listeners) = threads::bind(address, threads)?;
        Ok(Self { address, listeners, to })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries connections on threads of its own until `end` resolves, then closes everything.
    ///
    /// # Errors
    ///
    /// The system refuses a thread or what a runtime needs.
    pub async fn serve(self, end: impl Future<Output = ()>) -> io::Result<()> {
        let mut threads = Threads::new();
        for listener in self.listeners {
            threads.spawn("load-relay", work(listener, self.to))?;
        }
        threads.until(end).await
    }
}

async fn work(listener: std::net::TcpListener, to: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            // A connection that fails ends for both of its peers, who will say so.
            Ok((downstream, _)) => drop(tokio::spawn(carry(downstream, to))),
            Err(_) => sleep(AFTER_FAILURE).await,
        }
    }
}

async fn carry(downstream: TcpStream, to: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect(to).await?;
    for stream in [&downstream, &upstream] {
        stream.set_nodelay(true)?;
    }
    copy_bidirectional(downstream, upstream, &Counters::new()).await.map_err(io::Error::other)
}

//! A small HTTP server that carries out plans in the client's pod, one at a time.
//!
//! | request | answer |
//! |---|---|
//! | `POST /run`, a [`crate::Plan`] | 200 and the [`crate::Outcome`] at its end; 400 for a plan that makes no sense, 409 while another one runs, 502 when it cannot be carried out |
//! | `POST /stop` | 204: the running plan ends; 409 when none runs |
//! | `GET /status` | 200: `{"running": false}`, or `{"running": true, "phase": "holding", "open": 10000}` |
//!
//! Failures are `{"error": "…"}`. Whoever can reach it can make it send load anywhere: let it listen on loopback, or
//! inside a pod that lives for the comparison only.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

/// An agent that listens.
#[derive(Debug)]
pub struct Agent {
    address: SocketAddr,
}

impl Agent {
    /// Listens.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn bind(_address: SocketAddr) -> io::Result<Self> {
        todo!()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `end` resolves; a plan that runs then is stopped.
    pub async fn serve(self, _end: impl Future<Output = ()>) {
        todo!()
    }
}

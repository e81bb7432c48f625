//! SIGTERM and SIGINT as values.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// A request to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: an orchestrator's.
    Terminate,
    /// SIGINT: a human's, who may send another.
    Interrupt,
}

/// The stream of requests to end.
///
/// Make it before anything else: from then on a signal is kept until somebody asks, and the kernel no longer applies
/// its default, which is death, or nothing at all for the first process of a pid namespace.
#[derive(Debug)]
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
}

impl Signals {
    /// Installs the handlers; must be called inside a runtime with its IO driver enabled.
    ///
    /// # Errors
    /// The kernel refused a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal; without bound, because a program may run for ever.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            // Both streams ended: the runtime is going down, and nobody will signal any more.
            else => std::future::pending().await,
        }
    }
}

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
    source: Source,
}

#[derive(Debug)]
enum Source {
    Kernel {
        terminate: Stream,
        interrupt: Stream,
    },
    #[cfg(test)]
    Script(tokio::sync::mpsc::Receiver<Signal>),
}

impl Signals {
    /// Installs the handlers; must be called inside a runtime with its IO driver enabled.
    ///
    /// # Errors
    /// The kernel refused a handler.
    pub fn install() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { source: Source::Kernel { terminate, interrupt } })
    }

    #[cfg(test)]
    pub(crate) fn scripted(script: tokio::sync::mpsc::Receiver<Signal>) -> Self {
        Self { source: Source::Script(script) }
    }

    /// Waits for the next signal; without bound, because a program may run for ever. Cancelling loses nothing.
    pub async fn next(&mut self) -> Signal {
        let signal = match &mut self.source {
            Source::Kernel { terminate, interrupt } => {
                tokio::select! {
                    biased;
                    Some(()) = interrupt.recv() => Some(Signal::Interrupt),
                    Some(()) = terminate.recv() => Some(Signal::Terminate),
                    else => None,
                }
            }
            #[cfg(test)]
            Source::Script(script) => script.recv().await,
        };
        match signal {
            Some(signal) => signal,
            // The streams ended: the runtime is going down, and nobody will signal any more.
            None => std::future::pending().await,
        }
    }
}

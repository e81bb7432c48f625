//! Peers whose certificates are revoked: turned away when they come, and cut off when they are there already.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use telemetry::Registry;
use telemetry::metrics::RevocationMetrics;
use telemetry::traffic::Reporter;
use tls::{Peer, Place, RevocationLists};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;
use types::Identity;

/// How often the file is looked at; a volume of Kubernetes swaps it by renaming folders, which no watch of it sees.
const PAUSE: Duration = Duration::from_secs(2);

/// The largest file that is read, in bytes; that of a large authority has a few megabytes.
const LARGEST: u64 = 64 << 20;

/// How few connections are not worth looking through for those that have ended.
const FEW: usize = 64;

/// What a connection breaks with whose peer is revoked while it lives.
pub(crate) const REVOKED: &str = "the peer's certificate was revoked";

/// The certificate of a peer is revoked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the certificate of {0} is revoked")]
pub(crate) struct Revoked(Identity);

/// What is revoked, and the connections that depend on it.
pub(crate) struct Revocations {
    /// Absent when revocation is not looked at.
    path: Option<PathBuf>,
    state: Mutex<State>,
    metrics: RevocationMetrics,
}

#[derive(Default)]
struct State {
    content: Vec<u8>,
    /// How often lists were taken.
    generation: u64,
    lists: Arc<RevocationLists>,
    ties: Vec<Weak<Tie>>,
    /// How many ties there may be before ended ones are looked for.
    enough: usize,
}

/// What a live connection depends on.
struct Tie {
    peer: Peer,
    reporter: Reporter,
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

/// A transport that breaks when its peer's certificate is revoked.
pub(crate) struct Tied<S> {
    stream: S,
    tie: Option<Arc<Tie>>,
}

impl Revocations {
    /// Reads the file, if there is one: it may come later.
    ///
    /// What cannot be read at the start revokes nothing; later it leaves in force what was read before.
    pub(crate) fn new(path: Option<PathBuf>, registry: &Registry) -> Self {
        let revocations = Self { path, state: Mutex::default(), metrics: RevocationMetrics::new(registry) };
        if let Some(path) = &revocations.path {
            revocations.take(path, read(path));
        }
        revocations
    }

    /// Lets a peer in that has proven itself otherwise.
    pub(crate) fn admit<S>(&self, stream: S, peer: Peer, reporter: Reporter) -> Result<Tied<S>, Revoked> {
        if self.path.is_none() {
            return Ok(Tied { stream, tie: None });
        }
        let mut lists = Arc::clone(&self.lock().lists);
        let tie = Arc::new(Tie { peer, reporter, is_cut: AtomicBool::new(false), waker: AtomicWaker::new() });
        loop {
            // Outside of the lock: this verifies signatures.
            if lists.check(&tie.peer).is_err() {
                self.metrics.rejected(reporter);
                return Err(Revoked(tie.peer.identity.clone()));
            }
            let mut state = self.lock();
            if Arc::ptr_eq(&state.lists, &lists) {
                state.remember(&tie);
                return Ok(Tied { stream, tie: Some(tie) });
            }
            lists = Arc::clone(&state.lists);
        }
    }

    /// A server under the lists that count now: sessions with it end with them.
    pub(crate) fn place(&self, address: SocketAddr) -> Place {
        let revocations = if self.path.is_some() { self.lock().generation } else { 0 };
        Place { address, revocations }
    }

    /// Follows the file for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        let Some(path) = self.path.clone() else { return };
        loop {
            sleep(PAUSE).await;
            let (reading, revocations) = (path.clone(), Arc::clone(&self));
            // Reading and checking may take long, and the thread has other things to do.
            let taken = tokio::task::spawn_blocking(move || revocations.take(&reading, read(&reading))).await;
            if let Err(error) = taken {
                tracing::error!(%error, "following revocation lists failed");
            }
        }
    }

    fn take(&self, path: &Path, content: io::Result<Vec<u8>>) {
        let content = match content {
            Ok(content) => content,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "no revocation lists");
                return;
            }
        };
        if self.lock().content == content {
            return;
        }
        let lists = match RevocationLists::parse(&content) {
            Ok(lists) => Arc::new(lists),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "revocation lists cannot be used; the earlier ones count");
                self.lock().content = content;
                return;
            }
        };
        tracing::info!(path = %path.display(), lists = lists.len(), "revocation lists were read");
        let mut state = self.lock();
        (state.content, state.lists) = (content, Arc::clone(&lists));
        state.generation += 1;
        state.sweep();
        let ties: Vec<Arc<Tie>> = state.ties.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        for tie in ties {
            if lists.check(&tie.peer).is_err() && !tie.is_cut.swap(true, Ordering::AcqRel) {
                tracing::info!(identity = %tie.peer.identity, "closing a connection: its certificate is revoked");
                self.metrics.rejected(tie.reporter);
                tie.waker.wake();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, tie: &Arc<Tie>) {
        if self.ties.len() >= self.enough {
            self.sweep();
        }
        self.ties.push(Arc::downgrade(tie));
    }

    fn sweep(&mut self) {
        self.ties.retain(|tie| tie.strong_count() > 0);
        self.enough = (2 * self.ties.len()).max(FEW);
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 64 MiB"));
    }
    std::fs::read(path)
}

impl<S: ::io::Transport> ::io::Transport for Tied<S> {
    fn round_trip(&self) -> Duration {
        self.stream.round_trip()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tied<S> {
    /// Looks at what was cut here alone: whoever moves the frames of a connection reads all the time.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(tie) = &self.tie {
            tie.waker.register(cx.waker());
            if tie.is_cut.load(Ordering::Acquire) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, REVOKED)));
            }
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tied<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

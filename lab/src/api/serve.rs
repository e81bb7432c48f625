//! Listeners and connections.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tls::HttpsAcceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::core::Core;
use super::http::answer;

/// Connections at a time, over all listeners; further ones wait in the backlog of their listener.
const MAX_CONNECTIONS: usize = 1024;

/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a connection may go without a request, or take to send the head of one.
const IDLE: Duration = Duration::from_secs(90);

/// After an error of `accept` other than one of the connection: without descriptors it fails again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections in tasks of its own until the server stops.
#[derive(Clone)]
pub(super) struct Listeners {
    core: Arc<Core>,
    acceptor: HttpsAcceptor,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Listeners {
    pub(super) fn new(core: Arc<Core>, acceptor: HttpsAcceptor) -> Self {
        Self { core, acceptor, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)), tasks: TaskTracker::new() }
    }

    /// Begins to accept on a listener.
    pub(super) fn add(&self, listener: TcpListener, is_tls: bool) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let listeners = self.clone();
        self.tasks.spawn(async move { listeners.accept(listener, is_tls).await });
        Ok(())
    }

    /// Ends all tasks and waits for them.
    pub(super) async fn stop(&self) {
        self.core.stopped.cancel();
        for tasks in [&self.tasks, &self.core.sessions] {
            tasks.close();
            tasks.wait().await;
        }
    }

    async fn accept(self, listener: tokio::net::TcpListener, is_tls: bool) {
        let stopped = self.core.stopped.clone();
        loop {
            let next = async {
                let place = Arc::clone(&self.places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = stopped.cancelled() => return,
                next = next => next,
            };
            match (place, accepted) {
                (Ok(place), Ok((stream, _))) => {
                    // Small answers must not wait for more to send.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "cannot set TCP_NODELAY");
                    }
                    let listeners = self.clone();
                    self.tasks.spawn(async move { listeners.connection(stream, is_tls, place).await });
                }
                (Err(_closed), _) => return,
                (Ok(_), Err(error)) => {
                    tracing::warn!(%error, "the API server cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, stream: tokio::net::TcpStream, is_tls: bool, place: OwnedSemaphorePermit) {
        let stopped = self.core.stopped.clone();
        let served = async {
            if !is_tls {
                return serve(self.core, stream).await;
            }
            match tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
                Ok(Ok(stream)) => serve(self.core, stream).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the API server failed"),
                Err(_elapsed) => tracing::debug!("a TLS handshake with the API server took too long"),
            }
        };
        tokio::select! {
            () = stopped.cancelled() => {}
            () = Box::pin(served) => {}
        }
        drop(place);
    }
}

async fn serve(core: Arc<Core>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(move |request| {
        let core = Arc::clone(&core);
        async move { Ok::<_, std::convert::Infallible>(answer(core, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(IDLE)
        .keep_alive_timeout(HANDSHAKE);
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the API server ended early");
    }
}

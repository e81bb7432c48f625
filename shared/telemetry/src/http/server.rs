//! Connections of the server: bounded in number, size and time, ended gracefully.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Response, Router, text};

/// How many connections are served at once; further ones wait in the listener's queue.
const CONNECTIONS: usize = 128;

/// How long a client may take for its headers, and how long an idle connection is kept.
const HEADERS_DEADLINE: Duration = Duration::from_secs(10);

/// How long a client may take for the body of its request.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// The largest body of a request in bytes; no endpoint needs more than a line.
const BODY_LIMIT: usize = 64 * 1024;

/// The largest head of a request in bytes (hyper's least is 8 KiB).
const HEAD_LIMIT: usize = 16 * 1024;

/// How many headers a request may have.
const HEADER_COUNT: usize = 64;

/// How long answers may go on after the end was asked for.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long to wait after a failed accept: no more files can be opened, and connections must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `end`, then lets answers under way finish for a moment.
pub async fn serve(listener: TcpListener, router: Router, end: impl Future<Output = ()>) {
    let router = Arc::new(router);
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let (ending, has_ended) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut end = pin!(end);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        tokio::select! {
            biased;
            () = &mut end => break,
            (permit, accepted) = accepted => match accepted {
                Ok((stream, _peer)) => {
                    let (router, has_ended) = (Arc::clone(&router), has_ended.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        serve_connection(stream, router, has_ended).await;
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "accepting an admin connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let _ = ending.send(true);
    let _ = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

async fn serve_connection<S>(stream: S, router: Arc<Router>, mut has_ended: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let router = Arc::clone(&router);
        async move { Ok::<Response, Infallible>(answer(&router, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_DEADLINE)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(HEADER_COUNT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ending = async {
        // An error means that the server is gone, which is an end as well.
        let _ = has_ended.wait_for(|has_ended| *has_ended).await;
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = ending => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an admin connection failed");
    }
}

async fn answer(router: &Router, request: ::http::Request<Incoming>) -> Response {
    let (parts, body) = request.into_parts();
    match timeout(BODY_DEADLINE, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(body)) => router.answer(::http::Request::from_parts(parts, body.to_bytes())).await,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            text(StatusCode::PAYLOAD_TOO_LARGE, "the body of the request is too large\n")
        }
        Ok(Err(_broken)) => text(StatusCode::BAD_REQUEST, "the body of the request is broken\n"),
        Err(_elapsed) => text(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come\n"),
    }
}

#[cfg(test)]
mod tests;

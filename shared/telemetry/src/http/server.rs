//! Connections of the server: bounded in number, size and time, ended gracefully.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::crowd::{Crowd, Held, Member};
use super::stall::Impatient;
use super::{Body, Response, Router, text};

/// How long a client may take for its headers, and how long an idle connection is kept.
const HEADERS_DEADLINE: Duration = Duration::from_secs(10);

/// How long a client may take for the body of its request.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// How long a client may take nothing of its answer.
const STALL_DEADLINE: Duration = Duration::from_secs(10);

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

/// Where connections come from.
pub trait Accept {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next one; may be cancelled. A connection that may not be served is an error as well: it is
    /// closed, and the server goes on.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Self::accept(self).await.map(|(stream, _peer)| stream)
    }
}

/// Serves `router` on `listener` until `end`, then lets answers under way finish for a moment.
///
/// Neither connections that ask for nothing nor clients that take no answer keep others out.
pub async fn serve(listener: impl Accept, router: Router, end: impl Future<Output = ()>) {
    let router = Arc::new(router);
    let crowd = Arc::new(Crowd::default());
    let (ending, has_ended) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut end = pin!(end);
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            biased;
            () = &mut end => break,
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    let (router, has_ended, member) = (Arc::clone(&router), has_ended.clone(), crowd.enter());
                    connections.spawn(serve_connection(stream, router, member, has_ended));
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

async fn serve_connection<S>(stream: S, router: Arc<Router>, member: Arc<Member>, mut has_ended: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asking = Arc::clone(&member);
    let service = service_fn(move |request| {
        let (router, answering) = (Arc::clone(&router), asking.answer());
        async move {
            let answer = if answering.is_some() { answer(&router, request).await } else { busy() };
            Ok::<_, Infallible>(answer.map(|body| Held { body, _answering: answering }))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_DEADLINE)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(HEADER_COUNT)
        .serve_connection(TokioIo::new(Impatient::new(stream, STALL_DEADLINE)), service);
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
        () = member.must_leave() => return,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an admin connection failed");
    }
}

/// The answer where too many others are being answered.
fn busy() -> ::http::Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once\n");
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
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

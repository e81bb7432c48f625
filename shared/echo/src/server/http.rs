//! HTTP: one request in, one report out, over HTTP/1.1 and over HTTP/2 with prior knowledge.
//!
//! A request of HTTP/1.1 may ask for a WebSocket, one of HTTP/2 may be a gRPC call.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::answer::{Answer, count};
use super::wish::Wish;
use super::{BoxError, Pod, Shared, grpc, websocket};

/// A client must have sent its request's headers by then.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// A client must have sent its request's body by then.
const BODY_DEADLINE: Duration = Duration::from_secs(120);

/// Largest request body that is read, in bytes.
const MAX_BODY: u64 = 1 << 30;

/// Headers of all requests of one HTTP/1.1 connection are read into this much memory at most.
const HEADER_BUFFER: usize = 64 * 1024;

/// Streams of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 256;

/// What the peer saw of a request.
#[derive(Debug, Serialize)]
struct Report<'a> {
    pod: &'a Pod,
    source: SocketAddr,
    local: Option<SocketAddr>,
    version: String,
    method: &'a str,
    path: &'a str,
    headers: BTreeMap<&'a str, Vec<String>>,
    body_bytes: u64,
}

/// How long a request may still come on a connection that was accepted before the end.
const FIRST_REQUEST: Duration = Duration::from_millis(250);

/// Which connection a request came on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) source: SocketAddr,
    pub(super) local: Option<SocketAddr>,
}

/// Serves one HTTP/1.1 connection until the client closes or `stopped` turns true.
pub(super) async fn serve_http1(
    stream: TcpStream,
    source: SocketAddr,
    shared: &Shared,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    // No deadline: a connection on which nothing was sent yet costs next to nothing.
    let is_ending = tokio::select! {
        readable = stream.readable() => readable.map(|()| false)?,
        _ = stopped.wait_for(|stop| *stop) => true,
    };
    if is_ending && tokio::time::timeout(FIRST_REQUEST, stream.readable()).await.is_err() {
        return Ok(());
    }
    let ends = Ends { source, local: stream.local_addr().ok().map(super::canonical) };
    let upgraded = websocket::Slot::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        let accepted = upgraded.accept(&mut request);
        let pod = Arc::clone(&shared.pod);
        async move {
            match accepted {
                Some(accepted) => Ok(marked(accepted, ends, &pod)),
                None => answer(request, ends, pod).await,
            }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .half_close(true)
        .max_buf_size(HEADER_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    {
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = stopped.wait_for(|stop| *stop) => None,
        };
        // A connection without a request yet would be closed at once, and the request that is on its way would be lost.
        let ended = match ended {
            None => tokio::time::timeout(FIRST_REQUEST, connection.as_mut()).await.ok(),
            ended => ended,
        };
        match ended {
            Some(ended) => ended?,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await?;
            }
        }
    }
    match upgraded.take() {
        Some(upgrade) => websocket::serve(upgrade.await?, stopped).await,
        None => Ok(()),
    }
}

/// Serves one HTTP/2 connection until the client closes or `stopped` turns true.
pub(super) async fn serve_h2c(
    stream: TcpStream,
    source: SocketAddr,
    shared: &Shared,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    let ends = Ends { source, local: stream.local_addr().ok().map(super::canonical) };
    let shared = shared.clone();
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move {
            if grpc::is_call(&request) {
                shared.grpc.answer(request, ends).await
            } else {
                answer(request, ends, shared.pod).await
            }
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(Into::into),
        _ = stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(Into::into)
}

async fn answer(request: Request<Incoming>, ends: Ends, pod: Arc<Pod>) -> Result<Response<Answer>, Infallible> {
    let response = match Wish::parse(request.uri().query(), request.headers()) {
        Ok(wish) => granted(request, wish, ends, &pod).await,
        Err(refused) => plain(StatusCode::BAD_REQUEST, refused),
    };
    Ok(marked(response, ends, &pod))
}

/// With the headers that every answer has.
fn marked(mut response: Response<Answer>, ends: Ends, pod: &Pod) -> Response<Answer> {
    let headers = response.headers_mut();
    // A pod's name that is no header value is left out, not an error of the request.
    if let Ok(name) = HeaderValue::from_str(&pod.name) {
        headers.insert("x-echo-pod", name);
    }
    if let Ok(source) = HeaderValue::from_str(&ends.source.to_string()) {
        headers.insert("x-echo-source", source);
    }
    response
}

async fn granted(request: Request<Incoming>, wish: Wish, ends: Ends, pod: &Pod) -> Response<Answer> {
    let (parts, body) = request.into_parts();
    if parts.method == Method::POST && parts.uri.path() == "/back" {
        return with_status(wish.status, Answer::Back(body));
    }
    let body_bytes = match tokio::time::timeout(BODY_DEADLINE, count(body, MAX_BODY)).await {
        Ok(Ok(total)) => total,
        Ok(Err(None)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 1 GiB\n"),
        Ok(Err(Some(error))) => return plain(StatusCode::BAD_REQUEST, format!("the body broke off: {error}\n")),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the body took longer than 120 s\n"),
    };
    tokio::time::sleep(wish.delay).await;
    if let Some(size) = wish.size {
        return with_status(wish.status, Answer::Filler(size));
    }
    let mut headers = BTreeMap::<&str, Vec<String>>::new();
    for (name, value) in &parts.headers {
        headers.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let report = Report {
        pod,
        source: ends.source,
        local: ends.local,
        version: format!("{:?}", parts.version),
        method: parts.method.as_str(),
        path: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        headers,
        body_bytes,
    };
    let Ok(mut text) = serde_json::to_vec_pretty(&report) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the report cannot be written\n");
    };
    text.push(b'\n');
    let mut response = with_status(wish.status, Answer::text(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response<Answer> {
    let mut response = with_status(status, Answer::text(text.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn with_status(status: StatusCode, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

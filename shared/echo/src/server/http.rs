//! HTTP: one request in, one report out, over HTTP/1.1 and over HTTP/2 with prior knowledge.

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

use super::Pod;
use super::answer::{Answer, count};
use super::wish::Wish;

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

type BoxError = Box<dyn std::error::Error + Send + Sync>;

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
struct Ends {
    source: SocketAddr,
    local: Option<SocketAddr>,
}

/// Serves one HTTP/1.1 connection until the client closes or `stopped` turns true.
pub(super) async fn serve_http1(
    stream: TcpStream,
    source: SocketAddr,
    pod: &Arc<Pod>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    let ends = Ends { source, local: stream.local_addr().ok() };
    let service = service_fn(|request| answer(request, ends, Arc::clone(pod)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .half_close(true)
        .max_buf_size(HEADER_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(Into::into),
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    // A connection without a request yet would be closed at once, and the request that is on its way would be lost.
    if let Ok(ended) = tokio::time::timeout(FIRST_REQUEST, connection.as_mut()).await {
        return ended.map_err(Into::into);
    }
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(Into::into)
}

/// Serves one HTTP/2 connection until the client closes or `stopped` turns true.
pub(super) async fn serve_h2c(
    stream: TcpStream,
    source: SocketAddr,
    pod: &Arc<Pod>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    let ends = Ends { source, local: stream.local_addr().ok() };
    let pod = Arc::clone(pod);
    let service = service_fn(move |request| answer(request, ends, Arc::clone(&pod)));
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
    let mut response = match Wish::parse(request.uri().query(), request.headers()) {
        Ok(wish) => granted(request, wish, ends, &pod).await,
        Err(refused) => plain(StatusCode::BAD_REQUEST, refused),
    };
    let headers = response.headers_mut();
    // A pod's name that is no header value is left out, not an error of the request.
    if let Ok(name) = HeaderValue::from_str(&pod.name) {
        headers.insert("x-echo-pod", name);
    }
    if let Ok(source) = HeaderValue::from_str(&ends.source.to_string()) {
        headers.insert("x-echo-source", source);
    }
    Ok(response)
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

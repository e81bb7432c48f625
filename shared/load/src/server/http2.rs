//! HTTP/2 without TLS, and gRPC on it.

use std::io::{self, Cursor};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::connection::Delay;
use super::http1::size;
use crate::client::http2::send;
use crate::grpc;

/// Flow control windows: a whole request of any usual size fits.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Requests at a time on one connection.
const MOST_STREAMS: u32 = 1_000;

/// Bytes of an answer's body at most.
const MOST_BODY: usize = 16 << 20;

/// Serves requests until the connection ends; `read` are its first bytes.
pub(super) async fn serve(stream: TcpStream, read: &[u8], delay: Duration) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let stream = tokio::io::join(Cursor::new(read.to_vec()).chain(reader), writer);
    let mut connection = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MOST_STREAMS)
        .handshake(stream)
        .await
        .map_err(io::Error::other)?;
    // They end with the connection.
    let mut requests = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted.map_err(io::Error::other)?;
        requests.spawn(async move {
            // Whoever sent it has gone, or has reset it.
            let _ = answer(request, respond, delay).await;
        });
        while requests.try_join_next().is_some() {}
    }
    Ok(())
}

async fn answer(request: Request<RecvStream>, respond: SendResponse<Bytes>, delay: Duration) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    while let Some(chunk) = body.data().await {
        let length = chunk?.len();
        body.flow_control().release_capacity(length)?;
    }
    if let Ok(mut delay) = Delay::new(delay) {
        let _ = delay.pass().await;
    }
    let is_grpc = head.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc { answer_call(&head.headers, respond).await } else { answer_request(head.uri.query(), respond).await }
}

async fn answer_request(query: Option<&str>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let size = size(&format!("?{}", query.unwrap_or_default())).filter(|size| *size <= MOST_BODY);
    let mut response = Response::new(());
    let Some(size) = size else {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        return respond.send_response(response, true).map(drop);
    };
    response.headers_mut().insert("content-length", HeaderValue::from(size));
    let mut stream = respond.send_response(response, size == 0)?;
    let mut body = BytesMut::new();
    body.put_bytes(b'.', size);
    // What goes wrong has ended the stream.
    let _ = send(&mut stream, body.freeze(), true).await;
    Ok(())
}

async fn answer_call(headers: &HeaderMap, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let wish = headers.get(grpc::RESPONSE_BYTES).map_or(Some(0), |wish| wish.to_str().ok()?.parse::<u32>().ok());
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static(grpc::CONTENT_TYPE));
    let Some(size) = wish.filter(|size| *size as usize <= MOST_BODY) else {
        // 3 is an invalid argument, https://grpc.io/docs/guides/status-codes/.
        response.headers_mut().insert(grpc::STATUS, HeaderValue::from_static("3"));
        return respond.send_response(response, true).map(drop);
    };
    let mut stream = respond.send_response(response, false)?;
    let mut body = BytesMut::new();
    grpc::write_message(&mut body, size);
    if send(&mut stream, body.freeze(), false).await.is_err() {
        return Ok(());
    }
    let mut trailers = HeaderMap::new();
    trailers.insert(grpc::STATUS, HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

//! WebSocket (RFC 6455): any request of HTTP/1.1 that asks for it becomes one, and each message comes back.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::BoxError;
use super::answer::Answer;

/// The only version of the protocol.
const VERSION: &str = "13";

/// Length of a key: 16 bytes in base64.
const KEY_LENGTH: usize = 24;

/// Largest message, in bytes.
const MAX_MESSAGE: usize = 16 << 20;

/// Bytes that are read at a time, and kept by an idle connection.
const READ_BUFFER: usize = 4096;

/// A client that does not read its answer for this long is cut.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// How long a client may take to agree to the end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Where a connection's upgrade waits for the end of HTTP on it.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Option<OnUpgrade>>);

impl Slot {
    /// The answer to a request for a WebSocket, which is a refusal if the request is not as it must be; `None` for any
    /// other request.
    pub(super) fn accept(&self, request: &mut Request<Incoming>) -> Option<Response<Answer>> {
        if request.method() != Method::GET || !has_token(request.headers(), &header::UPGRADE, "websocket") {
            return None;
        }
        let key = match key(request.headers()) {
            Ok(key) => derive_accept_key(key.as_bytes()),
            Err((status, why)) => return Some(refusal(status, why)),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(hyper::upgrade::on(request));
        let mut response = Response::new(Answer::text(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        // Base64 is always a header value.
        if let Ok(key) = HeaderValue::from_str(&key) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
        }
        Some(response)
    }

    /// The upgrade, if one was accepted.
    pub(super) fn take(&self) -> Option<OnUpgrade> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Sends back each message until the client closes; after the shutdown says that the peer goes away.
pub(super) async fn serve(upgraded: Upgraded, mut stopped: watch::Receiver<bool>) -> Result<(), BoxError> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    loop {
        // No deadline on the wait: an idle connection is what some tests want; the client ends it.
        let message = tokio::select! {
            message = socket.next() => message,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        match message {
            None | Some(Err(Error::ConnectionClosed)) => return Ok(()),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                let sent = tokio::time::timeout(WRITE_DEADLINE, socket.send(message)).await;
                sent.map_err(|_| "the client does not read")??;
            }
            // Pings and closes are answered by the protocol itself.
            Some(Ok(_)) => {}
        }
    }
    let farewell = async {
        let frame = CloseFrame { code: CloseCode::Away, reason: "the peer ends".into() };
        socket.close(Some(frame)).await?;
        while socket.next().await.is_some() {}
        Ok::<(), Error>(())
    };
    // A client that does not agree in time is cut.
    tokio::time::timeout(CLOSE_DEADLINE, farewell).await.unwrap_or(Ok(())).map_err(Into::into)
}

/// The key of a request for a WebSocket.
/// [RFC 6455, section 4.2.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.1).
fn key(headers: &HeaderMap) -> Result<&str, (StatusCode, &'static str)> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if text(header::SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Err((StatusCode::UPGRADE_REQUIRED, "sec-websocket-version: 13 is expected\n"));
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err((StatusCode::BAD_REQUEST, "connection: upgrade is expected\n"));
    }
    let is_key = |key: &&str| key.len() == KEY_LENGTH && key.ends_with("==");
    text(header::SEC_WEBSOCKET_KEY)
        .filter(is_key)
        .ok_or((StatusCode::BAD_REQUEST, "sec-websocket-key: 16 bytes in base64 are expected\n"))
}

fn refusal(status: StatusCode, why: &'static str) -> Response<Answer> {
    let mut response = Response::new(Answer::text(why));
    *response.status_mut() = status;
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    response
}

/// Whether a header is a list that names `token`.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

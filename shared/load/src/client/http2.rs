//! HTTP/2 without TLS, and gRPC's unary calls on it.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Version};
use tokio::sync::Mutex;

use super::{Answer, Client, Dial, broken, connect};
use crate::grpc;
use crate::outcome::Failure;
use crate::plan::{Protocol, Requests};

/// Flow control windows: a whole answer of any usual size fits.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

#[derive(Debug)]
pub(crate) struct Http2Dial {
    target: SocketAddr,
    request: Request<()>,
    body: Bytes,
    is_grpc: bool,
    is_kept: bool,
    /// The connections that stand, for the lanes that share them.
    connections: Vec<Mutex<Option<SendRequest<Bytes>>>>,
}

impl Http2Dial {
    pub(crate) fn new(target: SocketAddr, requests: &Requests) -> Result<Self, http::Error> {
        let is_grpc = requests.protocol == Protocol::Grpc;
        let path = if is_grpc { grpc::PATH.to_owned() } else { requests.path_and_query() };
        let mut request = Request::builder()
            .version(Version::HTTP_2)
            .method(if is_grpc { "POST" } else { requests.method() })
            .uri(format!("http://{target}{path}"))
            .header("user-agent", "aquifer-load");
        let mut body = BytesMut::new();
        if is_grpc {
            request = request
                .header("content-type", grpc::CONTENT_TYPE)
                .header("te", "trailers")
                .header(grpc::RESPONSE_BYTES, requests.response_bytes);
            grpc::write_message(&mut body, requests.request_bytes);
        } else {
            body.put_bytes(b'.', requests.request_bytes as usize);
        }
        Ok(Self {
            target,
            request: request.body(())?,
            body: body.freeze(),
            is_grpc,
            is_kept: requests.keep_alive,
            connections: (0..requests.connections).map(|_| Mutex::new(None)).collect(),
        })
    }

    async fn connect(&self) -> Result<SendRequest<Bytes>, Failure> {
        let stream = connect(self.target).await?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await
            .map_err(|error| failure(&error))?;
        // It ends with its last sender, with the peer, or with the run's runtime.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }
}

impl Dial for Http2Dial {
    type Client = Http2Client;

    async fn dial(&self, lane: u32) -> Result<Http2Client, Failure> {
        let sender = match self.connections.get(lane as usize % self.connections.len().max(1)) {
            Some(slot) if self.is_kept => {
                let mut slot = slot.lock().await;
                // One that cannot take another request has ended.
                let standing = match slot.take() {
                    Some(sender) => sender.ready().await.ok(),
                    None => None,
                };
                let sender = match standing {
                    Some(sender) => sender,
                    None => self.connect().await?,
                };
                slot.insert(sender).clone()
            }
            _ => self.connect().await?,
        };
        Ok(Http2Client { sender, request: self.request.clone(), body: self.body.clone(), is_grpc: self.is_grpc })
    }
}

#[derive(Debug)]
pub(crate) struct Http2Client {
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
    is_grpc: bool,
}

impl Client for Http2Client {
    async fn exchange(&mut self) -> Result<Answer, Failure> {
        poll_fn(|context| self.sender.poll_ready(context)).await.map_err(|error| failure(&error))?;
        let is_bodiless = self.body.is_empty();
        let sent = self.sender.send_request(self.request.clone(), is_bodiless);
        let (response, mut stream) = sent.map_err(|error| failure(&error))?;
        if !is_bodiless {
            send(&mut stream, self.body.clone(), true).await?;
        }
        let (head, mut body) = response.await.map_err(|error| failure(&error))?.into_parts();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(|error| failure(&error))?;
            body.flow_control().release_capacity(chunk.len()).map_err(|error| failure(&error))?;
        }
        let is_success = head.status.is_success() && (!self.is_grpc || is_ok(&head.headers, body).await?);
        Ok(Answer { is_success, is_kept: true })
    }

    /// The client closes by letting go.
    async fn closed(self) {}
}

/// Sends a body as the peer's windows allow. With `is_last`, nothing follows.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut body: Bytes, is_last: bool) -> Result<(), Failure> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        if stream.capacity() == 0 {
            match poll_fn(|context| stream.poll_capacity(context)).await {
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(failure(&error)),
                None => return Err(Failure::Reset),
            }
        }
        let chunk = body.split_to(stream.capacity().min(body.len()));
        stream.send_data(chunk, is_last && body.is_empty()).map_err(|error| failure(&error))?;
    }
    Ok(())
}

/// Whether a call went well: its status is in the trailers, or in the head where there is nothing else.
async fn is_ok(head: &HeaderMap, mut body: RecvStream) -> Result<bool, Failure> {
    let trailers = body.trailers().await.map_err(|error| failure(&error))?;
    let status = trailers.as_ref().and_then(|trailers| trailers.get(grpc::STATUS)).or_else(|| head.get(grpc::STATUS));
    Ok(status.ok_or(Failure::Garbage)?.as_bytes() == b"0")
}

fn failure(error: &h2::Error) -> Failure {
    match error.get_io() {
        Some(error) => broken(error),
        None if error.is_reset() || error.is_go_away() => Failure::Reset,
        None => Failure::Garbage,
    }
}

//! A discovery server of which every word is encoded before anybody asks: what it costs to serve is writing to sockets.

use std::sync::Arc;

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use prost::Message;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, timeout};

/// How many bytes precede a message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The server; it speaks to one client.
pub(crate) struct Server {
    pushes: mpsc::Sender<Bytes>,
    acknowledged: watch::Receiver<u64>,
}

struct Script {
    addresses: Bytes,
    policies: Bytes,
    pushes: Mutex<mpsc::Receiver<Bytes>>,
    acknowledged: watch::Sender<u64>,
}

impl Server {
    /// Answers the first request for addresses with these, and the first one for policies with none.
    pub(crate) fn start(listener: TcpListener, addresses: &DeltaDiscoveryResponse) -> Self {
        let (pushes, queue) = mpsc::channel(1);
        let (acknowledged, seen) = watch::channel(0);
        let policies = DeltaDiscoveryResponse {
            type_url: proto::AUTHORIZATION_TYPE.to_owned(),
            ..DeltaDiscoveryResponse::default()
        };
        let script = Arc::new(Script {
            addresses: framed(addresses),
            policies: framed(&policies),
            pushes: Mutex::new(queue),
            acknowledged,
        });
        tokio::spawn(async move {
            while let Ok((stream, _client)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script)));
            }
        });
        Self { pushes, acknowledged: seen }
    }

    /// Sends a response whose nonce is a number; how long it takes until it is acknowledged.
    pub(crate) async fn push(&mut self, response: &DeltaDiscoveryResponse, patience: Duration) -> Result<Duration> {
        let nonce: u64 = response.nonce.parse()?;
        let encoded = framed(response);
        let published = Instant::now();
        self.pushes.send(encoded).await?;
        timeout(patience, self.acknowledged.wait_for(|seen| *seen >= nonce)).await.context("never acknowledged")??;
        Ok(published.elapsed())
    }
}

fn framed(response: &DeltaDiscoveryResponse) -> Bytes {
    let length = response.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    framed.put(&*response.encode_to_vec());
    framed.freeze()
}

async fn serve(stream: TcpStream, script: Arc<Script>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        tokio::spawn(converse(request.into_body(), respond, Arc::clone(&script)));
    }
    Ok(())
}

async fn converse(mut requests: RecvStream, mut respond: SendResponse<Bytes>, script: Arc<Script>) -> Result<()> {
    let head = http::Response::builder().header("content-type", "application/grpc").body(())?;
    let mut responses = respond.send_response(head, false)?;
    let mut pushes = script.pushes.lock().await;
    let mut unread = BytesMut::new();
    loop {
        tokio::select! {
            chunk = requests.data() => {
                let chunk = chunk.context("the client left")??;
                requests.flow_control().release_capacity(chunk.len())?;
                unread.put(chunk);
                while let Some(request) = next_request(&mut unread)? {
                    script.answer(&request, &mut responses)?;
                }
            }
            Some(push) = pushes.recv() => responses.send_data(push, false)?,
        }
    }
}

fn next_request(unread: &mut BytesMut) -> Result<Option<DeltaDiscoveryRequest>> {
    let Some(mut prefix) = unread.get(1..PREFIX) else { return Ok(None) };
    let length = prefix.get_u32() as usize;
    if unread.len() < PREFIX + length {
        return Ok(None);
    }
    unread.advance(PREFIX);
    Ok(Some(DeltaDiscoveryRequest::decode(unread.split_to(length))?))
}

impl Script {
    fn answer(&self, request: &DeltaDiscoveryRequest, responses: &mut SendStream<Bytes>) -> Result<()> {
        anyhow::ensure!(request.error_detail.is_none(), "the client refused {:?}", request.error_detail);
        if let Ok(nonce) = request.response_nonce.parse() {
            self.acknowledged.send_replace(nonce);
        } else if request.response_nonce.is_empty() {
            let is_policies = request.type_url == proto::AUTHORIZATION_TYPE;
            let first = if is_policies { &self.policies } else { &self.addresses };
            responses.send_data(first.clone(), false)?;
        }
        Ok(())
    }
}

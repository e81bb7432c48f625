//! Fixed numbers of bytes to and fro.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Answer, Client, Dial, broken, connect, read_to_end};
use crate::outcome::Failure;
use crate::preamble::{CHUNK, Purpose};

#[derive(Debug)]
pub(crate) struct TcpDial {
    target: SocketAddr,
    purpose: Purpose,
    request: Arc<[u8]>,
    response: usize,
}

impl TcpDial {
    /// Of at least one byte each way.
    pub(crate) fn ping_pong(target: SocketAddr, request: u32, response: u32) -> Self {
        let (request, response) = (request.max(1), response.max(1));
        Self {
            target,
            purpose: Purpose::PingPong { request, response },
            request: vec![b'.'; request as usize].into(),
            response: response as usize,
        }
    }

    /// One exchange for each connection: the preamble is the request.
    pub(crate) fn once(target: SocketAddr) -> Self {
        Self { target, purpose: Purpose::Once, request: Purpose::Once.encode().as_slice().into(), response: 1 }
    }
}

impl Dial for TcpDial {
    type Client = TcpClient;

    async fn dial(&self, _lane: u32) -> Result<TcpClient, Failure> {
        let mut stream = connect(self.target).await?;
        if self.purpose != Purpose::Once {
            stream.write_all(&self.purpose.encode()).await.map_err(|error| broken(&error))?;
        }
        let buffer = vec![0; self.response.min(CHUNK)].into();
        let server_closes = self.purpose == Purpose::Once;
        Ok(TcpClient { stream, request: self.request.clone(), response: self.response, buffer, server_closes })
    }
}

#[derive(Debug)]
pub(crate) struct TcpClient {
    stream: TcpStream,
    request: Arc<[u8]>,
    response: usize,
    buffer: Box<[u8]>,
    server_closes: bool,
}

impl Client for TcpClient {
    async fn exchange(&mut self) -> Result<Answer, Failure> {
        self.stream.write_all(&self.request).await.map_err(|error| broken(&error))?;
        let mut missing = self.response;
        while missing > 0 {
            let most = missing.min(self.buffer.len());
            let free = self.buffer.get_mut(..most).unwrap_or_default();
            match self.stream.read(free).await {
                Ok(0) => return Err(Failure::Closed),
                Ok(count) => missing -= count,
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(Answer { is_success: true, is_kept: true })
    }

    async fn closed(mut self) {
        if self.server_closes {
            read_to_end(&mut self.stream).await;
        }
    }
}

//! HTTP/1.1, as little of it as a generator needs: one call to send, one to receive, nothing allocated for a request.
//!
//! Answers have a content length, or no body. A chunked answer counts as garbage: no peer of a comparison sends one.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::Arc;

use httparse::{Header, ParserConfig, Response, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Answer, Client, Dial, broken, connect, read_to_end};
use crate::outcome::Failure;
use crate::plan::Requests;

/// Bytes of an answer's head at most, and bytes that are read at a time.
const BUFFER: usize = 64 << 10;

/// Headers of an answer at most.
const MOST_HEADERS: usize = 64;

/// Bytes of an answer's body at most.
const MOST_BODY: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) struct Http1Dial {
    target: SocketAddr,
    request: Arc<[u8]>,
}

impl Http1Dial {
    pub(crate) fn new(target: SocketAddr, requests: &Requests) -> Self {
        let (method, path) = (requests.method(), requests.path_and_query());
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {target}\r\nuser-agent: aquifer-load\r\n");
        if requests.request_bytes > 0 {
            head.push_str(&format!("content-length: {}\r\n", requests.request_bytes));
        }
        if !requests.keep_alive {
            head.push_str("connection: close\r\n");
        }
        let mut request = (head + "\r\n").into_bytes();
        request.resize(request.len() + requests.request_bytes as usize, b'.');
        Self { target, request: request.into() }
    }
}

impl Dial for Http1Dial {
    type Client = Http1Client;

    async fn dial(&self, _lane: u32) -> Result<Http1Client, Failure> {
        let stream = connect(self.target).await?;
        Ok(Http1Client { stream, request: self.request.clone(), buffer: vec![0; BUFFER].into() })
    }
}

#[derive(Debug)]
pub(crate) struct Http1Client {
    stream: TcpStream,
    request: Arc<[u8]>,
    buffer: Box<[u8]>,
}

impl Client for Http1Client {
    async fn exchange(&mut self) -> Result<Answer, Failure> {
        self.stream.write_all(&self.request).await.map_err(|error| broken(&error))?;
        let mut filled = 0;
        let head = loop {
            filled += self.receive(filled).await?;
            if let Some(head) = Head::parse(self.buffer.get(..filled).unwrap_or_default())? {
                break head;
            }
            if filled == self.buffer.len() {
                return Err(Failure::Garbage);
            }
        };
        let here = (filled - head.length) as u64;
        // More than the answer: whoever sends that is not in step.
        let mut missing = head.body.checked_sub(here).ok_or(Failure::Garbage)?;
        while missing > 0 {
            missing = missing.checked_sub(self.receive(0).await? as u64).ok_or(Failure::Garbage)?;
        }
        Ok(Answer { is_success: head.is_success, is_kept: head.is_kept })
    }

    async fn closed(mut self) {
        read_to_end(&mut self.stream).await;
    }
}

impl Http1Client {
    /// Reads into the buffer from `start` on; at least one byte.
    async fn receive(&mut self, start: usize) -> Result<usize, Failure> {
        match self.stream.read(self.buffer.get_mut(start..).unwrap_or_default()).await {
            Ok(0) => Err(Failure::Closed),
            Ok(count) => Ok(count),
            Err(error) => Err(broken(&error)),
        }
    }
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// Its own bytes.
    length: usize,
    /// Bytes of the body.
    body: u64,
    is_success: bool,
    is_kept: bool,
}

impl Head {
    /// Nothing when it is not all here.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Failure> {
        let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_HEADERS];
        let mut response = Response::new(&mut []);
        let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
        let length = match parsed.map_err(|_| Failure::Garbage)? {
            Status::Complete(length) => length,
            Status::Partial => return Ok(None),
        };
        let status = response.code.unwrap_or_default();
        let is_bodiless = matches!(status, 204 | 304);
        let mut body = None;
        let mut is_kept = response.version == Some(1);
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
                body = Some(length.filter(|length| *length <= MOST_BODY).ok_or(Failure::Garbage)?);
            } else if header.name.eq_ignore_ascii_case("connection") {
                is_kept = !header.value.eq_ignore_ascii_case(b"close");
            }
        }
        let body = if is_bodiless { 0 } else { body.ok_or(Failure::Garbage)? };
        Ok(Some(Self { length, body, is_success: (200..300).contains(&status), is_kept }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Head>, Failure> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]), Ok(None), "{end}");
        }
        let whole = Head { length: text.len(), body: 5, is_success: true, is_kept: true };
        assert_eq!(parse(&format!("{text}hello")), Ok(Some(whole)));
    }

    #[test]
    fn connections_are_kept_unless_the_head_says_otherwise() {
        let is_kept = |text: &str| parse(text).unwrap().unwrap().is_kept;
        assert!(is_kept("HTTP/1.1 204 No Content\r\n\r\n"));
        assert!(!is_kept("HTTP/1.1 204 No Content\r\nConnection: Close\r\n\r\n"));
        assert!(!is_kept("HTTP/1.0 204 No Content\r\n\r\n"));
    }

    #[test]
    fn what_cannot_be_understood_is_garbage() {
        let texts = [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ];
        for text in texts {
            assert_eq!(parse(text), Err(Failure::Garbage), "{text}");
        }
    }
}

//! HTTP/1.1: any method, any path; `?size=` says how long the answer is.

use std::io;
use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Request, Status};
use tokio::io::AsyncWriteExt as _;

use super::connection::{Delay, Input, Shared};

/// Headers of a request at most.
const MOST_HEADERS: usize = 64;

/// Bytes of a body at most, either way.
const MOST_BODY: usize = 16 << 20;

/// Serves one request after the other; an error ends the connection.
pub(super) async fn serve(mut input: Input, shared: &Shared) -> io::Result<()> {
    let mut delay = Delay::new(shared.delay)?;
    let mut answer = Answer::default();
    loop {
        let head = loop {
            match Head::parse(input.bytes()) {
                Ok(Some(head)) => break head,
                Ok(None) => {}
                Err(refusal) => return input.write(refusal.as_bytes()).await,
            }
            if !input.more().await? {
                return Ok(());
            }
        };
        if head.expects_continue && input.bytes().len() == head.length {
            input.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        input.skip(head.length + head.body).await?;
        delay.pass().await?;
        input.write(answer.of(head.size, head.is_kept)).await?;
        if !head.is_kept {
            return input.stream.shutdown().await;
        }
    }
}

/// The last answer, kept since most are like it.
#[derive(Debug, Default)]
struct Answer {
    key: Option<(usize, bool)>,
    bytes: Vec<u8>,
}

impl Answer {
    fn of(&mut self, size: usize, is_kept: bool) -> &[u8] {
        if self.key != Some((size, is_kept)) {
            let close = if is_kept { "" } else { "connection: close\r\n" };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {size}\r\n{close}\r\n");
            self.bytes = head.into_bytes();
            self.bytes.resize(self.bytes.len() + size, b'.');
            self.key = Some((size, is_kept));
        }
        &self.bytes
    }
}

/// What the head of a request says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    length: usize,
    body: usize,
    /// How long the answer is to be.
    size: usize,
    is_kept: bool,
    expects_continue: bool,
}

const BAD: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const NO_LENGTH: &str = "HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const TOO_LONG: &str = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

impl Head {
    /// Nothing when it is not all here; otherwise the head, or how it is refused.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_HEADERS];
        let mut request = Request::new(&mut []);
        let parsed = ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, &mut headers);
        let length = match parsed.map_err(|_| BAD)? {
            Status::Complete(length) => length,
            Status::Partial => return Ok(None),
        };
        let size = size(request.path.unwrap_or_default()).ok_or(BAD)?;
        let mut head = Self { length, body: 0, size, is_kept: request.version == Some(1), expects_continue: false };
        for Header { name, value } in request.headers.iter() {
            let value = std::str::from_utf8(value).map_err(|_| BAD)?.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.body = value.parse().map_err(|_| BAD)?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(NO_LENGTH);
            } else if name.eq_ignore_ascii_case("connection") {
                head.is_kept =
                    !value.eq_ignore_ascii_case("close") && (head.is_kept || value.eq_ignore_ascii_case("keep-alive"));
            } else if name.eq_ignore_ascii_case("expect") {
                head.expects_continue = true;
            }
        }
        if head.body > MOST_BODY || head.size > MOST_BODY { Err(TOO_LONG) } else { Ok(Some(head)) }
    }
}

/// How long an answer a path asks for; nothing when that is no number.
pub(super) fn size(path: &str) -> Option<usize> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query.split('&').find_map(|pair| pair.strip_prefix("size=")).map_or(Some(0), |size| size.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Head>, &'static str> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn a_request_is_read_once_its_head_is_whole() {
        let text = "POST /a?b=c&size=12 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]), Ok(None), "{end}");
        }
        let head = Head { length: text.len(), body: 3, size: 12, is_kept: true, expects_continue: false };
        assert_eq!(parse(text), Ok(Some(head)));
    }

    #[test]
    fn connections_are_kept_as_http_says() {
        let is_kept = |text: &str| parse(text).unwrap().unwrap().is_kept;
        assert!(is_kept("GET / HTTP/1.1\r\n\r\n"));
        assert!(!is_kept("GET / HTTP/1.1\r\nconnection: Close\r\n\r\n"));
        assert!(!is_kept("GET / HTTP/1.0\r\n\r\n"));
        assert!(is_kept("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        assert_eq!(parse("GET /?size=x HTTP/1.1\r\n\r\n"), Err(BAD));
        assert_eq!(parse("nonsense\r\n\r\n"), Err(BAD));
        assert_eq!(parse("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(NO_LENGTH));
        assert_eq!(parse("GET /?size=16777217 HTTP/1.1\r\n\r\n"), Err(TOO_LONG));
    }
}

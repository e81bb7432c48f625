//! One HTTP request, small enough to need no library: the answer ends with the connection.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How long the whole answer may take; a dump of a large mesh is some 100 MB.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// The largest answer that is taken.
const MAX_ANSWER: u64 = 1 << 30;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// Host and port.
    pub(crate) address: &'a str,
    /// Path and query.
    pub(crate) path: &'a str,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("{address} does not answer in time")]
    Silent { address: String },
    #[error("the connection to {address} broke")]
    Broken {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("{address} does not speak HTTP")]
    NotHttp { address: String },
    #[error("the answer of {address} ends too early")]
    Short { address: String },
    /// With the first line of what it said.
    #[error("{address} answered {status}: {text}")]
    Status { address: String, status: u16, text: String },
}

impl Request<'_> {
    /// Sends it; the body of an answer of success.
    pub(crate) async fn send(&self) -> Result<String, HttpError> {
        let address = || self.address.to_owned();
        let connected = timeout(CONNECT_DEADLINE, TcpStream::connect(self.address)).await;
        let mut stream = connected
            .map_err(|_elapsed| HttpError::Silent { address: address() })?
            .map_err(|source| HttpError::Connect { address: address(), source })?;
        let method = if self.method == Method::Post { "POST" } else { "GET" };
        let head = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.path, self.address
        );
        let mut answer = Vec::new();
        let exchanged = timeout(ANSWER_DEADLINE, async {
            stream.write_all(head.as_bytes()).await?;
            stream.take(MAX_ANSWER).read_to_end(&mut answer).await
        });
        exchanged
            .await
            .map_err(|_elapsed| HttpError::Silent { address: address() })?
            .map_err(|source| HttpError::Broken { address: address(), source })?;
        self.body(&answer)
    }

    /// The body of a whole answer.
    fn body(&self, answer: &[u8]) -> Result<String, HttpError> {
        let address = self.address.to_owned();
        let Some((head, body)) = split(answer, b"\r\n\r\n") else {
            return Err(HttpError::NotHttp { address });
        };
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status = lines.next().filter(|line| line.starts_with("HTTP/1."));
        let status = status.and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse::<u16>().ok());
        let Some(status) = status else {
            return Err(HttpError::NotHttp { address });
        };
        let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
        let field = |wanted: &str| {
            fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
        };
        let length = field("content-length").and_then(|value| value.parse::<usize>().ok());
        if length.is_some_and(|length| body.len() < length) {
            return Err(HttpError::Short { address });
        }
        let is_chunked = field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let joined = is_chunked.then(|| joined(body).ok_or_else(|| HttpError::Short { address: address.clone() }));
        let body = joined.transpose()?.map_or(Cow::Borrowed(body), Cow::Owned);
        let body = String::from_utf8_lossy(&body).into_owned();
        if !(200..300).contains(&status) {
            return Err(HttpError::Status {
                address,
                status,
                text: body.lines().next().unwrap_or_default().to_owned(),
            });
        }
        Ok(body)
    }
}

/// The chunks of a body ([RFC 9112, section 7.1](https://www.rfc-editor.org/rfc/rfc9112#section-7.1)); nothing when the
/// last one is not there.
fn joined(chunked: &[u8]) -> Option<Vec<u8>> {
    let (mut whole, mut rest) = (Vec::new(), chunked);
    loop {
        let (head, after) = split(rest, b"\r\n")?;
        let size = str::from_utf8(head).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        let (chunk, after) = after.split_at_checked(size)?;
        whole.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
}

/// What is before a mark, and what is after it.
fn split<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some((bytes.get(..at)?, bytes.get(at + mark.len()..)?))
}

/// A query's value, with everything escaped that could end it.
pub(crate) fn escaped(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b',' | b'=' | b':' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request<'static> = Request { method: Method::Get, address: "127.0.0.1:15000", path: "/" };

    #[test]
    fn an_answer_is_its_body_or_the_reason() {
        let whole = REQUEST.body(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        assert_eq!(whole, "ok");
        assert_eq!(REQUEST.body(b"HTTP/1.1 200 OK\r\n\r\n{}").unwrap(), "{}");
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\nB;x=y\r\nand another\r\n0\r\n\r\n";
        assert_eq!(REQUEST.body(chunked.as_bytes()).unwrap(), "one\nand another");
        let cut = chunked.strip_suffix("\r\n0\r\n\r\n").unwrap();
        assert!(matches!(REQUEST.body(cut.as_bytes()), Err(HttpError::Short { .. })));
        let text = |answer: &[u8]| REQUEST.body(answer).unwrap_err().to_string();
        assert_eq!(text(b"HTTP/1.0 400 Bad Request\r\n\r\nno\nusage\n"), "127.0.0.1:15000 answered 400: no");
        assert_eq!(text(b"SSH-2.0-x\r\n"), "127.0.0.1:15000 does not speak HTTP");
        assert_eq!(
            text(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nok"),
            "the answer of 127.0.0.1:15000 ends too early"
        );
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Request { address: &address, ..REQUEST }.send().await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot connect to {address}"));
    }

    #[test]
    fn what_could_end_a_value_is_escaped() {
        assert_eq!(escaped("info,xds=debug"), "info,xds=debug");
        assert_eq!(escaped("a b&reset#"), "a%20b%26reset%23");
    }
}

//! One HTTP request, small enough to need no library: version 1.0, so that the answer ends with the connection.

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
            "{method} {} HTTP/1.0\r\nHost: {}\r\nContent-Length: 0\r\nAccept: */*\r\n\r\n",
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
        let text = String::from_utf8_lossy(answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Err(HttpError::NotHttp { address });
        };
        let mut lines = head.split("\r\n");
        let status = lines.next().filter(|line| line.starts_with("HTTP/1."));
        let status = status.and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse::<u16>().ok());
        let Some(status) = status else {
            return Err(HttpError::NotHttp { address });
        };
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok());
        if length.is_some_and(|length| body.len() < length) {
            return Err(HttpError::Short { address });
        }
        if !(200..300).contains(&status) {
            return Err(HttpError::Status {
                address,
                status,
                text: body.lines().next().unwrap_or_default().to_owned(),
            });
        }
        Ok(body.to_owned())
    }
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

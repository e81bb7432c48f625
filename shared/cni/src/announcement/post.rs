//! A request over a unix socket, without a runtime: the plugin is one short process per pod.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::{AnnounceError, PATH};

/// The largest answer that is read, in bytes; the agent's are a line.
const ANSWER_LIMIT: u64 = 64 << 10;

/// Sends `body` and waits for the answer.
pub(super) fn post(socket: &Path, body: Vec<u8>, deadline: Duration) -> Result<(), AnnounceError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let socket = PathBuf::from(socket);
    // A thread of its own makes the deadline hold for connecting too, and for a peer that answers byte by byte.
    // It ends with the process.
    std::thread::spawn(move || {
        // Nobody waits any more when the deadline has passed.
        let _ = sender.send(exchange(&socket, &body));
    });
    receiver
        .recv_timeout(deadline)
        .unwrap_or_else(|_late| Err(AnnounceError::Silent(format!("nothing within {} s", deadline.as_secs_f32()))))
}

fn exchange(socket: &Path, body: &[u8]) -> Result<(), AnnounceError> {
    let mut stream = UnixStream::connect(socket).map_err(AnnounceError::Away)?;
    let broken = |error: std::io::Error| AnnounceError::Silent(error.to_string());
    // HTTP/1.0: one answer, in one piece, and the end of the connection after it.
    let head = format!(
        "POST {PATH} HTTP/1.0\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).map_err(broken)?;
    stream.take(ANSWER_LIMIT).read_to_end(&mut answer).map_err(broken)?;
    read(&String::from_utf8_lossy(&answer))
}

fn read(answer: &str) -> Result<(), AnnounceError> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1));
    match status {
        Some("200") => Ok(()),
        Some(_) if !body.trim().is_empty() => Err(AnnounceError::Refused(body.trim().to_owned())),
        Some(status) => Err(AnnounceError::Refused(format!("the node agent answers with status {status}"))),
        None => Err(AnnounceError::Silent("its answer is not one of HTTP".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Answers one request with these bytes, after the whole request has come; returns the request.
    fn answered(answer: &'static [u8]) -> (Result<(), AnnounceError>, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 512];
            while !request.ends_with(b"{}") {
                let length = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..length]);
            }
            stream.write_all(answer).unwrap();
            request
        });
        let result = post(&path, b"{}".to_vec(), Duration::from_secs(5));
        (result, String::from_utf8(server.join().unwrap()).unwrap())
    }

    #[test]
    fn an_answer_is_success_or_a_reason() {
        let (result, request) = answered(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
        result.unwrap();
        assert!(
            request.starts_with("POST /cmdadd HTTP/1.0\r\n") && request.contains("Content-Length: 2\r\n"),
            "{request}"
        );
        let (result, _) = answered(b"HTTP/1.1 503 Service Unavailable\r\n\r\nno ztunnel connected on node a\n");
        assert_eq!(result.unwrap_err().to_string(), "no ztunnel connected on node a");
        let (result, _) = answered(b"HTTP/1.1 500 Internal Server Error\r\n\r\n");
        assert!(matches!(result, Err(AnnounceError::Refused(why)) if why.contains("500")));
        for broken in [&b""[..], b"HTTP/1.1", b"\xff\xfe\r\n\r\n"] {
            let (result, _) = answered(broken);
            assert!(matches!(result, Err(AnnounceError::Silent(_))), "{result:?}");
        }
    }

    #[test]
    fn a_peer_that_is_away_is_told_from_one_that_is_silent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let short = Duration::from_millis(50);
        assert!(matches!(post(&path, Vec::new(), short), Err(AnnounceError::Away(_))));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(post(&path, Vec::new(), short), Err(AnnounceError::Silent(_))));
        drop(listener);
        assert!(matches!(post(&path, Vec::new(), short), Err(AnnounceError::Away(_))), "a socket that was left behind");
    }
}

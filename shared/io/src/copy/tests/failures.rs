//! What happens when one side fails.

use super::*;

/// What a stream does, step by step; at the end of a script it is pending for ever.
#[derive(Default)]
struct Scripted {
    reads: Vec<io::Result<Vec<u8>>>,
    write: Option<io::ErrorKind>,
    shutdown: Option<io::ErrorKind>,
    log: std::sync::Arc<std::sync::Mutex<Log>>,
}

#[derive(Default, Debug, PartialEq, Clone)]
struct Log {
    written: Vec<u8>,
    flushed: usize,
    is_shut_down: bool,
}

impl Duplex for Scripted {}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.reads.is_empty() {
            return Poll::Pending;
        }
        buffer.put_slice(&self.reads.remove(0)?);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(self: Pin<&mut Self>, _context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.write {
            return Poll::Ready(Err(kind.into()));
        }
        self.log.lock().unwrap().written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut log = self.log.lock().unwrap();
        log.flushed = log.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.log.lock().unwrap().is_shut_down = true;
        Poll::Ready(self.shutdown.map_or(Ok(()), |kind| Err(kind.into())))
    }
}

const RESET: io::ErrorKind = io::ErrorKind::ConnectionReset;
const PIPE: io::ErrorKind = io::ErrorKind::BrokenPipe;

/// Runs a copy on a paused clock: its error in words, its side, what both streams saw, and how long it took.
async fn run(downstream: Scripted, upstream: Scripted) -> (String, Option<Side>, [Log; 2], Duration) {
    let logs = [downstream.log.clone(), upstream.log.clone()];
    let start = Instant::now();
    let result = copy_bidirectional(downstream, upstream, &Counters::new()).await;
    let side = result.as_ref().err().map(CopyError::side);
    let words = result.map_or_else(|error| format!("{error}: {}", error.source), |()| "ok".to_owned());
    (words, side, logs.map(|log| log.lock().unwrap().clone()), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_reset_peer_ends_both_directions_at_once_and_its_stream_never_looks_complete() {
    let half = || vec![Ok(b"half".to_vec()), Err(RESET.into())];
    let (words, side, [_, upstream], took) =
        run(Scripted { reads: half(), ..Default::default() }, Scripted::default()).await;
    assert_eq!(
        (words.as_str(), side, took),
        ("downstream read failed: connection reset", Some(Side::Downstream), Duration::ZERO)
    );
    assert_eq!(upstream, Log { written: b"half".to_vec(), flushed: 4, is_shut_down: false });

    let (words, side, [downstream, _], took) =
        run(Scripted::default(), Scripted { reads: half(), ..Default::default() }).await;
    assert_eq!(
        (words.as_str(), side, took),
        ("upstream read failed: connection reset", Some(Side::Upstream), Duration::ZERO)
    );
    assert_eq!(downstream, Log { written: b"half".to_vec(), flushed: 4, is_shut_down: false });
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_sent_before_the_peer_stopped_reading_still_arrives() {
    let downstream = Scripted { reads: vec![Ok(b"upload".to_vec())], ..Default::default() };
    let upstream = Scripted {
        reads: vec![Ok(b"too ".to_vec()), Ok(b"large".to_vec()), Ok(vec![])],
        write: Some(PIPE),
        ..Default::default()
    };
    let (words, side, [downstream, _], took) = run(downstream, upstream).await;
    assert_eq!(
        (words.as_str(), side, took),
        ("upstream write failed: broken pipe", Some(Side::Upstream), Duration::ZERO)
    );
    assert_eq!(downstream, Log { written: b"too large".to_vec(), flushed: 0, is_shut_down: true });
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_neither_reads_nor_ends_is_given_up_soon() {
    let downstream = Scripted { write: Some(PIPE), ..Default::default() };
    let upstream = Scripted { reads: vec![Ok(b"data".to_vec())], ..Default::default() };
    let (words, side, [_, upstream], took) = run(downstream, upstream).await;
    assert_eq!(
        (words.as_str(), side, took),
        ("downstream write failed: broken pipe", Some(Side::Downstream), AFTERMATH)
    );
    assert!(!upstream.is_shut_down);
}

#[tokio::test(start_paused = true)]
async fn the_first_of_two_failures_is_reported() {
    let downstream = Scripted { reads: vec![Ok(b"data".to_vec())], ..Default::default() };
    let upstream = Scripted { reads: vec![Err(RESET.into())], write: Some(PIPE), ..Default::default() };
    let (words, ..) = run(downstream, upstream).await;
    assert_eq!(words, "upstream write failed: broken pipe");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_may_fail_unless_the_peer_has_left_already() {
    let end = || vec![Ok(vec![])];
    for (kind, expected) in [(io::ErrorKind::NotConnected, "ok"), (PIPE, "upstream shutdown failed: broken pipe")] {
        let upstream = Scripted { reads: end(), shutdown: Some(kind), ..Default::default() };
        let (words, ..) = run(Scripted { reads: end(), ..Default::default() }, upstream).await;
        assert_eq!(words, expected);
    }
}

#[tokio::test]
async fn a_reset_on_a_real_socket_is_noticed_while_nothing_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let downstream = listener.accept().await.unwrap().0;
    let (mut server, upstream) = duplex(64);
    let counters = Counters::new();
    let run = async {
        let (result, ()) = tokio::join!(copy_bidirectional(downstream, upstream, &counters), async {
            client.set_zero_linger().unwrap();
            drop(client);
        });
        let error = result.unwrap_err();
        assert_eq!((error.side(), error.operation, error.source.kind()), (Side::Downstream, Operation::Read, RESET));
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0, "both streams are dropped");
    };
    soon(run).await;
}

//! The client against servers that answer, mix connections up, or end them early.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;

const CONNECTIONS: usize = 200;

fn options(to: SocketAddr) -> Options {
    Options { to: to.to_string(), connections: CONNECTIONS, duration: None, timeout: Duration::from_secs(5) }
}

/// A server that notes how many bytes have come, and serves each connection with `serve`.
async fn server<F, A>(serve: F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(usize, TcpStream, Arc<AtomicUsize>) -> A + Send + 'static,
    A: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bytes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&bytes);
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(number, stream, Arc::clone(&counter)));
        }
    });
    (address, bytes)
}

async fn echo(mut stream: TcpStream, bytes: Arc<AtomicUsize>) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        bytes.fetch_add(length, Ordering::Relaxed);
        stream.write_all(&buffer[..length]).await?;
    }
}

#[tokio::test]
async fn nothing_is_sent_again_before_all_are_open() {
    let (to, bytes) = server(|_number, stream, bytes| echo(stream, bytes)).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let first: usize = (0..CONNECTIONS).map(|number| format!("first {number}").len()).sum();
    let opened = |count: usize| {
        assert_eq!((count, bytes.load(Ordering::Relaxed)), (CONNECTIONS, first));
        drop(stop);
    };
    let stop = async { drop(stopped.await) };
    let report = run(&options(to), |started| assert_eq!(started, to), opened, stop).await.unwrap();
    assert_eq!((report.opened, report.ok, report.failed), (CONNECTIONS, CONNECTIONS, 0), "{report:?}");
    assert_eq!(bytes.load(Ordering::Relaxed), 2 * first);
}

#[tokio::test]
async fn each_connection_that_fails_is_counted_with_its_reason() {
    // One is cut, one gets what others sent, one is cut after its first exchange.
    let (to, _bytes) = server(|number, mut stream, bytes| async move {
        match number {
            0 => Ok(()),
            1 => {
                let length = stream.read(&mut [0; 64]).await?;
                stream.write_all(&[b'x'; 64][..length]).await?;
                echo(stream, bytes).await
            }
            2 => {
                let mut buffer = [0; 64];
                let length = stream.read(&mut buffer).await?;
                stream.write_all(&buffer[..length]).await
            }
            _ => echo(stream, bytes).await,
        }
    })
    .await;
    let report = run(&options(to), |_started| {}, |_opened| {}, std::future::ready(())).await.unwrap();
    assert_eq!((report.opened, report.ok, report.failed), (CONNECTIONS - 2, CONNECTIONS - 3, 3), "{report:?}");
    assert_eq!(report.reasons.get("open: other bytes came back"), Some(&1), "{report:?}");
    assert!(report.reasons.keys().any(|reason| reason.starts_with("again: ")), "{report:?}");
}

#[tokio::test]
async fn a_number_without_sense_is_refused() {
    for connections in [0, MAX_CONNECTIONS + 1] {
        let options = Options { connections, ..options("127.0.0.1:1".parse().unwrap()) };
        let refused = run(&options, |_started| {}, |_opened| {}, std::future::ready(())).await.unwrap_err();
        assert!(refused.to_string().contains("connections are not between 1 and 60000"), "{refused}");
    }
}

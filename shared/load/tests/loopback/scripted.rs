//! An HTTP/1.1 server that does to each request what a script says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// A good answer after a time.
    After(Duration),
    /// A good answer, not before this time.
    At(Instant),
    /// These bytes.
    Say(Vec<u8>),
    /// These bytes, one at a time.
    Drip(Vec<u8>),
    /// These bytes, then the end of the connection.
    SayAndClose(Vec<u8>),
    /// The end of the connection, without having read the whole request.
    Reset,
    /// Nothing at all.
    Silence,
}

/// Serves for as long as the test runs; `act` tells what becomes of the n-th request of all.
pub(crate) async fn serve(act: impl Fn(usize) -> Act + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (act, count) = (Arc::new(act), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (act, count) = (act.clone(), count.clone());
            tokio::spawn(async move { converse(stream, &*act, &count).await });
        }
    });
    address
}

async fn converse(mut stream: TcpStream, act: &(impl Fn(usize) -> Act + Sync), count: &AtomicUsize) -> Option<()> {
    const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let mut head = Vec::new();
    loop {
        // Whether there is another request shows before it is read.
        if stream.peek(&mut [0]).await.ok()? == 0 {
            return None;
        }
        let act = act(count.fetch_add(1, Ordering::SeqCst));
        if let Act::Reset = act {
            // What is unread makes it a reset.
            return None;
        }
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        match act {
            Act::After(time) => {
                sleep(time).await;
                stream.write_all(GOOD).await.ok()?;
            }
            Act::At(time) => {
                sleep_until(time).await;
                stream.write_all(GOOD).await.ok()?;
            }
            Act::Say(bytes) => stream.write_all(&bytes).await.ok()?,
            Act::Drip(bytes) => {
                for byte in bytes {
                    stream.write_u8(byte).await.ok()?;
                    tokio::task::yield_now().await;
                }
            }
            Act::SayAndClose(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return None;
            }
            Act::Silence => std::future::pending().await,
            Act::Reset => return None,
        }
    }
}

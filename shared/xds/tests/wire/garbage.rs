//! Servers that speak something else, or nonsense.

use std::net::SocketAddr;

use bytes_of_nonsense::{nonsense_after_handshake, nonsense_instead_of_http};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use xds::client::Termination;

use crate::support::{Fed, soon, start_client};

mod bytes_of_nonsense {
    //! What the servers say.

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// Answers whatever it reads with an HTTP/1 error page, and hangs up.
    pub(super) async fn nonsense_instead_of_http(mut stream: TcpStream) {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        let _ = stream.shutdown().await;
    }

    /// Is a gRPC server up to the headers; the message behind them does not decode.
    pub(super) async fn nonsense_after_handshake(stream: TcpStream) {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        // Dropping a body resets its stream.
        let mut bodies = Vec::new();
        while let Some(Ok((_request, mut respond))) = connection.accept().await {
            let headers = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut body = respond.send_response(headers, false).unwrap();
            let frame: &'static [u8] = &[0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0xff];
            body.send_data(frame.into(), false).unwrap();
            bodies.push(body);
        }
    }
}

/// Serves every connection with `serve` and reports it.
async fn server<F>(serve: fn(tokio::net::TcpStream) -> F) -> (SocketAddr, mpsc::Receiver<()>, JoinSet<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, connections) = mpsc::channel(64);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            serving.spawn(serve(stream));
            let _ = sender.try_send(());
        }
    });
    (address, connections, tasks)
}

async fn comes_back(connections: &mut mpsc::Receiver<()>, fed: &Fed) -> Vec<Termination> {
    for _ in 0..4 {
        soon("another attempt", connections.recv()).await.unwrap();
    }
    assert!(fed.uids().is_empty() && !*fed.ready.borrow());
    fed.counts.terminations.lock().unwrap().clone()
}

#[tokio::test]
async fn a_server_that_does_not_speak_http2_is_tried_again() {
    let (address, mut connections, _tasks) = server(nonsense_instead_of_http).await;
    let fed = start_client(address, watch::channel("").1);
    let terminations = comes_back(&mut connections, &fed).await;
    assert!(terminations.iter().all(|termination| *termination == Termination::ConnectionError), "{terminations:?}");
}

#[tokio::test]
async fn messages_that_do_not_decode_end_the_stream_and_nothing_else() {
    let (address, mut connections, _tasks) = server(nonsense_after_handshake).await;
    let fed = start_client(address, watch::channel("").1);
    let terminations = comes_back(&mut connections, &fed).await;
    assert!(terminations.iter().all(|termination| *termination == Termination::Error), "{terminations:?}");
}

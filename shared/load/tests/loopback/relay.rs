//! The relay carries whatever load there is, and says nothing of its own.

use std::net::SocketAddr;

use load::relay::Relay;
use load::{Bulk, Connections, Direction, Kind, Pace, Protocol, Requests, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::support::{plan, serve, within};

/// A relay to `to`, and what ends it.
fn relay(to: SocketAddr, threads: usize) -> (SocketAddr, oneshot::Sender<()>) {
    let relay = Relay::bind("127.0.0.1:0".parse().unwrap(), to, threads).unwrap();
    let address = relay.address();
    let (end, ended) = oneshot::channel();
    tokio::spawn(relay.serve(async {
        let _ = ended.await;
    }));
    (address, end)
}

#[tokio::test]
async fn requests_connections_and_bulk_go_through() {
    let server = serve();
    let (address, _end) = relay(server.address, 2);
    let bulk = Bulk { streams: 2, direction: Direction::Download };
    for kind in [
        Kind::Requests(Requests::new(Protocol::Http1, 4, Pace::Saturation)),
        Kind::Connections(Connections { protocol: Protocol::Http1, in_flight: 4, pace: Pace::Saturation }),
        Kind::Bulk(bulk),
    ] {
        let outcome = within(run(&plan(address, 300, kind))).await.unwrap();
        assert!(outcome.failed.is_empty(), "{outcome:?}");
        assert!(outcome.answered > 0 || outcome.bulk.as_ref().is_some_and(|bulk| bulk.bytes > 0), "{outcome:?}");
    }
}

#[tokio::test]
async fn each_direction_ends_on_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, _end) = relay(listener.local_addr().unwrap(), 1);
    let mut client = TcpStream::connect(address).await.unwrap();
    let (mut server, _) = within(listener.accept()).await.unwrap();
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    let mut read = Vec::new();
    within(server.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, b"request");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    read.clear();
    within(client.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, b"answer");
}

#[tokio::test]
async fn where_nobody_listens_a_connection_ends_and_the_relay_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    drop(listener);
    let (address, end) = relay(to, 1);
    for _ in 0..2 {
        let mut client = TcpStream::connect(address).await.unwrap();
        let read = within(client.read(&mut [0; 8])).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    drop(end);
    let closed = within(async { while TcpStream::connect(address).await.is_ok() {} });
    closed.await;
}

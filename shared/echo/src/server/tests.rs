//! The peer over real sockets on loopback, and the clients against it.

mod grpc;
mod idle;
mod websocket;

use ::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::client::{load, stream};

struct Peer {
    addresses: Addresses,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn peer() -> Peer {
    peer_for(MAX_CONNECTIONS).await
}

async fn peer_for(max_connections: usize) -> Peer {
    peer_at(Some(Ipv4Addr::LOCALHOST.into()), max_connections).await
}

async fn peer_at(bind: Option<IpAddr>, max_connections: usize) -> Peer {
    let pod = Pod { name: "cart-1".to_owned(), namespace: "shop".to_owned(), ..Pod::default() };
    let options = Options { bind, http: 0, h2c: 0, tcp: 0, server_first: 0, max_connections, pod };
    let server = Server::bind(&options).await.unwrap();
    let addresses = server.addresses();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.serve(async {
        let _ = stopped.await;
    }));
    Peer { addresses, stop, task }
}

impl Peer {
    /// Ends the peer; it must be gone within its drain.
    async fn end(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.unwrap().unwrap();
    }
}

async fn get(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", "cart").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    drop(sender);
    connection.await.unwrap().unwrap();
    (status, body)
}

#[tokio::test]
async fn http1_reports_pod_source_and_headers() {
    let peer = peer().await;
    let (status, body) = get(peer.addresses.http, "/cart?x=1").await;
    let report: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(report["pod"]["name"], "cart-1");
    assert_eq!(report["path"], "/cart?x=1");
    assert_eq!(report["version"], "HTTP/1.1");
    assert_eq!(report["headers"]["host"][0], "cart");
    assert!(report["source"].as_str().unwrap().starts_with("127.0.0.1:"));
    peer.end().await;
}

#[tokio::test]
async fn both_families_are_served_and_callers_keep_theirs() {
    let peer = peer_at(None, MAX_CONNECTIONS).await;
    let port = peer.addresses.http.port();
    let mut callers = vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), "127.0.0.1:")];
    if peer.addresses.http.is_ipv6() && TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
        callers.push((Ipv6Addr::LOCALHOST.into(), "[::1]:"));
    }
    for (address, source) in callers {
        let (_, body) = get(SocketAddr::new(address, port), "/").await;
        let report: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(report["source"].as_str().unwrap().starts_with(source), "{report}");
    }
    peer.end().await;
}

#[tokio::test]
async fn status_and_size_come_as_wished() {
    let peer = peer().await;
    let (status, body) = get(peer.addresses.http, "/?status=503&size=100000").await;
    assert_eq!((status, body.len()), (503, 100_000));
    let (status, body) = get(peer.addresses.http, "/?status=7").await;
    assert_eq!(status, 400);
    assert_eq!(String::from_utf8(body).unwrap(), "status: \"7\" is not a number from 200 to 599\n");
    peer.end().await;
}

#[tokio::test]
async fn h2c_sends_a_body_back() {
    let peer = peer().await;
    let stream = TcpStream::connect(peer.addresses.h2c).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let body = vec![b'a'; 200_000];
    let request = Request::post("http://cart/back").body(Full::new(Bytes::from(body.clone()))).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["x-echo-pod"], "cart-1");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    drop(sender);
    connection.await.unwrap().unwrap();
    peer.end().await;
}

#[tokio::test]
async fn tcp_sends_back_what_came_before_a_half_close() {
    let peer = peer().await;
    let mut stream = TcpStream::connect(peer.addresses.tcp).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "hello");
    peer.end().await;
}

#[tokio::test]
async fn server_first_speaks_before_it_is_spoken_to() {
    let peer = peer().await;
    let mut stream = TcpStream::connect(peer.addresses.server_first).await.unwrap();
    let mut banner = [0; 31];
    stream.read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"220 cart-1 aquifer-echo ready\r\n");
    drop(stream);
    peer.end().await;
}

#[tokio::test]
async fn an_idle_stream_sees_an_orderly_end_on_shutdown() {
    let peer = peer().await;
    let mut stream = TcpStream::connect(peer.addresses.tcp).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    peer.end().await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_request_under_way_is_answered_during_shutdown() {
    let peer = peer().await;
    let address = peer.addresses.http;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n").await.unwrap();
    // The interim answer proves that the request has reached the handler.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    peer.stop.send(()).unwrap();
    stream.write_all(b"ok").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    tokio::time::timeout(Duration::from_secs(10), peer.task).await.unwrap().unwrap();
}

fn load_options(address: SocketAddr, path: &str) -> load::Options {
    load::Options {
        url: format!("http://{address}{path}"),
        rate: 200,
        duration: Some(Duration::from_millis(500)),
        timeout: Duration::from_secs(5),
        headers: vec![],
    }
}

#[tokio::test]
async fn load_accounts_for_each_request() {
    let peer = peer().await;
    let report = load::run(&load_options(peer.addresses.http, "/"), |_| {}, std::future::pending()).await.unwrap();
    assert!(report.sent >= 50, "{report:?}");
    assert_eq!((report.ok, report.failed), (report.sent, 0), "{report:?}");
    assert!(report.latency_ms.max > 0.0);
    peer.end().await;
}

#[tokio::test]
async fn the_time_of_sending_does_not_depend_on_the_answers() {
    let peer = peer().await;
    let options = load_options(peer.addresses.http, "/?delay=1s");
    let report = load::run(&options, |_| {}, std::future::pending()).await.unwrap();
    assert_eq!(report.ok, report.sent, "{report:?}");
    assert!(report.seconds >= 1.0 && report.sending_seconds < report.seconds - 0.4, "{report:?}");
    peer.end().await;
}

#[tokio::test]
async fn a_request_on_its_way_at_the_end_is_answered() {
    let peer = peer().await;
    let mut stream = TcpStream::connect(peer.addresses.http).await.unwrap();
    // An answer on another connection shows that this one, which came before, was accepted.
    get(peer.addresses.http, "/").await;
    let address = peer.addresses.http;
    let end = tokio::spawn(peer.end());
    // The listener goes first.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    end.await.unwrap();
}

#[tokio::test]
async fn load_names_the_reason_of_each_failure() {
    let peer = peer().await;
    let address = peer.addresses.http;
    let report = load::run(&load_options(address, "/?status=503"), |_| {}, std::future::pending()).await.unwrap();
    assert_eq!((report.ok, report.reasons["status 503"]), (0, report.sent));
    peer.end().await;
    let report = load::run(&load_options(address, "/"), |_| {}, std::future::pending()).await.unwrap();
    assert_eq!((report.ok, report.reasons["connect: connection refused"]), (0, report.sent));
    assert!(!report.failed_at_ms.is_empty());
}

#[tokio::test]
async fn load_ends_when_told() {
    let peer = peer().await;
    let address = peer.addresses.http;
    let options = load::Options { duration: None, ..load_options(address, "/") };
    let (started, begun) = oneshot::channel();
    let stop = async {
        begun.await.unwrap();
        for _ in 0..20 {
            get(address, "/").await;
        }
    };
    let report = load::run(&options, |address| started.send(address).unwrap(), stop).await.unwrap();
    assert_eq!(report.ok, report.sent, "{report:?}");
    peer.end().await;
}

#[tokio::test]
async fn load_refuses_what_makes_no_sense() {
    for (url, rate) in [("https://127.0.0.1/", 10), ("127.0.0.1", 10), ("http://127.0.0.1/", 0)] {
        let options = load::Options { url: url.to_owned(), rate, ..load_options(([127, 0, 0, 1], 1).into(), "") };
        let refused = load::run(&options, |_| {}, std::future::pending()).await;
        assert!(matches!(refused, Err(EchoError::Invalid(_))), "{url} {rate}: {refused:?}");
    }
}

#[tokio::test]
async fn a_stream_through_both_tcp_ports_is_whole() {
    let peer = peer().await;
    for (address, banner) in [(peer.addresses.tcp, false), (peer.addresses.server_first, true)] {
        let options =
            stream::Options { to: address.to_string(), rate: 200, duration: Some(Duration::from_millis(300)), banner };
        let report = stream::run(&options, |_| {}, std::future::pending()).await.unwrap();
        assert!(report.whole && report.sent > 0, "{report:?}");
    }
    peer.end().await;
}

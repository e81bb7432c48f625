//! Many connections at a time, and what each of them costs.

use super::*;

/// Bytes of a connection's task that nobody uses, at most: its future. Sockets are the kernel's.
const BUDGET: usize = 2048;

/// More than one listener served in earlier versions.
const MANY: usize = 5000;

async fn answers(stream: &mut TcpStream) {
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn thousands_of_idle_connections_are_served() {
    let may_open = linux::process::raise_open_files().unwrap();
    if may_open < 3 * MANY as u64 {
        println!("SKIPPED: {may_open} files may be open, too few for {MANY} connections");
        return;
    }
    let peer = peer().await;
    let mut streams = Vec::new();
    for _ in 0..MANY {
        streams.push(TcpStream::connect(peer.addresses.tcp).await.unwrap());
    }
    let all = async {
        for stream in &mut streams {
            answers(stream).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    drop(streams);
    peer.end().await;
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_for_a_place() {
    let peer = peer_for(2).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(TcpStream::connect(peer.addresses.tcp).await.unwrap());
    }
    let mut third = streams.pop().unwrap();
    for stream in &mut streams {
        answers(stream).await;
    }
    third.write_all(b"x").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(200), third.read_u8()).await;
    assert!(waited.is_err(), "there is no place: {waited:?}");
    drop(streams.pop());
    let answered = tokio::time::timeout(Duration::from_secs(10), third.read_u8()).await;
    assert_eq!(answered.unwrap().unwrap(), b'x');
    // Other listeners have places of their own.
    assert_eq!(get(peer.addresses.http, "/").await.0, 200);
    peer.end().await;
}

#[tokio::test]
async fn an_idle_connection_has_a_small_task() {
    let (_stop, stopped) = watch::channel(false);
    let (grpc, _health) = super::super::grpc::Services::new(&Pod::default(), stopped.clone()).await;
    let shared = Shared { pod: Arc::default(), grpc };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let source = listener.local_addr().unwrap();
    let task = serve_one(stream, source, Protocol::Tcp, &shared, stopped);
    assert!(size_of_val(&task) <= BUDGET, "{} bytes", size_of_val(&task));
}

//! WebSocket, against the bytes of the RFC and against a client of another library's making.

use futures::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: cart\r\nupgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn client(peer: &Peer) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(peer.addresses.http).await.unwrap();
    let (socket, response) = tokio_tungstenite::client_async("ws://cart/", stream).await.unwrap();
    assert_eq!(response.headers()["x-echo-pod"], "cart-1");
    socket
}

#[tokio::test]
async fn the_examples_of_the_rfc_come_out_as_it_says() {
    let peer = peer().await;
    let mut stream = TcpStream::connect(peer.addresses.http).await.unwrap();
    stream.write_all(ASK.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // RFC 6455, section 1.3.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // Section 5.7: a masked "Hello", in one piece and in two, then a ping with it.
    for (frames, expected) in [
        (&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58][..], &b"\x81\x05Hello"[..]),
        (&[0x01, 0x83, 0, 0, 0, 0, b'H', b'e', b'l', 0x80, 0x82, 0, 0, 0, 0, b'l', b'o'], b"\x81\x05Hello"),
        (&[0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58], b"\x8a\x05Hello"),
        // A close with status 1000.
        (&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8], b"\x88\x02\x03\xe8"),
    ] {
        stream.write_all(frames).await.unwrap();
        let mut back = vec![0; expected.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, expected, "{frames:x?}");
    }
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "the server closes first");
    peer.end().await;
}

#[tokio::test]
async fn large_messages_of_both_kinds_come_back() {
    let peer = peer().await;
    let mut socket = client(&peer).await;
    for message in [Message::text("x".repeat(100_000)), Message::binary(vec![7; 1_000_000]), Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    peer.end().await;
}

#[tokio::test]
async fn a_shutdown_is_said_to_the_client() {
    let peer = peer().await;
    let mut socket = client(&peer).await;
    socket.send(Message::text("x")).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let end = tokio::spawn(peer.end());
    let last = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap().unwrap().unwrap();
    let Message::Close(Some(frame)) = last else { panic!("{last:?}") };
    assert_eq!(frame.code, CloseCode::Away);
    while socket.next().await.is_some() {}
    end.await.unwrap();
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    let peer = peer().await;
    // Unmasked, an unknown opcode, text that is no UTF-8, a message that is too long.
    for frame in [
        &b"\x81\x05Hello"[..],
        &[0x83, 0x80, 0, 0, 0, 0],
        &[0x81, 0x81, 0, 0, 0, 0, 0xff],
        &[0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut stream = TcpStream::connect(peer.addresses.http).await.unwrap();
        stream.write_all(ASK.as_bytes()).await.unwrap();
        head(&mut stream).await;
        stream.write_all(frame).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{frame:x?}");
        assert!(!rest.windows(5).any(|part| part == b"Hello"), "{frame:x?}");
    }
    peer.end().await;
}

#[tokio::test]
async fn a_request_that_is_not_as_it_must_be_is_refused() {
    let peer = peer().await;
    for (good, bad, expected) in [
        ("version: 13", "version: 8", "HTTP/1.1 426 "),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short", "HTTP/1.1 400 "),
        ("keep-alive, Upgrade", "keep-alive", "HTTP/1.1 400 "),
        // No WebSocket is asked for.
        ("upgrade: websocket", "upgrade: h2c", "HTTP/1.1 200 "),
    ] {
        let mut stream = TcpStream::connect(peer.addresses.http).await.unwrap();
        stream.write_all(ASK.replace(good, bad).as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.starts_with(expected), "{bad}: {head}");
        assert!(!expected.contains("426") || head.contains("sec-websocket-version: 13"), "{head}");
    }
    peer.end().await;
}

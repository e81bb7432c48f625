//! What listeners do with peers that misbehave, and what a node may say of itself.

use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::envoy::service::discovery::v3::Node;
use tls::Authority;
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt;
use types::TrustDomain;
use xds::server::Caller;

use super::{access, incoming, server_certificate};

fn node(entries: &[(&str, &str)]) -> Node {
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = entries.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect();
    Node { metadata: Some(Struct { fields }), ..Node::default() }
}

#[test]
fn a_node_must_agree_with_its_token() {
    let identity = "spiffe://cluster.local/ns/aquifer-system/sa/ztunnel".parse().unwrap();
    let caller = Caller { description: "x".into(), identity: Some(identity) };
    let verdict = |entries: &[(&str, &str)]| access::admit(&caller, &node(entries)).is_ok();
    assert!(verdict(&[("NAMESPACE", "aquifer-system")]));
    assert!(verdict(&[("NAMESPACE", "aquifer-system"), ("SERVICE_ACCOUNT", "ztunnel")]));
    assert!(!verdict(&[("NAMESPACE", "aquifer-system"), ("SERVICE_ACCOUNT", "other")]));
    assert!(!verdict(&[("NAMESPACE", "shop")]));
    assert!(!verdict(&[]));
}

#[tokio::test]
async fn a_silent_peer_does_not_hold_up_others() {
    let authority = Authority::self_signed(&TrustDomain::default(), Duration::from_secs(3600)).unwrap();
    let acceptor = server_certificate::acceptor(&authority, &["localhost".to_owned()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_trigger, watch) = drain::new();
    let mut connections = std::pin::pin!(incoming::tls(listener, acceptor, watch));
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = tls::connect_verified(stream, authority.roots_pem(), "localhost");
    let both = async { tokio::join!(handshake, connections.next()) };
    let (client, server) = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
    assert!(client.is_ok() && server.is_some_and(|connection| connection.is_ok()));
}

#[tokio::test]
async fn the_listener_closes_when_the_drain_starts() {
    let authority = Authority::self_signed(&TrustDomain::default(), Duration::from_secs(3600)).unwrap();
    let acceptor = server_certificate::acceptor(&authority, &["localhost".to_owned()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, watch) = drain::new();
    let mut connections = std::pin::pin!(incoming::tls(listener, acceptor, watch));
    trigger.start(Duration::from_secs(1));
    let end = tokio::time::timeout(Duration::from_secs(5), connections.next()).await.unwrap();
    assert!(end.is_none());
    assert!(TcpStream::connect(address).await.is_err());
}

//! The end of the process: what goes on, until when, and what is said about it.

use std::time::Duration;

use ::drain::Drained;
use tokio::io::AsyncWriteExt;

use crate::world::{World, ping, rest, within};

#[tokio::test]
async fn live_connections_have_until_the_deadline() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    let server = &world.nodes[1];
    server.drain.start(Duration::from_secs(2));
    // Neither end notices.
    for number in 0..20 {
        let text = format!("still here {number}");
        assert_eq!(ping(&mut stream, &text).await.unwrap(), text);
    }
    assert!(rest(&mut stream).await.is_err(), "cut at the deadline");
    let line = server.line(&["error\taccess\tconnection complete", "drain"]).await;
    assert!(line.ends_with("error=\"connection closed due to connection drain\""), "{line}");
    assert_eq!(server.metric("istio_tcp_connections_failed_total", &["response_flags=\"-\""]), 0);
    assert!(server.metric("istio_tcp_connections_closed_total", &["response_flags=\"-\""]) >= 1);
    assert_eq!(within(server.drain.finished()).await, Drained::Complete);
}

#[tokio::test]
async fn a_drain_ends_as_soon_as_the_last_connection_has() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    for node in &world.nodes {
        node.drain.start(Duration::from_secs(600));
    }
    assert_eq!(ping(&mut stream, "still here").await.unwrap(), "still here");
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), b"");
    for node in world.nodes {
        assert_eq!(within(node.drain.finished()).await, Drained::Complete);
        assert!(node.lines().iter().all(|line| !line.contains("error=")), "{:?}", node.lines());
        within(node.following).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_drain_before_anything_has_happened_is_over_at_once() {
    let Some(world) = World::new().await else { return };
    for node in world.nodes {
        node.drain.start(Duration::from_secs(600));
        assert_eq!(within(node.drain.finished()).await, Drained::Complete);
        within(node.following).await.unwrap().unwrap();
    }
}

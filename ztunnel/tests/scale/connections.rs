//! Ten thousand connections at the same time, or as many as this process may have files for.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::measure::{allowed_files, alone, files, memory};
use crate::world::{TestPod, World, eventually, ping};

const CONNECTIONS: usize = 10_000;

/// Files for each: with the mesh four, without it two; and a fourth more for everything else.
const FILES: usize = 8;

/// Connections that are being opened at the same time.
const AT_ONCE: usize = 64;

/// Memory that a connection at rest may cost the proxies of both of its ends together, in bytes: 16 KiB each.
const LIMIT: u64 = 32 << 10;

/// Opens all, each with one exchange.
async fn open(connections: usize, from: &Arc<TestPod>, to: std::net::SocketAddr) -> Vec<TcpStream> {
    let opening = stream::iter(0..connections).map(|number| {
        let from = Arc::clone(from);
        async move {
            let mut stream = from.connect(to).await.unwrap_or_else(|error| panic!("connection {number}: {error}"));
            let text = format!("first {number}");
            assert_eq!(ping(&mut stream, &text).await.unwrap(), text);
            stream
        }
    });
    opening.buffer_unordered(AT_ONCE).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_exchange_bytes_after_the_last_has_opened() {
    let _alone = alone().await;
    let connections = allowed_files(FILES * CONNECTIONS) / FILES;
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (Arc::new(world.pod(0, "frontend").await), world.pod(1, "cart").await);
    let (outside, server) = (Arc::new(world.stranger("outside")), world.stranger("server"));
    cart.echo(8080);
    server.echo(8080);
    let mut first = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut first, "hello").await.unwrap(), "hello");

    let (before, start) = (memory(), Instant::now());
    let mut meshed = open(connections, &frontend, cart.at(8080)).await;
    let opened = start.elapsed();
    for (number, stream) in meshed.iter_mut().enumerate() {
        let text = format!("again {number}");
        assert_eq!(ping(stream, &text).await.unwrap(), text, "connection {number}");
    }
    for node in &world.nodes {
        assert_eq!(node.node.live_connections(), connections + 1);
    }
    let with_mesh = memory();
    // The same again without the mesh: what client and server cost.
    let mut direct = open(connections, &outside, server.at(8080)).await;
    for (number, stream) in direct.iter_mut().enumerate() {
        let text = format!("again {number}");
        assert_eq!(ping(stream, &text).await.unwrap(), text, "connection {number}");
    }
    let with_both = memory();
    let each = (with_mesh - before).saturating_sub(with_both - with_mesh) / connections as u64;
    println!(
        "{connections} connections opened in {:.1} s ({} files); at rest each takes {each} bytes of both proxies \
         together",
        opened.as_secs_f64(),
        files()
    );
    assert!(each <= LIMIT, "{each} bytes");
    drop((meshed, direct));
    eventually("they have ended", || world.nodes.iter().all(|node| node.node.live_connections() == 1)).await;
    assert!(opened < Duration::from_secs(120), "{opened:?}");
}

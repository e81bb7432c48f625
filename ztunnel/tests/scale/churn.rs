//! Connections that come and go: what they take they give back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::measure::{allowed_files, alone, files, is_full, memory};
use crate::world::{TestPod, World, eventually, ping, rest};

/// New connections per second, on a machine that can.
const RATE: u32 = 1000;

/// The least that says anything: debug builds on busy machines are slow.
const LOWEST_RATE: f64 = 200.0;

/// The least in the long form, which is for release builds.
const LOWEST_FULL_RATE: f64 = 990.0;

/// Connections at a time; a machine that cannot keep up must not pile them up.
const AT_ONCE: usize = 256;

/// How much more memory may be in use after the second half than after the first, in bytes.
const GROWTH: u64 = 4 << 20;

async fn exchange(from: Arc<TestPod>, to: SocketAddr) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = from.connect(to).await.map_err(failed)?;
    ping(&mut stream, "hello").await.map_err(failed)?;
    stream.shutdown().await.map_err(failed)?;
    rest(&mut stream).await.map_err(failed).map(|_nothing| ())
}

/// Runs for a time; how many connections there were.
///
/// Ports are used again only after a minute, so that several clients and servers take turns.
async fn churn(clients: &[Arc<TestPod>], servers: &[SocketAddr], time: Duration) -> usize {
    let mut pace = interval(Duration::from_secs(1) / RATE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut all, mut count, end) = (JoinSet::new(), 0, Instant::now() + time);
    while Instant::now() < end {
        pace.tick().await;
        let client = Arc::clone(&clients[count % clients.len()]);
        all.spawn(exchange(client, servers[count / clients.len() % servers.len()]));
        count += 1;
        while all.len() >= AT_ONCE {
            all.join_next().await.unwrap().unwrap().unwrap();
        }
        while let Some(done) = all.try_join_next() {
            done.unwrap().unwrap();
        }
    }
    while let Some(done) = all.join_next().await {
        done.unwrap().unwrap();
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_memory_stay_flat_while_connections_come_and_go() {
    let _alone = alone().await;
    allowed_files(10_000);
    let Some(world) = World::new().await else { return };
    let mut clients = Vec::new();
    for number in 0..8 {
        clients.push(Arc::new(world.pod(0, &format!("client-{number}")).await));
    }
    let cart = world.pod(1, "cart").await;
    let servers: Vec<SocketAddr> = (8080..8084).map(|port| cart.at(port)).collect();
    for server in &servers {
        cart.echo(server.port());
    }
    let half = if is_full() { Duration::from_secs(300) } else { Duration::from_secs(15) };
    // Buffers, tunnels and tables reach the size that they keep.
    churn(&clients, &servers, half / 5).await;
    let live = || world.nodes.iter().map(|node| node.node.live_connections()).sum::<usize>();
    let mut seen = Vec::new();
    let (start, mut count) = (Instant::now(), 0);
    for _ in 0..2 {
        count += churn(&clients, &servers, half).await;
        eventually("all connections have ended", || live() == 0).await;
        sleep(Duration::from_millis(500)).await;
        seen.push((files(), memory()));
    }
    let rate = f64::from(u32::try_from(count).unwrap()) / start.elapsed().as_secs_f64();
    let [(files_before, memory_before), (files_after, memory_after)] = <[_; 2]>::try_from(seen).unwrap();
    println!(
        "{count} connections, {rate:.0} per second; files {files_before} and {files_after}, memory {} KiB and {} KiB",
        memory_before >> 10,
        memory_after >> 10
    );
    let least = if is_full() { LOWEST_FULL_RATE } else { LOWEST_RATE };
    assert!(rate >= least, "{rate:.0} per second");
    // A tunnel more or less is how they happened to be shared.
    assert!(files_after <= files_before + 16, "{files_before} files, then {files_after}");
    assert!(memory_after <= memory_before + GROWTH, "{memory_before} bytes, then {memory_after}");
}

//! One process replaces another, or none does: who takes new connections, and what becomes of the old ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::drain::Drained;
use linux::link;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use zds::agent::Answer;

use crate::world::{TestPod, World, eventually, ping, rest, within};

/// New connections per second, on a machine that can.
const RATE: u32 = 600;

/// The least that says anything; machines may have more to do.
const LOWEST_RATE: f64 = 150.0;

/// Connections at a time; a machine that cannot keep up must not pile them up.
const AT_ONCE: usize = 128;

/// How long a drain may take; no test waits for it.
const GRACE: Duration = Duration::from_secs(600);

/// New connections at a steady rate, each with one exchange, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    running: tokio::task::JoinHandle<(usize, Vec<String>)>,
    started: Instant,
}

impl Load {
    fn start(from: &Arc<TestPod>, to: std::net::SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (from, stopped) = (Arc::clone(from), Arc::clone(&stop));
        let running = tokio::spawn(async move {
            let mut pace = interval(Duration::from_secs(1) / RATE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut all, mut sent, mut failed) = (JoinSet::new(), 0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                pace.tick().await;
                let from = Arc::clone(&from);
                all.spawn(async move { exchange(&from, to).await });
                sent += 1;
                while let Some(done) = if all.len() < AT_ONCE { all.try_join_next() } else { all.join_next().await } {
                    failed.extend(done.unwrap().err());
                }
            }
            while let Some(done) = all.join_next().await {
                failed.extend(done.unwrap().err());
            }
            (sent, failed)
        });
        Self { stop, running, started: Instant::now() }
    }

    /// Every connection worked, at the rate that was asked for.
    async fn assert_whole(self, what: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        let (sent, failed) = self.running.await.unwrap();
        assert!(failed.is_empty(), "{what}: {} of {sent} failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
        let rate = f64::from(u32::try_from(sent).unwrap()) / seconds;
        println!("{what}: {sent} connections, {rate:.0} per second, none failed");
        assert!(rate > LOWEST_RATE, "{what}: only {rate:.0} per second");
    }
}

async fn exchange(from: &TestPod, to: std::net::SocketAddr) -> Result<(), String> {
    let mut stream = from.connect(to).await.map_err(|error| format!("connect: {error}"))?;
    ping(&mut stream, "hello").await.map_err(|error| format!("exchange: {error}"))?;
    stream.shutdown().await.map_err(|error| format!("shutdown: {error}"))?;
    rest(&mut stream).await.map_err(|error| format!("end: {error}")).map(|_nothing| ())
}

#[tokio::test]
async fn without_a_successor_new_connections_are_taken_until_the_deadline() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let mut old = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut old, "hello").await.unwrap(), "hello");
    let start = Instant::now();
    for node in &world.nodes {
        node.drain.start(Duration::from_secs(3));
    }
    while start.elapsed() < Duration::from_secs(2) {
        exchange(&frontend, cart.at(8080)).await.unwrap();
    }
    // The agent may still bring pods, and take them.
    let late = world.pod(0, "late").await;
    exchange(&late, cart.at(8080)).await.unwrap();
    world.nodes[0].del(&late).await;
    assert!(rest(&mut old).await.is_err(), "cut at the deadline");
    assert!(start.elapsed() >= Duration::from_secs(3));
    for node in world.nodes {
        assert_eq!(within(node.drain.finished()).await, Drained::Complete);
        within(node.following).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_successor_gets_all_new_connections_and_none_of_the_old() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let mut old = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut old, "hello").await.unwrap(), "hello");
    let successor = world.successor(1).await;
    assert_eq!(successor.add(&cart).await, Answer::Acknowledged);
    world.nodes[1].drain.start(GRACE);
    let served = || world.nodes[1].metric("workload_manager_active_proxy_count", &[]);
    eventually("the pod is left to the successor", || served() == 0).await;
    let opened = || successor.metric("istio_tcp_connections_opened_total", &[]);
    let before = opened();
    for _ in 0..50 {
        exchange(&frontend, cart.at(8080)).await.unwrap();
    }
    assert_eq!(opened() - before, 50);
    // The tunnel of the old connection was told to go; its stream goes on for as long as it likes.
    assert_eq!(ping(&mut old, "old").await.unwrap(), "old");
    old.shutdown().await.unwrap();
    assert_eq!(rest(&mut old).await.unwrap(), b"");
    assert_eq!(within(world.nodes[1].drain.finished()).await, Drained::Complete);
    assert!(world.nodes[1].lines().iter().all(|line| !line.contains("error=")), "{:?}", world.nodes[1].lines());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_lost_when_both_proxies_are_replaced_under_load() {
    let Some(mut world) = World::new().await else { return };
    let (frontend, cart) = (Arc::new(world.pod(0, "frontend").await), world.pod(1, "cart").await);
    cart.echo(8080);
    exchange(&frontend, cart.at(8080)).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(frontend.connect(cart.at(8080)).await.unwrap());
    }
    let load = Load::start(&frontend, cart.at(8080));
    for (node, pod) in [(0, &*frontend), (1, &cart), (0, &*frontend), (1, &cart)] {
        sleep(Duration::from_millis(300)).await;
        let successor = world.successor(node).await;
        assert_eq!(successor.add(pod).await, Answer::Acknowledged);
        sleep(Duration::from_millis(100)).await;
        let predecessor = std::mem::replace(&mut world.nodes[node], successor);
        predecessor.drain.start(GRACE);
        // Whoever was carried by it goes on being carried.
        for stream in &mut streams {
            assert_eq!(ping(stream, "still here").await.unwrap(), "still here");
        }
        world.retired.push(predecessor);
    }
    sleep(Duration::from_millis(300)).await;
    load.assert_whole("replacing each of two proxies twice").await;
    for stream in &mut streams {
        assert_eq!(ping(stream, "still here").await.unwrap(), "still here");
    }
    drop(streams);
    for predecessor in &world.retired {
        assert_eq!(within(predecessor.drain.finished()).await, Drained::Complete);
    }
}

#[tokio::test]
async fn a_pod_is_taken_back_from_a_successor_that_is_gone() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let mut old = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut old, "hello").await.unwrap(), "hello");
    let successor = world.successor(1).await;
    assert_eq!(successor.add(&cart).await, Answer::Acknowledged);
    world.nodes[1].drain.start(GRACE);
    let served = || world.nodes[1].metric("workload_manager_active_proxy_count", &[]);
    eventually("the pod is left to the successor", || served() == 0).await;
    successor.kill().await;
    eventually("the pod is taken back", || served() == 1).await;
    exchange(&frontend, cart.at(8080)).await.unwrap();
    // A second try at an upgrade works as the first one would have.
    let successor = world.successor(1).await;
    assert_eq!(successor.add(&cart).await, Answer::Acknowledged);
    eventually("the pod is left to the second successor", || served() == 0).await;
    exchange(&frontend, cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut old, "old").await.unwrap(), "old");
}

#[tokio::test]
async fn a_predecessor_that_is_still_there_is_no_successor() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let mut live = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut live, "hello").await.unwrap(), "hello");
    let successor = world.successor(1).await;
    assert_eq!(successor.add(&cart).await, Answer::Acknowledged);
    // The newer one is told to end, and nobody came after it. What it accepts, it serves; the older one shares the port.
    successor.drain.start(GRACE);
    let opened = || successor.metric("istio_tcp_connections_opened_total", &[]);
    let both = async {
        while opened() == 0 {
            // Each from another tunnel, so that the kernel chooses anew among the listeners.
            let client = world.stranger("client");
            let _cut = client.connect(cart.at(8080)).await.is_ok();
            let _ = exchange(&client, cart.at(15008)).await;
            exchange(&frontend, cart.at(8080)).await.unwrap();
            sleep(Duration::from_millis(10)).await;
            if successor.metric("workload_manager_active_proxy_count", &[]) == 1 {
                return;
            }
        }
    };
    within(both).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(successor.metric("workload_manager_proxies_stopped_total", &[]), 0, "it did not make way for its elder");
    assert_eq!(world.nodes[1].metric("workload_manager_active_proxy_count", &[]), 1);
}

#[tokio::test]
async fn what_a_deleted_pod_leaves_ends_and_lets_go_of_its_namespace() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let outside = world.stranger("outside");
    cart.echo(8080);
    // One through the mesh, one plaintext and half-closed: its client will never say another word.
    let mut meshed = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut meshed, "hello").await.unwrap(), "hello");
    cart.serve(9090, |mut stream| async move {
        let _ = stream.write_all(b"hello").await;
        std::future::pending::<()>().await;
    });
    let mut plain = outside.connect(cart.at(9090)).await.unwrap();
    let mut hello = [0; 5];
    within(tokio::io::AsyncReadExt::read_exact(&mut plain, &mut hello)).await.unwrap();
    plain.shutdown().await.unwrap();
    let node = &world.nodes[1];
    assert_eq!(node.node.live_connections(), 2);
    node.del(&cart).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(node.node.live_connections(), 2, "a pod that merely leaves the mesh keeps its connections");
    world.fabric.run(|| link::delete(&cart.veth())).unwrap().unwrap();
    eventually("the connections have ended", || node.node.live_connections() == 0).await;
}

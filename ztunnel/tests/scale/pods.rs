//! A thousand pods on one node, enrolled at once, and left to a successor.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::time::Instant;
use zds::agent::Answer;

use crate::measure::{allowed_files, alone, files};
use crate::world::{TestNode, TestPod, World, eventually, ping, within};

/// A bridge has room for 1,024 ports.
const PODS: usize = 1000;

/// Files for each: eight of each of two proxies, one of the test; and what connections take.
const FILES: usize = 18;

/// One in so many pods makes a connection: each has to ask everybody on the bridge for the server, and the server for it.
const SAMPLE: usize = 20;

/// Somebody listens in every pod, and connections of some reach the server, which knows them by their own addresses.
async fn are_captured(by: &TestNode, pods: &[TestPod], server: &TestPod, seen: &Receiver<SocketAddr>) {
    for pod in pods {
        let listeners = pod.netns.run(linux::socket::listening).unwrap().unwrap();
        let ports: HashSet<u16> = listeners.iter().map(|listener| listener.address.port()).collect();
        assert!([15001, 15006, 15008].iter().all(|port| ports.contains(port)), "{}: {ports:?}", pod.name);
    }
    for pod in pods.iter().step_by(SAMPLE) {
        introduce(pod, server);
        let answer = async {
            let mut stream = pod.connect(server.at(8080)).await?;
            ping(&mut stream, &pod.name).await
        };
        let answer = answer.await;
        assert!(answer.as_ref().is_ok_and(|answer| *answer == pod.name), "{}: {answer:?}: {:?}", pod.name, errors(by));
        assert_eq!(seen.try_iter().last().map(|caller| caller.ip()), Some(pod.ip));
    }
}

/// Makes a pod and the server known to each other as neighbours, by datagrams, which nobody captures.
///
/// Who asks for a neighbour asks all thousand ports of the bridge, for which the kernel has a queue of a thousand: some
/// questions are lost, and after three the neighbour counts as unreachable.
fn introduce(pod: &TestPod, server: &TestPod) {
    let bind = |pod: &TestPod| {
        let socket = pod.netns.run(|| UdpSocket::bind((pod.ip, 0))).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    };
    let (near, far) = (bind(pod), bind(server));
    let is_known = (0..100).any(|_| {
        // A send fails while its neighbour counts as unreachable.
        let _ = near.send_to(b"?", far.local_addr().unwrap());
        let Ok((_, from)) = far.recv_from(&mut [0; 1]) else { return false };
        let _ = far.send_to(b"!", from);
        near.recv_from(&mut [0; 1]).is_ok()
    });
    assert!(is_known, "{} and {} do not reach each other", pod.name, server.name);
}

/// What a proxy says of connections that failed.
fn errors(by: &TestNode) -> Vec<String> {
    by.lines().into_iter().filter(|line| line.contains("error=")).take(3).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pods_are_served_at_once_and_left_to_a_successor() {
    let _alone = alone().await;
    let allowed = allowed_files(FILES * PODS);
    if allowed < FILES * PODS {
        return println!("SKIPPED: a process may have {allowed} files open, and {} are needed", FILES * PODS);
    }
    // One worker each: two proxies and all pods are in this process.
    let Some(world) = World::with_config(&[("ZTUNNEL_WORKER_THREADS", "1")]).await else { return };
    let server = world.pod(1, "cart").await;
    let seen = server.echo(8080);
    let pods: Vec<TestPod> = (0..PODS).map(|number| world.captured(&format!("pod-{number}"))).collect();
    for pod in &pods {
        world.publish(world.nodes[0].workload(pod));
    }
    let (start, before) = (Instant::now(), files());
    for pod in &pods {
        assert_eq!(world.nodes[0].add(pod).await, Answer::Acknowledged);
    }
    let took = start.elapsed();
    println!("{PODS} pods are served after {took:?}; {} files each", (files() - before) / PODS);
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(world.nodes[0].metric("workload_manager_active_proxy_count", &[]), PODS as u64);
    let start = Instant::now();
    are_captured(&world.nodes[0], &pods, &server, &seen).await;
    println!("one in {SAMPLE} has made its first connection after {:?}", start.elapsed());
    let through = world.nodes[0].metric("istio_tcp_connections_opened_total", &["reporter=\"source\"", "mutual_tls"]);
    assert_eq!(through, (PODS / SAMPLE) as u64, "connections that left in tunnels");

    // As the agent tells a proxy that connects: all of them, before the end of the snapshot.
    let successor = world.successor(0).await;
    for pod in &pods {
        assert_eq!(successor.add(pod).await, Answer::Acknowledged);
    }
    let start = Instant::now();
    world.nodes[0].drain.start(Duration::from_secs(600));
    let served = || world.nodes[0].metric("workload_manager_active_proxy_count", &[]);
    eventually("all are left to the successor", || served() == 0).await;
    println!("{PODS} pods are left to a successor after {:?}", start.elapsed());
    within(world.nodes[0].drain.finished()).await;
    are_captured(&successor, &pods, &server, &seen).await;
}

//! A proxy that has started and does not know the mesh yet: where it listens, and what becomes of who connects.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use ::policy::{Action, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use zds::agent::Answer;

use crate::policy::policy;
use crate::world::{TestNode, TestPod, World, eventually, ping, within};

/// Long enough for an answer to come, if one came.
const MOMENT: Duration = Duration::from_millis(300);

/// Kills the proxy of a node and starts the next one, which is told of the pod before it knows the mesh.
async fn restart(world: &mut World, node: usize, pod: &TestPod) -> Answer {
    let next = world.beginner(node).await;
    std::mem::replace(&mut world.nodes[node], next).kill().await;
    eventually("nobody listens any more", || {
        let listeners = pod.netns.run(linux::socket::listening).unwrap().unwrap();
        !listeners.iter().any(|one| [15001, 15006, 15008].contains(&one.address.port()))
    })
    .await;
    let answer = world.nodes[node].add(pod).await;
    world.nodes[node].complete_snapshot().await;
    answer
}

/// Connects and sends a text that nobody answers yet.
async fn ask(from: &TestPod, to: SocketAddr) -> TcpStream {
    let mut stream = from.connect(to).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    assert!(timeout(MOMENT, stream.read_u8()).await.is_err(), "answered or cut by somebody who knows nothing");
    stream
}

async fn is_answered(mut stream: TcpStream) {
    let mut answer = [0; 5];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"hello");
}

#[tokio::test]
async fn connections_wait_for_discovery_where_nobody_else_listens() {
    let Some(mut world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    for (node, pod) in [(1, &cart), (0, &frontend)] {
        assert_eq!(restart(&mut world, node, pod).await, Answer::Acknowledged);
        let waiting = ask(&frontend, cart.at(8080)).await;
        assert_eq!(world.nodes[node].node.live_connections(), 0, "nothing is carried without knowing to whom");
        world.nodes[node].discovered.send_replace(true);
        is_answered(waiting).await;
    }
}

#[tokio::test]
async fn policies_that_discovery_brings_hold_for_whoever_has_waited() {
    let Some(mut world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    assert_eq!(restart(&mut world, 1, &cart).await, Answer::Acknowledged);
    let mut waiting = ask(&frontend, cart.at(8080)).await;
    world.enforce(&[policy("nobody", Scope::Namespace, Action::Allow, None)]);
    world.nodes[1].discovered.send_replace(true);
    assert!(within(waiting.read_u8()).await.is_err(), "let in before its policies were known");
    let denied = ["reporter=\"destination\"", "response_flags=\"DENY\""];
    assert_eq!(world.nodes[1].metric("istio_tcp_connections_closed_total", &denied), 1);
}

#[tokio::test]
async fn a_pod_that_somebody_serves_is_left_to_him_until_discovery_is_complete() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let next = world.beginner(1).await;
    let Answer::Refused(reason) = next.add(&cart).await else { panic!("it listens and knows nothing") };
    assert!(reason.contains("another proxy serves the pod"), "{reason}");
    next.complete_snapshot().await;
    let late = world.stranger("late");
    let Answer::Refused(reason) = next.add(&late).await else { panic!("a pod is redirected to who knows nothing") };
    assert!(reason.contains("discovery is not complete"), "{reason}");
    for _ in 0..50 {
        let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    }
    assert_eq!(served(&next), 0);
    assert!(!next.readiness.is_ready());
    next.discovered.send_replace(true);
    eventually("both are served without another word of the agent", || served(&next) == 2 && next.readiness.is_ready())
        .await;
}

#[tokio::test]
async fn without_discovery_connections_do_not_wait_for_ever() {
    let Some(mut world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    assert_eq!(restart(&mut world, 0, &frontend).await, Answer::Acknowledged);
    let mut waiting = ask(&frontend, cart.at(8080)).await;
    assert_eq!(within(waiting.read_u8()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let refused = async {
        while !frontend.connect(cart.at(8080)).await.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(refused).await;
    assert_eq!(served(&world.nodes[0]), 0);
    world.nodes[0].discovered.send_replace(true);
    eventually("the pod is served again", || served(&world.nodes[0]) == 1).await;
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
}

fn served(node: &TestNode) -> u64 {
    node.metric("workload_manager_active_proxy_count", &[])
}

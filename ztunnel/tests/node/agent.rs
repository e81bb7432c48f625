//! The conversation with the node agent, and what it means for pods and their connections.

use std::time::Duration;

use linux::NetNs;
use linux::socket::ListenOptions;
use tokio::time::{sleep, timeout};
use zds::agent::Answer;

use crate::world::{World, eventually, is_cut, ping, rest, within};

#[tokio::test]
async fn a_pod_that_leaves_keeps_its_connections() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    world.nodes[0].del(&frontend).await;
    world.nodes[1].del(&cart).await;
    assert_eq!(world.nodes[0].metric("workload_manager_active_proxy_count", &[]), 0);
    assert_eq!(world.nodes[0].metric("workload_manager_proxies_stopped_total", &[]), 1);
    // New connections are refused as soon as the listeners are gone.
    let refused = async {
        while frontend.connect(cart.at(8081)).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(refused).await;
    for number in 0..20 {
        let text = format!("still here {number}");
        assert_eq!(ping(&mut stream, &text).await.unwrap(), text);
    }
    // The pod comes back while the old connection lives.
    assert_eq!(world.nodes[0].add(&frontend).await, Answer::Acknowledged);
    assert_eq!(world.nodes[1].add(&cart).await, Answer::Acknowledged);
    let mut again = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut again, "back").await.unwrap(), "back");
    assert_eq!(ping(&mut stream, "both").await.unwrap(), "both");
}

#[tokio::test]
async fn a_connection_that_was_redirected_an_instant_ago_is_still_served() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    for round in 0..5 {
        // All handshakes are through, whether or not anybody has accepted yet.
        let mut streams = Vec::new();
        for _ in 0..40 {
            streams.push(frontend.connect(cart.at(8080)).await.unwrap());
        }
        world.nodes[0].del(&frontend).await;
        for stream in &mut streams {
            assert_eq!(ping(stream, "hello").await.unwrap(), "hello", "round {round}");
        }
        assert_eq!(world.nodes[0].add(&frontend).await, Answer::Acknowledged);
    }
}

#[tokio::test]
async fn the_same_pod_again_changes_nothing_and_another_namespace_everything() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(world.nodes[0].add(&frontend).await, Answer::Acknowledged);
    assert_eq!(world.nodes[0].metric("workload_manager_proxies_started_total", &[]), 1);
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    // The same uid in another namespace: what the old one had ends at once.
    let mut moved = world.stranger("frontend");
    moved.uid = frontend.uid.clone();
    assert_eq!(world.nodes[0].add(&moved).await, Answer::Acknowledged);
    assert!(rest(&mut stream).await.is_err());
    let line = world.nodes[0].line(&["error\taccess\tconnection complete"]).await;
    assert!(line.ends_with("error=\"connection closed due to connection drain\""), "{line}");
    assert_eq!(world.nodes[0].metric("workload_manager_proxies_started_total", &[]), 2);
    assert_eq!(world.nodes[0].metric("workload_manager_active_proxy_count", &[]), 1);
}

#[tokio::test]
async fn a_pod_that_cannot_be_served_is_refused_and_tried_again() {
    let Some(world) = World::new().await else { return };
    let node = &world.nodes[0];
    let pod = world.stranger("frontend");
    let taken = pod.netns.run(|| linux::socket::listen("0.0.0.0:15006".parse().unwrap(), &ListenOptions::default()));
    let taken = taken.unwrap().unwrap();
    eventually("the snapshot is complete", || node.readiness.is_ready()).await;
    let Answer::Refused(reason) = node.add(&pod).await else { panic!("the port is taken") };
    assert!(reason.contains("15006"), "{reason}");
    assert!(!node.readiness.is_ready());
    assert_eq!(node.metric("workload_manager_pending_proxy_count", &[]), 1);
    drop(taken);
    eventually("the pod is tried again", || node.readiness.is_ready()).await;
    assert_eq!(node.metric("workload_manager_pending_proxy_count", &[]), 0);
    assert_eq!(node.metric("workload_manager_active_proxy_count", &[]), 1);
    assert!(is_cut(&pod, "127.0.0.1:15006".parse().unwrap()).await, "somebody listens and knows a loop");
}

#[tokio::test]
async fn pods_are_served_on_while_the_agent_is_away() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let leaver = world.pod(0, "leaver").await;
    cart.echo(8080);
    let node = &world.nodes[0];
    let mut stream = leaver.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    node.agent.lock().await.take();
    eventually("the loss is noticed", || !node.readiness.is_ready()).await;
    let mut meanwhile = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut meanwhile, "hello").await.unwrap(), "hello");

    let mut agent = node.accept_proxy().await;
    assert_eq!(within(agent.keep(&frontend.uid)).await.unwrap(), Answer::Acknowledged);
    assert!(matches!(within(agent.keep(&cart.uid)).await.unwrap(), Answer::Refused(_)), "served by another node");
    assert!(!node.readiness.is_ready());
    assert_eq!(within(agent.snapshot_sent()).await.unwrap(), Answer::Acknowledged);
    eventually("the snapshot is complete", || node.readiness.is_ready()).await;
    // Who was not mentioned is no longer served, but keeps what it has.
    assert_eq!(node.metric("workload_manager_active_proxy_count", &[]), 1);
    assert_eq!(ping(&mut stream, "still here").await.unwrap(), "still here");
    assert_eq!(ping(&mut meanwhile, "still here").await.unwrap(), "still here");
}

#[tokio::test]
async fn an_agent_that_breaks_the_protocol_ends_the_proxy() {
    let Some(world) = World::new().await else { return };
    let [first, second] = <[_; 2]>::try_from(world.nodes).unwrap_or_else(|_| panic!("two nodes"));
    let mut agent = first.agent.lock().await.take().unwrap();
    assert!(within(agent.snapshot_sent()).await.is_err(), "a second snapshot is not acknowledged");
    let ended = within(first.following).await.unwrap();
    assert!(ended.unwrap_err().contains("a second snapshot"));
    let mut agent = second.agent.lock().await.take().unwrap();
    assert!(within(agent.keep(&types::PodUid::from("x"))).await.is_err());
    assert!(within(second.following).await.unwrap().unwrap_err().contains("keep after the snapshot"));
}

#[tokio::test]
async fn as_many_connections_may_wait_to_be_accepted_as_the_kernel_allows() {
    let Some(world) = World::new().await else { return };
    let pod = world.pod(0, "frontend").await;
    let most: u32 = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let listeners = pod.netns.run(linux::socket::listening).unwrap().unwrap();
    for port in [15001, 15006, 15008] {
        let backlogs: Vec<u32> =
            listeners.iter().filter(|one| one.address.port() == port).map(|one| one.backlog).collect();
        assert_eq!(backlogs, [most.min(4096); 2], "port {port}: one listener for each worker");
    }
}

#[tokio::test]
async fn what_is_no_network_namespace_is_refused() {
    let Some(world) = World::new().await else { return };
    let node = &world.nodes[0];
    let pod = world.stranger("frontend");
    let mut agent = node.agent.lock().await;
    let file = std::fs::File::open("/dev/null").unwrap();
    let answer = within(agent.as_mut().unwrap().add(&pod.uid, &pod.info(), &file)).await.unwrap();
    assert!(matches!(answer, Answer::Refused(reason) if reason.contains("network namespace")));
    let own = NetNs::current().unwrap();
    assert_ne!(own, pod.netns);
}

/// Label sets stay for half a minute after the workload has left: a rolling update sweeps once, not once per pod.
const SWEPT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_workload_that_has_left_is_soon_gone_from_the_metrics() {
    let Some(world) = World::new().await else { return };
    let (stays, leaves) = (world.pod(0, "stays").await, world.pod(0, "leaves").await);
    let cart = world.pod(1, "cart").await;
    cart.echo(8080);
    for client in [&stays, &leaves] {
        let mut stream = client.connect(cart.at(8080)).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    }
    let has = |name: &str| {
        let label = format!("source_workload=\"{name}-deployment\"");
        world.nodes.iter().all(|node| node.registry.text().contains(&label))
    };
    eventually("both clients are counted", || has("stays") && has("leaves")).await;
    for node in &world.nodes {
        eventually("the connections have ended", || node.node.live_connections() == 0).await;
        node.writer.lock().unwrap().remove(world.nodes[0].workload(&leaves).uid.as_ref());
    }
    let is_counted = || {
        let label = "source_workload=\"leaves-deployment\"";
        world.nodes.iter().any(|node| node.registry.text().contains(label))
    };
    let swept = async {
        while is_counted() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SWEPT, swept).await.expect("its label sets are gone");
    assert!(has("stays"), "those of others stay");
}

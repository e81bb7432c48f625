//! A thousand pods on one node, or as many as this process may have files for.

use std::time::Duration;

use tokio::time::Instant;
use zds::agent::Answer;

use crate::measure::{allowed_files, alone, files};
use crate::world::{TestPod, World, eventually, ping, within};

/// A bridge has room for 1,024 ports.
const PODS: usize = 1000;

/// Files for each: eleven of each of two proxies, one of the test; and what connections take.
const FILES: usize = 25;

async fn is_served(pod: &TestPod, by: &TestPod) {
    let mut stream = pod.connect(by.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, &pod.name).await.unwrap(), pod.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_pods_are_served_at_once_and_left_to_a_successor() {
    let _alone = alone().await;
    let count = allowed_files(FILES * PODS) / FILES;
    let Some(world) = World::new().await else { return };
    let server = world.pod(1, "cart").await;
    server.echo(8080);
    let pods: Vec<TestPod> = (0..count).map(|number| world.captured(&format!("pod-{number}"))).collect();
    for pod in &pods {
        world.publish(world.nodes[0].workload(pod));
    }
    let (start, before) = (Instant::now(), files());
    for pod in &pods {
        assert_eq!(world.nodes[0].add(pod).await, Answer::Acknowledged);
    }
    let took = start.elapsed();
    let each = (files() - before) / count;
    println!("{count} pods are served after {took:?}; {each} files each");
    assert!(took < Duration::from_secs(30), "{took:?}");
    for pod in pods.iter().step_by(count / 20) {
        is_served(pod, &server).await;
    }

    // As the agent tells a proxy that connects: all of them, before the end of the snapshot.
    let successor = world.successor(0).await;
    for pod in &pods {
        assert_eq!(successor.add(pod).await, Answer::Acknowledged);
    }
    let start = Instant::now();
    world.nodes[0].drain.start(Duration::from_secs(600));
    let served = || world.nodes[0].metric("workload_manager_active_proxy_count", &[]);
    eventually("all are left to the successor", || served() == 0).await;
    println!("{count} pods are left to a successor after {:?}", start.elapsed());
    within(world.nodes[0].drain.finished()).await;
    for pod in pods.iter().step_by(count / 20) {
        is_served(pod, &server).await;
    }
}

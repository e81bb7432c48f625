//! How the workers of a proxy share the work.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use crate::measure::alone;
use crate::world::{World, ping};

/// Connections at a time.
const CONNECTIONS: usize = 8;

/// Requests and answers of each.
const EXCHANGES: usize = 200;

/// The time that each worker thread of the process has run so far, in nanoseconds, by its thread id.
fn run_times() -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let folder = thread.unwrap().path();
        // A thread may end between two looks.
        let Ok(name) = std::fs::read_to_string(folder.join("comm")) else { continue };
        let Ok(times_and_turns) = std::fs::read_to_string(folder.join("schedstat")) else { continue };
        if name.starts_with("worker-") {
            let run = times_and_turns.split(' ').next().unwrap().parse().unwrap();
            times.insert(folder.file_name().unwrap().to_string_lossy().into_owned(), run);
        }
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_workers_carry_what_one_of_them_accepts() {
    let _alone = alone().await;
    // All connections of a pod arrive at one worker; between the nodes they share as many tunnels as there are workers.
    let variables = [("ZTUNNEL_WORKER_THREADS", "2"), ("INPOD_PORT_REUSE", "false")];
    let Some(world) = World::with_config(&variables).await else { return };
    let (client, server) = (world.pod(0, "client").await, world.pod(1, "cart").await);
    server.echo(8080);
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = client.connect(server.at(8080)).await.unwrap();
        ping(&mut stream, "hello").await.unwrap();
        streams.push(stream);
    }
    let before = run_times();
    let mut all = JoinSet::new();
    for mut stream in streams {
        all.spawn(async move {
            for _ in 0..EXCHANGES {
                ping(&mut stream, "hello").await.unwrap();
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    let after = run_times();
    let spent: Vec<u64> = before.iter().filter_map(|(thread, before)| Some(after.get(thread)? - before)).collect();
    println!("nanoseconds of each worker: {spent:?}");
    assert_eq!(spent.len(), 4, "two proxies with two workers each");
    let most = spent.iter().max().unwrap();
    assert!(spent.iter().all(|one| one > &(most / 8)), "one has hardly anything to do: {spent:?}");
}

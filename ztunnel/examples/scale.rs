//! What a large mesh costs one node proxy: time until it is ready, time until a change is in force, memory, and what a
//! dump of everything adds.
//!
//! `cargo run --release -p ztunnel --example scale -- 100000` prints one row per number of workloads given.
//! It needs a network namespace, as root or in a user namespace (`unshare --user --map-root-user`).
//! The proxy is a process of its own; its discovery server and node agent are in this one.
//! What the server says is encoded before the clock starts, so that what is measured is the proxy's work, not a control
//! plane's.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks to its terminal")]

#[path = "scale/cost.rs"]
mod cost;
#[path = "scale/mesh.rs"]
mod mesh;
#[path = "scale/proxy.rs"]
mod proxy;
#[path = "scale/script.rs"]
mod script;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use linux::{NetNs, link};
use tikv_jemallocator::Jemalloc;
use tokio::time::Instant;

use crate::mesh::Mesh;
use crate::proxy::Proxy;

/// That of the program whose proxy is measured.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How often an endpoint is changed.
const CHANGES: u64 = 21;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        Some(proxy::CHILD) => proxy::run(),
        _ => measure_all(),
    };
    outcome.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn measure_all() -> Result<()> {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    let sizes = if sizes.is_empty() { vec![0, 10_000, 100_000] } else { sizes };
    println!(
        "{:>9} {:>8} {:>8} {:>8} {:>9} {:>10} {:>10} {:>9} {:>10}",
        "workloads", "services", "ready ms", "CPU ms", "change ms", "memory KiB", "per w/l B", "dump MiB", "dump + KiB"
    );
    let mut empty = None;
    for size in sizes {
        let row = in_namespace(size)?;
        let base = *empty.get_or_insert(row.memory);
        let per_workload = if size == 0 { 0 } else { row.memory.saturating_sub(base) * 1024 / size as u64 };
        println!(
            "{:>9} {:>8} {:>8.0} {:>8.0} {:>9.1} {:>10} {:>10} {:>9.1} {:>10}",
            size,
            size / mesh::WORKLOADS_PER_SERVICE,
            row.ready.as_secs_f64() * 1e3,
            row.processor.as_secs_f64() * 1e3,
            row.change.as_secs_f64() * 1e3,
            row.memory,
            per_workload,
            row.dump_bytes as f64 / f64::from(1 << 20),
            row.dump_peak.saturating_sub(row.memory),
        );
    }
    Ok(())
}

/// What one mesh costs; memory in KiB.
struct Row {
    /// From the start of the process to its readiness.
    ready: Duration,
    /// What of the processors the proxy used until then.
    processor: Duration,
    /// The median time from the publication of a change to its acknowledgement, which follows its use.
    change: Duration,
    memory: u64,
    dump_bytes: usize,
    dump_peak: u64,
}

fn in_namespace(size: usize) -> Result<Row> {
    let netns = NetNs::create().context("network namespaces cannot be made here")?;
    // A thread of its own: it does not come back from the namespace.
    let work = move || {
        netns.run(|| {
            link::set_up("lo")?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            runtime.block_on(measure(size))
        })?
    };
    std::thread::spawn(work).join().map_err(|_panic| anyhow::anyhow!("the measurement panicked"))?
}

async fn measure(size: usize) -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let mut mesh = Mesh::start(size).await?;
    let started = Instant::now();
    let proxy = Proxy::start(folder.path()).await?;
    proxy.wait_until_ready(PATIENCE).await?;
    let (ready, processor) = (started.elapsed(), proxy.processor_time()?);
    let mut changes = Vec::new();
    for change in 0..CHANGES {
        changes.push(mesh.change_an_endpoint(change, PATIENCE).await?);
    }
    changes.sort();
    let change = changes.get(changes.len() / 2).copied().unwrap_or_default();
    let memory = proxy.memory()?;
    let (dump_bytes, dump_peak) = proxy.dump().await?;
    ensure!(dump_bytes > size, "the dump is too short for a mesh of {size}");
    Ok(Row { ready, processor, change, memory, dump_bytes, dump_peak })
}

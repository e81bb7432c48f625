//! Ten thousand connections at the same time, through ztunnels that are processes of their own: all of them are open
//! before any of them exchanges bytes a second time.

use std::time::Duration;

use crate::support::lab::{Lab, shop};
use crate::support::load::{CrowdReport, Running};
use crate::support::processes::{memory, most_files, open_files};
use crate::support::{eventually, skip};

const PODS: &str = include_str!("../fixtures/shop.yaml");

const CONNECTIONS: usize = 10_000;

/// Files that a ztunnel has for other things: pods, tunnels, its own ports.
const OTHER_FILES: usize = 600;

/// How long all of them may take to open, on a busy machine in a debug build.
const OPENING: Duration = Duration::from_secs(60);

/// Memory that a connection at rest may cost each of the two ztunnels, in bytes.
const LIMIT: u64 = 16 << 10;

/// A ztunnel under observation.
struct Ztunnel {
    process: u32,
    files: usize,
    memory: u64,
}

impl Ztunnel {
    async fn of(lab: &Lab, node: &str) -> Self {
        let process = lab.component("ztunnel", &format!("ztunnel-{node}")).await;
        Self { process, files: open_files(process), memory: memory(process) }
    }

    /// Memory in bytes that each of so many connections takes since.
    fn each(&self, connections: usize) -> u64 {
        memory(self.process).saturating_sub(self.memory) / connections as u64
    }

    /// Waits until all that the connections took is given back, but for tunnels that are kept for others.
    async fn is_empty_again(&self) {
        eventually("the files of the connections are closed", async || {
            (open_files(self.process) <= self.files + OTHER_FILES / 2).then_some(())
        })
        .await;
    }
}

/// How many of the wanted connections a ztunnel may carry that has `files` for each of them.
fn possible(ztunnel: &Ztunnel, files: usize) -> usize {
    CONNECTIONS.min(most_files(ztunnel.process).saturating_sub(OTHER_FILES) / files)
}

/// Opens them all, looks at the ztunnels meanwhile, and lets all exchange bytes again.
async fn exchange_in_a_crowd(lab: &Lab, (from, to): (&str, &str), connections: usize, ztunnels: &[&Ztunnel]) {
    let mut crowd = Running::crowd(lab, shop(from), to, connections).await;
    assert_eq!(crowd.opened(OPENING).await, connections);
    let each: Vec<u64> = ztunnels.iter().map(|ztunnel| ztunnel.each(connections)).collect();
    for ztunnel in ztunnels {
        assert!(open_files(ztunnel.process) >= ztunnel.files + connections, "not all of them come through here");
    }
    let report = crowd.finish::<CrowdReport>().await;
    println!(
        "{from} to {to}: {} connections opened in {:.1} s, exchanged again and closed in {:.1} s; at rest each takes \
         {each:?} bytes of the ztunnels that carry it",
        report.opened, report.opening_seconds, report.exchanging_seconds
    );
    assert_eq!((report.opened, report.ok, report.failed), (connections, connections, 0), "{report:?}");
    assert!(each.iter().all(|each| *each <= LIMIT), "{each:?} bytes");
    for ztunnel in ztunnels {
        ztunnel.is_empty_again().await;
    }
}

#[tokio::test]
async fn ten_thousand_connections_exchange_bytes_after_the_last_has_opened() {
    let Some(lab) = Lab::start_alone(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    let (client, server) = (Ztunnel::of(&lab, "node-1").await, Ztunnel::of(&lab, "node-2").await);
    if possible(&client, 1) < CONNECTIONS {
        return skip("processes may not have ten thousand files open");
    }
    exchange_in_a_crowd(&lab, ("frontend", "cart:9000"), CONNECTIONS, &[&client, &server]).await;
}

#[tokio::test]
async fn as_many_connections_as_files_permit_are_handed_over_within_a_node() {
    let Some(lab) = Lab::start_alone(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("payment", "cart", "node-2").await;
    let ztunnel = Ztunnel::of(&lab, "node-2").await;
    // Both ends of each are in one process.
    let connections = possible(&ztunnel, 2);
    exchange_in_a_crowd(&lab, ("payment", "cart:9000"), connections, &[&ztunnel]).await;
}

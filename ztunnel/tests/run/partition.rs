//! The network between the program and its control plane is cut for an hour that takes seconds: the clock by which both
//! wait is moved on by hand. What certificates do when they end meanwhile is tested where their clock can be moved too.

use std::time::Duration;

use linux::NetNs;
use linux::nft::{self, Base, Chain, ChainKind, Change, Family, Hook, Relation, Rule, Statement, Table, Transport};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use types::PodUid;
use zds::agent::Answer;

use crate::control::Control;
use crate::machine::{Machine, on_machine, request, within};
use crate::program::{agent, info};

const MINUTE: Duration = Duration::from_secs(60);

/// How long certificates last: they are due for renewal half-way, while nobody can be asked.
const VALIDITY: Duration = Duration::from_secs(90 * 60);

/// How long a program may take to come back to a control plane that can be reached again.
const RETURN: Duration = Duration::from_secs(30);

/// Drops every packet between the program and its control plane, so that neither is told.
fn cut() {
    let drop = |port| Rule::new([port, Statement::Drop]);
    let rules = [
        drop(Statement::DestinationPort(Transport::Tcp, Relation::Equal, 15012)),
        drop(Statement::SourcePort(Transport::Tcp, Relation::Equal, 15012)),
    ];
    let mut table = Table::new(Family::Inet, "partition");
    table.chains = vec![Chain::at(Base::new(ChainKind::Filter, Hook::Input, 0), "input", rules)];
    nft::apply(&[Change::ReplaceTable(table)]).unwrap();
}

fn mend() {
    nft::apply(&[Change::DeleteTable { family: Family::Inet, name: "partition".to_owned() }]).unwrap();
}

/// Moves the clock on, and lets everybody do what was due.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
    sleep(Duration::from_millis(20)).await;
}

/// How many policies the program enforces, and what it says of its certificate.
async fn known() -> (usize, String) {
    let (_, text) = within(request(15000, "GET /config_dump")).await.unwrap();
    let dump: Value = serde_json::from_str(&text).unwrap();
    let state = dump["certificates"][0]["state"].as_str().unwrap_or_default();
    (dump["policies"].as_array().unwrap().len(), state.to_owned())
}

async fn lost_streams(machine: &Machine) -> u64 {
    let metrics = machine.answer(15020, "/metrics", 200).await;
    let lines = metrics.lines().filter(|line| line.starts_with("istio_xds_connection_terminations_total{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn an_hour_without_a_way_to_the_control_plane_changes_nothing() {
    on_machine(|machine| async move {
        let control = Control::signing(VALIDITY).await;
        machine.write("root.pem", &control.roots_pem);
        let program = machine.start(&[]);
        let mut agent = agent(&machine).await;
        let pod = NetNs::create().unwrap();
        assert_eq!(within(agent.add(&PodUid::from("6a1c"), &info(), &pod)).await.unwrap(), Answer::Acknowledged);
        assert_eq!(within(agent.snapshot_sent()).await.unwrap(), Answer::Acknowledged);
        machine.answer(15021, "/healthz/ready", 200).await;
        let ready = async {
            while known().await != (1, "Available".to_owned()) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        within(ready).await;
        assert_eq!(lost_streams(&machine).await, 0);

        cut();
        // What is changed meanwhile arrives when it can.
        control.push(2);
        for minute in 0..60 {
            pass(MINUTE).await;
            assert_eq!(known().await, (1, "Available".to_owned()), "minute {minute}");
            assert_eq!(machine.answer(15021, "/healthz/ready", 200).await, "ready\n", "minute {minute}");
        }
        let lost = lost_streams(&machine).await;
        assert!(lost > 10, "nobody has noticed, or nobody has tried again: {lost}");

        mend();
        let mended = Instant::now();
        let updated = async {
            while known().await.0 != 0 {
                pass(Duration::from_secs(1)).await;
            }
        };
        within(updated).await;
        assert!(mended.elapsed() <= RETURN, "{:?}", mended.elapsed());
        assert_eq!(known().await.1, "Available");
        program.trigger.force();
        within(program.ended).await.unwrap().unwrap();
    });
}

//! Programs in this process's own namespaces, as if they were a container's.

use std::collections::BTreeSet;
use std::path::Path;

use linux::NetNs;
use linux::process::{is_privileged, mount_namespace_of};
use tokio::time::Instant;

use super::*;

/// As a container; `None`, after saying so, where namespaces cannot be entered.
fn container() -> Option<Process> {
    if !is_privileged() {
        println!("SKIPPED: entering a mount namespace takes root");
        return None;
    }
    Some(Process {
        network: NetNs::current().unwrap(),
        mounts: mount_namespace_of(std::process::id()).unwrap(),
        host_name: "cart".to_owned(),
        environment: vec![("PATH".to_owned(), SEARCH_PATH.to_owned()), ("WORD".to_owned(), "hello".to_owned())],
    })
}

async fn shell(process: &Process, script: &str) -> Result<(), String> {
    let command = ["sh", "-c", script].map(str::to_owned);
    run(&command, Some(process)).await
}

#[tokio::test]
async fn the_exit_code_decides_and_the_output_explains() {
    let Some(process) = container() else { return };
    assert_eq!(shell(&process, "test \"$WORD\" = hello").await, Ok(()));
    assert_eq!(shell(&process, "echo no; echo really no >&2; exit 3").await, Err("no\nreally no".to_owned()));
    assert_eq!(shell(&process, "exit 3").await, Err("the command ended with 3".to_owned()));
    assert_eq!(shell(&process, "kill -9 $$").await, Err("the command ended with 137".to_owned()));
    let missing = run(&["no-such-program".to_owned()], Some(&process)).await.unwrap_err();
    assert!(missing.contains("\"no-such-program\" is not a program of the host"), "{missing}");
    assert_eq!(run(&["true".to_owned()], None).await, Err("the container does not run".to_owned()));
}

#[tokio::test]
async fn output_without_end_is_read_and_cut() {
    let Some(process) = container() else { return };
    let said = shell(&process, "yes | head -c 1000000; exit 1").await.unwrap_err();
    assert!(said.len() <= MAX_OUTPUT && said.starts_with("y\ny\n"), "{} bytes", said.len());
}

#[tokio::test]
async fn what_a_program_leaves_behind_neither_holds_it_up_nor_stays() {
    let Some(process) = container() else { return };
    let mark = tempfile::NamedTempFile::new().unwrap();
    let begun = Instant::now();
    let script = format!("sleep 1000 & echo $! > {}; exit 0", mark.path().display());
    assert_eq!(shell(&process, &script).await, Ok(()));
    assert!(begun.elapsed() < Duration::from_secs(20));
    is_gone(mark.path()).await;
}

#[tokio::test]
async fn a_program_that_is_not_waited_for_is_killed_with_its_children() {
    let Some(process) = container() else { return };
    let mark = tempfile::NamedTempFile::new().unwrap();
    let script = format!("sleep 1000 & echo $! > {}; sleep 1000", mark.path().display());
    let never = shell(&process, &script);
    let written = async {
        while !std::fs::read_to_string(mark.path()).unwrap().ends_with('\n') {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        outcome = never => panic!("{outcome:?}"),
        () = written => {}
    }
    is_gone(mark.path()).await;
}

/// Waits until the process whose number is in this file has ended.
async fn is_gone(mark: &Path) {
    let pid: u32 = std::fs::read_to_string(mark).unwrap().trim().parse().unwrap();
    let gone = async {
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let states = BTreeSet::from(["Z", "X", ""]);
            if states.contains(stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim()).split(' ').next().unwrap()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}

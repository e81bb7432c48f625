//! `aquifer demo`: it passes, it fails where it is sabotaged, and it leaves nothing.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use crate::support::lab::is_refused;
use crate::support::processes::{Signal, alive, all_end, family, send};
use crate::support::program::{is_root, place_for_a_lab, text, whole_machine};
use crate::support::{Caller, eventually, skip};

/// A demo is over within a minute.
const DEADLINE: Duration = Duration::from_secs(60);

/// One that was sabotaged waits in vain at several steps, perhaps beside another lab.
const SABOTAGED_DEADLINE: Duration = Duration::from_secs(150);

async fn demo(caller: &Caller, arguments: &[&str], deadline: Duration) -> Output {
    let running = caller.command(&[&["demo"], arguments].concat()).output();
    timeout(deadline, running).await.unwrap_or_else(|_| panic!("the demo takes longer than {deadline:?}")).unwrap()
}

/// Ticks (`true`) and crosses of each section, by its first word.
fn sections(output: &Output) -> BTreeMap<String, Vec<bool>> {
    let mut sections: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    let mut current = String::new();
    for line in text(&output.stdout).lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        match word {
            "✔" | "✘" => sections.entry(current.clone()).or_default().push(word == "✔"),
            _ if !line.starts_with(' ') && !line.is_empty() => word.clone_into(&mut current),
            _ => {}
        }
    }
    sections
}

fn assert_passes(output: &Output) {
    let said = text(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    let passed = last.strip_prefix("demo: ").and_then(|rest| rest.strip_suffix(" checks passed, 0 failed"));
    let passed: usize = passed.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{said}\n{output:?}"));
    assert!(output.status.success(), "{said}");
    let sections = sections(output);
    assert_eq!(sections.keys().map(String::as_str).collect::<Vec<_>>(), expected_sections(output), "{said}");
    assert_eq!(sections.values().map(Vec::len).sum::<usize>(), passed, "each check has its line: {said}");
    assert!(!said.contains('\x1b'), "colour only on a terminal: {said:?}");
}

/// The sections that check something.
fn expected_sections(output: &Output) -> Vec<&'static str> {
    let all = ["F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9"];
    all.into_iter().filter(|section| *section != "F6" || !has_no_ipv6(output)).collect()
}

/// Whether the demo says that it leaves IPv6 out.
fn has_no_ipv6(output: &Output) -> bool {
    text(&output.stdout).contains("F6  Over IPv6: skipped")
}

#[tokio::test]
async fn everything_is_shown_and_holds() {
    let _place = whole_machine().await;
    let output = demo(&Caller::own(), &[], DEADLINE).await;
    if !is_refused(&output) {
        assert_passes(&output);
    }
}

#[tokio::test]
async fn everything_holds_for_an_ordinary_user_too() {
    if !is_root() {
        return skip("whoever runs the tests is an ordinary user already");
    }
    let _place = whole_machine().await;
    let output = demo(&Caller::ordinary(), &[], DEADLINE).await;
    if !is_refused(&output) {
        assert_passes(&output);
    }
}

/// What is broken must show in its own section and in no other.
async fn sabotage_shows(step: &str, section: &str) {
    // Every other step must hold, also those that are timed.
    let _place = whole_machine().await;
    let output = demo(&Caller::own(), &["--sabotage", step], SABOTAGED_DEADLINE).await;
    if is_refused(&output) {
        return;
    }
    if step == "ipv6" && has_no_ipv6(&output) {
        return skip("this machine has no IPv6");
    }
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let sections = sections(&output);
    assert_eq!(sections.keys().map(String::as_str).collect::<Vec<_>>(), expected_sections(&output), "{said}");
    for (name, checks) in sections {
        assert_eq!(name == section, checks.contains(&false), "{name}: {said}");
    }
    assert!(!said.lines().last().unwrap().ends_with(" 0 failed"), "{said}");
}

#[tokio::test]
async fn where_there_is_nothing_to_read_the_first_step_fails() {
    sabotage_shows("plaintext", "F1").await;
}

#[tokio::test]
async fn without_redirection_the_capture_step_fails() {
    sabotage_shows("capture", "F2").await;
}

#[tokio::test]
async fn without_tls_the_encryption_step_fails() {
    sabotage_shows("encryption", "F3").await;
}

#[tokio::test]
async fn without_policy_the_policy_step_fails() {
    sabotage_shows("policy", "F4").await;
}

#[tokio::test]
async fn without_agents_the_release_step_fails() {
    sabotage_shows("release", "F5").await;
}

#[tokio::test]
async fn without_ipv6_rules_the_ipv6_step_fails() {
    sabotage_shows("ipv6", "F6").await;
}

#[tokio::test]
async fn without_captured_lookups_the_name_step_fails() {
    sabotage_shows("names", "F7").await;
}

#[tokio::test]
async fn without_a_drain_the_succession_step_fails() {
    sabotage_shows("drain", "F8").await;
}

#[tokio::test]
async fn without_a_return_of_the_control_plane_its_step_fails() {
    sabotage_shows("absence", "F9").await;
}

/// A demo that has said a line with these words; `None`, after saying so, where the kernel refuses.
async fn demo_until(caller: &Caller, words: &str) -> Option<Child> {
    let mut child = caller.command(&["demo"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = timeout(DEADLINE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(words) {
                return true;
            }
        }
        false
    });
    if !said.await.unwrap_or_else(|_| panic!("the demo does not get to {words:?}")) {
        assert!(is_refused(&child.wait_with_output().await.unwrap()), "the demo ended before {words:?}");
        return None;
    }
    // Nobody reads on; the demo does not mind.
    Some(child)
}

#[tokio::test]
async fn a_killed_demo_leaves_no_process_and_its_files_only_until_the_next() {
    let _place = place_for_a_lab().await;
    let caller = Caller::ordinary();
    let Some(mut child) = demo_until(&caller, "F2 ").await else { return };
    let pid = child.id().unwrap();
    let family = family(pid);
    assert!(family.len() > 10, "the lab, its pods and the clients: {family:?}");
    send(pid, Signal::Kill);
    child.wait().await.unwrap();
    all_end(&family).await;
    let left = caller.state().unwrap().join(format!("demo-{pid}"));
    assert!(left.exists(), "a killed process cannot tidy up");
    let Some(mut next) = demo_until(&caller, "network of").await else { return };
    assert!(!left.exists(), "the next demo does");
    send(next.id().unwrap(), Signal::Interrupt);
    timeout(DEADLINE, next.wait()).await.expect("an interrupted demo ends").unwrap();
}

#[tokio::test]
async fn a_kept_demo_can_be_looked_around_in_and_ended() {
    let _place = place_for_a_lab().await;
    // The name of a kept lab is fixed; an ordinary user's own directory keeps it from other people's.
    let caller = Caller::ordinary();
    let output = demo(&caller, &["--keep"], DEADLINE).await;
    if is_refused(&output) {
        return;
    }
    let end = End(&caller);
    assert_passes(&output);
    let said = text(&output.stdout);
    assert!(said.contains("aquifer down --name demo"), "{said}");
    assert!(said.contains("export KUBECONFIG="), "{said}");
    let lab = ["--name", "demo"];
    let status = caller.run(&[&["status", "-o", "json"], &lab[..]].concat()).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let family = family(u32::try_from(status["pid"].as_u64().unwrap()).unwrap());
    assert!(status["pods"].as_array().unwrap().iter().any(|pod| pod["name"] == "cart"), "{status}");
    let program = ["frontend", "-n", "shop", "--", "aquifer", "echo", "client", "load", "--for", "100ms", "--url"];
    let answer = caller.run(&[&["exec"], &lab[..], &program, &["http://cart/"]].concat()).await;
    assert!(answer.status.success(), "{answer:?}");
    let log = caller.run(&[&["logs"], &lab[..], &["ztunnel-node-2", "-n", "aquifer-system"]].concat()).await;
    assert!(text(&log.stdout).contains("connection complete"), "{log:?}");
    let down = caller.run(&[&["down"], &lab[..]].concat()).await;
    assert!(down.status.success(), "{down:?}");
    eventually("every process has ended", async || alive(&family).is_empty().then_some(())).await;
    drop(end);
}

/// Ends the kept lab also when the test fails.
struct End<'a>(&'a Caller);

impl Drop for End<'_> {
    fn drop(&mut self) {
        // It is gone already when the test passed.
        let _ = self.0.run_blocking(&["down", "--name", "demo"]);
    }
}

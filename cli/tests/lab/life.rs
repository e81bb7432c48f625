//! Labs come, go and are killed, and leave nothing.

use std::process::{Child, Stdio};

use crate::support::{Caller, Lab, alive, create, echo, eventually, exists, family, is_refused, unique_name};

async fn with_pods(lab: &Lab) {
    let client = lab.client().await;
    create(&client, [echo("a", "node-1"), echo("b", "node-2")]).await;
    lab.ready_pod(&client, "a").await;
    lab.ready_pod(&client, "b").await;
}

fn kill(pid: u32, signal: linux::process::Signal) {
    linux::process::kill(pid, signal).unwrap();
}

async fn all_end(family: &std::collections::BTreeSet<(u32, u64)>) {
    eventually("every process has ended", async || alive(family).is_empty().then_some(())).await;
}

fn state_directory(lab: &Lab) -> std::path::PathBuf {
    let output = lab.run("kubeconfig", &["--path"]);
    let path = String::from_utf8(output.stdout).unwrap();
    std::path::Path::new(path.trim()).parent().unwrap().to_owned()
}

/// Mounts of this machine that mention a lab.
fn mounts() -> String {
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains("aquifer")).map(str::to_owned).collect::<Vec<_>>().join("\n")
}

async fn down_leaves_nothing(lab: &Lab) {
    let before = mounts();
    with_pods(lab).await;
    assert_eq!(mounts(), before, "mounts stay in the lab");
    let (family, directory) = (family(lab.pid()), state_directory(lab));
    assert!(family.len() >= 4, "two of its own and two pods: {family:?}");
    assert!(exists(&directory));
    let output = lab.run("down", &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(alive(&family), Vec::<u32>::new());
    assert!(!exists(&directory));
    let output = lab.run("status", &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, format!("error: no lab {0:?} runs\n  start it: aquifer up --name {0}\n", lab.name));
}

#[tokio::test]
async fn down_leaves_no_process_no_mount_and_no_file() {
    let Some(lab) = Lab::start() else { return };
    down_leaves_nothing(&lab).await;
}

#[tokio::test]
async fn an_ordinary_users_lab_leaves_nothing_either() {
    let Some(lab) = Lab::start_as(Caller::ordinary()) else { return };
    down_leaves_nothing(&lab).await;
}

#[tokio::test]
async fn a_killed_lab_ends_whole_and_starts_again() {
    let Some(lab) = Lab::start() else { return };
    with_pods(&lab).await;
    let family = family(lab.pid());
    kill(lab.pid(), linux::process::Signal::Kill);
    all_end(&family).await;
    let output = lab.caller.run(&["up", "--detach", "--without-mesh", "--name", &lab.name]);
    assert!(output.status.success(), "{output:?}");
    with_pods(&lab).await;
}

#[tokio::test]
async fn a_killed_supervisor_is_the_end_of_its_lab() {
    let Some(lab) = Lab::start() else { return };
    with_pods(&lab).await;
    let family = family(lab.pid());
    let supervisor = children(lab.pid()).into_iter().find(|child| says(*child, "lab-supervisor")).unwrap();
    let directory = state_directory(&lab);
    kill(supervisor, linux::process::Signal::Kill);
    all_end(&family).await;
    assert!(!lab.run("down", &[]).status.success(), "there is nothing to end any more");
    assert!(!exists(&directory), "but what was left is gone");
}

fn user() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap())
}

fn children(parent: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn says(pid: u32, word: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(word))
}

#[tokio::test]
async fn a_name_is_taken_while_its_lab_lives() {
    let Some(lab) = Lab::start() else { return };
    let output = lab.caller.run(&["up", "--detach", "--without-mesh", "--name", &lab.name]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with(&format!("error: lab {:?} runs already as process {}", lab.name, lab.pid())), "{said}");
    assert!(said.contains(&format!("end it: aquifer down --name {}", lab.name)), "{said}");
    assert_eq!(lab.status()["name"], lab.name.as_str(), "the first lab is none the worse");
}

/// A lab that belongs to its command.
async fn attached() -> Option<(Child, Lab)> {
    let (caller, name) = (Caller::own(), unique_name());
    let arguments = ["up", "--without-mesh", "--name", &name];
    let mut child = caller.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lab = Lab { caller, name };
    let is_up = eventually("the lab is up or refused", async || {
        let is_up = lab.run("status", &[]).status.success();
        (is_up || child.try_wait().unwrap().is_some()).then_some(is_up)
    })
    .await;
    if !is_up {
        assert!(is_refused(&child.wait_with_output().unwrap()));
        return None;
    }
    Some((child, lab))
}

#[tokio::test]
async fn ctrl_c_ends_an_attached_lab_cleanly() {
    let Some((mut child, lab)) = attached().await else { return };
    with_pods(&lab).await;
    let (family, directory) = (family(lab.pid()), state_directory(&lab));
    kill(child.id(), linux::process::Signal::Interrupt);
    let status = eventually("the command has ended", async || child.try_wait().unwrap()).await;
    assert!(status.success(), "{status}");
    assert_eq!(alive(&family), Vec::<u32>::new());
    assert!(!exists(&directory));
}

#[tokio::test]
async fn an_attached_lab_dies_with_its_command() {
    let Some((mut child, lab)) = attached().await else { return };
    with_pods(&lab).await;
    let family = family(lab.pid());
    child.kill().unwrap();
    child.wait().unwrap();
    all_end(&family).await;
}

#[tokio::test]
async fn a_lab_that_cannot_start_leaves_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (caller, name) = (Caller::own(), unique_name());
    let port = taken.local_addr().unwrap().port().to_string();
    let output = caller.run(&["up", "--detach", "--name", &name, "--port", &port]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with(&format!("error: cannot serve the Kubernetes API on 127.0.0.1:{port}")), "{said}");
    // The test's own environment has no XDG_RUNTIME_DIR, so that there are two places to look at.
    for base in ["/run/aquifer".to_owned(), format!("/tmp/aquifer-{}", user())] {
        assert!(!exists(&std::path::Path::new(&base).join(&name)), "{base}");
    }
}

#[tokio::test]
async fn two_labs_live_side_by_side() {
    let (Some(one), Some(two)) = (Lab::start(), Lab::start()) else { return };
    with_pods(&one).await;
    with_pods(&two).await;
    assert!(one.run("down", &[]).status.success());
    assert_eq!(two.status()["pods"].as_array().unwrap().len(), 2);
}

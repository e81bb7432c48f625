//! A lab with the mesh in it, for one test: brought up, driven by kubectl, entered, taken down.

use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::SemaphorePermit;

use super::load::burst;
use super::processes::{component, family};
use super::program::{Caller, has_peers, output, place_for_a_lab, text, whole_machine};
use super::{PATIENCE, eventually, explained, skip, within};

/// The annotation that says that a pod's new connections go through the mesh.
pub(crate) const REDIRECTION: &str = "ambient.istio.io/redirection";

/// The namespace of the mesh's own components.
pub(crate) const SYSTEM: &str = "aquifer-system";

/// The namespace that most tests' pods are in.
pub(crate) const SHOP: &str = "shop";

/// Lines of a component's log that a failed test shows.
const LAST_LINES: usize = 40;

/// Numbers the labs of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Where a program runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// In a pod: namespace and name.
    Pod(&'a str, &'a str),
    /// In the network of a node.
    Node(&'a str),
}

/// In a pod of the shop.
pub(crate) const fn shop(pod: &str) -> Place<'_> {
    Place::Pod(SHOP, pod)
}

/// A running lab, which ends with the test.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) caller: Caller,
    pub(crate) name: String,
    kubeconfig: String,
    /// What kubectl remembers of a server is this lab's alone.
    cache: tempfile::TempDir,
    _place: SemaphorePermit<'static>,
}

impl Lab {
    /// Starts a lab of two nodes with the mesh; `None`, after saying so, where it cannot be, or a peer is absent.
    pub(crate) async fn start(peers: &[&str]) -> Option<Self> {
        Self::start_as(Caller::own(), peers).await
    }

    /// As [`Lab::start`], for what is measured: no other lab runs meanwhile.
    pub(crate) async fn start_alone(peers: &[&str]) -> Option<Self> {
        Self::start_alone_as(Caller::own(), peers).await
    }

    /// As [`Lab::start_alone`], as somebody.
    pub(crate) async fn start_alone_as(caller: Caller, peers: &[&str]) -> Option<Self> {
        Self::start_at(whole_machine().await, caller, peers, &[]).await
    }

    /// As [`Lab::start`], as somebody.
    pub(crate) async fn start_as(caller: Caller, peers: &[&str]) -> Option<Self> {
        Self::start_at(place_for_a_lab().await, caller, peers, &[]).await
    }

    /// As [`Lab::start`], with further options.
    pub(crate) async fn start_with(options: &[&str], peers: &[&str]) -> Option<Self> {
        Self::start_at(place_for_a_lab().await, Caller::own(), peers, options).await
    }

    async fn start_at(
        place: SemaphorePermit<'static>,
        caller: Caller,
        peers: &[&str],
        options: &[&str],
    ) -> Option<Self> {
        if !has_peers(&[&["kubectl"], peers].concat()) {
            return None;
        }
        let name = unique_name();
        let up = caller.run(&[&["up", "--detach", "--name", &name], options].concat()).await;
        let cache = tempfile::tempdir().unwrap();
        let mut lab = Self { caller, name, kubeconfig: String::new(), cache, _place: place };
        if is_refused(&up) {
            return None;
        }
        assert!(up.status.success(), "{up:?}");
        lab.kubeconfig = text(&lab.run("kubeconfig", &["--path"]).await.stdout).trim().to_owned();
        Some(lab)
    }

    /// Runs a verb of this lab.
    pub(crate) async fn run(&self, verb: &str, arguments: &[&str]) -> Output {
        self.caller.run(&[&[verb, "--name", &self.name], arguments].concat()).await
    }

    /// A program inside the lab, not started yet.
    pub(crate) fn exec_command(&self, place: Place<'_>, program: &[&str]) -> Command {
        let target: &[&str] = match &place {
            Place::Pod(namespace, pod) => &[pod, "-n", namespace],
            Place::Node(node) => &["--node", node],
        };
        self.caller.command(&[&["exec", "--name", self.name.as_str()], target, &["--"], program].concat())
    }

    /// Runs a program inside the lab to its end.
    pub(crate) async fn exec(&self, place: Place<'_>, program: &[&str]) -> Output {
        output(self.exec_command(place, program), &format!("{program:?} in {place:?}")).await
    }

    /// As [`Lab::exec`] for a program that must succeed; its standard output.
    pub(crate) async fn must_exec(&self, place: Place<'_>, program: &[&str]) -> String {
        let output = self.exec(place, program).await;
        assert!(output.status.success(), "{program:?} in {place:?}: {output:?}");
        text(&output.stdout)
    }

    /// Asks a URL with curl; the answer, or what curl complains of.
    pub(crate) async fn curl(&self, from: Place<'_>, url: &str) -> Result<String, String> {
        let output = self.exec(from, &["curl", "-sS", "--fail", "--max-time", "10", url]).await;
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// kubectl for this lab, not started yet; `words` are separated by spaces.
    pub(crate) fn kubectl_command(&self, words: &str) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(self.cache.path());
        command.args(words.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// Runs kubectl, with a manifest as input.
    pub(crate) async fn try_kubectl(&self, words: &str, input: &str) -> Output {
        let mut child = self.kubectl_command(words).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A kubectl that reads no input may have ended already.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        tokio::time::timeout(PATIENCE * 2, child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("kubectl {words} does not end"))
            .unwrap()
    }

    /// Runs kubectl, which must succeed; its output.
    pub(crate) async fn kubectl(&self, words: &str) -> String {
        self.feed(words, "").await
    }

    /// As [`Lab::kubectl`], with a manifest as input.
    pub(crate) async fn feed(&self, words: &str, input: &str) -> String {
        let output = self.try_kubectl(words, input).await;
        assert!(output.status.success(), "kubectl {words}: {output:?}");
        text(&output.stdout)
    }

    /// Applies a manifest.
    pub(crate) async fn apply(&self, manifest: &str) -> String {
        self.feed("apply -f -", manifest).await
    }

    /// An object as JSON, or a list of them.
    pub(crate) async fn get(&self, words: &str) -> Value {
        serde_json::from_str(&self.kubectl(&format!("get {words} -o json")).await).unwrap()
    }

    /// Makes the shop's namespace and what the manifest says, and waits until all its pods are ready.
    pub(crate) async fn open_shop(&self, manifest: &str) {
        self.kubectl(&format!("create namespace {SHOP}")).await;
        self.apply(manifest).await;
        self.pods_are_ready(SHOP).await;
    }

    /// Waits until a pod is ready.
    pub(crate) async fn ready(&self, pod: &str) {
        eventually(&format!("{pod} is ready"), async || is_ready(&self.get(pod).await).then_some(())).await;
    }

    /// Waits until a namespace has pods and all of them are ready.
    pub(crate) async fn pods_are_ready(&self, namespace: &str) {
        let look = async || {
            let pods = self.get(&format!("pods -n {namespace}")).await;
            let pods = pods["items"].as_array().unwrap();
            (!pods.is_empty() && pods.iter().all(is_ready)).then_some(())
        };
        explained(PATIENCE, &format!("pods of {namespace}"), look, async || self.pods_and_events(namespace).await)
            .await;
    }

    /// What each pod of a namespace is doing, and what was said of it last.
    pub(crate) async fn pods_and_events(&self, namespace: &str) -> String {
        let pods = self.get(&format!("pods -n {namespace}")).await;
        let events = self.get(&format!("events -n {namespace}")).await;
        described(&pods, &events)
    }

    /// Labels the shop's namespace, and waits until all its pods are captured; how long that took.
    pub(crate) async fn capture(&self) -> Duration {
        self.kubectl(&format!("label namespace {SHOP} istio.io/dataplane-mode=ambient")).await;
        self.wait_for_redirection("pods", true).await
    }

    /// Takes the label away, and waits until no pod is captured and none is about to leave; how long that took.
    pub(crate) async fn release(&self) -> Duration {
        self.kubectl(&format!("label namespace {SHOP} istio.io/dataplane-mode-")).await;
        self.wait_for_redirection("pods", false).await
    }

    /// Waits until the shop's pods that `words` select are captured, or are not and have left in order.
    pub(crate) async fn wait_for_redirection(&self, words: &str, captured: bool) -> Duration {
        let what = format!("{words} {}", if captured { "captured" } else { "released" });
        let look = async || {
            let found = self.get(&format!("{words} -n {SHOP}")).await;
            let one = [found.clone()];
            let pods = found["items"].as_array().map_or(&one[..], Vec::as_slice);
            let is_settled =
                |pod: &Value| if captured { is_captured(pod) } else { !is_captured(pod) && !is_leaving(pod) };
            (!pods.is_empty() && pods.iter().all(is_settled)).then_some(())
        };
        explained(Duration::from_secs(10), &what, look, async || self.pods_and_events(SHOP).await).await.1
    }

    /// The name of the only pod of the shop with this `app` label.
    pub(crate) async fn pod_of(&self, app: &str) -> String {
        let pods = self.get(&format!("pods -n {SHOP} -l app={app}")).await;
        pods["items"][0]["metadata"]["name"].as_str().unwrap().to_owned()
    }

    /// The address of a pod of the shop.
    pub(crate) async fn address(&self, pod: &str) -> String {
        let pod = self.get(&format!("pod -n {SHOP} {pod}")).await;
        pod["status"]["podIP"].as_str().unwrap().to_owned()
    }

    /// The log of a ztunnel, whole.
    pub(crate) async fn ztunnel_log(&self, node: &str) -> String {
        text(&self.run("logs", &[&format!("ztunnel-{node}"), "-n", SYSTEM]).await.stdout)
    }

    /// Waits until a ztunnel's log has a line with all these parts; the line.
    pub(crate) async fn wait_for_log(&self, node: &str, parts: &[&str]) -> String {
        let look = async || {
            let log = self.ztunnel_log(node).await;
            log.lines().rev().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        };
        within(Duration::from_secs(10), &format!("the log of {node}'s ztunnel has {parts:?}"), look).await.0
    }

    /// Waits until new connections between two of the shop's pods are encrypted: capture comes first, and the callers'
    /// node learns of it a moment later.
    pub(crate) async fn is_encrypted(&self, from: &str, to: &str, node: &str) {
        let client = format!("src.identity=\"spiffe://cluster.local/ns/shop/sa/{from}\"");
        within(Duration::from_secs(10), &format!("{from} to {to} is encrypted"), async || {
            burst(self, shop(from), &format!("http://{to}/")).await;
            let log = self.ztunnel_log(node).await;
            let is_it = |line: &str| {
                line.contains(&client)
                    && line.contains(&format!("dst.workload=\"{to}\""))
                    && line.contains("direction=\"inbound\"")
            };
            log.lines().any(is_it).then_some(())
        })
        .await;
    }

    /// The first process of the lab.
    pub(crate) async fn pid(&self) -> u32 {
        let status = self.run("status", &["-o", "json"]).await;
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        u32::try_from(status["pid"].as_u64().unwrap()).unwrap()
    }

    /// Waits until a component of the mesh runs; its process.
    pub(crate) async fn component(&self, verb: &str, pod: &str) -> u32 {
        let first = self.pid().await;
        eventually(&format!("{pod} runs"), async || component(&family(first), verb, pod)).await.0
    }

    /// Waits until a component of the mesh runs in another process than `old` and is ready.
    pub(crate) async fn component_after(&self, old: u32, verb: &str, pod: &str) -> u32 {
        let first = self.pid().await;
        eventually(&format!("{pod} is back"), async || {
            let found = component(&family(first), verb, pod).filter(|pid| *pid != old)?;
            let object = self.get(&format!("pod -n {SYSTEM} {pod}")).await;
            is_ready(&object).then_some(found)
        })
        .await
        .0
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        // Some tests have ended it themselves.
        let _ = self.caller.run_blocking(&["down", "--name", &self.name]);
    }
}

impl Lab {
    /// Shows what a failed test's reader wants to know.
    fn tell(&self) {
        let show = |arguments: &[&str]| {
            if let Ok(output) = self.caller.run_blocking(arguments) {
                eprintln!("--- {}\n{}{}", arguments.join(" "), text(&output.stdout), text(&output.stderr));
            }
        };
        show(&["status", "--name", &self.name]);
        for pod in ["ztunnel-node-1", "ztunnel-node-2", "aquifer-node-node-1", "aquifer-node-node-2"] {
            let arguments = ["logs", "--name", &self.name, pod, "-n", SYSTEM];
            let Ok(output) = self.caller.run_blocking(&arguments) else { continue };
            // A line for each connection that went well is of no use here.
            let said = text(&output.stdout);
            let lines: Vec<&str> = said.lines().filter(|line| !line.contains("\tinfo\taccess\t")).collect();
            eprintln!("--- {pod}\n{}", lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"));
        }
    }
}

/// A name that no other test uses.
pub(crate) fn unique_name() -> String {
    format!("e2e-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Whether the kernel refuses labs to this user; says so.
pub(crate) fn is_refused(output: &Output) -> bool {
    let said = text(&output.stderr);
    let is_refused = !output.status.success() && said.contains("the kernel refuses");
    if is_refused {
        skip(said.trim());
    }
    is_refused
}

/// One line for each pod, and one for the last of its Events.
fn described(pods: &Value, events: &Value) -> String {
    let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = items(events);
    let line = |pod: &Value| {
        let status = &pod["status"];
        let containers = status["containerStatuses"].as_array().into_iter().flatten().map(|container| {
            let (name, ready, restarts) = (&container["name"], &container["ready"], &container["restartCount"]);
            format!("{name} ready={ready} restarts={restarts} {} before {}", container["state"], container["lastState"])
        });
        let containers: Vec<String> = containers.collect();
        let own = events.iter().filter(|event| event["involvedObject"]["uid"] == pod["metadata"]["uid"]);
        // Later ones of the same second come later in the order of resource versions.
        let version = |event: &&Value| word(&event["metadata"]["resourceVersion"]).parse::<u64>().unwrap_or(0);
        let last = own.max_by_key(version).map_or_else(
            || "no Event".to_owned(),
            |event| {
                format!("{} {}: {}", word(&event["lastTimestamp"]), word(&event["reason"]), word(&event["message"]))
            },
        );
        let (name, node) = (word(&pod["metadata"]["name"]), word(&pod["spec"]["nodeName"]));
        let annotations = &pod["metadata"]["annotations"];
        format!(
            "{name} on {node:?}: {}; {}; annotations {annotations}\n  {last}",
            word(&status["phase"]),
            containers.join(", ")
        )
    };
    let lines: Vec<String> = items(pods).iter().map(line).collect();
    if lines.is_empty() { "there are no pods".to_owned() } else { lines.join("\n") }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether a pod is announced as captured.
pub(crate) fn is_captured(pod: &Value) -> bool {
    pod["metadata"]["annotations"][REDIRECTION] == "enabled"
}

fn is_leaving(pod: &Value) -> bool {
    !pod["metadata"]["annotations"]["ambient.aquifer.dev/leaving"].is_null()
}

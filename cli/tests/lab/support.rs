//! A lab for one test, and waiting with a deadline.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long anything in a lab may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A user without any right.
const NOBODY: u32 = 65534;

/// Numbers the labs of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The command, as root or as an ordinary user.
#[derive(Debug)]
pub(crate) struct Caller {
    program: PathBuf,
    user: Option<u32>,
    _copy: Option<tempfile::TempDir>,
}

impl Caller {
    /// Whoever runs the tests.
    pub(crate) fn own() -> Self {
        Self { program: env!("CARGO_BIN_EXE_aquifer").into(), user: None, _copy: None }
    }

    /// An ordinary user; needs root to become one, else it is the caller.
    pub(crate) fn ordinary() -> Self {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        if !is_root {
            return Self::own();
        }
        // The build directory may lie where others may not look.
        let copy = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let program = copy.path().join("aquifer");
        fs::copy(env!("CARGO_BIN_EXE_aquifer"), &program).unwrap();
        Self { program, user: Some(NOBODY), _copy: Some(copy) }
    }

    /// The command with a clean environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        command.current_dir("/");
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

/// A running lab, which ends with the test.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) caller: Caller,
    pub(crate) name: String,
}

impl Lab {
    /// Starts a lab without the mesh; `None`, after saying so, where that is not permitted.
    pub(crate) fn start() -> Option<Self> {
        Self::start_as(Caller::own())
    }

    /// As [`Lab::start`], as somebody.
    pub(crate) fn start_as(caller: Caller) -> Option<Self> {
        Self::start_with(caller, &[]).map(|(lab, _)| lab)
    }

    /// As [`Lab::start_as`], with more options; also returns what was said meanwhile.
    pub(crate) fn start_with(caller: Caller, options: &[&str]) -> Option<(Self, String)> {
        let name = unique_name();
        let output = caller.run(&[&["up", "--detach", "--without-mesh", "--name", &name], options].concat());
        if is_refused(&output) {
            return None;
        }
        assert!(output.status.success(), "{output:?}");
        Some((Self { caller, name }, String::from_utf8(output.stderr).unwrap()))
    }

    /// Runs a verb of this lab.
    pub(crate) fn run(&self, verb: &str, arguments: &[&str]) -> Output {
        self.caller.run(&[&[verb, "--name", &self.name], arguments].concat())
    }

    /// Runs a program in a pod of namespace `default`; its standard output.
    pub(crate) fn exec(&self, pod: &str, program: &[&str]) -> String {
        let output = self.run("exec", &[&[pod, "--"], program].concat());
        assert!(output.status.success(), "{program:?} in {pod}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The status as JSON.
    pub(crate) fn status(&self) -> Value {
        let output = self.run("status", &["-o", "json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The log of a pod of namespace `default`.
    pub(crate) fn log(&self, pod: &str, options: &[&str]) -> Output {
        self.run("logs", &[&[pod], options].concat())
    }

    /// The process that the lab's record names.
    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.status()["pid"].as_u64().unwrap()).unwrap()
    }

    /// Access to the Kubernetes API, as any client has it.
    pub(crate) async fn client(&self) -> kube::Client {
        let output = self.run("kubeconfig", &[]);
        let kubeconfig = Kubeconfig::from_yaml(&String::from_utf8(output.stdout).unwrap()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// The pod, once it is ready.
    pub(crate) async fn ready_pod(&self, client: &kube::Client, name: &str) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last = fetch(client, ("v1", "Pod"), name).await.unwrap_or_default();
            if condition(&last, "Ready") {
                return last;
            }
            sleep(LOOK_AGAIN).await;
        }
        panic!("pod {name} is not ready: {}", last["status"]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let directory = self.run("kubeconfig", &["--path"]);
            let log = String::from_utf8_lossy(&directory.stdout).trim().replace("kubeconfig", "lab.log");
            eprintln!("{}", String::from_utf8_lossy(&self.run("status", &[]).stdout));
            eprintln!("{}", fs::read_to_string(log).unwrap_or_default());
        }
        // Some tests have ended it themselves.
        self.caller.run(&["down", "--name", &self.name]);
    }
}

/// A name that no other test uses.
pub(crate) fn unique_name() -> String {
    format!("t{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Whether the kernel refuses labs to this user; says so.
pub(crate) fn is_refused(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    let is_refused = !output.status.success() && said.contains("the kernel refuses");
    if is_refused {
        println!("SKIPPED: {said}");
    }
    is_refused
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        sleep(LOOK_AGAIN).await;
    }
}

fn api(client: &kube::Client, (version, kind): (&str, &str)) -> Api<DynamicObject> {
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::default_namespaced_with(client.clone(), &resource)
}

/// Creates objects in namespace `default`.
pub(crate) async fn create(client: &kube::Client, objects: impl IntoIterator<Item = Value>) {
    for object in objects {
        let kind = (object["apiVersion"].as_str().unwrap().to_owned(), object["kind"].as_str().unwrap().to_owned());
        let typed: DynamicObject = serde_json::from_value(object).unwrap();
        api(client, (&kind.0, &kind.1)).create(&PostParams::default(), &typed).await.unwrap();
    }
}

/// One object of namespace `default`.
pub(crate) async fn fetch(client: &kube::Client, kind: (&str, &str), name: &str) -> Option<Value> {
    let found = api(client, kind).get_opt(name).await.unwrap()?;
    Some(serde_json::to_value(found).unwrap())
}

/// All objects of a kind in namespace `default`.
pub(crate) async fn list(client: &kube::Client, kind: (&str, &str)) -> Vec<Value> {
    let found = api(client, kind).list(&ListParams::default()).await.unwrap();
    found.items.iter().map(|object| serde_json::to_value(object).unwrap()).collect()
}

/// Deletes a pod of namespace `default` as a user does.
pub(crate) async fn delete_pod(client: &kube::Client, name: &str) {
    api(client, ("v1", "Pod")).delete(name, &kube::api::DeleteParams::default()).await.unwrap();
}

/// Whether a condition of the object's status holds.
pub(crate) fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// A pod with one container called `app`.
pub(crate) fn pod(name: &str, node: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("app");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 2, "containers": [container]},
    })
}

/// A pod that answers, and one to ask from: it runs a program that waits.
pub(crate) fn echo(name: &str, node: &str) -> Value {
    pod(
        name,
        node,
        json!({
            "image": "aquifer/echo",
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        }),
    )
}

/// Every process that descends from `first`, with its start time, so that it is not taken for a later one.
pub(crate) fn family(first: u32) -> BTreeSet<(u32, u64)> {
    let everyone: Vec<(u32, u32, u64)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| stat(pid).map(|(parent, started)| (pid, parent, started)))
        .collect();
    let mut found: BTreeSet<(u32, u64)> =
        everyone.iter().filter(|(pid, ..)| *pid == first).map(|(pid, _, started)| (*pid, *started)).collect();
    loop {
        let before = found.len();
        let parents: BTreeSet<u32> = found.iter().map(|(pid, _)| *pid).collect();
        found.extend(everyone.iter().filter(|(_, parent, _)| parents.contains(parent)).map(|(p, _, s)| (*p, *s)));
        if found.len() == before {
            return found;
        }
    }
}

/// Those of the processes that still live.
pub(crate) fn alive(family: &BTreeSet<(u32, u64)>) -> Vec<u32> {
    let lives = |(pid, started): &&(u32, u64)| stat(*pid).is_some_and(|(_, now)| now == *started);
    family.iter().filter(lives).map(|(pid, _)| *pid).collect()
}

/// Parent and start time of a process that is not a zombie.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    (fields[0] != "Z").then(|| (fields[1].parse().unwrap(), fields[19].parse().unwrap()))
}

/// Whether a path is there, without following links.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

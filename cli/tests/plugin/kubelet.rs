//! A kubelet that does what a test says, and an agent that gives one answer.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use cni::chain::{Attachment, Call, Run};
use cni::network::{self, Network};
use linux::process::{Confinement, confine};
use linux::{NetNs, link, netns};
use node::install::{Binary, Installation, PluginToken};
use serde_json::{Value, json};

/// Where Debian puts the CNI plugins of others.
const PLUGINS: &str = "/usr/lib/cni";

pub(crate) struct Kubelet {
    directory: tempfile::TempDir,
    host: NetNs,
    version: String,
    installation: Installation,
    results: RefCell<Vec<Value>>,
}

impl Kubelet {
    /// A node with a network of ptp and host-local, and our plugin installed; `None` where that cannot be.
    pub(crate) fn new(version: &str) -> Option<Self> {
        if !["ptp", "host-local"].iter().all(|plugin| Path::new(PLUGINS).join(plugin).exists()) {
            println!(
                "SKIPPED: ptp is not installed; install it with: sudo apt-get install containernetworking-plugins"
            );
            return None;
        }
        let host = match NetNs::create() {
            Ok(host) => host,
            Err(error) => {
                println!("SKIPPED: network namespaces cannot be made here: {error}");
                return None;
            }
        };
        host.run(|| link::set_up("lo")).unwrap().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["net.d", "bin", "run"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let entry = json!({
            "type": "aquifer-cni", "cni_agent_run_dir": path("run"), "exclude_namespaces": ["kube-system"], "node_name": "n",
        });
        let installation = Installation {
            network_dir: path("net.d"),
            binary: Binary::new(env!("CARGO_BIN_EXE_aquifer").into(), path("bin")),
            run_dir: path("run"),
            entry: serde_json::from_value(entry).unwrap(),
            api: None,
            token: PluginToken::default(),
        };
        let kubelet = Self { host, version: version.to_owned(), installation, results: RefCell::default(), directory };
        kubelet.write("net.d/10-test.conflist", &kubelet.list());
        kubelet.installation.ensure().unwrap();
        Some(kubelet)
    }

    /// Replaces the list by a file with ptp alone, and installs anew.
    pub(crate) fn make_single(&self) {
        std::fs::remove_file(self.path("net.d/10-test.conflist")).unwrap();
        let mut single = self.ptp();
        single["name"] = json!("single");
        single["cniVersion"] = json!(self.version);
        self.write("net.d/10-test.conf", &single);
        self.installation.ensure().unwrap();
    }

    /// Makes a namespace and calls the chain with `ADD`.
    pub(crate) fn add(&self, namespace: &str, name: &str) -> Result<Value, String> {
        let pod = NetNs::create().unwrap();
        pod.bind_to(&self.netns()).unwrap();
        self.results.borrow_mut().clear();
        let (network, attachment) = (self.network(), self.attachment(namespace, name));
        self.pass(Run::add(&network, &attachment)).map(Option::unwrap)
    }

    pub(crate) fn check(&self, result: &Value) -> Result<(), String> {
        let (network, attachment) = (self.network(), self.attachment("shop", "cart"));
        self.pass(Run::check(&network, &attachment, result.clone())).map(drop)
    }

    /// Calls the chain with `DEL` and takes the namespace away.
    pub(crate) fn delete(&self, result: Option<Value>) -> Result<(), String> {
        let (network, attachment) = (self.network(), self.attachment("shop", "cart"));
        let passed = self.pass(Run::delete(&network, &attachment, result)).map(drop);
        netns::unbind(&self.netns()).unwrap();
        passed
    }

    /// What the plugins of the last `ADD` printed.
    pub(crate) fn results(&self) -> Vec<Value> {
        self.results.borrow().clone()
    }

    pub(crate) fn netns(&self) -> PathBuf {
        self.path("run/netns")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/pluginevent.sock")
    }

    pub(crate) fn pod_addresses(&self) -> Vec<String> {
        let pod = NetNs::open(&self.netns()).unwrap();
        let found = pod.run(|| link::addresses("eth0")).unwrap().unwrap();
        found.into_iter().map(|prefix| prefix.address().to_string()).collect()
    }

    /// How many addresses host-local holds for containers.
    pub(crate) fn leases(&self) -> usize {
        let networks = std::fs::read_dir(self.path("leases")).into_iter().flatten();
        let files = networks.flat_map(|network| std::fs::read_dir(network.unwrap().path()).unwrap());
        files.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().starts_with("10.77.")).count()
    }

    fn pass(&self, mut run: Run<'_>) -> Result<Option<Value>, String> {
        while let Some(call) = run.next() {
            let output = self.call(&call);
            if let Ok(result) = serde_json::from_slice(&output.stdout) {
                self.results.borrow_mut().push(result);
            }
            run.answer(output.status.success(), &output.stdout).map_err(|error| error.to_string())?;
        }
        Ok(run.into_result())
    }

    fn call(&self, call: &Call) -> Output {
        let own = self.path("bin").join(&call.plugin);
        let program = if own.exists() { own } else { Path::new(PLUGINS).join(&call.plugin) };
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(call.environment.iter().map(|(name, value)| (name, value)));
        spoken(command, Some(&self.host), &call.input)
    }

    fn network(&self) -> Network {
        network::first(&self.path("net.d")).unwrap().unwrap().network
    }

    fn attachment(&self, namespace: &str, name: &str) -> Attachment {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Attachment {
            container: "c-1".to_owned(),
            netns: self.netns().to_str().unwrap().to_owned(),
            interface: "eth0".to_owned(),
            arguments: vec![
                pair("IgnoreUnknown", "1"),
                pair("K8S_POD_NAMESPACE", namespace),
                pair("K8S_POD_NAME", name),
                pair("K8S_POD_UID", &format!("uid-of-{name}")),
            ],
            search_path: format!("{}:{PLUGINS}", self.path("bin").display()),
        }
    }

    fn ptp(&self) -> Value {
        json!({"type": "ptp", "ipam": {
            "type": "host-local", "dataDir": self.path("leases"), "ranges": [[{"subnet": "10.77.0.0/24"}]],
        }})
    }

    fn list(&self) -> Value {
        json!({"cniVersion": self.version, "name": "test", "plugins": [self.ptp()]})
    }

    fn write(&self, name: &str, text: &Value) {
        std::fs::write(self.path(name), text.to_string()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        // Gone already where the test has deleted its pod.
        let _ = netns::unbind(&self.netns());
    }
}

/// An agent that answers one announcement.
pub(crate) struct Agent {
    server: Option<JoinHandle<Value>>,
    socket: PathBuf,
}

impl Agent {
    pub(crate) fn answering(kubelet: &Kubelet, status: u16, text: &'static str) -> Self {
        let socket = kubelet.socket();
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let length = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..length]);
                let said = String::from_utf8_lossy(&request).into_owned();
                let body = said.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
                if let Some(body) = body {
                    write!(stream, "HTTP/1.1 {status} X\r\n\r\n{text}\n").unwrap();
                    return body;
                }
                assert_ne!(length, 0, "half a request: {said}");
            }
        });
        Self { server: Some(server), socket }
    }

    /// What it was told.
    pub(crate) fn announced(mut self) -> Value {
        self.server.take().unwrap().join().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// What the command says to `VERSION`.
pub(crate) fn versions() -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquifer"));
    command.env_clear().env("CNI_COMMAND", "VERSION");
    let output = spoken(command, None, br#"{"cniVersion":"1.0.0"}"#);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command with this input.
fn spoken(mut command: Command, network: Option<&NetNs>, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let confinement = Confinement { network: network.cloned(), ..Confinement::default() };
    let report = confine(&mut command, &confinement).unwrap();
    let mut child = command.spawn().map_err(|error| report.explain(error)).unwrap();
    // A plugin that fails early does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

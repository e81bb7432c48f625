//! Envoy in a pod that ends and begins tunnels itself, configured as Istio's gateways and waypoints are: listeners
//! inside the process between the side of the application and the side of the tunnels.

mod configuration;

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::authority::Credentials;
use super::eventually;
use super::lab::{Lab, Place, SHOP, shop};
use super::program::path_of;
pub(crate) use configuration::{Plan, Relay};

/// The programs that tests with Envoy take.
pub(crate) const PROGRAMS: [&str; 5] = ["envoy", "openssl", "grpcurl", "curl", "h2load"];

/// Where Envoy answers questions about itself, inside its pod.
const ADMIN: &str = "http://127.0.0.1:15000";

/// A pod of the shop, outside the mesh's redirection, with the test application and Envoy beside it.
#[derive(Debug)]
pub(crate) struct Envoy<'a> {
    lab: &'a Lab,
    pub(crate) name: &'static str,
    pub(crate) address: String,
    _files: (TempDir, Credentials),
}

impl<'a> Envoy<'a> {
    /// Starts the pod on the first node, under a ServiceAccount of its name, and waits until it is ready.
    pub(crate) async fn start(lab: &'a Lab, name: &'static str, labels: &[(&str, &str)], plan: &Plan) -> Self {
        let credentials = Credentials::issue(lab, name).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("envoy.json");
        fs::write(&file, plan.bootstrap(credentials.folder()).to_string()).unwrap();
        lab.apply(&pod(name, labels, &file.display().to_string()).to_string()).await;
        lab.kubectl(&format!("wait -n {SHOP} --for=condition=Ready pod/{name} --timeout=30s")).await;
        let address = lab.address(name).await;
        Self { lab, name, address, _files: (folder, credentials) }
    }

    /// Inside the pod.
    pub(crate) fn place(&self) -> Place<'static> {
        shop(self.name)
    }

    /// What Envoy has logged since its last start.
    pub(crate) async fn log(&self) -> String {
        self.lab.kubectl(&format!("logs -n {SHOP} {} -c envoy", self.name)).await
    }

    /// Waits until a line of the log has all these parts; the line.
    pub(crate) async fn wait_for_log(&self, parts: &[&str]) -> String {
        let look = async || {
            let log = self.log().await;
            log.lines().rev().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        };
        eventually(&format!("{} logs {parts:?}", self.name), look).await.0
    }

    /// A counter or gauge.
    pub(crate) async fn count(&self, name: &str) -> u64 {
        let all = self.lab.curl(self.place(), &format!("{ADMIN}/stats")).await.unwrap();
        let found = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("Envoy counts no {name}")).parse().unwrap()
    }

    /// Ends the process at once; what runs the pod starts it again.
    pub(crate) async fn quit(&self) {
        let url = format!("{ADMIN}/quitquitquit");
        self.lab.must_exec(self.place(), &["curl", "-sS", "--fail", "-X", "POST", &url]).await;
    }
}

fn pod(name: &str, labels: &[(&str, &str)], configuration: &str) -> Value {
    let program = path_of("envoy");
    let options = "--concurrency 1 --log-level warn --file-flush-interval-msec 50";
    let command: Vec<&str> = [&program, "-c", configuration].into_iter().chain(options.split(' ')).collect();
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": SHOP, "labels": {"app": name, "istio.io/dataplane-mode": "none"}},
        "spec": {
            "nodeName": "node-1", "serviceAccountName": name, "terminationGracePeriodSeconds": 1,
            "containers": [
                {"name": "app", "image": "aquifer/echo"},
                {
                    "name": "envoy", "image": "envoy", "command": command,
                    "readinessProbe": {"tcpSocket": {"port": 15008}, "periodSeconds": 1},
                },
            ],
        },
    });
    for (key, value) in labels {
        object["metadata"]["labels"][key] = json!(value);
    }
    object
}

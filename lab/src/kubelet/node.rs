//! A node as the API server shows it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as NodeObject;
use serde_json::json;

use super::status::time;
use crate::api::{Client, Patch, Status};
use crate::fabric::NodeNetwork;

/// Pods that a node takes: its range has that many addresses, less some that were given back just now.
const MAX_PODS: u32 = 200;

/// Makes the node's object, ready to take pods.
///
/// # Errors
/// When the API server refuses it.
pub(crate) fn register(client: &Client, plan: &NodeNetwork) -> Result<(), Status> {
    let name = &plan.name;
    let ranges: Vec<_> = plan.pod_ranges().iter().map(ToString::to_string).collect();
    client.apply_json(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture(),
        }},
        "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
    }))?;
    let now = time(Timestamp::now());
    let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "lastHeartbeatTime": now, "lastTransitionTime": now});
    let resources = json!({"cpu": cpus().to_string(), "pods": MAX_PODS.to_string()});
    let mut addresses: Vec<_> =
        plan.addresses().iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    addresses.push(json!({"type": "Hostname", "address": name}));
    let status = json!({
        "addresses": addresses,
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "nodeInfo": {
            "architecture": architecture(),
            "bootID": "", "machineID": "", "systemUUID": "",
            "containerRuntimeVersion": concat!("aquifer-lab://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": kernel(),
            "kubeProxyVersion": "",
            "kubeletVersion": concat!("v1.36.0-aquifer-lab-", env!("CARGO_PKG_VERSION")),
            "operatingSystem": "linux",
            "osImage": "Aquifer lab",
        },
    });
    // A strategic patch knows addresses by their type, of which there may be two of the same here.
    client.patch_status::<NodeObject>(None, name, &Patch::Merge(json!({"status": status})))?;
    Ok(())
}

/// As Go, and so Kubernetes, names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn kernel() -> String {
    let found = linux::sysctl::read("kernel/osrelease");
    found.unwrap_or_default()
}

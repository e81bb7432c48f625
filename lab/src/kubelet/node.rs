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
    let resources = json!({"cpu": cpus().to_string(), "memory": memory(), "pods": MAX_PODS.to_string()});
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

/// All of the machine's memory, in the words of a kubelet: nodes share it, as they share the processors.
fn memory() -> String {
    let found = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = found.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    format!("{}Ki", total.unwrap_or("0"))
}

fn kernel() -> String {
    let found = linux::sysctl::read("kernel/osrelease");
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Options, Server};
    use crate::families::Families;

    #[test]
    fn a_node_has_some_of_everything_that_pods_take_shares_of() {
        let server = Server::new(&Options::default()).unwrap();
        let client = server.client();
        register(&client, &NodeNetwork::new(1, Families::Dual)).unwrap();
        let status = client.fetch::<NodeObject>(None, "node-1").unwrap().status.unwrap();
        assert_eq!(status.capacity, status.allocatable);
        let resources = status.allocatable.unwrap();
        // kubectl divides by each of them.
        for (name, unit) in [("cpu", ""), ("memory", "Ki"), ("pods", "")] {
            let amount = resources.get(name).and_then(|quantity| quantity.0.strip_suffix(unit)?.parse::<u64>().ok());
            assert!(amount.is_some_and(|amount| amount > 0), "{name}: {resources:?}");
        }
    }
}

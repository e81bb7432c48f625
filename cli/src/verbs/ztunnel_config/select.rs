//! Which items are printed.

use clap::{Args, ValueEnum};

use serde_json::Value;

use super::tables::Names;
use crate::admin::dump::{Dump, Entry, Pod};

/// What is left in of a dump.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Holds for every kind.
    pub(super) namespace: Option<String>,
    pub(super) workloads: WorkloadFilters,
    pub(super) services: ServiceFilters,
    pub(super) policies: PolicyFilters,
    pub(super) connections: ConnectionFilters,
}

#[derive(Debug, Clone, Default, Args)]
pub(super) struct WorkloadFilters {
    /// Only workloads of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    workload_namespace: Option<String>,
    /// Only the workload with this address.
    #[arg(long, value_name = "IP")]
    address: Option<String>,
    /// Only workloads on this node.
    #[arg(long, value_name = "NODE")]
    workload_node: Option<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub(super) struct ServiceFilters {
    /// Only services of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    service_namespace: Option<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub(super) struct PolicyFilters {
    /// Only policies of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    policy_namespace: Option<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub(super) struct ConnectionFilters {
    /// Only connections in this direction.
    #[arg(long, value_enum)]
    pub(super) direction: Option<Direction>,
    /// Print addresses instead of names.
    #[arg(long)]
    pub(super) raw: bool,
}

/// As the pod sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

/// What is left, and the names of what was there.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) dump: Dump,
    pub(super) names: Names,
}

impl Selection {
    /// The dump without what is not wanted.
    pub(super) fn of(&self, mut dump: Dump) -> Selected {
        // Peers in other namespaces keep their names.
        let names = Names::new(&dump);
        let is_in = |wanted: Option<&String>, namespace: &str| {
            wanted.or(self.namespace.as_ref()).is_none_or(|wanted| wanted == namespace)
        };
        let workloads = &self.workloads;
        dump.workloads.retain(|entry| {
            let workload = &entry.item;
            is_in(workloads.workload_namespace.as_ref(), &workload.namespace)
                && workloads.address.as_ref().is_none_or(|address| workload.workload_ips.contains(address))
                && workloads.workload_node.as_ref().is_none_or(|node| workload.node == *node)
        });
        dump.services.retain(|entry| is_in(self.services.service_namespace.as_ref(), &entry.item.namespace));
        dump.policies.retain(|entry| is_in(self.policies.policy_namespace.as_ref(), &entry.item.namespace));
        dump.certificates.retain(|entry| is_in(None, namespace_of(&entry.item.identity)));
        dump.pods.retain(|_, entry| is_in(workloads.workload_namespace.as_ref(), &entry.item.info.namespace));
        if let Some(direction) = self.connections.direction {
            dump.pods.values_mut().for_each(|pod| drop_other_direction(pod, direction));
        }
        Selected { dump, names }
    }
}

fn drop_other_direction(pod: &mut Entry<Pod>, wanted: Direction) {
    let connections = &mut pod.item.connections;
    let unwanted = match wanted {
        Direction::Inbound => {
            connections.outbound.clear();
            "/connections/outbound"
        }
        Direction::Outbound => {
            connections.inbound.clear();
            "/connections/inbound"
        }
    };
    if let Some(list) = pod.raw.pointer_mut(unwanted) {
        *list = Value::Array(Vec::new());
    }
}

/// `spiffe://domain/ns/NAMESPACE/sa/account`.
fn namespace_of(identity: &str) -> &str {
    identity.split("/ns/").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

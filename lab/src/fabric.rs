//! The lab's network: a bridge in the supervisor's own network namespace, and a network namespace per node.
//!
//! The fabric's namespace holds the addresses of the API server and of the cluster DNS itself.
//! A node routes between the veths of its pods and the bridge; pods of different nodes reach each other through their
//! nodes, as in a cluster with host routes.

mod addresses;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use linux::route::Route;
use linux::{NetNs, Prefix, link, route, sysctl};

pub use addresses::{API_ENDPOINT, BRIDGE, FABRIC_ADDRESS, MAX_NODES, NodeNetwork, PodAddresses, fabric_interface};

/// The node's interface on the bridge.
const INTERFACE: &str = "eth0";

/// A node of the lab.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its addresses.
    pub plan: NodeNetwork,
    /// Its network namespace.
    pub network: NetNs,
    /// Its directory: what pods see of it as `hostPath`.
    pub host_directory: PathBuf,
}

impl Node {
    /// Where the network namespaces of the node's pods are kept: pods see it as `/var/run/aquifer/netns`.
    pub fn network_directory(&self) -> PathBuf {
        self.host_directory.join("run/aquifer/netns")
    }
}

/// Builds the bridge in the current network namespace, with `service_addresses` on it.
///
/// # Errors
/// The kernel's, named with the step.
pub fn build(service_addresses: &[Ipv4Addr]) -> io::Result<()> {
    link::set_up("lo")?;
    link::add_bridge(BRIDGE)?;
    link::add_address(BRIDGE, fabric_interface())?;
    for address in service_addresses {
        link::add_address(BRIDGE, Prefix::host((*address).into()))?;
    }
    link::set_up(BRIDGE)
}

/// Makes a node and joins it to the bridge; `all` is the plan of the whole lab.
///
/// The bridge's port has the node's name: the place to watch what passes between nodes.
///
/// # Errors
/// The kernel's, named with the step.
pub fn add_node(plan: &NodeNetwork, all: &[NodeNetwork], directory: &Path) -> io::Result<Node> {
    let network = NetNs::create()?;
    link::add_veth(&plan.name, INTERFACE, &network)?;
    link::set_controller(&plan.name, BRIDGE)?;
    link::set_up(&plan.name)?;
    route::add(&Route::via(plan.pod_range(), plan.address.into()))?;
    network.run(|| set_up_node(plan, all))??;
    let node = Node { plan: plan.clone(), network, host_directory: directory.join(&plan.name) };
    std::fs::create_dir_all(node.network_directory())?;
    Ok(node)
}

/// In the node's namespace: addresses, and routes to everybody else.
fn set_up_node(plan: &NodeNetwork, all: &[NodeNetwork]) -> io::Result<()> {
    link::set_up("lo")?;
    // Pods have no other next hop than this address, which answers on each of their veths.
    link::add_address("lo", Prefix::host(plan.gateway().into()))?;
    link::add_address(INTERFACE, plan.interface())?;
    link::set_up(INTERFACE)?;
    sysctl::write("net/ipv4/ip_forward", "1")?;
    for scope in ["all", "default"] {
        sysctl::write(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
    }
    sysctl::write(&format!("net/ipv4/conf/{INTERFACE}/rp_filter"), "0")?;
    route::add(&Route::via(Prefix::ANY_V4, IpAddr::V4(FABRIC_ADDRESS)))?;
    // Addresses of the pod range that no pod has are refused at once, not sent around.
    route::add(&Route {
        kind: route::Kind::Unreachable,
        gateway: None,
        device: None,
        ..Route::via(plan.pod_range(), IpAddr::V4(FABRIC_ADDRESS))
    })?;
    for other in all.iter().filter(|other| other.index != plan.index) {
        route::add(&Route::via(other.pod_range(), other.address.into()))?;
    }
    Ok(())
}

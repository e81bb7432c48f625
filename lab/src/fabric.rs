//! The lab's network: a bridge in the supervisor's own network namespace, and a network namespace per node.
//!
//! The fabric's namespace holds the addresses of the API server and of the cluster DNS itself.
//! A node routes between the veths of its pods and the bridge; pods of different nodes reach each other through their
//! nodes, as in a cluster with host routes.

mod addresses;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use linux::route::Route;
use linux::{NetNs, Prefix, link, route, sysctl};

use crate::families::{Families, Family};

pub use addresses::{
    BRIDGE, MAX_NODES, NodeNetwork, PodAddress, PodAddresses, api_endpoint, fabric_addresses, on_bridge,
};

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
pub fn build(families: Families, service_addresses: &[IpAddr]) -> io::Result<()> {
    prepare_families(families)?;
    link::set_up("lo")?;
    keep_frames_from_netfilter()?;
    link::add_bridge(BRIDGE)?;
    link::set_up(BRIDGE)?;
    for address in fabric_addresses(families).iter() {
        link::add_address(BRIDGE, on_bridge(address))?;
    }
    for address in service_addresses {
        link::add_address(BRIDGE, Prefix::host(*address))?;
    }
    Ok(())
}

/// Lets the bridge hand frames on as a switch does.
///
/// Where the kernel has `br_netfilter`, each new network namespace begins with the hooks of a router for what a bridge
/// hands on: the packets between nodes would be tracked a third time, by something that no network between nodes does.
fn keep_frames_from_netfilter() -> io::Result<()> {
    for protocol in ["arp", "ip", "ip6"] {
        sysctl::write_where_known(&format!("net/bridge/bridge-nf-call-{protocol}tables"), "0")?;
    }
    Ok(())
}

/// Makes a node and joins it to the bridge; `all` is the plan of the whole lab.
///
/// The bridge's port has the node's name: the place to watch what passes between nodes.
///
/// # Errors
/// The kernel's, named with the step.
pub fn add_node(plan: &NodeNetwork, all: &[NodeNetwork], directory: &Path) -> io::Result<Node> {
    let network = NetNs::create()?;
    network.run(|| prepare_families(plan.families))??;
    link::add_veth(&plan.name, INTERFACE, &network)?;
    link::set_controller(&plan.name, BRIDGE)?;
    link::set_up(&plan.name)?;
    network.run(|| set_up_node(plan, all))??;
    for range in plan.pod_ranges() {
        route::add(&Route::via(range, next_hop(plan, range)?))?;
    }
    let node = Node { plan: plan.clone(), network, host_directory: directory.join(&plan.name) };
    std::fs::create_dir_all(node.network_directory())?;
    Ok(node)
}

/// In the node's namespace: addresses, and routes to everybody else.
fn set_up_node(plan: &NodeNetwork, all: &[NodeNetwork]) -> io::Result<()> {
    link::set_up("lo")?;
    link::set_up(INTERFACE)?;
    for address in plan.addresses().iter() {
        link::add_address(INTERFACE, on_bridge(address))?;
    }
    for family in plan.families.list() {
        match family {
            Family::V4 => forward_ipv4(plan)?,
            // Their next hop has its address on each veth: neighbour discovery asks for those of the interface alone.
            Family::V6 => sysctl::write("net/ipv6/conf/all/forwarding", "1")?,
        }
    }
    for address in fabric_addresses(plan.families).iter() {
        route::add(&Route::via(any(Family::of(address)), address))?;
    }
    for range in plan.pod_ranges() {
        // Addresses of the pod range that no pod has are refused at once, not sent around.
        route::add(&Route { kind: route::Kind::Unreachable, device: None, ..Route::on_link(range, "") })?;
    }
    for other in all.iter().filter(|other| other.index != plan.index) {
        for range in other.pod_ranges() {
            route::add(&Route::via(range, next_hop(other, range)?))?;
        }
    }
    Ok(())
}

fn forward_ipv4(plan: &NodeNetwork) -> io::Result<()> {
    if let Some(gateway) = plan.gateways().of(Family::V4) {
        // Pods have no other next hop than this address, which answers on each of their veths.
        link::add_address("lo", Prefix::host(gateway))?;
    }
    sysctl::write("net/ipv4/ip_forward", "1")?;
    for scope in ["all", "default", INTERFACE] {
        sysctl::write(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
    }
    Ok(())
}

/// All destinations of a family.
pub fn any(family: Family) -> Prefix {
    match family {
        Family::V4 => Prefix::ANY_V4,
        Family::V6 => Prefix::ANY_V6,
    }
}

/// The node's address in the family of a range.
fn next_hop(node: &NodeNetwork, range: Prefix) -> io::Result<IpAddr> {
    let family = Family::of(range.address());
    node.address(family).ok_or_else(|| io::Error::other(format!("{} has no {family} address", node.name)))
}

/// Prepares the current network namespace, before it has interfaces.
///
/// Where there is IPv6, addresses can be used at once: nobody else can have them, so nobody needs to be asked first
/// (duplicate address detection, a second for each address).
/// Where there is not, interfaces have no IPv6 addresses of their own accord either.
///
/// # Errors
/// The kernel's.
pub fn prepare_families(families: Families) -> io::Result<()> {
    if families.has(Family::V6) {
        return sysctl::write("net/ipv6/conf/default/accept_dad", "0");
    }
    for scope in ["all", "default"] {
        // There is none where the kernel has no IPv6 at all.
        sysctl::write_where_known(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1")?;
    }
    Ok(())
}

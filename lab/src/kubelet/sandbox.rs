//! A pod's network namespace: made, joined to its node by a veth, kept at a path for the node agent, and taken away.

use std::io;
use std::path::PathBuf;

use linux::route::Route;
use linux::{NetNs, Prefix, link, netns, route, sysctl};

use crate::fabric::{self, Node, PodAddress};
use crate::families::{Addresses, Family};

/// The pod's end of the veth.
const INTERFACE: &str = "eth0";

/// A pod's network.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// The pod's network namespace, or the node's for a pod on the host network.
    pub(crate) network: NetNs,
    /// The pod's addresses.
    pub(crate) addresses: Addresses,
    kept: Option<Kept>,
}

/// What has to be taken away with the pod.
#[derive(Debug)]
struct Kept {
    node: NetNs,
    interface: String,
    path: PathBuf,
    address: PodAddress,
}

impl Sandbox {
    /// The node's own network.
    pub(crate) fn of_host(node: &Node) -> Self {
        Self { network: node.network.clone(), addresses: node.plan.addresses(), kept: None }
    }

    /// A network namespace of its own with these addresses. Blocks for some milliseconds.
    ///
    /// # Errors
    /// The kernel's, named with the step; nothing is left behind.
    pub(crate) fn create(node: &Node, uid: &str, address: PodAddress) -> io::Result<Self> {
        let network = NetNs::create()?;
        let kept = Kept {
            node: node.network.clone(),
            interface: interface_name(uid),
            path: node.network_directory().join(uid),
            address,
        };
        let sandbox = Self { network, addresses: address.addresses, kept: Some(kept) };
        match sandbox.connect(node) {
            Ok(()) => Ok(sandbox),
            Err(error) => {
                sandbox.remove();
                Err(error)
            }
        }
    }

    /// Takes the network away; what processes still hold of it lives until they end. Returns the addresses that are free
    /// now.
    pub(crate) fn remove(self) -> Option<PodAddress> {
        let kept = self.kept?;
        let deleted = kept.node.run(|| link::delete(&kept.interface)).and_then(|deleted| deleted);
        for outcome in [deleted, netns::unbind(&kept.path)] {
            if let Err(error) = outcome {
                tracing::warn!(%error, interface = kept.interface, "a pod's network is not wholly gone");
            }
        }
        Some(kept.address)
    }

    fn connect(&self, node: &Node) -> io::Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        std::fs::create_dir_all(node.network_directory())?;
        self.network.run(|| fabric::prepare_families(node.plan.families))??;
        let gateways = node.plan.gateways();
        node.network.run(|| -> io::Result<()> {
            link::add_veth(&kept.interface, INTERFACE, &self.network)?;
            link::set_up(&kept.interface)?;
            // The IPv4 one is on the loopback interface.
            gateways.of(Family::V6).map_or(Ok(()), |gateway| link::add_address(&kept.interface, Prefix::host(gateway)))
        })??;
        self.network.run(|| -> io::Result<()> {
            // Namespaces begin with the host's setting, which may drop what the mesh sends with a pod's own address.
            sysctl::write("net/ipv4/conf/all/rp_filter", "0")?;
            sysctl::write(&format!("net/ipv4/conf/{INTERFACE}/rp_filter"), "0")?;
            link::set_up("lo")?;
            link::set_up(INTERFACE)?;
            for address in self.addresses.iter() {
                link::add_address(INTERFACE, Prefix::host(address))?;
            }
            for gateway in gateways.iter() {
                route::add(&Route::on_link(Prefix::host(gateway), INTERFACE))?;
                route::add(&Route::via(fabric::any(Family::of(gateway)), gateway))?;
            }
            Ok(())
        })??;
        for address in self.addresses.iter() {
            let source = node.plan.address(Family::of(address));
            let to_pod = Route { source, ..Route::on_link(Prefix::host(address), &kept.interface) };
            node.network.run(|| route::add(&to_pod))??;
        }
        self.network.bind_to(&kept.path)
    }
}

/// Interface names hold 15 bytes; the first part of a uid is as good as unique on one node.
fn interface_name(uid: &str) -> String {
    let letters: String = uid.chars().filter(char::is_ascii_alphanumeric).take(11).collect();
    format!("veth{letters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit() {
        assert_eq!(interface_name("0a1b2c3d-4e5f-6789-abcd-ef0123456789"), "veth0a1b2c3d4e5");
    }
}

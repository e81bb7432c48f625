//! Network interfaces of the current network namespace: veth pairs, bridges, addresses.

use std::io;

use crate::{NetNs, Prefix};

/// An interface as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, unique in the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up (`IFF_UP`).
    pub is_up: bool,
    /// The bridge that it belongs to.
    pub controller: Option<u32>,
    /// Its link-layer address; empty where it has none.
    pub hardware_address: Vec<u8>,
    /// Largest packet in bytes.
    pub mtu: u32,
}

/// All interfaces, sorted by index.
///
/// # Errors
/// The kernel's.
pub fn list() -> io::Result<Vec<Link>> {
    todo!()
}

/// The interface of that name.
///
/// # Errors
/// `NotFound` when there is none.
pub fn find(name: &str) -> io::Result<Link> {
    let _ = name;
    todo!()
}

/// The index of the interface of that name.
///
/// # Errors
/// `NotFound` when there is none.
pub fn index(name: &str) -> io::Result<u32> {
    Ok(find(name)?.index)
}

/// Makes a veth pair: `name` here, and `peer_name` at once in `peer_namespace`.
///
/// # Errors
/// The kernel's: `AlreadyExists` when either name is taken.
pub fn add_veth(name: &str, peer_name: &str, peer_namespace: &NetNs) -> io::Result<()> {
    let _ = (name, peer_name, peer_namespace);
    todo!()
}

/// Makes a bridge.
///
/// # Errors
/// The kernel's: `AlreadyExists` when the name is taken.
pub fn add_bridge(name: &str) -> io::Result<()> {
    let _ = name;
    todo!()
}

/// Joins an interface to a bridge.
///
/// # Errors
/// The kernel's; `NotFound` when either is absent.
pub fn set_controller(name: &str, bridge: &str) -> io::Result<()> {
    let _ = (name, bridge);
    todo!()
}

/// Moves an interface into another namespace, where it is down and without addresses.
///
/// # Errors
/// The kernel's.
pub fn move_to(name: &str, namespace: &NetNs) -> io::Result<()> {
    let _ = (name, namespace);
    todo!()
}

/// Renames an interface.
///
/// # Errors
/// The kernel's.
pub fn rename(name: &str, new_name: &str) -> io::Result<()> {
    let _ = (name, new_name);
    todo!()
}

/// Sets an interface up.
///
/// # Errors
/// The kernel's.
pub fn set_up(name: &str) -> io::Result<()> {
    let _ = name;
    todo!()
}

/// Sets an interface down; routes through it go away.
///
/// # Errors
/// The kernel's.
pub fn set_down(name: &str) -> io::Result<()> {
    let _ = name;
    todo!()
}

/// Takes an interface away, a veth with its peer. An absent one is fine.
///
/// # Errors
/// The kernel's.
pub fn delete(name: &str) -> io::Result<()> {
    let _ = name;
    todo!()
}

/// Gives an interface an address. An address that it has is fine. IPv6 addresses are usable at once (no duplicate
/// address detection).
///
/// # Errors
/// The kernel's.
pub fn add_address(name: &str, address: Prefix) -> io::Result<()> {
    let _ = (name, address);
    todo!()
}

/// Takes an address from an interface. An absent one is fine.
///
/// # Errors
/// The kernel's.
pub fn delete_address(name: &str, address: Prefix) -> io::Result<()> {
    let _ = (name, address);
    todo!()
}

/// The addresses of an interface.
///
/// # Errors
/// `NotFound` when there is no such interface.
pub fn addresses(name: &str) -> io::Result<Vec<Prefix>> {
    let _ = name;
    todo!()
}

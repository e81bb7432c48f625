//! Network interfaces of the current network namespace: veth pairs, bridges, addresses.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::net::if_::if_nametoindex;

use crate::error::{Named, errno};
use crate::netlink::{CREATE, EXCLUSIVE, change, dump};
use crate::{NetNs, Prefix};

/// Longest name of an interface in bytes (`IFNAMSIZ` without the NUL byte).
const LONGEST_NAME: usize = 15;

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
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let messages = dump(request).named(|| "listing interfaces".into())?;
    let mut links: Vec<Link> = messages
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(message.into()),
            _ => None,
        })
        .collect();
    links.sort_by_key(|link| link.index);
    Ok(links)
}

/// The interface of that name.
///
/// # Errors
/// `NotFound` when there is none.
pub fn find(name: &str) -> io::Result<Link> {
    list()?.into_iter().find(|link| link.name == name).ok_or_else(|| absent(name))
}

/// The index of the interface of that name.
///
/// # Errors
/// `NotFound` when there is none.
pub fn index(name: &str) -> io::Result<u32> {
    match if_nametoindex(name) {
        Ok(index) => Ok(index),
        Err(nix::Error::ENODEV) => Err(absent(name)),
        Err(error) => Err(error).named(|| format!("looking up interface {name}")),
    }
}

/// Makes a veth pair: `name` here, and `peer_name` at once in `peer_namespace`. Both are down.
///
/// # Errors
/// The kernel's: `AlreadyExists` when either name is taken.
pub fn add_veth(name: &str, peer_name: &str, peer_namespace: &NetNs) -> io::Result<()> {
    let operation = || format!("making veth pair {name} and {peer_name}");
    check_name(peer_name).named(operation)?;
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName(peer_name.to_owned()));
    peer.attributes.push(LinkAttribute::NetNsFd(peer_namespace.as_fd().as_raw_fd()));
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    add(name, vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)]).named(operation)
}

/// Makes a bridge. It is down.
///
/// # Errors
/// The kernel's: `AlreadyExists` when the name is taken.
pub fn add_bridge(name: &str) -> io::Result<()> {
    add(name, vec![LinkInfo::Kind(InfoKind::Bridge)]).named(|| format!("making bridge {name}"))
}

/// Joins an interface to a bridge.
///
/// # Errors
/// The kernel's; `NotFound` when either is absent.
pub fn set_controller(name: &str, bridge: &str) -> io::Result<()> {
    let operation = || format!("joining {name} to bridge {bridge}");
    let controller = index(bridge).named(operation)?;
    modify(name, |message| message.attributes.push(LinkAttribute::Controller(controller))).named(operation)
}

/// Moves an interface into another namespace, where it is down and without addresses.
///
/// # Errors
/// The kernel's: `NotFound` when it is absent, `AlreadyExists` when the other namespace has one of that name.
pub fn move_to(name: &str, namespace: &NetNs) -> io::Result<()> {
    let file = namespace.as_fd().as_raw_fd();
    modify(name, |message| message.attributes.push(LinkAttribute::NetNsFd(file)))
        .named(|| format!("moving {name} into another network namespace"))
}

/// Renames an interface.
///
/// # Errors
/// The kernel's: `NotFound` when it is absent, `AlreadyExists` when the new name is taken.
pub fn rename(name: &str, new_name: &str) -> io::Result<()> {
    let operation = || format!("renaming {name} to {new_name}");
    check_name(new_name).named(operation)?;
    modify(name, |message| message.attributes.push(LinkAttribute::IfName(new_name.to_owned()))).named(operation)
}

/// Sets an interface up.
///
/// # Errors
/// The kernel's: `NotFound` when it is absent.
pub fn set_up(name: &str) -> io::Result<()> {
    set_flag(name, true).named(|| format!("setting {name} up"))
}

/// Sets an interface down; routes through it go away.
///
/// # Errors
/// The kernel's: `NotFound` when it is absent.
pub fn set_down(name: &str) -> io::Result<()> {
    set_flag(name, false).named(|| format!("setting {name} down"))
}

/// Sets the largest packet that an interface takes, in bytes.
///
/// # Errors
/// The kernel's: `NotFound` when it is absent.
pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    modify(name, |message| message.attributes.push(LinkAttribute::Mtu(mtu)))
        .named(|| format!("setting the MTU of {name} to {mtu}"))
}

/// Takes an interface away, a veth with its peer. An absent one is fine.
///
/// # Errors
/// The kernel's.
pub fn delete(name: &str) -> io::Result<()> {
    let index = match index(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let mut message = LinkMessage::default();
    message.header.index = index;
    let deleted = change(RouteNetlinkMessage::DelLink(message), 0);
    unless(deleted, libc::ENODEV).named(|| format!("deleting {name}"))
}

/// Gives an interface an address. An address that it has is fine. IPv6 addresses are usable at once (no duplicate
/// address detection).
///
/// # Errors
/// The kernel's; `NotFound` when there is no such interface.
pub fn add_address(name: &str, address: Prefix) -> io::Result<()> {
    let operation = || format!("adding address {address} to {name}");
    let mut message = address_message(name, address).named(operation)?;
    if address.address().is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    let added = change(RouteNetlinkMessage::NewAddress(message), CREATE | EXCLUSIVE);
    unless(added, libc::EEXIST).named(operation)
}

/// Takes an address from an interface. An absent one is fine.
///
/// # Errors
/// The kernel's; `NotFound` when there is no such interface.
pub fn delete_address(name: &str, address: Prefix) -> io::Result<()> {
    let operation = || format!("deleting address {address} from {name}");
    let message = address_message(name, address).named(operation)?;
    let deleted = change(RouteNetlinkMessage::DelAddress(message), 0);
    unless(deleted, libc::EADDRNOTAVAIL).named(operation)
}

/// The addresses of an interface.
///
/// # Errors
/// `NotFound` when there is no such interface.
pub fn addresses(name: &str) -> io::Result<Vec<Prefix>> {
    let operation = || format!("listing addresses of {name}");
    let index = index(name).named(operation)?;
    let messages = dump(RouteNetlinkMessage::GetAddress(AddressMessage::default())).named(operation)?;
    let prefix_of = |message| match message {
        RouteNetlinkMessage::NewAddress(message) if message.header.index == index => prefix_of(&message),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(prefix_of).collect())
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            is_up: message.header.flags.contains(LinkFlags::Up),
            controller: None,
            hardware_address: Vec::new(),
            mtu: 0,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::Address(address) => link.hardware_address = address,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                _ => {}
            }
        }
        link
    }
}

/// Whether any interface has an address that leads anywhere: loopback and link-local ones do not.
///
/// # Errors
/// The kernel's.
pub fn has_network() -> io::Result<bool> {
    let messages = dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()));
    let leads_anywhere = |message: &RouteNetlinkMessage| match message {
        RouteNetlinkMessage::NewAddress(message) => {
            matches!(message.header.scope, AddressScope::Universe | AddressScope::Site)
        }
        _ => false,
    };
    Ok(messages.named(|| "listing addresses".into())?.iter().any(leads_anywhere))
}

fn add(name: &str, kind: Vec<LinkInfo>) -> io::Result<()> {
    check_name(name)?;
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.push(LinkAttribute::LinkInfo(kind));
    change(RouteNetlinkMessage::NewLink(message), CREATE | EXCLUSIVE)
}

fn set_flag(name: &str, is_up: bool) -> io::Result<()> {
    modify(name, |message| {
        message.header.flags = if is_up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
    })
}

fn modify(name: &str, edit: impl FnOnce(&mut LinkMessage)) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index(name)?;
    edit(&mut message);
    change(RouteNetlinkMessage::SetLink(message), 0)
}

fn address_message(name: &str, address: Prefix) -> io::Result<AddressMessage> {
    let mut message = AddressMessage::default();
    message.header.family = if address.address().is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.prefix_len = address.length();
    message.header.index = index(name)?;
    message.attributes.push(AddressAttribute::Local(address.address()));
    message.attributes.push(AddressAttribute::Address(address.address()));
    Ok(message)
}

/// IPv4 interfaces tell their own address as "local"; IPv6 ones only when the peer's differs.
fn prefix_of(message: &AddressMessage) -> Option<Prefix> {
    let find = |wanted: fn(&AddressAttribute) -> Option<std::net::IpAddr>| message.attributes.iter().find_map(wanted);
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    Prefix::new(address?, message.header.prefix_len).ok()
}

/// The kernel cuts no names: it refuses long ones as a malformed request, which explains nothing.
fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        let text = format!("the name of an interface has 1 to {LONGEST_NAME} bytes, not {}", name.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

fn absent(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no interface is named {name}"))
}

/// Takes one errno for success.
pub(crate) fn unless(outcome: io::Result<()>, fine: i32) -> io::Result<()> {
    match outcome {
        Err(error) if errno(&error) == Some(fine) => Ok(()),
        other => other,
    }
}

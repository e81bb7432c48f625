//! Routes and policy routing rules of the current network namespace.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::net::if_::if_indextoname;

use crate::Prefix;
use crate::error::Named;
use crate::link::{index, unless};
use crate::netlink::{CREATE, EXCLUSIVE, change, dump};

/// The main routing table.
pub const MAIN_TABLE: u32 = 254;

/// What happens to packets that a route matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// They are sent on.
    #[default]
    Unicast,
    /// They are delivered to this host, whatever their destination.
    Local,
    /// They are refused with an ICMP error.
    Unreachable,
    /// They vanish.
    Blackhole,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which destinations; also says the family.
    pub destination: Prefix,
    /// The next hop; without one, destinations are on the link.
    pub gateway: Option<IpAddr>,
    /// The interface.
    pub device: Option<String>,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// The table; default [`MAIN_TABLE`].
    pub table: u32,
    /// What happens to the packets.
    pub kind: Kind,
}

/// A policy routing rule: which packets look into which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// For IPv6 instead of IPv4.
    pub is_ipv6: bool,
    /// The packet's mark, as far as `mask` goes.
    pub mark: u32,
    /// Which bits of the mark count.
    pub mask: u32,
    /// Order among the rules: lower is earlier.
    pub priority: u32,
    /// The table to look into.
    pub table: u32,
}

impl Route {
    /// To destinations on the link of `device` (`scope link`).
    pub fn on_link(destination: Prefix, device: impl Into<String>) -> Self {
        Self {
            destination,
            gateway: None,
            device: Some(device.into()),
            source: None,
            table: MAIN_TABLE,
            kind: Kind::Unicast,
        }
    }

    /// Through the next hop `gateway`.
    pub fn via(destination: Prefix, gateway: IpAddr) -> Self {
        Self { destination, gateway: Some(gateway), device: None, source: None, table: MAIN_TABLE, kind: Kind::Unicast }
    }

    /// Delivered to this host through `device`, in `table`.
    pub fn local(destination: Prefix, device: impl Into<String>, table: u32) -> Self {
        Self { kind: Kind::Local, table, ..Self::on_link(destination, device) }
    }
}

/// Adds a route. One to the same destination in the same table is fine and stays.
///
/// # Errors
/// The kernel's, named with the route; `NotFound` when there is no such interface.
pub fn add(route: &Route) -> io::Result<()> {
    let operation = || format!("adding route {route}");
    let message = route_message(route).named(operation)?;
    let added = change(RouteNetlinkMessage::NewRoute(message), CREATE | EXCLUSIVE);
    unless(added, libc::EEXIST).named(operation)
}

/// Takes a route away. An absent one is fine, and so is one through an absent interface.
///
/// # Errors
/// The kernel's, named with the route.
pub fn delete(route: &Route) -> io::Result<()> {
    let operation = || format!("deleting route {route}");
    let message = match route_message(route) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        message => message.named(operation)?,
    };
    let deleted = change(RouteNetlinkMessage::DelRoute(message), 0);
    unless(deleted, libc::ESRCH).named(operation)
}

/// The routes of a table, of one family. Routes of a kind that [`Kind`] does not know are left out.
///
/// # Errors
/// The kernel's.
pub fn list(is_ipv6: bool, table: u32) -> io::Result<Vec<Route>> {
    let operation = || format!("listing routes of table {table}");
    let mut request = RouteMessage::default();
    request.header.address_family = family(is_ipv6);
    let messages = dump(RouteNetlinkMessage::GetRoute(request)).named(operation)?;
    let routes = messages.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRoute(message) => route_of(is_ipv6, &message),
        _ => None,
    });
    Ok(routes.filter(|route| route.table == table).collect())
}

/// Adds a rule. One that is there already is fine.
///
/// # Errors
/// The kernel's, named with the rule.
pub fn add_rule(rule: &Rule) -> io::Result<()> {
    let added = change(RouteNetlinkMessage::NewRule(rule_message(rule)), CREATE | EXCLUSIVE);
    unless(added, libc::EEXIST).named(|| format!("adding rule {rule}"))
}

/// Takes a rule away. An absent one is fine.
///
/// # Errors
/// The kernel's, named with the rule.
pub fn delete_rule(rule: &Rule) -> io::Result<()> {
    let deleted = change(RouteNetlinkMessage::DelRule(rule_message(rule)), 0);
    unless(deleted, libc::ENOENT).named(|| format!("deleting rule {rule}"))
}

/// The rules of one family that look at a mark, by priority.
///
/// # Errors
/// The kernel's.
pub fn rules(is_ipv6: bool) -> io::Result<Vec<Rule>> {
    let mut request = RuleMessage::default();
    request.header.family = family(is_ipv6);
    let messages = dump(RouteNetlinkMessage::GetRule(request)).named(|| "listing rules".into())?;
    let mut rules: Vec<Rule> = messages
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewRule(message) => rule_of(is_ipv6, &message),
            _ => None,
        })
        .collect();
    rules.sort_by_key(|rule| rule.priority);
    Ok(rules)
}

impl fmt::Display for Route {
    /// As `ip route` would print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Unicast => {}
            Kind::Local => write!(f, "local ")?,
            Kind::Unreachable => write!(f, "unreachable ")?,
            Kind::Blackhole => write!(f, "blackhole ")?,
        }
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " dev {device}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.table != MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    /// As `ip rule` would print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mark, mask, priority, table, .. } = self;
        write!(f, "fwmark {mark:#x}/{mask:#x} priority {priority} lookup {table}")
    }
}

fn family(is_ipv6: bool) -> AddressFamily {
    if is_ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

fn route_message(route: &Route) -> io::Result<RouteMessage> {
    let mut message = RouteMessage::default();
    let destination = route.destination.network();
    message.header = RouteHeader {
        address_family: family(destination.address().is_ipv6()),
        destination_prefix_length: destination.length(),
        // Tables beyond one byte are told by the attribute alone.
        table: u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: RouteProtocol::Static,
        scope: match (route.kind, route.gateway) {
            (Kind::Local, _) => RouteScope::Host,
            (Kind::Unicast, None) => RouteScope::Link,
            _ => RouteScope::Universe,
        },
        kind: match route.kind {
            Kind::Unicast => RouteType::Unicast,
            Kind::Local => RouteType::Local,
            Kind::Unreachable => RouteType::Unreachable,
            Kind::Blackhole => RouteType::BlackHole,
        },
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Table(route.table));
    if destination.length() > 0 {
        message.attributes.push(RouteAttribute::Destination(destination.address().into()));
    }
    message.attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    if let Some(device) = &route.device {
        message.attributes.push(RouteAttribute::Oif(index(device)?));
    }
    Ok(message)
}

fn route_of(is_ipv6: bool, message: &RouteMessage) -> Option<Route> {
    let unspecified = if is_ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let mut address = unspecified;
    let mut route = Route {
        destination: Prefix::host(unspecified),
        gateway: None,
        device: None,
        source: None,
        table: message.header.table.into(),
        kind: match message.header.kind {
            RouteType::Unicast => Kind::Unicast,
            RouteType::Local => Kind::Local,
            RouteType::Unreachable => Kind::Unreachable,
            RouteType::BlackHole => Kind::Blackhole,
            _ => return None,
        },
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(found) => address = ip(found)?,
            RouteAttribute::Gateway(found) => route.gateway = ip(found),
            RouteAttribute::PrefSource(found) => route.source = ip(found),
            RouteAttribute::Table(found) => route.table = *found,
            RouteAttribute::Oif(index) => route.device = if_indextoname(*index).ok()?.into_string().ok(),
            _ => {}
        }
    }
    route.destination = Prefix::new(address, message.header.destination_prefix_length).ok()?;
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.is_ipv6);
    message.header.action = RuleAction::ToTable;
    message.header.table = u8::try_from(rule.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.attributes = vec![
        RuleAttribute::FwMark(rule.mark),
        RuleAttribute::FwMask(rule.mask),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
    ];
    message
}

fn rule_of(is_ipv6: bool, message: &RuleMessage) -> Option<Rule> {
    let mut mark = None;
    let mut rule = Rule { is_ipv6, mark: 0, mask: u32::MAX, priority: 0, table: message.header.table.into() };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::FwMark(found) => mark = Some(*found),
            RuleAttribute::FwMask(found) => rule.mask = *found,
            RuleAttribute::Priority(found) => rule.priority = *found,
            RuleAttribute::Table(found) => rule.table = *found,
            _ => {}
        }
    }
    Some(Rule { mark: mark?, ..rule })
}

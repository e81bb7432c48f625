//! Routes and policy routing rules of the current network namespace.

use std::io;
use std::net::IpAddr;

use crate::Prefix;

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

/// Adds a route. One that is there already is fine.
///
/// # Errors
/// The kernel's, named with the route.
pub fn add(route: &Route) -> io::Result<()> {
    let _ = route;
    todo!()
}

/// Takes a route away. An absent one is fine.
///
/// # Errors
/// The kernel's, named with the route.
pub fn delete(route: &Route) -> io::Result<()> {
    let _ = route;
    todo!()
}

/// The routes of a table, of one family.
///
/// # Errors
/// The kernel's.
pub fn list(is_ipv6: bool, table: u32) -> io::Result<Vec<Route>> {
    let _ = (is_ipv6, table);
    todo!()
}

/// Adds a rule. One that is there already is fine.
///
/// # Errors
/// The kernel's, named with the rule.
pub fn add_rule(rule: &Rule) -> io::Result<()> {
    let _ = rule;
    todo!()
}

/// Takes a rule away. An absent one is fine.
///
/// # Errors
/// The kernel's, named with the rule.
pub fn delete_rule(rule: &Rule) -> io::Result<()> {
    let _ = rule;
    todo!()
}

/// The rules of one family that look at a mark, by priority.
///
/// # Errors
/// The kernel's.
pub fn rules(is_ipv6: bool) -> io::Result<Vec<Rule>> {
    let _ = is_ipv6;
    todo!()
}

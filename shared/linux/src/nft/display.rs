//! The text that `nft --stateless list ruleset` prints for the model (nft 1.0.6).
//!
//! `nft` reads what is printed here, so the text can be put into a file and loaded by hand.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use super::model::{
    Base, Chain, ChainKind, CtState, Element, Family, Hook, Policy, Relation, Rule, Set, Statement, Table, TcpFlags,
    Transport,
};
use crate::Prefix;

/// Priorities that have a name, with the hooks at which `nft` uses it.
const PRIORITIES: [(&str, i32, &[Hook]); 6] = [
    ("raw", -300, ALL_HOOKS),
    ("mangle", -150, ALL_HOOKS),
    ("dstnat", -100, &[Hook::Prerouting]),
    ("filter", 0, ALL_HOOKS),
    ("security", 50, ALL_HOOKS),
    ("srcnat", 100, &[Hook::Postrouting]),
];

const ALL_HOOKS: &[Hook] = &[Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

/// How far from a named priority `nft` still prints the name.
const NEAR: u32 = 10;

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
        })
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.name)?;
        let mut separator = "";
        for set in &self.sets {
            write!(f, "{separator}{set}")?;
            separator = "\n";
        }
        for chain in &self.chains {
            write!(f, "{separator}")?;
            write_chain(chain, self.family, f)?;
            separator = "\n";
        }
        writeln!(f, "}}")
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tset {} {{", self.name)?;
        writeln!(f, "\t\ttype {}", if self.family == Family::Ip6 { "ipv6_addr" } else { "ipv4_addr" })?;
        if !self.elements.is_empty() {
            let elements: Vec<String> = self.elements.iter().map(ToString::to_string).collect();
            writeln!(f, "\t\telements = {{ {} }}", elements.join(", "))?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        write_comment(self.comment.as_deref(), f)
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        };
        let policy = match self.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        write!(f, "type {kind} hook {} priority ", self.hook)?;
        let named = PRIORITIES
            .iter()
            .find(|(_, priority, hooks)| hooks.contains(&self.hook) && priority.abs_diff(self.priority) <= NEAR);
        match named {
            Some((name, priority, _)) => match self.priority.saturating_sub(*priority) {
                0 => write!(f, "{name}")?,
                above @ 1.. => write!(f, "{name} + {above}")?,
                below => write!(f, "{name} - {}", below.unsigned_abs())?,
            },
            None => write!(f, "{}", self.priority)?,
        }
        write!(f, "; policy {policy};")
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

/// A rule as it is printed in a table of `family`, where translations name the family of their address.
pub(super) struct InFamily<'a>(pub(super) &'a Rule, pub(super) Family);

impl Display for InFamily<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(rule, family) = self;
        let mut separator = "";
        for (position, statement) in rule.statements.iter().enumerate() {
            if is_implied(statement, rule.statements.iter().skip(position)) {
                continue;
            }
            write!(f, "{separator}")?;
            match (statement, family) {
                (Statement::DnatTo(to), Family::Inet) => write!(f, "dnat {} to {to}", family_of(to.ip()))?,
                (Statement::DnatAmong(prefix, port), Family::Inet) => {
                    write!(f, "dnat {} to {prefix}:{port}", family_of(prefix.address()))?;
                }
                (Statement::SnatTo(to), Family::Inet) => write!(f, "snat {} to {to}", family_of(*to))?,
                _ => write!(f, "{statement}")?,
            }
            separator = " ";
        }
        write_comment(rule.comment.as_deref(), f)
    }
}

/// `nft` leaves out a match on the protocol when a later match on its header says the same.
fn is_implied<'a>(statement: &Statement, mut following: impl Iterator<Item = &'a Statement>) -> bool {
    let Statement::L4Protocol(transport) = statement else { return false };
    following.any(|later| later.header() == Some(*transport))
}

impl Statement {
    /// The transport protocol whose header the statement looks into.
    pub(super) fn header(&self) -> Option<Transport> {
        match self {
            Self::SourcePort(transport, ..) | Self::DestinationPort(transport, ..) => Some(*transport),
            Self::TcpFlags { .. } => Some(Transport::Tcp),
            _ => None,
        }
    }
}

impl Display for Statement {
    /// As in a table of IPv4 or IPv6 alone.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::L4Protocol(transport) => write!(f, "meta l4proto {transport}"),
            Self::Mark { mask, relation, value } => write_masked("meta mark", *mask, *relation, *value, f),
            Self::CtState(states) => write!(f, "ct state {states}"),
            Self::Source(relation, prefix) => write_prefix("saddr", *relation, *prefix, f),
            Self::Destination(relation, prefix) => write_prefix("daddr", *relation, *prefix, f),
            Self::SourceIn(family, set) => write!(f, "{family} saddr @{set}"),
            Self::DestinationIn(family, set) => write!(f, "{family} daddr @{set}"),
            Self::SourcePort(transport, relation, port) => write!(f, "{transport} sport {relation}{port}"),
            Self::DestinationPort(transport, relation, port) => write!(f, "{transport} dport {relation}{port}"),
            Self::TcpFlags { mask, value } => write!(f, "tcp flags {value} / {mask}"),
            Self::InInterface(relation, name) => write!(f, "iifname {relation}\"{name}\""),
            Self::OutInterface(relation, name) => write!(f, "oifname {relation}\"{name}\""),
            Self::FromSocket => write!(f, "meta skuid >= 0"),
            Self::RandomBelow { modulus, below } => write!(f, "numgen random mod {modulus} < {below}"),
            Self::RandomIs { modulus, value } => write!(f, "numgen random mod {modulus} {value}"),
            Self::Counter => write!(f, "counter"),
            Self::SetMark(value) => write!(f, "meta mark set {value:#010x}"),
            Self::SetCtZone(zone) => write!(f, "ct zone set {zone}"),
            Self::Redirect(port) => write!(f, "redirect to :{port}"),
            Self::DnatTo(to) => write!(f, "dnat to {to}"),
            Self::DnatAmong(prefix, port) => write!(f, "dnat to {prefix}:{port}"),
            Self::SnatTo(to) => write!(f, "snat to {to}"),
            Self::NoTrack => write!(f, "notrack"),
            Self::Masquerade => write!(f, "masquerade"),
            Self::Accept => write!(f, "accept"),
            Self::Drop => write!(f, "drop"),
            Self::Return => write!(f, "return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::RejectWithReset => write!(f, "reject with tcp reset"),
        }
    }
}

impl Display for Relation {
    /// Nothing for equal, `!= ` otherwise: what stands before the value.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "",
            Self::NotEqual => "!= ",
        })
    }
}

impl Display for Transport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl Display for TcpFlags {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];
        write_bits(self.0.into(), &NAMES, f)
    }
}

impl Display for CtState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 4] = ["invalid", "established", "related", "new"];
        write_bits(self.0, &NAMES, f)
    }
}

fn write_chain(chain: &Chain, family: Family, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "\tchain {} {{", chain.name)?;
    if let Some(base) = &chain.base {
        writeln!(f, "\t\t{base}")?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{}", InFamily(rule, family))?;
    }
    writeln!(f, "\t}}")
}

fn write_comment(comment: Option<&str>, f: &mut Formatter<'_>) -> fmt::Result {
    comment.map_or(Ok(()), |comment| write!(f, " comment \"{comment}\""))
}

fn write_masked(what: &str, mask: u32, relation: Relation, value: u32, f: &mut Formatter<'_>) -> fmt::Result {
    if mask == u32::MAX {
        return write!(f, "{what} {relation}{value:#010x}");
    }
    let operator = match relation {
        Relation::Equal => "==",
        Relation::NotEqual => "!=",
    };
    write!(f, "{what} & {mask:#010x} {operator} {value:#010x}")
}

fn write_prefix(field: &str, relation: Relation, prefix: Prefix, f: &mut Formatter<'_>) -> fmt::Result {
    let network = prefix.network();
    write!(f, "{} {field} {relation}", family_of(network.address()))?;
    if network.is_host() { write!(f, "{}", network.address()) } else { write!(f, "{network}") }
}

fn write_bits(bits: u32, names: &[&str], f: &mut Formatter<'_>) -> fmt::Result {
    let mut separator = "";
    for (position, name) in names.iter().enumerate() {
        if bits & (1 << position) != 0 {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
    }
    if separator.is_empty() { write!(f, "0x0") } else { Ok(()) }
}

/// The family of an address.
pub(super) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv6() { Family::Ip6 } else { Family::Ip }
}

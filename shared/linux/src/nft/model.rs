//! Tables, chains, rules and sets as plain data.

use std::net::{IpAddr, SocketAddr};

use crate::Prefix;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
}

/// A named group of chains and sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which packets it sees.
    pub family: Family,
    /// Its name; tables of different families may share one.
    pub name: String,
    /// Its chains. A chain may jump to any other of the table, in any order.
    pub chains: Vec<Chain>,
    /// Its sets.
    pub sets: Vec<Set>,
}

/// A list of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets enter it; `None` when only other chains jump to it.
    pub base: Option<Base>,
    /// What is done with a packet, in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain is hooked into the path of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What the chain may do.
    pub kind: ChainKind,
    /// At which point packets enter it.
    pub hook: Hook,
    /// In which order with other chains at that point: lower is earlier.
    pub priority: i32,
    /// What happens to a packet that reaches its end.
    pub policy: Policy,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of a connection, and may translate it.
    Nat,
    /// Sees every packet that is sent; those whose mark it changes are routed again. Only at [`Hook::Output`].
    Route,
}

/// A point in the path of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Arrived, before routing.
    Prerouting,
    /// For this host.
    Input,
    /// Passing through.
    Forward,
    /// From this host.
    Output,
    /// Leaving, after routing.
    Postrouting,
}

/// What happens to a packet that no rule decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// It goes on.
    #[default]
    Accept,
    /// It is thrown away.
    Drop,
}

/// What is done with packets that match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Matches and actions in order; the first match that fails ends the rule.
    pub statements: Vec<Statement>,
    /// A text that `nft list ruleset` shows and that tells rules apart in [`super::chains`]; 127 bytes at most.
    pub comment: Option<String>,
}

/// A set of addresses that rules can look into and that changes without touching them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Which addresses it holds: [`Family::Ip`] or [`Family::Ip6`].
    pub family: Family,
    /// What it holds at first.
    pub elements: Vec<Element>,
}

/// One address in a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The address, of the set's family.
    pub address: IpAddr,
    /// A text kept beside it, such as its owner; 127 bytes at most.
    pub comment: Option<String>,
}

/// Whether a match wants the value, or anything but the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Relation {
    /// `==`
    #[default]
    Equal,
    /// `!=`
    NotEqual,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Flags of a TCP segment, by their bits in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The sender is done.
    pub const FIN: Self = Self(0x01);
    /// The first segment of a direction.
    pub const SYN: Self = Self(0x02);
    /// The connection is refused or broken off.
    pub const RST: Self = Self(0x04);
    /// Data should be handed on at once.
    pub const PSH: Self = Self(0x08);
    /// Something is acknowledged: set on all but the first segment of a connection.
    pub const ACK: Self = Self(0x10);
    /// Both sets of flags.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// States of a tracked connection, by the kernel's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CtState(pub u32);

impl CtState {
    /// Belongs to no connection.
    pub const INVALID: Self = Self(1);
    /// Belongs to a connection that was seen in both directions.
    pub const ESTABLISHED: Self = Self(2);
    /// Starts a connection that belongs to another, or is an error about one.
    pub const RELATED: Self = Self(4);
    /// Starts a connection.
    pub const NEW: Self = Self(8);
    /// Either set of states.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A match or an action of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `meta l4proto tcp`
    L4Protocol(Transport),
    /// `meta mark & mask == value`; a mask of `u32::MAX` compares the whole mark.
    Mark {
        /// The bits that count.
        mask: u32,
        /// Wanted or not.
        relation: Relation,
        /// What they are compared with.
        value: u32,
    },
    /// `ct state established,related`
    CtState(CtState),
    /// `ip saddr`, `ip6 saddr`
    Source(Relation, Prefix),
    /// `ip daddr`, `ip6 daddr`
    Destination(Relation, Prefix),
    /// `ip saddr @set`; the family says which kind of address, [`Family::Ip`] or [`Family::Ip6`].
    SourceIn(Family, String),
    /// `ip daddr @set`; the family says which kind of address, [`Family::Ip`] or [`Family::Ip6`].
    DestinationIn(Family, String),
    /// `tcp sport`, `udp sport`
    SourcePort(Transport, Relation, u16),
    /// `tcp dport`, `udp dport`
    DestinationPort(Transport, Relation, u16),
    /// `tcp flags & (syn | ack) == syn`
    TcpFlags {
        /// The flags that are looked at.
        mask: TcpFlags,
        /// Those that must be set; the others must not.
        value: TcpFlags,
    },
    /// `iifname`
    InInterface(Relation, String),
    /// `oifname`
    OutInterface(Relation, String),
    /// `meta skuid >= 0`: the packet comes from a socket of this network namespace, whoever owns it.
    FromSocket,
    /// `numgen random mod modulus < below`: true for `below` in `modulus` packets.
    RandomBelow {
        /// How many outcomes there are.
        modulus: u32,
        /// How many of them match.
        below: u32,
    },
    /// `numgen random mod modulus == value`
    RandomIs {
        /// How many outcomes there are.
        modulus: u32,
        /// The one that matches.
        value: u32,
    },
    /// `notrack`: the packet belongs to no connection that is tracked; to be said before tracking, at priority `raw`.
    NoTrack,
    /// `counter`
    Counter,
    /// `meta mark set value`
    SetMark(u32),
    /// `ct zone set zone`
    SetCtZone(u16),
    /// `redirect to :port`: to this host.
    Redirect(u16),
    /// `dnat to address:port`
    DnatTo(SocketAddr),
    /// `dnat to prefix:port`: to one of these addresses, always the same for the same source and destination.
    DnatAmong(Prefix, u16),
    /// `snat to address`
    SnatTo(IpAddr),
    /// `masquerade`: from the address of the interface that the packet leaves by.
    Masquerade,
    /// `accept`
    Accept,
    /// `drop`
    Drop,
    /// `return`: back to the chain that jumped here.
    Return,
    /// `jump chain`: come back at its end.
    Jump(String),
    /// `goto chain`: do not come back.
    Goto(String),
    /// `reject with tcp reset`
    RejectWithReset,
}

impl Table {
    /// A table without chains and sets.
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self { family, name: name.into(), chains: Vec::new(), sets: Vec::new() }
    }
}

impl Chain {
    /// A chain that others jump to.
    pub fn new(name: impl Into<String>, rules: impl Into<Vec<Rule>>) -> Self {
        Self { name: name.into(), base: None, rules: rules.into() }
    }

    /// A chain at a hook.
    pub fn at(base: Base, name: impl Into<String>, rules: impl Into<Vec<Rule>>) -> Self {
        Self { name: name.into(), base: Some(base), rules: rules.into() }
    }
}

impl Base {
    /// At `hook` with `priority`, accepting what reaches the end.
    pub fn new(kind: ChainKind, hook: Hook, priority: i32) -> Self {
        Self { kind, hook, priority, policy: Policy::Accept }
    }
}

impl Rule {
    /// A rule without a comment.
    pub fn new(statements: impl Into<Vec<Statement>>) -> Self {
        Self { statements: statements.into(), comment: None }
    }

    /// The same rule with a comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

impl Set {
    /// An empty set of IPv4 ([`Family::Ip`]) or IPv6 ([`Family::Ip6`]) addresses.
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self { name: name.into(), family, elements: Vec::new() }
    }
}

impl From<IpAddr> for Element {
    fn from(address: IpAddr) -> Self {
        Self { address, comment: None }
    }
}

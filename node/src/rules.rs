//! The packet filter rules of captured pods and of their node, as data from pure functions.
//!
//! Marks, ports and order are those of Istio's node agent, so that any ztunnel works behind them; four things differ.
//! Only the first segment of a connection is ever redirected, so that connections from before stay whole.
//! Connections to different servers reach the proxy at different addresses, so that they do not get in each other's way.
//! Answers to connections that ztunnel opened find their way back without a rule that looks at each packet.
//! And a pod that leaves keeps a rule that needs connection tracking, so that redirected connections stay translated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linux::Prefix;
use linux::nft::{
    Base, Chain, ChainKind, CtState, Family, Hook, Relation, Rule, Set, Statement, Table, TcpFlags, Transport,
};

use crate::eligibility::Capture;

/// Name of the table inside a captured pod.
pub const POD_TABLE: &str = "aquifer";
/// Name of the table in the node's own namespace.
pub const HOST_TABLE: &str = "aquifer-host";

/// The mark of every packet that ztunnel sends.
pub const PROXY_MARK: u32 = 0x539;
/// The mark of connections that ztunnel opens to the pod's application, with a client's source address: what answers
/// them has it, too ([`linux::marks`]), and is routed back by it.
pub const CONNECTION_MARK: u32 = 0x111;
/// The mark of packets that arrive where connections from outside may reach the application directly, and of what answers
/// them: none that is routed anywhere but out again.
pub const DIRECT_MARK: u32 = 0x222;
/// The bits of a mark that belong to the mesh; the others are somebody else's.
pub const MARK_MASK: u32 = 0xfff;
/// The routing table that brings replies to a client's address back to ztunnel.
pub const ROUTE_TABLE: u32 = 100;
/// Where in the order of routing rules that table is consulted: before the main table.
pub const RULE_PRIORITY: u32 = 32764;

const OUTBOUND_PORT: u16 = 15001;
/// The loopback addresses among which a pod's own IPv4 connections are led to the proxy.
const PROXY_ADDRESSES: Prefix = Prefix::v4(Ipv4Addr::new(127, 128, 0, 0), 9);
const INBOUND_PLAINTEXT_PORT: u16 = 15006;
const INBOUND_HBONE_PORT: u16 = 15008;
/// Where ztunnel answers name lookups.
pub const LOOKUP_PORT: u16 = 15053;
/// Where everybody else answers them.
const DNS_PORT: u16 = 53;

/// The zone in which the proxy's own lookups are tracked, apart from those of the pod that it forwards: both have the
/// same server, and could have the same port.
const FORWARDED_ZONE: u16 = 1;

/// Before connection tracking, as in the kernel's `NF_IP_PRI_RAW`.
const RAW: i32 = -300;

/// The kernel's `NF_IP_PRI_NAT_DST`.
const DESTINATION_NAT: i32 = -100;
/// The kernel's `NF_IP_PRI_NAT_SRC`.
const SOURCE_NAT: i32 = 100;

/// What one address family needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyRules {
    /// The loopback address, whose connections stay outside the mesh.
    pub loopback: IpAddr,
    /// The address from which the kubelet's probes appear inside pods.
    pub probe_source: IpAddr,
}

impl FamilyRules {
    /// IPv4.
    #[must_use]
    pub fn v4(probe_source: Ipv4Addr) -> Self {
        Self { loopback: Ipv4Addr::LOCALHOST.into(), probe_source: probe_source.into() }
    }

    /// IPv6.
    #[must_use]
    pub fn v6(probe_source: Ipv6Addr) -> Self {
        Self { loopback: Ipv6Addr::LOCALHOST.into(), probe_source: probe_source.into() }
    }

    fn family(&self) -> Family {
        if self.loopback.is_ipv4() { Family::Ip } else { Family::Ip6 }
    }

    /// Name of the set that holds the captured pods' addresses on the node.
    #[must_use]
    pub fn probe_set(&self) -> &'static str {
        if self.loopback.is_ipv4() { "probes-v4" } else { "probes-v6" }
    }
}

/// The table of a captured pod; `lookups` are the families whose name lookups are redirected too.
#[must_use]
pub fn pod_table(families: &[FamilyRules], capture: &Capture, lookups: &[FamilyRules]) -> Table {
    let mut table = Table::new(Family::Inet, POD_TABLE);
    table.chains =
        vec![nat_prerouting(prerouting_rules(families, capture)), nat_output(output_rules(families, lookups))];
    // What virtual machines send has to be tracked: their connections to the port of tunnels are redirected, and those to
    // them may be translated by others.
    let is_untracked = capture.virtual_interfaces.is_empty();
    let of = |is_wanted: bool, rules: fn() -> BothWays| if is_wanted { rules() } else { BothWays::default() };
    table.chains.extend(track_chains([
        of(is_untracked, application_rules),
        of(is_untracked, tunnel_rules),
        of(capture.outbound_only, direct_rules),
        of(!lookups.is_empty(), zone_rules),
    ]));
    table
}

/// The table of a pod that has left and still has connections through ztunnel: nothing new is redirected, connection
/// tracking stays, and so does the way back of answers.
#[must_use]
pub fn leaving_table() -> Table {
    let keep = || {
        rule(
            [Statement::CtState(CtState::ESTABLISHED), Statement::Counter],
            "keep connection tracking on until redirected connections have ended",
        )
    };
    let mut table = Table::new(Family::Inet, POD_TABLE);
    table.chains = vec![nat_prerouting(vec![keep()]), nat_output(vec![keep(), way_back()])];
    // With answers to lookups that the proxy still forwards.
    table.chains.extend(track_chains([application_rules(), BothWays::default(), direct_rules(), zone_rules()]));
    table
}

/// The node's own table: connections from the node to captured pods, which are its probes, get a source address that
/// the pods' rules let pass.
#[must_use]
pub fn host_table(families: &[FamilyRules]) -> Table {
    let mut table = Table::new(Family::Inet, HOST_TABLE);
    table.sets = families.iter().map(|rules| Set::new(rules.family(), rules.probe_set())).collect();
    let rules: Vec<Rule> = families
        .iter()
        .map(|rules| {
            rule(
                [
                    Statement::L4Protocol(Transport::Tcp),
                    Statement::FromSocket,
                    Statement::DestinationIn(rules.family(), rules.probe_set().to_owned()),
                    Statement::Counter,
                    Statement::SnatTo(rules.probe_source),
                ],
                "probes of this node bypass the mesh",
            )
        })
        .collect();
    let base = Base::new(ChainKind::Nat, Hook::Postrouting, SOURCE_NAT);
    table.chains = vec![Chain::at(base, "postrouting", rules)];
    table
}

fn nat_prerouting(rules: Vec<Rule>) -> Chain {
    Chain::at(Base::new(ChainKind::Nat, Hook::Prerouting, DESTINATION_NAT), "nat-prerouting", rules)
}

fn nat_output(rules: Vec<Rule>) -> Chain {
    Chain::at(Base::new(ChainKind::Nat, Hook::Output, DESTINATION_NAT), "nat-output", rules)
}

fn prerouting_rules(families: &[FamilyRules], capture: &Capture) -> Vec<Rule> {
    let mut rules = Vec::new();
    for interface in &capture.virtual_interfaces {
        let arrives = Statement::InInterface(Relation::Equal, interface.clone());
        rules.push(rule(
            [arrives.clone(), first_segment(), Statement::Counter, Statement::Redirect(OUTBOUND_PORT)],
            "a virtual machine's connections are outgoing ones",
        ));
        rules.push(rule(
            [arrives, Statement::L4Protocol(Transport::Tcp), Statement::Counter, Statement::Return],
            "and nothing else of it is touched",
        ));
    }
    if capture.outbound_only {
        return rules;
    }
    for family in families {
        rules.push(rule(
            [
                Statement::Source(Relation::Equal, Prefix::host(family.probe_source)),
                Statement::L4Protocol(Transport::Tcp),
                Statement::Counter,
                Statement::Accept,
            ],
            "probes of the node go straight to the application",
        ));
    }
    for family in families {
        rules.push(rule(
            [
                Statement::Destination(Relation::NotEqual, Prefix::host(family.loopback)),
                Statement::DestinationPort(Transport::Tcp, Relation::NotEqual, INBOUND_HBONE_PORT),
                not_from_proxy(),
                first_segment(),
                Statement::Counter,
                Statement::Redirect(INBOUND_PLAINTEXT_PORT),
            ],
            "incoming plaintext goes through ztunnel",
        ));
    }
    rules
}

fn output_rules(families: &[FamilyRules], lookups: &[FamilyRules]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = families
        .iter()
        .map(|family| {
            rule(
                [
                    Statement::Destination(Relation::Equal, Prefix::host(family.probe_source)),
                    Statement::L4Protocol(Transport::Tcp),
                    Statement::Counter,
                    Statement::Accept,
                ],
                "answers to probes",
            )
        })
        .collect();
    rules.extend(lookup_rules(lookups));
    rules.push(rule(
        [Statement::L4Protocol(Transport::Tcp), connects_to_application(), Statement::Counter, Statement::Accept],
        "ztunnel's connections to the application, and answers on them",
    ));
    rules.push(way_back());
    for family in families {
        rules.push(rule(
            [
                Statement::Destination(Relation::NotEqual, Prefix::host(family.loopback)),
                Statement::OutInterface(Relation::Equal, "lo".to_owned()),
                Statement::Counter,
                Statement::Accept,
            ],
            "a pod that calls itself stays outside the mesh",
        ));
    }
    for family in families {
        rules.push(rule(
            [
                Statement::Destination(Relation::NotEqual, Prefix::host(family.loopback)),
                not_from_proxy(),
                first_segment(),
                Statement::Counter,
                to_proxy(family),
            ],
            "outgoing connections go through ztunnel",
        ));
    }
    rules
}

/// For a ztunnel that does not give its connections to the application the mark that leads answers back to it, as Istio's
/// does not: their first segment gets it here, and the application's end takes it over.
fn way_back() -> Rule {
    rule(
        [
            Statement::L4Protocol(Transport::Tcp),
            from_proxy(),
            Statement::OutInterface(Relation::Equal, "lo".to_owned()),
            Statement::Counter,
            Statement::SetMark(CONNECTION_MARK),
            Statement::Accept,
        ],
        "answers of the application find their way back to ztunnel",
    )
}

/// Each destination has an address of the proxy's own, as far as there are any.
///
/// With one for all, connections to different servers would differ by the client's port alone. A port that one server's
/// connection has just left could then not be used for another's: the proxy's end still waits for stray segments
/// (TIME_WAIT), takes the new one for one of them, and the client tries again after a second.
fn to_proxy(family: &FamilyRules) -> Statement {
    match family.loopback {
        IpAddr::V4(_) => Statement::DnatAmong(PROXY_ADDRESSES, OUTBOUND_PORT),
        // IPv6 has one loopback address.
        IpAddr::V6(_) => Statement::Redirect(OUTBOUND_PORT),
    }
}

/// Servers on the pod's own loopback interface are the pod's own affair.
fn lookup_rules(families: &[FamilyRules]) -> Vec<Rule> {
    let datagrams = (Transport::Udp, None, "name lookups go to ztunnel");
    let streams = (Transport::Tcp, Some(first_segment()), "name lookups over TCP go to ztunnel");
    let of = |(transport, first, comment): (Transport, Option<Statement>, &str)| -> Vec<Rule> {
        let of_family = |family: &FamilyRules| {
            let leaves = [
                Statement::Destination(Relation::NotEqual, Prefix::host(family.loopback)),
                Statement::OutInterface(Relation::NotEqual, "lo".to_owned()),
                Statement::DestinationPort(transport, Relation::Equal, DNS_PORT),
                not_from_proxy(),
            ];
            let redirect = [Statement::Counter, Statement::Redirect(LOOKUP_PORT)];
            rule(leaves.into_iter().chain(first.clone()).chain(redirect).collect::<Vec<_>>(), comment)
        };
        families.iter().map(of_family).collect()
    };
    [datagrams, streams].into_iter().flat_map(of).collect()
}

/// Rules for arriving packets, and for leaving ones.
type BothWays = (Vec<Rule>, Vec<Rule>);

/// What is not tracked at all, and what apart.
///
/// Half of all packets are on the loopback interface, and have nothing to do with tunnels and forwarded lookups.
fn track_chains([application, tunnels, direct, zones]: [BothWays; 4]) -> Vec<Chain> {
    let all = [application, own_rules(), tunnels, direct, zones];
    let (arriving, leaving): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let chain = |hook, name, rules: Vec<Vec<Rule>>| {
        let rules = rules.concat();
        // Of no use are those that only say what is the case anyway.
        (rules.len() > 1).then(|| Chain::at(Base::new(ChainKind::Filter, hook, RAW), name, rules))
    };
    let arriving = chain(Hook::Prerouting, "track-prerouting", arriving);
    arriving.into_iter().chain(chain(Hook::Output, "track-output", leaving)).collect()
}

/// Connections to the application are not translated. If they were tracked, one with the address and, by chance, the port of
/// a client whose plaintext is redirected would be taken for that client's connection.
fn application_rules() -> BothWays {
    let untracked = || {
        let statements = [connects_to_application(), Statement::Counter, Statement::NoTrack, Statement::Accept];
        rule(statements, "connections to the application are not tracked")
    };
    (vec![untracked()], vec![untracked()])
}

/// Other connections inside the pod are tracked, since they may be redirected.
fn own_rules() -> BothWays {
    let own = |on: Statement| vec![rule([on, Statement::Accept], "other connections inside the pod are tracked")];
    let lo = || "lo".to_owned();
    (own(Statement::InInterface(Relation::Equal, lo())), own(Statement::OutInterface(Relation::Equal, lo())))
}

/// A connection that has ended leaves its mark where the kernel waits for stray segments (TIME_WAIT). A direct one from the
/// same address and port is answered from there at first, and that answer must not follow the old one to the proxy.
fn direct_rules() -> BothWays {
    let marked = rule([Statement::SetMark(DIRECT_MARK)], "direct connections are answered directly");
    (vec![marked], Vec::new())
}

/// Tunnels are never translated, and carry most of the traffic: tracking them would cost every packet a look-up.
///
/// An application that connects to the port itself is redirected, which needs tracking: its packets have no mark, and
/// the answers to them are part of a connection by the time they get here.
fn tunnel_rules() -> BothWays {
    let comment = "tunnels between proxies are not tracked";
    type Match = fn(Transport, Relation, u16) -> Statement;
    let [to, from]: [Match; 2] = [Statement::DestinationPort, Statement::SourcePort];
    let port = |side: Match| side(Transport::Tcp, Relation::Equal, INBOUND_HBONE_PORT);
    let arriving =
        [to, from].map(|side| rule([port(side), Statement::Counter, Statement::NoTrack, Statement::Accept], comment));
    let leaving = [to, from].map(|side| {
        rule([port(side), from_proxy(), Statement::Counter, Statement::NoTrack, Statement::Accept], comment)
    });
    (arriving.into(), leaving.into())
}

/// The proxy's own lookups, apart from the pod's: answers to them, and they themselves.
fn zone_rules() -> BothWays {
    let query = rule(
        [
            Statement::DestinationPort(Transport::Udp, Relation::Equal, DNS_PORT),
            from_proxy(),
            Statement::Counter,
            Statement::SetCtZone(FORWARDED_ZONE),
        ],
        "lookups that ztunnel forwards are tracked apart",
    );
    let answer = rule(
        [
            Statement::SourcePort(Transport::Udp, Relation::Equal, DNS_PORT),
            not_from_proxy(),
            Statement::Counter,
            Statement::SetCtZone(FORWARDED_ZONE),
        ],
        "and so are the answers to them",
    );
    (vec![answer], vec![query])
}

/// Redirecting a later segment would pull a connection that existed before into the proxy, which resets it.
fn first_segment() -> Statement {
    Statement::TcpFlags { mask: TcpFlags::SYN.and(TcpFlags::ACK), value: TcpFlags::SYN }
}

fn connects_to_application() -> Statement {
    Statement::Mark { mask: MARK_MASK, relation: Relation::Equal, value: CONNECTION_MARK }
}

fn from_proxy() -> Statement {
    Statement::Mark { mask: MARK_MASK, relation: Relation::Equal, value: PROXY_MARK }
}

fn not_from_proxy() -> Statement {
    Statement::Mark { mask: MARK_MASK, relation: Relation::NotEqual, value: PROXY_MARK }
}

fn rule(statements: impl Into<Vec<Statement>>, comment: &str) -> Rule {
    Rule::new(statements).with_comment(comment)
}

#[cfg(test)]
mod tests;

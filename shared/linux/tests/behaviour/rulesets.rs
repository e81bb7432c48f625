//! Tables that use every statement.

use linux::nft::{
    Base, Chain, ChainKind, CtState, Element, Family, Hook, Policy, Relation, Rule, Set, Statement, Table, TcpFlags,
    Transport,
};

use Relation::{Equal, NotEqual};

pub(crate) fn rule(statements: &[Statement]) -> Rule {
    Rule::new(statements)
}

pub(crate) fn element(address: &str, comment: &str) -> Element {
    Element { address: address.parse().unwrap(), comment: Some(comment.into()) }
}

/// The matches on packets, each with an action.
fn matches(nets: &[&str]) -> Vec<Rule> {
    let tcp = Transport::Tcp;
    let udp = Transport::Udp;
    let mut rules = vec![
        rule(&[Statement::L4Protocol(tcp), Statement::Counter, Statement::Accept]).with_comment("all tcp"),
        rule(&[
            Statement::L4Protocol(tcp),
            Statement::DestinationPort(tcp, NotEqual, 15008),
            Statement::Mark { mask: 0xfff, relation: NotEqual, value: 0x539 },
            Statement::TcpFlags { mask: TcpFlags::SYN.and(TcpFlags::ACK), value: TcpFlags::SYN },
            Statement::Counter,
        ]),
        rule(&[Statement::SourcePort(udp, Equal, 53), Statement::Drop]),
        rule(&[Statement::L4Protocol(udp), Statement::InInterface(Equal, "eth0".into()), Statement::Accept]),
        rule(&[Statement::Mark { mask: u32::MAX, relation: Equal, value: 0x539 }, Statement::Accept]),
        rule(&[Statement::CtState(CtState::ESTABLISHED.or(CtState::RELATED)), Statement::Counter]),
        rule(&[Statement::CtState(CtState::NEW), Statement::Counter]),
        rule(&[Statement::RandomBelow { modulus: 3, below: 2 }, Statement::Accept]),
        rule(&[Statement::RandomIs { modulus: 3, value: 0 }, Statement::Accept]),
        rule(&[Statement::DestinationPort(tcp, Equal, 1), Statement::Return]),
        rule(&[Statement::DestinationPort(tcp, Equal, 2), Statement::Jump("helper".into())]),
        rule(&[Statement::DestinationPort(tcp, Equal, 3), Statement::Goto("helper".into())]),
    ];
    for net in nets {
        let net = net.parse().unwrap();
        rules.push(rule(&[Statement::Source(Equal, net), Statement::Accept]));
        rules.push(rule(&[
            Statement::Destination(NotEqual, net),
            Statement::DestinationPort(tcp, Equal, 80),
            Statement::Accept,
        ]));
    }
    rules
}

pub(crate) fn base(kind: ChainKind, hook: Hook, priority: i32) -> Base {
    Base::new(kind, hook, priority)
}

const V4: &[&str] =
    &["10.0.0.0/8", "10.1.128.0/17", "10.1.0.0/20", "127.0.0.1/32", "10.0.0.0/31", "128.0.0.0/1", "0.0.0.0/0"];
const V6: &[&str] = &["fd00::/64", "fd00::/61", "::1/128", "fd00::8000:0/97", "fd00::/7", "::/0"];

/// A table with every statement, for both families.
pub(crate) fn inet_table() -> Table {
    let mut table = Table::new(Family::Inet, "aquifer-test");
    table.sets = vec![
        Set { elements: vec![element("10.0.0.1", "pod a"), to_element("10.0.0.2")], ..Set::new(Family::Ip, "v4") },
        Set { elements: vec![element("fd00::1", "pod b")], ..Set::new(Family::Ip6, "v6") },
    ];
    table.chains = vec![
        Chain::new("helper", [rule(&[Statement::Return])]),
        Chain::at(base(ChainKind::Filter, Hook::Prerouting, -150), "matches", matches(&[V4, V6].concat())),
        Chain::at(base(ChainKind::Nat, Hook::Prerouting, -100), "prerouting", destination_nat()),
        Chain::at(base(ChainKind::Nat, Hook::Postrouting, 100), "postrouting", source_nat()),
        Chain::at(base(ChainKind::Route, Hook::Output, -150), "output", marks()),
        Chain::at(
            base(ChainKind::Filter, Hook::Output, -300),
            "raw",
            [rule(&[Statement::DestinationPort(Transport::Udp, Equal, 53), Statement::SetCtZone(1)])],
        ),
        Chain::at(
            Base { policy: Policy::Drop, ..base(ChainKind::Filter, Hook::Forward, 5) },
            "forward",
            [
                rule(&[Statement::L4Protocol(Transport::Tcp), Statement::RejectWithReset]),
                rule(&[Statement::DestinationPort(Transport::Tcp, Equal, 1), Statement::RejectWithReset]),
            ],
        ),
    ];
    table
}

fn destination_nat() -> Vec<Rule> {
    let to = |text: &str| Statement::DnatTo(text.parse().unwrap());
    let port_80 = Statement::DestinationPort(Transport::Tcp, Equal, 80);
    let four = Statement::Destination(Equal, to_prefix("10.0.0.9"));
    let six = Statement::Destination(Equal, to_prefix("fd00::9"));
    vec![
        rule(&[Statement::L4Protocol(Transport::Tcp), Statement::Counter, Statement::Redirect(15006)]),
        rule(&[port_80.clone(), four, to("10.0.0.10:8080")]),
        rule(&[six, port_80, to("[fd00::10]:8080")]),
        rule(&[Statement::L4Protocol(Transport::Tcp), Statement::DnatAmong("127.128.0.0/9".parse().unwrap(), 15001)]),
        rule(&[Statement::DestinationPort(Transport::Udp, Equal, 53), Statement::Redirect(15053)]),
    ]
}

fn source_nat() -> Vec<Rule> {
    let to = |text: &str| Statement::SnatTo(text.parse().unwrap());
    vec![
        rule(&[
            Statement::L4Protocol(Transport::Tcp),
            Statement::FromSocket,
            Statement::DestinationIn(Family::Ip, "v4".into()),
            to("169.254.7.127"),
        ]),
        rule(&[Statement::DestinationIn(Family::Ip6, "v6".into()), to("fd16:9254:7127:1337:ffff:ffff:ffff:ffff")]),
        rule(&[Statement::SourceIn(Family::Ip, "v4".into()), Statement::Accept]),
        rule(&[Statement::SourceIn(Family::Ip6, "v6".into()), Statement::Accept]),
        rule(&[Statement::OutInterface(NotEqual, "lo".into()), Statement::Masquerade]),
    ]
}

fn marks() -> Vec<Rule> {
    vec![rule(&[Statement::SetMark(5)])]
}

pub(crate) fn to_prefix(address: &str) -> linux::Prefix {
    address.parse().unwrap()
}

pub(crate) fn to_element(address: &str) -> Element {
    address.parse::<std::net::IpAddr>().unwrap().into()
}

/// A table of one family alone, in which no rule has to say the family.
pub(crate) fn single_table(family: Family) -> Table {
    let (nets, target): (_, &str) = if family == Family::Ip { (V4, "10.0.0.9:8080") } else { (V6, "[fd00::9]:8080") };
    let target: std::net::SocketAddr = target.parse().unwrap();
    let mut table = Table::new(family, "aquifer-test");
    table.chains = vec![
        Chain::new("helper", []),
        Chain::at(base(ChainKind::Filter, Hook::Input, 0), "matches", matches(nets)),
        Chain::at(
            base(ChainKind::Nat, Hook::Output, -100),
            "output",
            [rule(&[Statement::L4Protocol(Transport::Tcp), Statement::Counter, Statement::DnatTo(target)])],
        ),
        Chain::at(
            base(ChainKind::Nat, Hook::Postrouting, 100),
            "postrouting",
            [rule(&[Statement::SnatTo(target.ip())])],
        ),
    ];
    table
}

//! Redirection as a node agent makes it, as far as these tests need it.

use std::net::{Ipv4Addr, Ipv6Addr};

use linux::nft::{Base, Chain, ChainKind, Change, Family, Hook, Relation, Rule, Statement, Table, TcpFlags, Transport};
use linux::{Prefix, marks, nft, route};

/// The rules and routes that a node agent makes in a captured pod, as far as these tests need them.
pub(super) fn redirect() {
    const PROXY: u32 = 0x539;
    const SPOOFED: u32 = 0x111;
    const MASK: u32 = 0xfff;
    let not_proxy = Statement::Mark { mask: MASK, relation: Relation::NotEqual, value: PROXY };
    let not_loopback = [Prefix::host(Ipv4Addr::LOCALHOST.into()), Prefix::host(Ipv6Addr::LOCALHOST.into())]
        .map(|loopback| Statement::Destination(Relation::NotEqual, loopback));
    let first = Statement::TcpFlags { mask: TcpFlags::SYN.and(TcpFlags::ACK), value: TcpFlags::SYN };
    let chain =
        |name: &str, kind, hook, priority, rules: Vec<Rule>| Chain::at(Base::new(kind, hook, priority), name, rules);
    let inbound = not_loopback.clone().map(|not_loopback| {
        let not_tunnel = Statement::DestinationPort(Transport::Tcp, Relation::NotEqual, 15008);
        Rule::new([not_loopback, not_tunnel, not_proxy.clone(), first.clone(), Statement::Redirect(15006)])
    });
    let answers = Rule::new([
        Statement::L4Protocol(Transport::Tcp),
        Statement::Mark { mask: MASK, relation: Relation::Equal, value: SPOOFED },
        Statement::Accept,
    ]);
    let own = not_loopback.clone().map(|not_loopback| {
        Rule::new([not_loopback, Statement::OutInterface(Relation::Equal, "lo".to_owned()), Statement::Accept])
    });
    let to_proxy =
        [Statement::DnatAmong(Prefix::v4(Ipv4Addr::new(127, 128, 0, 0), 9), 15001), Statement::Redirect(15001)];
    let outbound: Vec<_> = not_loopback
        .into_iter()
        .zip(to_proxy)
        .map(|(not_loopback, to_proxy)| Rule::new([not_loopback, not_proxy.clone(), first.clone(), to_proxy]))
        .collect();
    let lookups = [Transport::Udp, Transport::Tcp].map(|transport| {
        let port = Statement::DestinationPort(transport, Relation::Equal, 53);
        let leaves = Statement::OutInterface(Relation::NotEqual, "lo".to_owned());
        Rule::new([leaves, port, not_proxy.clone(), Statement::Redirect(15053)])
    });
    let outgoing = lookups.into_iter().chain([answers]).chain(own).chain(outbound).collect();
    let mut table = Table::new(Family::Inet, "test");
    table.chains = vec![
        chain("in", ChainKind::Nat, Hook::Prerouting, -100, inbound.to_vec()),
        chain("out", ChainKind::Nat, Hook::Output, -100, outgoing),
    ];
    nft::apply(&[Change::ReplaceTable(table)]).unwrap();
    marks::copy_to_answers().unwrap();
    for (is_ipv6, any) in [(false, Prefix::ANY_V4), (true, Prefix::ANY_V6)] {
        route::add_rule(&route::Rule { is_ipv6, mark: SPOOFED, mask: MASK, priority: 32764, table: 100 }).unwrap();
        route::add(&route::Route::local(any, "lo", 100)).unwrap();
    }
}

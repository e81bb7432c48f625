//! What redirection does to connections, new ones and those that were there before.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use linux::nft::{
    self, Base, Chain, ChainKind, Change, CtState, Element, Family, Hook, Relation, Rule, Set, Statement, Table,
    TcpFlags, Transport,
};
use linux::route::{self, Route};
use linux::socket::{self, ListenOptions, StreamOptions};
use linux::{NetNs, Prefix, link, marks};

use super::support::{DEADLINE, accept, connect, in_namespace, listen, until};

const TABLE: &str = "capture";
const PROXY: u16 = 15006;
const PROXY_MARK: u32 = 0x539;
const REPLY_MARK: u32 = 0x111;
const MASK: u32 = 0xfff;
const PROBE_SOURCE: &str = "169.254.7.127";

/// A pod on a link with its client; the client's namespace is the test's.
struct Pod {
    namespace: NetNs,
}

/// The addresses of one family on the link.
#[derive(Clone, Copy)]
struct Addresses {
    client: IpAddr,
    pod: IpAddr,
}

fn families() -> [Addresses; 2] {
    [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]
        .map(|(client, pod)| Addresses { client: client.parse().unwrap(), pod: pod.parse().unwrap() })
}

impl Pod {
    fn new() -> Self {
        let namespace = NetNs::create().unwrap();
        link::add_veth("pod", "eth0", &namespace).unwrap();
        link::set_up("pod").unwrap();
        link::add_address("pod", "10.0.0.1/24".parse().unwrap()).unwrap();
        link::add_address("pod", "fd00::1/64".parse().unwrap()).unwrap();
        let pod = Self { namespace };
        pod.run(|| {
            link::set_up("lo").unwrap();
            link::set_up("eth0").unwrap();
            link::add_address("eth0", "10.0.0.2/24".parse().unwrap()).unwrap();
            link::add_address("eth0", "fd00::2/64".parse().unwrap()).unwrap();
            route::add(&Route::via(Prefix::ANY_V4, "10.0.0.1".parse().unwrap())).unwrap();
        });
        pod
    }

    fn run<T>(&self, inside: impl FnOnce() -> T) -> T {
        self.namespace.run(inside).unwrap()
    }

    fn listen(&self, address: SocketAddr) -> TcpListener {
        self.run(|| listen(&address.to_string(), &ListenOptions::default()))
    }

    fn apply(&self, change: Change) {
        self.run(|| nft::apply(&[change]).unwrap());
    }

    fn replace_nat(&self, rules: Vec<Rule>) {
        let chain = nat(Hook::Prerouting, "prerouting", rules);
        self.apply(Change::ReplaceChain { family: Family::Inet, table: TABLE.into(), chain });
    }
}

fn nat(hook: Hook, name: &str, rules: Vec<Rule>) -> Chain {
    let priority = if hook == Hook::Postrouting { 100 } else { -100 };
    Chain::at(Base::new(ChainKind::Nat, hook, priority), name, rules)
}

fn table(chains: Vec<Chain>) -> Table {
    Table { chains, ..Table::new(Family::Inet, TABLE) }
}

/// Redirects connections at their first segment alone, but not the proxy's own.
fn redirect_new() -> Rule {
    Rule::new([
        Statement::L4Protocol(Transport::Tcp),
        Statement::Mark { mask: MASK, relation: Relation::NotEqual, value: PROXY_MARK },
        Statement::TcpFlags { mask: TcpFlags::SYN.and(TcpFlags::ACK), value: TcpFlags::SYN },
        Statement::Redirect(PROXY),
    ])
}

/// Keeps connection tracking, and with it the translation of live connections, without redirecting any more.
fn keep_tracking() -> Rule {
    Rule::new([Statement::CtState(CtState::ESTABLISHED), Statement::Counter])
}

fn dial(address: SocketAddr) -> TcpStream {
    connect(address, &StreamOptions::default()).unwrap()
}

/// One message there and one back.
fn talk(one: &mut TcpStream, other: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4];
    one.write_all(b"ping")?;
    other.read_exact(&mut buffer)?;
    assert_eq!(&buffer, b"ping");
    other.write_all(b"pong")?;
    one.read_exact(&mut buffer)?;
    assert_eq!(&buffer, b"pong");
    Ok(())
}

fn proxy(addresses: Addresses) -> SocketAddr {
    SocketAddr::new(addresses.pod, PROXY)
}

fn application(addresses: Addresses) -> SocketAddr {
    SocketAddr::new(addresses.pod, 80)
}

#[test]
fn a_redirected_connection_tells_where_it_wanted_to_go() {
    in_namespace(|| {
        let pod = Pod::new();
        pod.apply(Change::ReplaceTable(table(vec![nat(Hook::Prerouting, "prerouting", vec![redirect_new()])])));
        let dual_stack = pod.listen(SocketAddr::new("::".parse().unwrap(), PROXY));
        for addresses in families() {
            let _client = dial(application(addresses));
            let (accepted, _) = accept(&dual_stack);
            assert_eq!(socket::original_destination(&accepted).unwrap(), application(addresses));
        }
        drop(dual_stack);
        let [four, _] = families();
        let single = pod.listen(proxy(four));
        let _client = dial(application(four));
        assert_eq!(socket::original_destination(&accept(&single).0).unwrap(), application(four));
    });
}

#[test]
fn connections_from_before_live_through_adding_and_removing_the_redirect() {
    in_namespace(|| {
        let pod = Pod::new();
        for addresses in families() {
            let app = pod.listen(application(addresses));
            let ztunnel = pod.listen(proxy(addresses));
            let mut early = dial(application(addresses));
            let (mut early_app, _) = accept(&app);
            talk(&mut early, &mut early_app).unwrap();

            pod.apply(Change::ReplaceTable(table(vec![nat(Hook::Prerouting, "prerouting", vec![redirect_new()])])));
            talk(&mut early, &mut early_app).unwrap();
            talk(&mut early_app, &mut early).unwrap();
            let mut captured = dial(application(addresses));
            let (mut captured_proxy, _) = accept(&ztunnel);
            talk(&mut captured, &mut captured_proxy).unwrap();

            pod.apply(Change::DeleteTable { family: Family::Inet, name: TABLE.into() });
            talk(&mut early, &mut early_app).unwrap();
            let mut late = dial(application(addresses));
            talk(&mut late, &mut accept(&app).0).unwrap();
        }
    });
}

#[test]
fn redirected_connections_live_on_when_the_chain_keeps_tracking() {
    in_namespace(|| {
        let pod = Pod::new();
        for addresses in families() {
            let app = pod.listen(application(addresses));
            let ztunnel = pod.listen(proxy(addresses));
            pod.apply(Change::ReplaceTable(table(vec![nat(Hook::Prerouting, "prerouting", vec![redirect_new()])])));
            let mut captured = dial(application(addresses));
            let (mut captured_proxy, _) = accept(&ztunnel);
            talk(&mut captured, &mut captured_proxy).unwrap();

            pod.replace_nat(vec![keep_tracking()]);
            talk(&mut captured, &mut captured_proxy).unwrap();
            talk(&mut captured_proxy, &mut captured).unwrap();
            let mut late = dial(application(addresses));
            talk(&mut late, &mut accept(&app).0).unwrap();
            talk(&mut captured, &mut captured_proxy).unwrap();
            pod.apply(Change::DeleteTable { family: Family::Inet, name: TABLE.into() });
        }
    });
}

/// Why un-enrolling keeps the chain: without a rule that needs it, connection tracking leaves the namespace.
#[test]
fn redirected_connections_break_when_their_table_goes() {
    in_namespace(|| {
        let pod = Pod::new();
        let [addresses, _] = families();
        let ztunnel = pod.listen(proxy(addresses));
        pod.apply(Change::ReplaceTable(table(vec![nat(Hook::Prerouting, "prerouting", vec![redirect_new()])])));
        let mut captured = dial(application(addresses));
        let (mut captured_proxy, _) = accept(&ztunnel);
        talk(&mut captured, &mut captured_proxy).unwrap();
        pod.apply(Change::DeleteTable { family: Family::Inet, name: TABLE.into() });
        captured.write_all(b"ping").unwrap();
        assert_eq!(captured.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn redirected_connections_live_through_replacing_the_table() {
    in_namespace(|| {
        let pod = Pod::new();
        for addresses in families() {
            let ztunnel = pod.listen(proxy(addresses));
            let rules = Change::ReplaceTable(table(vec![nat(Hook::Prerouting, "prerouting", vec![redirect_new()])]));
            pod.apply(rules.clone());
            let mut captured = dial(application(addresses));
            let (mut captured_proxy, _) = accept(&ztunnel);
            talk(&mut captured, &mut captured_proxy).unwrap();
            pod.apply(rules);
            talk(&mut captured, &mut captured_proxy).unwrap();
        }
    });
}

/// The rules and routes by which the application sees the client's address although the proxy connects to it.
fn keep_source(pod: &Pod) {
    pod.apply(Change::ReplaceTable(table(vec![nat(Hook::Prerouting, "prerouting", vec![redirect_new()])])));
    pod.run(|| {
        marks::copy_to_answers().unwrap();
        for any in [Prefix::ANY_V4, Prefix::ANY_V6] {
            let is_ipv6 = any.address().is_ipv6();
            route::add(&Route::local(any, "lo", 100)).unwrap();
            let rule = route::Rule { is_ipv6, mark: REPLY_MARK, mask: MASK, priority: 32764, table: 100 };
            route::add_rule(&rule).unwrap();
        }
    });
}

#[test]
fn the_application_sees_the_clients_address_behind_the_proxy() {
    in_namespace(|| {
        let pod = Pod::new();
        keep_source(&pod);
        for addresses in families() {
            let app = pod.listen(application(addresses));
            let ztunnel = pod.listen(proxy(addresses));
            let mut client = dial(application(addresses));
            let (mut inbound, peer) = accept(&ztunnel);
            assert_eq!(peer.ip(), addresses.client);
            let target = socket::original_destination(&inbound).unwrap();
            let options = StreamOptions { mark: Some(REPLY_MARK), source: Some(peer.ip()), ..StreamOptions::default() };
            let mut upstream = pod.run(|| connect(target, &options)).unwrap();
            let (mut server, seen) = accept(&app);
            assert_eq!(seen.ip(), addresses.client);
            talk(&mut client, &mut inbound).unwrap();
            talk(&mut upstream, &mut server).unwrap();

            // Un-enrolling keeps the routes and the table, so both halves live on.
            pod.replace_nat(vec![keep_tracking()]);
            talk(&mut client, &mut inbound).unwrap();
            talk(&mut upstream, &mut server).unwrap();
            pod.replace_nat(vec![redirect_new()]);
        }
    });
}

#[test]
fn what_no_socket_answers_comes_back_to_the_proxy_too() {
    in_namespace(|| {
        let pod = Pod::new();
        keep_source(&pod);
        for addresses in families() {
            let options =
                StreamOptions { mark: Some(REPLY_MARK), source: Some(addresses.client), ..StreamOptions::default() };
            let connect = || pod.run(|| connect(application(addresses), &options));
            assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "nobody listens yet");

            let app = pod.listen(application(addresses));
            let mut upstream = connect().unwrap();
            let (server, _) = accept(&app);
            drop(server);
            // What comes after the application's end is reset, which the next write is told.
            until(|| (&upstream).write_all(b"late").is_err());
            assert_eq!(upstream.read(&mut [0; 4]).unwrap(), 0);
        }
    });
}

#[test]
fn probes_of_pods_in_the_set_come_from_the_probe_address() {
    in_namespace(|| {
        let pod = Pod::new();
        let [addresses, _] = families();
        let snat = Rule::new([
            Statement::L4Protocol(Transport::Tcp),
            Statement::FromSocket,
            Statement::DestinationIn(Family::Ip, "pods".into()),
            Statement::SnatTo(PROBE_SOURCE.parse().unwrap()),
        ]);
        let rules = Table {
            sets: vec![Set::new(Family::Ip, "pods")],
            ..table(vec![nat(Hook::Postrouting, "postrouting", vec![snat])])
        };
        nft::apply(&[Change::ReplaceTable(rules)]).unwrap();
        let app = pod.listen(application(addresses));
        let seen = || {
            let mut probe = dial(application(addresses));
            let (mut server, peer) = accept(&app);
            talk(&mut probe, &mut server).unwrap();
            peer.ip()
        };
        assert_eq!(seen(), addresses.client);
        let elements = vec![Element { address: addresses.pod, comment: Some("uid".into()) }];
        let (family, table, set) = (Family::Inet, TABLE.to_owned(), "pods".to_owned());
        nft::apply(&[Change::AddElements { family, table: table.clone(), set: set.clone(), elements }]).unwrap();
        assert_eq!(seen(), PROBE_SOURCE.parse::<IpAddr>().unwrap());
        nft::apply(&[Change::RemoveElements { family, table, set, elements: vec![addresses.pod] }]).unwrap();
        assert_eq!(seen(), addresses.client);
    });
}

#[test]
fn connections_are_spread_over_the_targets_of_a_service() {
    in_namespace(|| {
        let pod = Pod::new();
        let service: SocketAddr = "10.96.0.7:80".parse().unwrap();
        let to_port = |port, share: Option<Statement>| {
            let mut statements = vec![
                Statement::Destination(Relation::Equal, service.ip().into()),
                Statement::DestinationPort(Transport::Tcp, Relation::Equal, service.port()),
            ];
            statements.extend(share);
            statements.push(Statement::DnatTo(SocketAddr::new("10.0.0.2".parse().unwrap(), port)));
            Rule::new(statements)
        };
        let half = Statement::RandomBelow { modulus: 100, below: 50 };
        let rules = vec![to_port(8001, Some(half)), to_port(8002, None)];
        nft::apply(&[Change::ReplaceTable(table(vec![nat(Hook::Output, "output", rules)]))]).unwrap();
        route::add(&Route::via("10.96.0.0/16".parse().unwrap(), "10.0.0.2".parse().unwrap())).unwrap();
        let targets = [8001, 8002].map(|port| pod.listen(SocketAddr::new("10.0.0.2".parse().unwrap(), port)));
        let clients: [TcpStream; 200] = std::array::from_fn(|_| dial(service));
        let counts = targets.map(|target| std::iter::from_fn(|| target.accept().ok()).count());
        assert_eq!(counts.iter().sum::<usize>(), clients.len());
        // With a fair coin, fewer than 50 of 200 happen once in 10^13 runs.
        assert!(counts.iter().all(|count| *count >= 50), "{counts:?}");
    });
}

#[test]
fn each_destination_has_an_address_of_the_proxy_to_itself() {
    in_namespace(|| {
        let pod = Pod::new();
        let own: Prefix = "127.128.0.0/9".parse().unwrap();
        let leaves = Statement::Destination(Relation::NotEqual, "127.0.0.1".parse().unwrap());
        let rule = Rule::new([leaves, Statement::L4Protocol(Transport::Tcp), Statement::DnatAmong(own, PROXY)]);
        pod.run(|| nft::apply(&[Change::ReplaceTable(table(vec![nat(Hook::Output, "output", vec![rule])]))])).unwrap();
        let proxy = pod.listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PROXY));
        let reached = |destination: SocketAddr| {
            let mut client = pod.run(|| dial(destination));
            let (mut server, _peer) = accept(&proxy);
            talk(&mut client, &mut server).unwrap();
            assert_eq!(socket::original_destination(&server).unwrap(), destination);
            server.local_addr().unwrap().ip().to_canonical()
        };
        let destinations: Vec<SocketAddr> = (1..=20).map(|last| SocketAddr::from(([10, 96, 0, last], 80))).collect();
        let addresses: Vec<_> = destinations.iter().map(|destination| reached(*destination)).collect();
        assert!(addresses.iter().all(|address| own.contains(*address)), "{addresses:?}");
        let different: HashSet<_> = addresses.iter().collect();
        // Two of twenty have the same among eight millions once in 40,000 runs.
        assert_eq!(different.len(), destinations.len(), "{addresses:?}");
        let again: Vec<_> = destinations.iter().map(|destination| reached(*destination)).collect();
        assert_eq!(again, addresses);
    });
}

#[test]
fn name_lookups_are_redirected_and_answered_from_where_they_were_sent() {
    in_namespace(|| {
        let pod = Pod::new();
        let redirect = Rule::new([
            Statement::OutInterface(Relation::NotEqual, "lo".into()),
            Statement::DestinationPort(Transport::Udp, Relation::Equal, 53),
            Statement::Redirect(15053),
        ]);
        pod.apply(Change::ReplaceTable(table(vec![nat(Hook::Output, "output", vec![redirect])])));
        let (resolver, client) = pod.run(|| {
            let resolver = UdpSocket::bind("127.0.0.1:15053").unwrap();
            let client = UdpSocket::bind("0.0.0.0:0").unwrap();
            client.connect("10.96.0.10:53").unwrap();
            (resolver, client)
        });
        for socket in [&resolver, &client] {
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        let mut buffer = [0; 16];
        client.send(b"query").unwrap();
        let (length, peer) = resolver.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"query");
        resolver.send_to(b"answer", peer).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"answer");
    });
}

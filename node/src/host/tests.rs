//! The node's table in the kernel: who is in its sets, how damage is noticed, and what it does to connections.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use linux::netns::NetNs;
use linux::route::{self, Route};
use linux::{Prefix, link, sysctl};

use super::*;

const PORT: u16 = 7777;
const DEADLINE: Duration = Duration::from_secs(10);

fn namespace() -> Option<NetNs> {
    match NetNs::create() {
        Ok(namespace) => Some(namespace),
        Err(error) => {
            println!("SKIPPED: network namespaces cannot be made here: {error}");
            None
        }
    }
}

fn families() -> Vec<FamilyRules> {
    let v6 = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff".parse().unwrap();
    vec![FamilyRules::v4(Ipv4Addr::new(169, 254, 7, 127)), FamilyRules::v6(v6)]
}

fn uid(name: &str) -> PodUid {
    PodUid::from(name.to_owned())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What the sets hold, with the pods that the kernel says it belongs to.
fn held() -> BTreeMap<IpAddr, String> {
    let elements = families().into_iter().flat_map(|family| {
        let live = nft::set_elements(Family::Inet, HOST_TABLE, family.probe_set()).unwrap();
        live.into_iter().map(|element| (element.address, element.comment.unwrap_or_default()))
    });
    elements.collect()
}

fn expected<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<IpAddr, String> {
    pairs.into_iter().map(|(address, uid)| (ip(address), uid.to_owned())).collect()
}

#[test]
fn an_address_that_another_pod_has_by_now_stays() {
    let Some(node) = namespace() else { return };
    node.run(|| {
        let bypass = ProbeBypass::install(families(), &[]).unwrap();
        assert_eq!(held(), expected([]));
        bypass.add(&uid("old"), &[ip("10.98.0.2"), ip("fd98::2"), ip("10.98.0.3")]).unwrap();
        assert_eq!(held(), expected([("10.98.0.2", "old"), ("10.98.0.3", "old"), ("fd98::2", "old")]));
        bypass.add(&uid("new"), &[ip("10.98.0.2"), ip("fd98::2")]).unwrap();
        bypass.remove(&uid("old"), &[ip("10.98.0.2"), ip("fd98::2"), ip("10.98.0.3")]).unwrap();
        assert_eq!(held(), expected([("10.98.0.2", "new"), ("fd98::2", "new")]));
        bypass.remove(&uid("new"), &[ip("10.98.0.2"), ip("fd98::2")]).unwrap();
        assert_eq!(held(), expected([]));
    })
    .unwrap();
}

#[test]
fn what_somebody_changes_is_noticed_and_put_back() {
    let Some(node) = namespace() else { return };
    node.run(|| {
        let pods = [(uid("a"), vec![ip("10.98.0.2"), ip("fd98::2")]), (uid("b"), vec![ip("10.98.0.3")])];
        let bypass = ProbeBypass::install(families(), &pods).unwrap();
        let whole = expected([("10.98.0.2", "a"), ("10.98.0.3", "b"), ("fd98::2", "a")]);
        assert_eq!(held(), whole);
        let stranger = Element { address: ip("10.98.0.9"), comment: None };
        let (table, set) = (HOST_TABLE.to_owned(), "probes-v4".to_owned());
        let mut without_rules = host_table(&families()).chains.remove(0);
        without_rules.rules.clear();
        let damages = [
            Change::DeleteTable { family: Family::Inet, name: table.clone() },
            Change::ReplaceChain { family: Family::Inet, table: table.clone(), chain: without_rules },
            Change::AddElements {
                family: Family::Inet,
                table: table.clone(),
                set: set.clone(),
                elements: vec![stranger],
            },
            Change::RemoveElements { family: Family::Inet, table, set, elements: vec![ip("10.98.0.3")] },
        ];
        for damage in damages {
            assert!(bypass.is_intact(&pods).unwrap());
            nft::apply(std::slice::from_ref(&damage)).unwrap();
            assert!(!bypass.is_intact(&pods).unwrap(), "{damage:?}");
            bypass.replace(&pods).unwrap();
            assert_eq!(held(), whole, "after {damage:?}");
        }
        assert!(!bypass.is_intact(&pods[..1]).unwrap(), "an address without a pod");
    })
    .unwrap();
}

#[test]
fn the_last_agent_leaves_the_tables_of_others() {
    let Some(node) = namespace() else { return };
    node.run(|| {
        let other = nft::Table::new(Family::Inet, "others");
        nft::apply(&[Change::ReplaceTable(other)]).unwrap();
        let bypass = ProbeBypass::install(families(), &[(uid("a"), vec![ip("10.98.0.2")])]).unwrap();
        bypass.uninstall().unwrap();
        assert_eq!(nft::tables().unwrap(), [(Family::Inet, "others".to_owned())]);
        bypass.uninstall().unwrap();
    })
    .unwrap();
}

/// A node with one pod, and somebody whose packets the node forwards.
struct Network {
    node: NetNs,
    elsewhere: NetNs,
    app: TcpListener,
}

impl Network {
    fn new(prefix: impl Fn(u8, u8) -> Prefix, any: Prefix) -> Option<Self> {
        let (node, pod, elsewhere) = (namespace()?, namespace()?, namespace()?);
        for (number, (name, other)) in [(0, ("pod", &pod)), (1, ("elsewhere", &elsewhere))] {
            node.run(|| link::add_veth(name, "eth0", other)).unwrap().unwrap();
            node.run(|| link::set_up(name)).unwrap().unwrap();
            other.run(|| link::set_up("eth0")).unwrap().unwrap();
            node.run(|| link::add_address(name, prefix(number, 1))).unwrap().unwrap();
            other
                .run(|| {
                    link::add_address("eth0", prefix(number, 2)).unwrap();
                    route::add(&Route::via(any, prefix(number, 1).address())).unwrap();
                })
                .unwrap();
        }
        node.run(|| {
            link::set_up("lo").unwrap();
            for forwarding in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                sysctl::write(forwarding, "1").unwrap();
            }
        })
        .unwrap();
        let address = SocketAddr::new(prefix(0, 2).address(), PORT);
        let app = pod.run(|| TcpListener::bind(address)).unwrap().unwrap();
        Some(Self { node, elsewhere, app })
    }

    /// Whom the pod sees when a process there calls it.
    fn caller_seen(&self, from: &NetNs) -> IpAddr {
        let address = self.app.local_addr().unwrap();
        let call = from.run(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap().unwrap();
        let (_accepted, caller) = self.app.accept().unwrap();
        drop(call);
        caller.ip()
    }
}

#[test]
fn only_the_nodes_own_connections_to_captured_pods_come_from_the_probes_address() {
    let v4: fn(u8, u8) -> Prefix = |network, host| format!("10.98.{network}.{host}/24").parse().unwrap();
    let v6: fn(u8, u8) -> Prefix = |network, host| format!("fd98:{network}::{host}/64").parse().unwrap();
    for (prefix, any, rules) in [(v4, Prefix::ANY_V4, families()[0]), (v6, Prefix::ANY_V6, families()[1])] {
        let Some(network) = Network::new(prefix, any) else { return };
        let (own, pod, forwarded) = (prefix(0, 1).address(), prefix(0, 2).address(), prefix(1, 2).address());
        let bypass = network.node.run(|| ProbeBypass::install(families(), &[])).unwrap().unwrap();
        assert_eq!(network.caller_seen(&network.node), own, "a pod that is not captured");
        network.node.run(|| bypass.add(&uid("a"), &[pod])).unwrap().unwrap();
        assert_eq!(network.caller_seen(&network.node), rules.probe_source, "a probe");
        assert_eq!(network.caller_seen(&network.elsewhere), forwarded, "what the node forwards is no probe");
        network.node.run(|| bypass.remove(&uid("a"), &[pod])).unwrap().unwrap();
        assert_eq!(network.caller_seen(&network.node), own, "a pod that has left");
    }
}

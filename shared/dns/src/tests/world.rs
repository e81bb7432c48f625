//! A mesh in memory, and queries to it.

use std::sync::Arc;

use discovery::{
    CidrVip, Health, HealthPolicy, IpFamilies, LoadBalancing, PortMap, Service, View, Visibility, Workload, Writer,
};
use hickory_proto::op::{Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::{Name, RecordType};
use rand::SeedableRng;
use rand::rngs::StdRng;
use types::{Hostname, NamespacedHostname, NetworkAddress};

use crate::answer::{Settings, answer};
use crate::query::{Query, Transport};

pub(super) struct World {
    writer: Writer,
    pub(super) settings: Settings,
}

pub(super) struct Answered {
    pub(super) bytes: Vec<u8>,
    pub(super) message: Message,
    pub(super) endpoints: usize,
}

impl Answered {
    pub(super) fn lines(&self) -> Vec<String> {
        let answers = self.message.answers.iter();
        let mut lines: Vec<String> =
            answers.map(|record| format!("{} {} {}", record.name, record.record_type(), record.data)).collect();
        lines.sort();
        lines
    }
}

impl World {
    pub(super) fn new() -> Self {
        let mut writer = Writer::new("", None);
        let cluster = |name: &str, namespace: &str| format!("{name}.{namespace}.svc.cluster.local");
        let services = [
            service(&cluster("cart", "shop"), "shop", &["10.96.1.1", "fd00:96::1"]),
            service(&cluster("bank", "bank"), "bank", &["10.96.1.2"]),
            service(&cluster("headless", "shop"), "shop", &[]),
            service(&cluster("crowd", "shop"), "shop", &[]),
            service(&cluster("empty", "shop"), "shop", &[]),
            Service {
                load_balancing: Some(LoadBalancing { health_policy: HealthPolicy::AllowAll, ..Default::default() }),
                ..service(&cluster("early", "shop"), "shop", &[])
            },
            Service {
                ip_families: IpFamilies::Ipv4Only,
                ..service(&cluster("four", "shop"), "shop", &["10.96.1.4", "fd00:96::4"])
            },
            Service { vips: vec![vip("10.96.7.7", "elsewhere")], ..service(&cluster("remote", "shop"), "shop", &[]) },
            Service {
                visibility: Visibility::Namespace,
                ..service(&cluster("secret", "bank"), "bank", &["10.96.1.9"])
            },
            service("api.example.com", "shop", &["240.240.0.1"]),
            service("*.wild.test", "shop", &["240.240.0.9", "2001:2::9"]),
            service("*.novip.test", "shop", &[]),
            service("exact.wild.test", "shop", &["240.240.0.10"]),
            service("novip.example.com", "shop", &[]),
            Service {
                cidr_vips: vec![CidrVip { network: Arc::from(""), cidr: "10.9.0.0/16".parse().unwrap() }],
                ..service("range.example.com", "shop", &[])
            },
            service("both.example.com", "bank", &["10.1.0.2"]),
            service("both.example.com", "shop", &["10.1.0.1"]),
            service("canonical.example.com", "alpha", &["10.2.0.1"]),
            Service { is_canonical: true, ..service("canonical.example.com", "zoo", &["10.2.0.2"]) },
            service("plain.example.com", "alpha", &["10.3.0.1"]),
            service("plain.example.com", "zoo", &["10.3.0.2"]),
        ];
        services.into_iter().for_each(|service| writer.upsert_service(service));
        let headless = cluster("headless", "shop");
        writer.upsert_workload(endpoint("one", &headless, &["10.244.1.5", "10.244.1.55", "fd00:244::5"]));
        writer.upsert_workload(endpoint("two", &headless, &["10.244.2.6"]));
        writer.upsert_workload(endpoint("shares-the-hosts-address", &headless, &["10.244.2.6"]));
        for host in ["api.example.com", "novip.example.com", "*.wild.test"] {
            writer.upsert_workload(endpoint(&format!("listed-{host}"), host, &["198.51.100.7"]));
        }
        let ill = |host: &str| Workload { health: Health::Unhealthy, ..endpoint(host, host, &["10.244.3.7"]) };
        writer.upsert_workload(ill(&headless));
        writer.upsert_workload(ill(&cluster("early", "shop")));
        for number in 0..200 {
            let uid = format!("crowd-{number}");
            writer.upsert_workload(endpoint(&uid, &cluster("crowd", "shop"), &[&format!("10.245.0.{number}")]));
        }
        Self { writer, settings: Settings::new("cluster.local") }
    }

    pub(super) fn view(&self) -> View {
        self.writer.view()
    }

    /// The answer to a client in `shop`; `None` when others have to be asked.
    pub(super) fn answer(&self, query: &Message, transport: Transport) -> Option<Answered> {
        let query = Query::parse(&encode(query), transport).unwrap();
        let mut random = StdRng::seed_from_u64(1);
        let answer = answer(&self.view(), &self.settings, &client(), &query, &mut random)?;
        let message = Message::from_vec(&answer.bytes).unwrap();
        Some(Answered { bytes: answer.bytes, message, endpoints: answer.endpoints })
    }
}

pub(super) fn client() -> Workload {
    Workload { namespace: Arc::from("shop"), ..Workload::default() }
}

pub(super) fn name(host: &str) -> Name {
    let mut name = Name::from_ascii(host).unwrap();
    name.set_fqdn(true);
    name
}

pub(super) fn ask(host: &str, kind: RecordType) -> Message {
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.queries.push(Question::query(name(host), kind));
    query
}

pub(super) fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn service(host: &str, namespace: &str, vips: &[&str]) -> Service {
    Service {
        name: Arc::from(host.split('.').next().unwrap()),
        namespace: Arc::from(namespace),
        hostname: Hostname::from(host),
        vips: vips.iter().map(|ip| vip(ip, "")).collect(),
        ..Service::default()
    }
}

fn vip(ip: &str, network: &str) -> NetworkAddress {
    NetworkAddress { network: Arc::from(network), address: ip.parse().unwrap() }
}

fn endpoint(uid: &str, host: &str, addresses: &[&str]) -> Workload {
    let key = NamespacedHostname::new("shop", host);
    Workload {
        uid: format!("Kubernetes//Pod/shop/{uid}").into(),
        namespace: Arc::from("shop"),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        services: vec![(key, PortMap::default())].into(),
        ..Workload::default()
    }
}

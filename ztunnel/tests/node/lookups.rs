//! Name lookups of a captured pod: what the mesh answers, and what goes to another server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use linux::socket::ListenOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::world::{TestPod, World, cart, eventually, ipv6, within};

const CLUSTER_DNS: &str = "10.96.0.10:53";

fn ask(host: &str, kind: RecordType) -> Message {
    let mut query = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.queries.push(Query::query(Name::from_ascii(host).unwrap(), kind));
    query
}

async fn datagram_socket(pod: &TestPod, server: SocketAddr) -> UdpSocket {
    let socket = pod.netns.run(|| linux::socket::datagram(server, None)).unwrap().unwrap();
    UdpSocket::from_std(socket).unwrap()
}

async fn answer(socket: &UdpSocket) -> Message {
    let mut buffer = vec![0; 65535];
    let length = within(socket.recv(&mut buffer)).await.unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

/// Asks as the pod's resolver does: the cluster's server, which may or may not be there.
async fn over_udp(pod: &TestPod, query: &Message) -> Message {
    let socket = datagram_socket(pod, CLUSTER_DNS.parse().unwrap()).await;
    socket.send(&query.to_vec().unwrap()).await.unwrap();
    let answer = answer(&socket).await;
    assert_eq!(answer.metadata.id, query.metadata.id);
    answer
}

async fn exchange(stream: &mut TcpStream, query: &Message) -> Message {
    let bytes = query.to_vec().unwrap();
    let length = u16::try_from(bytes.len()).unwrap();
    // In two parts: lengths and messages need not come together.
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let length = within(stream.read_u16()).await.unwrap();
    let mut answer = vec![0; length.into()];
    within(stream.read_exact(&mut answer)).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.id, query.metadata.id);
    answer
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    let ip = |record: &Record| match &record.data {
        RData::A(ip) => Some(IpAddr::V4(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
        _ => None,
    };
    answer.answers.iter().filter_map(ip).collect()
}

/// The IPv4 addresses that a pod is given for a name.
pub(crate) async fn addresses_of(pod: &TestPod, host: &str) -> Vec<IpAddr> {
    addresses(&over_udp(pod, &ask(host, RecordType::A)).await)
}

/// The server outside the mesh: counts what it is asked, and gives each kind of answer for a name.
struct Upstream {
    asked: Arc<AtomicUsize>,
}

impl Upstream {
    fn start(world: &World) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        for ip in ["10.244.0.1", "fd00::1"] {
            let address = SocketAddr::new(ip.parse().unwrap(), 53);
            let (udp, tcp) = world
                .fabric
                .run(|| {
                    let tcp = linux::socket::listen(address, &ListenOptions { only_v6: true, ..Default::default() });
                    (linux::socket::receiver(address, false).unwrap(), tcp.unwrap())
                })
                .unwrap();
            tokio::spawn(serve_datagrams(UdpSocket::from_std(udp).unwrap(), Arc::clone(&asked)));
            tokio::spawn(serve_streams(TcpListener::from_std(tcp).unwrap(), Arc::clone(&asked)));
        }
        Self { asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve_datagrams(socket: UdpSocket, asked: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        asked.fetch_add(1, Ordering::SeqCst);
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let mut forged = respond(&query);
        forged.queries = ask("forged.test", RecordType::A).queries;
        socket.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
        let mut answer = respond(&query);
        if answer.to_vec().unwrap().len() > 512 {
            answer = answer.truncate();
        }
        if !query.queries[0].name().to_ascii().starts_with("silent") {
            socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
        }
    }
}

async fn serve_streams(listener: TcpListener, asked: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        asked.fetch_add(1, Ordering::SeqCst);
        let length = stream.read_u16().await.unwrap();
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await.unwrap();
        let answer = respond(&Message::from_vec(&query).unwrap()).to_vec().unwrap();
        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }
}

fn respond(query: &Message) -> Message {
    let question = &query.queries[0];
    let record = |data| Record::from_rdata(question.name().clone(), 77, data);
    let mut response = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.authoritative = true;
    response.queries = query.queries.clone();
    match (question.name().to_ascii().split('.').next().unwrap(), question.query_type()) {
        ("nobody", _) => response.metadata.response_code = ResponseCode::NXDomain,
        ("refused", _) => response.metadata.response_code = ResponseCode::Refused,
        ("large", _) => {
            response.answers = (0..100).map(|last| record(RData::A(A(Ipv4Addr::new(192, 0, 2, last))))).collect();
        }
        (_, RecordType::SRV) => response.answers = vec![record(RData::SRV(SRV::new(1, 2, 3, Name::root())))],
        (_, RecordType::TXT | RecordType::ANY) => {
            response.answers = vec![record(RData::TXT(TXT::new(vec!["text".to_owned()])))];
        }
        _ => response.answers = vec![record(RData::A(A(Ipv4Addr::new(192, 0, 2, 1))))],
    }
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_answered_by_the_mesh_over_both_transports_and_families() {
    let Some(world) = World::new().await else { return };
    let upstream = Upstream::start(&world);
    let mut service = cart("10.96.1.1", 8080);
    service.vips.push(types::NetworkAddress { network: Arc::from(""), address: "fd00:96::1".parse().unwrap() });
    world.publish_service(&service);
    let pod = world.pod(0, "client").await;
    for host in ["cart.", "cart.shop.", "cart.shop.svc.cluster.local."] {
        let found = over_udp(&pod, &ask(host, RecordType::A)).await;
        assert_eq!(addresses(&found), ["10.96.1.1".parse::<IpAddr>().unwrap()], "{host}");
        assert!(found.metadata.authoritative);
        let found = over_udp(&pod, &ask(host, RecordType::AAAA)).await;
        assert_eq!(addresses(&found), ["fd00:96::1".parse::<IpAddr>().unwrap()], "{host}");
    }
    // A resolver at an IPv6 address: the lookup is redirected to ::1.
    let socket = datagram_socket(&pod, "[fd00::1]:53".parse().unwrap()).await;
    socket.send(&ask("cart.", RecordType::A).to_vec().unwrap()).await.unwrap();
    assert_eq!(addresses(&answer(&socket).await).len(), 1);
    // Several lookups on one connection.
    for server in [CLUSTER_DNS, "[fd00::1]:53"] {
        let mut stream = pod.connect(server.parse().unwrap()).await.unwrap();
        for kind in [RecordType::A, RecordType::AAAA] {
            assert_eq!(addresses(&exchange(&mut stream, &ask("cart.", kind)).await).len(), 1, "{server} {kind}");
        }
    }
    assert_eq!(upstream.asked(), 0);
    let node = &world.nodes[0];
    let labels = ["request_query_type=\"aaaa\"", "request_protocol=\"udp\"", "source_canonical_service=\"client\""];
    assert_eq!(node.metric("istio_dns_requests_total", &labels), 3);
    assert_eq!(node.metric("istio_dns_upstream_requests_total", &[]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headless_service_has_its_endpoints() {
    let Some(world) = World::new().await else { return };
    let mut service = cart("10.96.1.1", 8080);
    service.vips.clear();
    world.publish_service(&service);
    let client = world.pod(0, "client").await;
    let (one, two) = (world.pod(0, "cart-1").await, world.pod(1, "cart-2").await);
    let mut found = addresses(&over_udp(&client, &ask("cart.shop.", RecordType::A)).await);
    found.sort();
    assert_eq!(found, [one.ip, two.ip]);
    let mut found = addresses(&over_udp(&client, &ask("cart.shop.", RecordType::AAAA)).await);
    found.sort();
    assert_eq!(found, [ipv6(one.ip), ipv6(two.ip)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_and_types_come_back_as_the_server_gave_them() {
    let Some(world) = World::new().await else { return };
    let upstream = Upstream::start(&world);
    world.publish_service(&cart("10.96.1.1", 8080));
    let pod = world.pod(0, "client").await;
    let found = over_udp(&pod, &ask("example.com.", RecordType::A)).await;
    assert_eq!(addresses(&found), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert!(!found.metadata.authoritative && found.answers[0].ttl == 77);
    for kind in [RecordType::SRV, RecordType::TXT, RecordType::ANY] {
        let found = over_udp(&pod, &ask("cart.shop.svc.cluster.local.", kind)).await;
        assert_eq!(found.answers.len(), 1, "{kind}");
    }
    for (host, code) in [("nobody.test.", ResponseCode::NXDomain), ("refused.test.", ResponseCode::Refused)] {
        assert_eq!(over_udp(&pod, &ask(host, RecordType::A)).await.metadata.response_code, code, "{host}");
    }
    let node = &world.nodes[0];
    assert_eq!(node.metric("istio_dns_upstream_requests_total", &[]), 6);
    assert_eq!(node.metric("istio_dns_upstream_failures_total", &[]), 0);
    assert!(upstream.asked() >= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_a_datagram_is_asked_for_again_over_tcp() {
    let Some(world) = World::new().await else { return };
    let _upstream = Upstream::start(&world);
    let pod = world.pod(0, "client").await;
    let query = ask("large.test.", RecordType::A);
    assert!(over_udp(&pod, &query).await.metadata.truncation);
    let mut stream = pod.connect(CLUSTER_DNS.parse().unwrap()).await.unwrap();
    let found = exchange(&mut stream, &query).await;
    assert_eq!((addresses(&found).len(), found.metadata.truncation), (100, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_a_failed_lookup_and_holds_up_no_other() {
    let Some(world) = World::new().await else { return };
    let _upstream = Upstream::start(&world);
    world.publish_service(&cart("10.96.1.1", 8080));
    let pod = world.pod(0, "client").await;
    let silent = datagram_socket(&pod, CLUSTER_DNS.parse().unwrap()).await;
    silent.send(&ask("silent.test.", RecordType::A).to_vec().unwrap()).await.unwrap();
    for host in ["cart.", "example.com."] {
        assert_eq!(addresses(&over_udp(&pod, &ask(host, RecordType::A)).await).len(), 1, "{host}");
    }
    assert_eq!(answer(&silent).await.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(world.nodes[0].metric("istio_dns_upstream_failures_total", &[]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_query_is_refused_and_the_next_one_is_answered() {
    let Some(world) = World::new().await else { return };
    world.publish_service(&cart("10.96.1.1", 8080));
    let pod = world.pod(0, "client").await;
    let socket = datagram_socket(&pod, CLUSTER_DNS.parse().unwrap()).await;
    socket.send(&[0, 9, 1, 0, 0, 1, 0]).await.unwrap();
    let refused = answer(&socket).await;
    assert_eq!((refused.metadata.id, refused.metadata.response_code), (9, ResponseCode::FormErr));
    let mut update = ask("cart.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(over_udp(&pod, &update).await.metadata.response_code, ResponseCode::NotImp);
    assert_eq!(addresses(&over_udp(&pod, &ask("cart.", RecordType::A)).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_under_way_is_answered_when_the_pod_leaves() {
    let Some(world) = World::new().await else { return };
    let pod = world.pod(0, "client").await;
    // Nobody answers: the lookup is under way until its deadline.
    let socket = datagram_socket(&pod, CLUSTER_DNS.parse().unwrap()).await;
    socket.send(&ask("example.com.", RecordType::A).to_vec().unwrap()).await.unwrap();
    let node = &world.nodes[0];
    eventually("the lookup is counted", || node.metric("istio_dns_requests_total", &[]) == 1).await;
    node.del(&pod).await;
    assert_eq!(answer(&socket).await.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_takes_over_without_a_lookup_being_lost() {
    let Some(world) = World::new().await else { return };
    world.publish_service(&cart("10.96.1.1", 8080));
    let pod = world.pod(0, "client").await;
    let successor = world.successor(0).await;
    successor.writer.lock().unwrap().upsert_service(cart("10.96.1.1", 8080));
    successor.add(&pod).await;
    for number in 0..200 {
        if number == 50 {
            world.nodes[0].drain.start(std::time::Duration::from_secs(5));
        }
        assert_eq!(addresses(&over_udp(&pod, &ask("cart.", RecordType::A)).await).len(), 1, "{number}");
    }
    assert!(successor.metric("istio_dns_requests_total", &[]) >= 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_ipv6_is_off_lookups_are_answered_over_ipv4() {
    let Some(world) = World::new().await else { return };
    world.publish_service(&cart("10.96.1.1", 8080));
    let pod = world.stranger("client");
    pod.netns.run(|| linux::sysctl::write("net/ipv6/conf/lo/disable_ipv6", "1")).unwrap().unwrap();
    let node = &world.nodes[0];
    world.publish(node.workload(&pod));
    assert_eq!(node.add(&pod).await, zds::agent::Answer::Acknowledged);
    let socket = datagram_socket(&pod, "127.0.0.1:15053".parse().unwrap()).await;
    socket.send(&ask("cart.", RecordType::A).to_vec().unwrap()).await.unwrap();
    assert_eq!(addresses(&answer(&socket).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_proxy_nobody_listens_for_lookups() {
    let Some(world) = World::with_config(&[("ISTIO_META_DNS_CAPTURE", "false")]).await else { return };
    let pod = world.pod(0, "client").await;
    assert!(pod.connect("127.0.0.1:15053".parse().unwrap()).await.is_err());
}

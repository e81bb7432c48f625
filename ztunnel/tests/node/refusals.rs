//! Requests and connections that lead nowhere, as a peer sees them that speaks HBONE by itself.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use hbone::HboneError;
use hbone::client::{Client, Connect, Connected};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use types::{Authority, Identity};

use crate::world::{TestPod, World, cart as cart_service, eventually, is_cut, rest, within};

/// A client of the mesh that is no ztunnel: it has a certificate and makes its own requests.
async fn client(world: &World, from: &TestPod, to: &TestPod) -> Client {
    let certificate = world.certificate(&from.identity());
    let stream = from.connect(to.at(15008)).await.unwrap();
    let (stream, peer) = within(tls::connect(stream, &certificate, &[to.identity()])).await.unwrap();
    assert_eq!(peer.identity, to.identity());
    let (client, driver) =
        within(Box::pin(hbone::client::handshake(stream, &hbone::Parameters::default()))).await.unwrap();
    tokio::spawn(driver);
    client
}

async fn ask(client: &Client, authority: &str) -> Result<Connected, HboneError> {
    let authority: Authority = authority.parse().unwrap();
    client.connect(&Connect::new(authority), Instant::now() + Duration::from_secs(15)).await
}

fn status(outcome: &Result<Connected, HboneError>) -> u16 {
    match outcome {
        Ok(_) => 200,
        Err(HboneError::Status(status)) => *status,
        Err(error) => panic!("no status: {error}"),
    }
}

#[tokio::test]
async fn each_refusal_has_its_status_and_its_line() {
    let Some(world) = World::new().await else { return };
    let (raw, cart) = (world.stranger("raw"), world.pod(1, "cart").await);
    cart.echo(8080);
    world.publish_service(&cart_service("10.96.0.7", 8080));
    let client = client(&world, &raw, &cart).await;
    let ip = cart.ip;
    for (authority, expected, reason) in [
        (format!("{ip}:8080"), 200, "connection complete"),
        ("10.9.9.9:8080".to_owned(), 400, "ip mismatch: 10.9.9.9 was asked for"),
        // The service has no waypoint, so its address is not this pod's business.
        ("10.96.0.7:80".to_owned(), 400, "ip mismatch: 10.96.0.7 was asked for"),
        (format!("{ip}:15001"), 503, "port 15001 belongs to the mesh itself"),
        (format!("{ip}:15006"), 503, "port 15006 belongs to the mesh itself"),
        (format!("{ip}:15008"), 503, "port 15008 belongs to the mesh itself"),
        ("nobody.example.com:80".to_owned(), 503, "no service has the host name nobody.example.com"),
        ("cart.shop.svc.cluster.local:81".to_owned(), 503, "has no port 81"),
        ("cart.shop.svc.cluster.local:80".to_owned(), 200, "connection complete"),
        (format!("{ip}:9"), 503, &format!("connecting to {ip}:9 failed")),
    ] {
        let outcome = ask(&client, &authority).await;
        assert_eq!(status(&outcome), expected, "{authority}");
        drop(outcome);
        let line = world.nodes[1].line(&[reason]).await;
        assert!(expected == 200 || line.contains("error="), "{line}");
    }
}

#[tokio::test]
async fn the_answer_describes_the_destination() {
    let Some(world) = World::new().await else { return };
    let (raw, cart) = (world.stranger("raw"), world.pod(1, "cart").await);
    cart.echo(8080);
    let client = client(&world, &raw, &cart).await;
    let connected = ask(&client, &cart.at(8080).to_string()).await.unwrap();
    let baggage = connected.baggage();
    assert_eq!((&*baggage.workload_name, &*baggage.namespace), ("cart-deployment", "shop"));
    assert_eq!((&*baggage.service_name, &*baggage.service_version), ("cart", "v1"));
    let mut stream = connected.stream;
    stream.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"hello");
}

#[tokio::test]
async fn an_unknown_client_is_counted_as_it_describes_itself() {
    let Some(world) = World::new().await else { return };
    let (raw, cart) = (world.stranger("raw"), world.pod(1, "cart").await);
    cart.echo(8080);
    let client = client(&world, &raw, &cart).await;
    let mut request = Connect::new(Authority::Address(cart.at(8080)));
    request.baggage = Some(hbone::Baggage::parse("k8s.namespace.name=far,k8s.job.name=batch,service.name=batch-svc"));
    drop(client.connect(&request, Instant::now() + Duration::from_secs(5)).await.unwrap());
    world.nodes[1].line(&["connection complete", &format!("src.addr={}", raw.ip)]).await;
    let labels = [
        "source_workload=\"batch\"",
        "source_canonical_service=\"batch-svc\"",
        "source_workload_namespace=\"far\"",
        &format!("source_principal=\"{}\"", raw.identity()),
    ];
    assert_eq!(world.nodes[1].metric("istio_tcp_connections_opened_total", &labels), 1);
}

#[tokio::test]
async fn a_client_of_another_mesh_or_without_certificate_is_turned_away() {
    let Some(world) = World::new().await else { return };
    let (raw, cart) = (world.stranger("raw"), world.pod(1, "cart").await);
    let peers = cart.echo(8080);
    // Another root.
    let elsewhere = tls::Authority::self_signed(&"cluster.local".parse().unwrap(), Duration::from_secs(60)).unwrap();
    let forged = sign(&elsewhere, &raw.identity());
    let stream = raw.connect(cart.at(15008)).await.unwrap();
    assert!(within(tls::connect(stream, &forged, &[cart.identity()])).await.is_err());
    // The right root, but another trust domain.
    let foreign: Identity = "spiffe://elsewhere/ns/shop/sa/raw".parse().unwrap();
    let stream = raw.connect(cart.at(15008)).await.unwrap();
    let certificate = world.certificate(&foreign);
    // The server's verdict on a client comes after the client's handshake is through.
    if let Ok((mut stream, _)) = within(tls::connect(stream, &certificate, &[cart.identity()])).await {
        assert!(within(stream.read(&mut [0; 1])).await.is_err());
    }
    world.nodes[1].line(&["connection failed", "other trust domain"]).await;
    // No TLS at all.
    let mut stream = raw.connect(cart.at(15008)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = rest(&mut stream).await;
    world.nodes[1].line(&["connection failed", "handshake failed"]).await;
    assert!(peers.try_recv().is_err());
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// The connections of others to port 15008 of a pod that its proxy has not closed.
fn open_tunnels(pod: &TestPod) -> usize {
    let tables =
        pod.netns.run(|| ["tcp", "tcp6"].map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}"))));
    let open = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = fields.get(1).is_some_and(|local| local.ends_with(":3AA0"));
        // Established, or closed by the peer alone.
        is_ours && matches!(fields.get(3), Some(&("01" | "08")))
    };
    tables.unwrap().into_iter().flatten().map(|table| table.lines().filter(open).count()).sum()
}

#[tokio::test]
async fn broken_frames_end_their_connection_and_no_other() {
    let Some(world) = World::new().await else { return };
    let (raw, cart) = (world.stranger("raw"), world.pod(1, "cart").await);
    cart.echo(8080);
    let client = client(&world, &raw, &cart).await;
    let mut bystander = ask(&client, &cart.at(8080).to_string()).await.unwrap().stream;
    let certificate = world.certificate(&raw.identity());
    let begun = [PREFACE, SETTINGS].concat();
    let with = |frame: &[u8]| [&begun, frame].concat();
    for (what, bytes, is_cut_off) in [
        ("a preface that is cut off", PREFACE[..9].to_vec(), true),
        ("no preface", b"GET / HTTP/1.1\r\nHost: cart\r\n\r\n".to_vec(), false),
        ("HEADERS that are cut off", with(&[0, 0, 100, 1, 4, 0, 0, 0, 1, 0x82]), true),
        ("half of a frame's head", with(&[0, 0, 100, 1]), true),
        ("DATA that are too long", with(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]), false),
        ("SETTINGS that are too long", with(&[0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0]), false),
        ("HEADERS that mean nothing", with(&[0, 0, 1, 1, 4, 0, 0, 0, 1, 0xfe]), false),
    ] {
        let stream = raw.connect(cart.at(15008)).await.unwrap();
        let (mut stream, _) = within(tls::connect(stream, &certificate, &[cart.identity()])).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        if is_cut_off {
            stream.shutdown().await.unwrap();
        }
        let mut told = Vec::new();
        // With or without a last word of TLS.
        let _ = within(stream.read_to_end(&mut told)).await;
        drop(stream);
        bystander.write_all(b"alive").await.expect(what);
        let mut back = [0; 5];
        within(bystander.read_exact(&mut back)).await.expect(what);
        assert_eq!(&back, b"alive", "{what}");
    }
    eventually("only the tunnel that nobody broke is left", || open_tunnels(&cart) == 1).await;
}

fn sign(authority: &tls::Authority, identity: &Identity) -> Arc<tls::WorkloadCertificate> {
    let request = tls::CertificateRequest::generate(identity).unwrap();
    let chain = authority.sign_csr(request.csr_pem(), identity, Duration::from_secs(60)).unwrap();
    Arc::new(request.complete(&chain).unwrap())
}

#[tokio::test]
async fn calls_of_the_proxy_itself_do_not_go_round_in_circles() {
    let Some(world) = World::new().await else { return };
    let (pod, outside) = (world.pod(0, "frontend").await, world.stranger("out"));
    let loopback = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    // From inside over loopback, from inside to its own address, from outside straight to the listener.
    for (from, target) in [
        (&pod, loopback(15001)),
        (&pod, loopback(15006)),
        (&pod, pod.at(15001)),
        (&pod, pod.at(15006)),
        (&outside, pod.at(15001)),
        (&outside, pod.at(15006)),
    ] {
        assert!(is_cut(from, target).await, "{target}");
        let target = format!("dst.addr={target}");
        world.nodes[0].line(&["connection failed", "attempted recursive call to ourselves", &target]).await;
    }
    // To the tunnel's port without a certificate, through the proxy or beside it.
    for target in [loopback(15008), pod.at(15008)] {
        let mut stream = pod.connect(target).await.unwrap();
        stream.write_all(b"no TLS").await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = rest(&mut stream).await;
    }
    world.nodes[0].line(&["connection failed", "handshake failed"]).await;
    assert_eq!(world.nodes[0].node.live_connections(), 0);
}

#[tokio::test]
async fn a_pod_that_discovery_does_not_know_gets_nowhere() {
    let Some(world) = World::new().await else { return };
    let (pod, outside) = (world.pod(0, "frontend").await, world.stranger("out"));
    outside.echo(7);
    world.nodes[0].writer.lock().unwrap().remove("Kubernetes//Pod/shop/frontend");
    assert!(is_cut(&pod, outside.at(7)).await);
    world.nodes[0].line(&["connection failed", "failed to fetch information about local workload"]).await;
    // A moment of ignorance is waited for.
    let mut stream = pod.connect(outside.at(7)).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    tokio::task::yield_now().await;
    world.publish(world.nodes[0].workload(&pod));
    let mut answer = [0; 5];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"hello");
}

//! Connections that go through a waypoint: a peer made of TLS and the h2 crate alone.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::sync::{Arc, mpsc::Receiver};

use bytes::Bytes;
use discovery::{Destination, GatewayAddress, Protocol, Service, Workload};
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use types::{Identity, NetworkAddress};

use crate::lookups;
use crate::world::{TestPod, World, cart, is_cut, ping, rest, service_key, within};

const VIP: &str = "10.96.0.7:80";

/// What a waypoint was asked for.
struct Asked {
    authority: String,
    headers: HeaderMap,
    client: Identity,
    from: IpAddr,
}

/// Starts a waypoint in a pod of its own that answers with `status`, and echoes if that is 200.
fn waypoint(world: &World, name: &str, identity: &str, status: u16) -> (TestPod, Receiver<Asked>) {
    let pod = world.stranger(name);
    let identity = format!("spiffe://cluster.local/ns/shop/sa/{identity}").parse().unwrap();
    let certificate = world.certificate(&identity);
    let listener = pod.listen(15008);
    let (asked, asks) = mpsc::channel();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            tokio::spawn(serve(stream, peer, Arc::clone(&certificate), asked.clone(), status));
        }
    });
    (pod, asks)
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    certificate: Arc<tls::WorkloadCertificate>,
    asked: mpsc::Sender<Asked>,
    status: u16,
) {
    let Ok((stream, client)) = tls::accept(stream, &certificate).await else { return };
    let Ok(mut connection) = h2::server::Builder::new().max_concurrent_streams(100).handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.method(), Method::CONNECT);
        let _ = asked.send(Asked {
            authority: request.uri().authority().unwrap().to_string(),
            headers: request.headers().clone(),
            client: client.identity.clone(),
            from: peer.ip().to_canonical(),
        });
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        let mut send = respond.send_response(answer, status != 200).unwrap();
        let mut receive = request.into_body();
        tokio::spawn(async move {
            while let Some(Ok(mut chunk)) = receive.data().await {
                let _ = receive.flow_control().release_capacity(chunk.len());
                while !chunk.is_empty() {
                    send.reserve_capacity(chunk.len());
                    let Some(Ok(granted)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                    let _ = send.send_data(chunk.split_to(granted.min(chunk.len())), false);
                }
            }
            let _ = send.send_data(Bytes::new(), true);
        });
    }
}

/// Makes a pod known as one of the waypoint's, and the waypoint as a service.
fn publish(world: &World, pod: &TestPod) {
    let services = vec![(service_key("waypoint"), discovery::PortMap::default())].into();
    let own = world.nodes[1].workload(pod);
    let account = Arc::from("waypoint");
    world.publish(Workload { protocol: Protocol::Tcp, services, service_account: account, ..own });
    let port =
        discovery::Port { service_port: 15008, target_port: 15008, app_protocol: discovery::AppProtocol::Unknown };
    let key = service_key("waypoint");
    let service = Service {
        name: Arc::from("waypoint"),
        namespace: key.namespace,
        hostname: key.hostname,
        ports: [port].into_iter().collect(),
        ..cart("10.96.0.50", 15008)
    };
    world.publish_service(&service);
}

fn by_name() -> Option<GatewayAddress> {
    Some(GatewayAddress { destination: Destination::Hostname(service_key("waypoint")), hbone_mtls_port: 15008 })
}

fn by_address(ip: IpAddr) -> Option<GatewayAddress> {
    let destination = Destination::Address(NetworkAddress { network: Arc::from(""), address: ip });
    Some(GatewayAddress { destination, hbone_mtls_port: 15008 })
}

#[tokio::test]
async fn a_services_waypoint_is_asked_for_what_the_application_dialled() {
    let Some(world) = World::new().await else { return };
    // The destination is on the client's own node; the waypoint is not passed over for that.
    let (frontend, server) = (world.pod(0, "frontend").await, world.pod(0, "cart").await);
    let direct = server.echo(8080);
    let (pod, asks) = waypoint(&world, "waypoint", "waypoint", 200);
    publish(&world, &pod);
    world.publish_service(&Service { waypoint: by_name(), ..cart("10.96.0.7", 8080) });
    let mut stream = frontend.connect(VIP.parse().unwrap()).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), b"");
    let asked = asks.recv().unwrap();
    assert_eq!(asked.authority, VIP);
    assert_eq!((asked.client, asked.from), (frontend.identity(), frontend.ip));
    let source = stream.local_addr().unwrap();
    let forwarded = format!("for=\"{source}\";host=cart.shop.svc.cluster.local");
    assert_eq!(asked.headers["forwarded"], *forwarded);
    let baggage = asked.headers["baggage"].to_str().unwrap();
    assert!(baggage.contains("k8s.deployment.name=frontend-deployment"), "{baggage}");
    assert!(direct.try_recv().is_err(), "nobody went around the waypoint");

    let line = world.nodes[0].line(&["connection complete", "direction=\"outbound\""]).await;
    for part in [
        format!("dst.addr={}:15008 dst.hbone_addr={VIP}", pod.ip),
        "dst.service=\"cart.shop.svc.cluster.local\" dst.workload=\"waypoint\"".to_owned(),
        "dst.identity=\"spiffe://cluster.local/ns/shop/sa/waypoint\"".to_owned(),
        "bytes_sent=5 bytes_recv=5".to_owned(),
    ] {
        assert!(line.contains(&part), "{part} is not in {line}");
    }
    let labels = ["connection_security_policy=\"mutual_tls\"", "destination_service=\"cart.shop.svc.cluster.local\""];
    assert_eq!(world.nodes[0].metric("istio_tcp_connections_closed_total", &labels), 1);
}

#[tokio::test]
async fn hosts_below_a_wildcard_are_looked_up_and_reached_through_their_waypoint() {
    let Some(world) = World::new().await else { return };
    let frontend = world.pod(0, "frontend").await;
    let (pod, asks) = waypoint(&world, "waypoint", "waypoint", 200);
    publish(&world, &pod);
    // As the control plane makes them of a ServiceEntry with DYNAMIC_DNS: an assigned address and no endpoints.
    let entry = Service {
        name: Arc::from("wild"),
        hostname: "*.wild.example".into(),
        waypoint: by_name(),
        ..cart("240.240.0.9", 443)
    };
    world.publish_service(&entry);
    let found = lookups::addresses_of(&frontend, "www.wild.example.").await;
    assert_eq!(found, ["240.240.0.9".parse::<IpAddr>().unwrap()]);
    let mut stream = frontend.connect(SocketAddr::new(found[0], 80)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(asks.recv().unwrap().authority, "240.240.0.9:80");
    drop(stream);
    world.nodes[0].line(&["dst.service=\"*.wild.example\"", "dst.hbone_addr=240.240.0.9:80"]).await;
    world.publish_service(&Service { waypoint: None, ..entry });
    assert!(is_cut(&frontend, "240.240.0.9:80".parse().unwrap()).await, "without its waypoint it leads nowhere");
}

#[tokio::test]
async fn a_workloads_waypoint_is_asked_for_the_workload() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let direct = cart.echo(8080);
    let (pod, asks) = waypoint(&world, "waypoint", "waypoint", 200);
    publish(&world, &pod);
    for reference in [by_name(), by_address(pod.ip)] {
        world.publish(Workload { waypoint: reference.map(Arc::new), ..world.nodes[1].workload(&cart) });
        let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
        let asked = asks.recv().unwrap();
        assert_eq!(asked.authority, cart.at(8080).to_string());
        assert!(!asked.headers["forwarded"].to_str().unwrap().contains("host="));
    }
    assert!(direct.try_recv().is_err(), "nobody went around the waypoint");
}

#[tokio::test]
async fn a_waypoint_that_cannot_be_used_is_never_gone_around() {
    let Some(world) = World::new().await else { return };
    let (frontend, server) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let direct = server.echo(8080);
    world.publish_service(&Service { waypoint: by_name(), ..cart("10.96.0.7", 8080) });
    let vip = VIP.parse().unwrap();
    assert!(is_cut(&frontend, vip).await);
    world.nodes[0].line(&["connection failed", "waypoint.shop.svc.cluster.local:15008, which is not known"]).await;

    // Somebody else answers at the waypoint's address.
    let (pod, asks) = waypoint(&world, "impostor", "impostor", 200);
    publish(&world, &pod);
    assert!(is_cut(&frontend, vip).await);
    let line = world.nodes[0].line(&["error\taccess\tconnection complete", "dst.workload=\"impostor\""]).await;
    assert!(line.contains("sa/impostor"), "{line}");
    assert!(asks.try_recv().is_err());

    // A verdict is final, and so is the absence of everybody.
    world.nodes.iter().for_each(|node| node.writer.lock().unwrap().remove("Kubernetes//Pod/shop/impostor"));
    let (pod, asks) = waypoint(&world, "strict", "waypoint", 401);
    publish(&world, &pod);
    assert!(is_cut(&frontend, vip).await);
    world.nodes[0].line(&["dst.workload=\"strict\"", "http status: 401"]).await;
    assert_eq!(asks.try_iter().count(), 1);
    assert!(direct.try_recv().is_err(), "nobody went around the waypoint");
}

#[tokio::test]
async fn a_waypoint_that_is_down_is_passed_over_for_the_next() {
    let Some(world) = World::new().await else { return };
    let (frontend, server) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let direct = server.echo(8080);
    let (alive, asks) = waypoint(&world, "waypoint", "waypoint", 200);
    let down = world.stranger("waypoint-2");
    publish(&world, &alive);
    publish(&world, &down);
    world.publish_service(&Service { waypoint: by_name(), ..cart("10.96.0.7", 8080) });
    for _ in 0..12 {
        let mut stream = within(frontend.connect(VIP.parse().unwrap())).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    }
    assert_eq!(asks.try_iter().count(), 12);
    assert!(direct.try_recv().is_err(), "nobody went around the waypoint");
}

//! Connections into other networks: a gateway made of TLS and the h2 crate alone, which sees the outer tunnel and moves
//! the bytes inside it.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use discovery::{Destination, GatewayAddress, PortMap, Protocol, Service, Workload};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use types::{Identity, NetworkAddress};

use crate::world::{TestPod, World, cart, is_cut, ping, rest, service_key, within};

const VIP: &str = "10.96.0.7:80";
const NAME: &str = "cart.shop.svc.cluster.local:80";

/// One CONNECT request that a server of these tests got.
struct Asked {
    authority: String,
    headers: HeaderMap,
    client: Identity,
}

/// Where a gateway sends what comes out of its tunnels.
#[derive(Clone)]
enum Behind {
    /// A proxy somewhere.
    Address(SocketAddr),
    /// A server of these tests, with this identity and answering with this status.
    Scripted { certificate: Arc<tls::WorkloadCertificate>, asked: Sender<Asked>, status: u16 },
}

/// A gateway in a pod of its own.
struct Gateway {
    pod: TestPod,
    asks: Receiver<Asked>,
    /// TLS connections that were accepted.
    connections: Arc<AtomicUsize>,
    /// What it answers.
    status: Arc<Mutex<u16>>,
    behind: Arc<Mutex<Behind>>,
}

fn gateway(world: &World, behind: Behind) -> Gateway {
    let pod = world.stranger("gateway");
    let certificate = world.certificate(&pod.identity());
    let listener = pod.listen(15008);
    let (asked, asks) = channel();
    let (connections, status) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(200)));
    let behind = Arc::new(Mutex::new(behind));
    let gateway =
        Gateway { pod, asks, connections: connections.clone(), status: status.clone(), behind: behind.clone() };
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            let Ok((stream, client)) = tls::accept(stream, &certificate).await else { continue };
            connections.fetch_add(1, Ordering::Relaxed);
            let (asked, status, behind) = (asked.clone(), status.clone(), behind.clone());
            tokio::spawn(serve(stream, client.identity, asked, status, move |inside| {
                let behind = behind.lock().unwrap().clone();
                tokio::spawn(lead(inside, behind));
            }));
        }
    });
    gateway
}

/// Connects what came out of a tunnel with whoever is behind the gateway.
async fn lead(mut inside: DuplexStream, behind: Behind) {
    match behind {
        Behind::Address(address) => {
            let Ok(mut onward) = TcpStream::connect(address).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut inside, &mut onward).await;
        }
        Behind::Scripted { certificate, asked, status } => {
            let Ok((stream, client)) = tls::accept(inside, &certificate).await else { return };
            let status = Arc::new(Mutex::new(status));
            serve(stream, client.identity, asked, status, |inside| {
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(inside);
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                });
            })
            .await;
        }
    }
}

/// Answers CONNECT requests; the bytes of those that are accepted go to `accept`.
async fn serve(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    client: Identity,
    asked: Sender<Asked>,
    status: Arc<Mutex<u16>>,
    accept: impl Fn(DuplexStream),
) {
    let Ok(mut connection) = h2::server::Builder::new().max_concurrent_streams(100).handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.method(), Method::CONNECT);
        let authority = request.uri().authority().unwrap().to_string();
        let _ = asked.send(Asked { authority, headers: request.headers().clone(), client: client.clone() });
        let status = *status.lock().unwrap();
        let answer = Response::builder().status(StatusCode::from_u16(status).unwrap());
        let answer = answer.header("baggage", "k8s.namespace.name=far,k8s.deployment.name=faraway").body(()).unwrap();
        let send = respond.send_response(answer, status != 200).unwrap();
        if status == 200 {
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            accept(theirs);
            tokio::spawn(pump(request.into_body(), send, ours));
        }
    }
}

async fn pump(mut receive: RecvStream, mut send: SendStream<Bytes>, ours: DuplexStream) {
    let (mut read, mut write) = tokio::io::split(ours);
    let up = async {
        while let Some(Ok(chunk)) = receive.data().await {
            let _ = receive.flow_control().release_capacity(chunk.len());
            if write.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            let mut chunk = Bytes::copy_from_slice(&buffer[..length]);
            while !chunk.is_empty() {
                send.reserve_capacity(chunk.len());
                let Some(Ok(granted)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                let _ = send.send_data(chunk.split_to(granted.min(chunk.len())), false);
            }
        }
        let _ = send.send_data(Bytes::new(), true);
    };
    tokio::join!(up, down);
}

/// Tells the client's node alone that the endpoints of the service are in another network.
fn publish(world: &World, gateway: &TestPod, network: &str, allowed: &Identity) {
    publish_behind(world, gateway, network, (allowed, 15008));
}

fn publish_behind(world: &World, gateway: &TestPod, network: &str, (allowed, port): (&Identity, u16)) {
    let reference = |ip: IpAddr| GatewayAddress {
        destination: Destination::Address(NetworkAddress { network: Arc::from("remote"), address: ip }),
        hbone_mtls_port: port,
    };
    let mut writer = world.nodes[0].writer.lock().unwrap();
    let own = world.nodes[1].workload(gateway);
    writer.upsert_workload(Workload {
        uid: "NetworkGateway/remote".into(),
        network: Arc::from("remote"),
        protocol: Protocol::Tcp,
        ..own
    });
    writer.upsert_workload(Workload {
        uid: "remote/SplitHorizonWorkload".into(),
        network: Arc::from("remote"),
        protocol: Protocol::Hbone,
        services: vec![(service_key("cart"), PortMap::default())].into(),
        network_gateway: Some(reference(gateway.ip).into()),
        ..Workload::default()
    });
    writer.upsert_service(service(network, allowed));
}

fn service(network: &str, allowed: &Identity) -> Service {
    let vip = VIP.parse::<SocketAddr>().unwrap().ip();
    let vips = vec![NetworkAddress { network: Arc::from(network), address: vip }];
    Service { subject_alt_names: vec![allowed.clone()], vips, ..cart("10.96.0.7", 8080) }
}

#[tokio::test]
async fn a_service_of_another_network_is_reached_through_its_gateway() {
    let Some(world) = World::with_config(&[("ZTUNNEL_WORKER_THREADS", "1")]).await else { return };
    let frontend = world.pod(0, "frontend").await;
    // The other network's proxy knows its pod; the client's knows a gateway.
    let server = world.captured("cart");
    let node = &world.nodes[1];
    node.writer.lock().unwrap().upsert_workload(node.workload(&server));
    node.writer.lock().unwrap().upsert_service(cart("10.96.0.7", 8080));
    assert_eq!(node.add(&server).await, zds::agent::Answer::Acknowledged);
    let peers = server.echo(8080);

    // The gateway's sockets are outside of its pod's namespace: what counts is who it is.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bridge = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let gateway = gateway(&world, Behind::Address(bridge));
    let target = server.at(15008);
    let pod = world.stranger("bridge");
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            let mut onward = pod.connect(target).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inside, &mut onward).await });
        }
    });
    publish(&world, &gateway.pod, "", &server.identity());

    for round in 0..3 {
        let mut stream = frontend.connect(VIP.parse().unwrap()).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello", "round {round}");
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await.unwrap(), b"");
        let asked = within(async { gateway.asks.recv().unwrap() }).await;
        assert_eq!((&*asked.authority, asked.client), (NAME, frontend.identity()));
        peers.recv().unwrap();
    }
    assert_eq!(gateway.connections.load(Ordering::Relaxed), 1, "the outer connection is shared");

    let line = world.nodes[0].line(&["connection complete", "direction=\"outbound\""]).await;
    for part in [
        format!("dst.addr={}:15008 dst.hbone_addr={NAME} dst.service=\"cart.shop.svc.cluster.local\"", gateway.pod.ip),
        // As the other side describes itself, in the tunnel inside the tunnel.
        "dst.workload=\"cart-deployment\"".to_owned(),
        format!("dst.identity=\"{}\"", server.identity()),
        "bytes_sent=5 bytes_recv=5".to_owned(),
    ] {
        assert!(line.contains(&part), "{part} is not in {line}");
    }
    let line = world.nodes[1].line(&["connection complete", "direction=\"inbound\""]).await;
    assert!(line.contains(&format!("src.identity=\"{}\"", frontend.identity())), "{line}");
    let labels = ["reporter=\"source\"", "destination_workload=\"cart-deployment\"", "response_flags=\"-\""];
    crate::world::eventually("three are counted", || {
        world.nodes[0].metric("istio_tcp_connections_closed_total", &labels) == 3
    })
    .await;
}

/// A world of network `east` whose service is behind a gateway, and who answers there.
async fn scripted(status: u16) -> Option<(World, TestPod, Gateway, Receiver<Asked>)> {
    let world = World::with_config(&[("NETWORK", "east")]).await?;
    let frontend = world.pod(0, "frontend").await;
    let identity: Identity = "spiffe://cluster.local/ns/far/sa/away".parse().unwrap();
    let (asked, asks) = channel();
    let behind = Behind::Scripted { certificate: world.certificate(&identity), asked, status };
    let gateway = gateway(&world, behind);
    publish(&world, &gateway.pod, "east", &identity);
    Some((world, frontend, gateway, asks))
}

#[tokio::test]
async fn both_tunnels_carry_what_their_servers_need() {
    let Some((world, frontend, gateway, asks)) = scripted(200).await else { return };
    let mut stream = frontend.connect(VIP.parse().unwrap()).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    let (outer, inner) = (gateway.asks.recv().unwrap(), asks.recv().unwrap());
    let source = stream.local_addr().unwrap();
    for asked in [&outer, &inner] {
        assert_eq!((&*asked.authority, &asked.client), (NAME, &frontend.identity()));
        let forwarded = format!("for=\"{source}\";host=cart.shop.svc.cluster.local");
        assert_eq!(asked.headers["forwarded"], *forwarded);
        assert!(asked.headers["baggage"].to_str().unwrap().contains("frontend-deployment"));
    }
    assert_eq!(inner.headers["x-forwarded-network"], "east");
    assert!(!outer.headers.contains_key("x-forwarded-network"));
    assert_eq!(inner.headers["traceparent"], outer.headers["traceparent"]);
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), b"");
    let line = world.nodes[0].line(&["connection complete", "direction=\"outbound\""]).await;
    assert!(line.contains("dst.workload=\"faraway\" dst.namespace=\"far\""), "{line}");
    assert!(line.contains("dst.identity=\"spiffe://cluster.local/ns/far/sa/away\""), "{line}");
}

#[tokio::test]
async fn large_transfers_cross_both_windows() {
    let Some((_world, frontend, _gateway, _asks)) = scripted(200).await else { return };
    let stream = frontend.connect(VIP.parse().unwrap()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sent: Vec<u8> = (0..24_u32 << 20).map(|byte| byte.to_le_bytes()[1]).collect();
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    within(read.read_to_end(&mut received)).await.unwrap();
    writing.await.unwrap();
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}

#[tokio::test]
async fn what_the_gateway_or_whoever_is_behind_it_refuses_is_refused() {
    let Some((world, frontend, gateway, asks)) = scripted(401).await else { return };
    let vip = VIP.parse().unwrap();
    assert!(is_cut(&frontend, vip).await);
    world.nodes[0].line(&["behind the network gateway: http status: 401"]).await;
    assert_eq!((gateway.asks.try_iter().count(), asks.try_iter().count()), (1, 1), "a verdict is final");

    *gateway.status.lock().unwrap() = 503;
    assert!(is_cut(&frontend, vip).await);
    world.nodes[0].line(&["error=\"http status: 503\""]).await;
    assert_eq!(asks.try_iter().count(), 0);
    *gateway.status.lock().unwrap() = 200;

    // Whoever is behind the gateway is not whom the service's identities promise: the gateway itself, for instance.
    let impostor = world.certificate(&gateway.pod.identity());
    let (asked, asks) = channel();
    *gateway.behind.lock().unwrap() = Behind::Scripted { certificate: impostor, asked, status: 200 };
    assert!(is_cut(&frontend, vip).await);
    world.nodes[0].line(&["behind the network gateway: TLS failed", "sa/gateway"]).await;
    assert_eq!(asks.try_iter().count(), 0, "nothing is asked of a stranger");
}

#[tokio::test]
async fn an_endpoint_here_takes_over_when_the_gateway_is_down() {
    let Some((world, frontend, gateway, _asks)) = scripted(200).await else { return };
    let near = world.pod(0, "cart").await;
    near.echo(8080);
    // Nobody listens on that port of it.
    publish_behind(&world, &gateway.pod, "east", (&near.identity(), 9));
    for _ in 0..8 {
        let mut stream = within(frontend.connect(VIP.parse().unwrap())).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    }
}

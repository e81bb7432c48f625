//! Which address family connections use, and pods and proxies that have but one.

use discovery::{IpFamilies, Service};
use zds::agent::Answer;

use crate::world::{World, cart, ipv6, ping};

/// A service address that is nobody's own.
const VIP: &str = "fd00::7:7";

#[tokio::test]
async fn a_service_is_reached_in_the_family_of_its_address_if_it_has_that_family() {
    let Some(world) = World::new().await else { return };
    let (frontend, server) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let peers = server.echo(8080);
    for (families, endpoint, client) in [
        (IpFamilies::Automatic, server.at_ipv6(8080), ipv6(frontend.ip)),
        (IpFamilies::Dual, server.at_ipv6(8080), ipv6(frontend.ip)),
        (IpFamilies::Ipv6Only, server.at_ipv6(8080), ipv6(frontend.ip)),
        // The endpoints of such a service have IPv4 addresses alone, whatever else their pods have.
        (IpFamilies::Ipv4Only, server.at(8080), ipv6(frontend.ip)),
    ] {
        world.publish_service(&Service { ip_families: families, ..cart(VIP, 8080) });
        let mut stream = frontend.connect(format!("[{VIP}]:80").parse().unwrap()).await.unwrap();
        let text = format!("{families:?}");
        assert_eq!(ping(&mut stream, &text).await.unwrap(), text);
        let seen = peers.recv().unwrap().ip();
        // A source address of the other family cannot be kept.
        assert!(seen == client || families == IpFamilies::Ipv4Only, "{families:?}: {seen}");
        let tunnel = std::net::SocketAddr::new(endpoint.ip(), 15008);
        let source = format!("src.addr={}", stream.local_addr().unwrap());
        drop(stream);
        let line = world.nodes[0].line(&["connection complete", &source]).await;
        assert!(line.contains(&format!("dst.addr={tunnel} ")), "{families:?}: {line}");
    }
}

#[tokio::test]
async fn a_pod_in_which_ipv6_is_off_is_served_over_ipv4() {
    let Some(world) = World::new().await else { return };
    let frontend = world.pod(0, "frontend").await;
    let pod = world.captured("cart");
    pod.netns.run(|| linux::sysctl::write("net/ipv6/conf/all/disable_ipv6", "1")).unwrap().unwrap();
    world.publish(world.nodes[1].workload(&pod));
    assert_eq!(world.nodes[1].add(&pod).await, Answer::Acknowledged);
    let (peers, others) = (pod.echo(8080), frontend.echo(8080));
    let mut inbound = frontend.connect(pod.at(8080)).await.unwrap();
    assert_eq!(ping(&mut inbound, "in").await.unwrap(), "in");
    assert_eq!(peers.recv().unwrap().ip(), frontend.ip);
    let mut outbound = pod.connect(frontend.at(8080)).await.unwrap();
    assert_eq!(ping(&mut outbound, "out").await.unwrap(), "out");
    assert_eq!(others.recv().unwrap().ip(), pod.ip);
    let identity = format!("src.identity=\"{}\"", pod.identity());
    world.nodes[0].line(&["connection opened", &identity, "direction=\"inbound\""]).await;
}

#[tokio::test]
async fn a_proxy_told_to_leave_ipv6_alone_has_no_socket_of_it() {
    let Some(world) = World::with_config(&[("IPV6_ENABLED", "false")]).await else { return };
    let (frontend, server) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let sockets = server.netns.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp6")).unwrap().unwrap();
    for port in [15001, 15006, 15008, 15053] {
        assert!(!sockets.contains(&format!(":{port:04X} ")), "{port}: {sockets}");
    }
    server.echo(8080);
    let mut stream = frontend.connect(server.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
}

//! Endpoints that have a name instead of an address.

use std::sync::Arc;

use discovery::{PortMap, Protocol, Workload};

use crate::world::{TestPod, World, cart, is_cut, ping, service_key};

/// An endpoint of the service outside of the mesh, known by its name alone.
fn publish(world: &World, hostname: &str) {
    world.publish(Workload {
        uid: "Kubernetes/networking.istio.io/ServiceEntry/shop/db/name".into(),
        name: Arc::from("db"),
        namespace: Arc::from("shop"),
        hostname: hostname.into(),
        protocol: Protocol::Tcp,
        services: vec![(service_key("cart"), PortMap::default())].into(),
        ..Workload::default()
    });
    world.publish_service(&cart("10.96.0.7", 8080));
}

fn resolved(world: &World, client: &TestPod, hostname: &str) -> u64 {
    let source = format!("source_principal=\"{}\"", client.identity());
    world.nodes[0].metric("istio_on_demand_dns_total", &[&source, &format!("hostname=\"{hostname}\"")])
}

#[tokio::test]
async fn the_name_of_an_endpoint_is_resolved_and_connected_to_from_inside_the_pod() {
    let Some(world) = World::new().await else { return };
    let client = world.pod(0, "frontend").await;
    // A name that every machine can resolve; what it means is up to where one connects from.
    publish(&world, "localhost");
    client.echo(8080);
    for round in 1..=2 {
        let mut stream = client.connect("10.96.0.7:80".parse().unwrap()).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
        assert_eq!(resolved(&world, &client, "localhost"), round);
        drop(stream);
    }
    let line = world.nodes[0].line(&["dst.addr=127.0.0.1:8080", "dst.workload=\"db\""]).await;
    assert!(line.contains("dst.service=\"cart.shop.svc.cluster.local\""), "{line}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_leads_nowhere() {
    let Some(world) = World::new().await else { return };
    let client = world.pod(0, "frontend").await;
    publish(&world, "nobody.invalid");
    assert!(is_cut(&client, "10.96.0.7:80".parse().unwrap()).await);
    world.nodes[0].line(&["cannot resolve nobody.invalid"]).await;
}

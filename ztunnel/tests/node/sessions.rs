//! Tunnels whose handshakes go on with an earlier session: what they carry, and what they are judged by.

use std::time::SystemTime;

use policy::{Action, Scope};

use crate::policy::{policy, principal};
use crate::world::{TestPod, World, is_cut, ping};

/// A tunnel for each connection.
const COLD: [(&str, &str); 2] = [("POOL_MAX_STREAMS_PER_CONNECTION", "1"), ("POOL_UNUSED_RELEASE_TIMEOUT", "0s")];

fn handshakes(world: &World, node: usize, reporter: &str, resumed: bool) -> u64 {
    let labels = [format!("reporter=\"{reporter}\""), format!("resumed=\"{resumed}\"")];
    world.nodes[node].metric("aquifer_tunnel_handshakes_total", &[&labels[0], &labels[1]])
}

/// One connection after the other.
async fn talk(from: &TestPod, to: &TestPod, times: usize) {
    for time in 0..times {
        let mut stream = from.connect(to.at(8080)).await.unwrap();
        let text = format!("hello {time}");
        assert_eq!(ping(&mut stream, &text).await.unwrap(), text);
    }
}

#[tokio::test]
async fn a_tunnel_that_resumes_a_session_carries_data_and_is_judged_by_the_same_identity() {
    let Some(world) = World::with_config(&COLD).await else { return };
    let cart = world.pod(1, "cart").await;
    let (frontend, payment) = (world.pod(0, "frontend").await, world.pod(0, "payment").await);
    cart.echo(8080);
    talk(&frontend, &cart, 4).await;
    talk(&payment, &cart, 1).await;
    for (node, reporter) in [(0, "source"), (1, "destination")] {
        let counted = (handshakes(&world, node, reporter, false), handshakes(&world, node, reporter, true));
        assert_eq!(counted, (2, 3), "{reporter}");
    }
    let line = world.nodes[1].line(&["connection complete", "src.workload=\"frontend\""]).await;
    assert!(line.contains("src.identity=\"spiffe://cluster.local/ns/shop/sa/frontend\""), "{line}");

    world.enforce(&[policy("only-frontend", Scope::Namespace, Action::Allow, Some(principal("frontend")))]);
    talk(&frontend, &cart, 1).await;
    assert!(is_cut(&payment, cart.at(8080)).await, "a session does not stand for permission");
    assert_eq!(handshakes(&world, 1, "destination", true), 5);
}

#[tokio::test]
async fn a_session_ends_with_the_revocation_of_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca-crl.pem");
    let lists = ("CRL_PATH", path.to_str().unwrap());
    let Some(world) = World::with_config(&[COLD[0], COLD[1], lists]).await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    talk(&frontend, &cart, 2).await;
    assert_eq!(handshakes(&world, 1, "destination", true), 1);
    let raw = world.stranger("raw");
    let own = world.certificate(&raw.identity());
    let stream = raw.connect(frontend.at(15008)).await.unwrap();
    let (_stream, seen) = tls::connect(stream, &own, &[frontend.identity()]).await.unwrap();
    let list = world.authority().revocation_list(&[&seen.chain()[0].pem], 1, SystemTime::now()).unwrap();
    std::fs::write(&path, list).unwrap();
    assert!(is_cut(&frontend, cart.at(8080)).await, "it lives until the list is read");
    assert!(is_cut(&frontend, cart.at(8080)).await);
    world.nodes[1].line(&["the certificate of spiffe://cluster.local/ns/shop/sa/frontend is revoked"]).await;
}

//! What an Istio control plane sent decodes, converts and resolves as its own JSON says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use discovery::{ResolveError, Route, View, Writer, resolve};
use policy::{Connection, Decision, PolicySet};
use prost::Message;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Node};
use proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use tokio::sync::watch;
use types::WorkloadUid;
use xds::delta::{Client, Mode};
use xds::feed::{AddressFeed, PolicyFeed};

mod expected;

/// A client that has received both recorded responses.
struct Recorded {
    view: View,
    policies: Arc<PolicySet>,
    client: Client,
}

fn recorded() -> Recorded {
    let writer = Writer::new("", None);
    let view = writer.view();
    let (sender, policies) = watch::channel(Arc::new(PolicySet::default()));
    let mut client = Client::new(Node::default());
    client.subscribe(ADDRESS_TYPE, Mode::Wildcard, AddressFeed::new(writer));
    client.subscribe(AUTHORIZATION_TYPE, Mode::Wildcard, PolicyFeed::new(sender));
    let responses: [(&str, &[u8]); 2] = [
        (ADDRESS_TYPE, include_bytes!("../fixtures/istio/WDS.binpb")),
        (AUTHORIZATION_TYPE, include_bytes!("../fixtures/istio/WADS.binpb")),
    ];
    for (type_url, encoded) in responses {
        let mut response = DeltaDiscoveryResponse::decode(encoded).unwrap();
        response.type_url = type_url.to_owned();
        let received = client.receive(&response.encode_to_vec()).unwrap();
        assert_eq!(received.answer.error_detail, None, "everything must be accepted");
    }
    let policies = Arc::clone(&policies.borrow());
    Recorded { view, policies, client }
}

#[test]
fn the_client_is_ready_and_claims_the_versions_that_it_was_sent() {
    let recorded = recorded();
    assert!(recorded.client.is_ready());
    let requests = recorded.client.connect();
    for (request, json) in requests.iter().zip([expected::addresses(), expected::policies()]) {
        let sent = json.iter().map(|resource| (text(resource, "name"), text(resource, "version")));
        assert_eq!(request.initial_resource_versions, sent.collect());
    }
}

fn text(value: &serde_json::Value, key: &str) -> String {
    value[key].as_str().unwrap().to_owned()
}

#[test]
fn every_workload_is_what_the_json_says() {
    let recorded = recorded();
    let expected = expected::workloads();
    assert_eq!(expected.len(), 14);
    assert_eq!(recorded.view.workloads().len(), expected.len());
    for workload in expected {
        let found = recorded.view.workload(&workload.uid).unwrap();
        assert_eq!(*found, workload);
    }
}

#[test]
fn every_service_is_what_the_json_says() {
    let recorded = recorded();
    let expected = expected::services();
    assert_eq!(expected.len(), 12);
    assert_eq!(recorded.view.services().len(), expected.len());
    for service in expected {
        let found = recorded.view.service(&service.key()).unwrap();
        assert_eq!(*found, service);
        for vip in &service.vips {
            let found = recorded.view.service_by_vip(&vip.network, vip.address, None).unwrap();
            assert_eq!(found.key(), service.key());
        }
    }
}

#[test]
fn every_policy_is_what_the_json_says() {
    let recorded = recorded();
    let expected = expected::authorizations();
    assert_eq!(expected.len(), 3);
    assert_eq!(recorded.policies.len(), expected.len());
    for policy in expected {
        assert_eq!(**recorded.policies.policy(&policy.key).unwrap(), policy);
    }
}

impl Recorded {
    fn resolve(&self, source: &str, destination: &str) -> Result<Route, ResolveError> {
        let source = self.view.workload(&WorkloadUid::from(source)).unwrap();
        resolve(&self.view, &source, destination.parse().unwrap(), &[], &mut rand::rng())
    }

    fn decide(&self, destination_uid: &str, source: Option<&str>, port: u16) -> Decision {
        let workload = self.view.workload(&WorkloadUid::from(destination_uid)).unwrap();
        let connection = Connection {
            source_ip: IpAddr::from([10, 20, 1, 10]),
            identity: source.map(|identity| identity.parse().unwrap()),
            destination: SocketAddr::new(workload.addresses[0], port),
        };
        self.policies.evaluate(&workload.namespace, &workload.authorization_policies, &connection).decision
    }
}

const CLIENT: &str = "Kubernetes//Pod/app/client";

#[test]
fn a_service_of_captured_pods_is_reached_through_a_tunnel() {
    let route = recorded().resolve(CLIENT, "10.96.226.134:80").unwrap();
    let Route::Hbone { destination, authority, expected, upstream } = route else { panic!("{route:?}") };
    assert_eq!(destination, "10.20.1.30:15008".parse().unwrap());
    assert_eq!(authority.to_string(), "10.20.1.30:8080");
    assert_eq!(expected, ["spiffe://cluster.local/ns/other/sa/echo".parse().unwrap()]);
    assert_eq!(upstream.workload.uid.as_str(), "Kubernetes//Pod/other/echo");
    assert_eq!(upstream.service.unwrap().key().to_string(), "other/echo.other.svc.cluster.local");
}

#[test]
fn a_captured_pod_is_reached_through_a_tunnel_by_its_own_address() {
    let route = recorded().resolve(CLIENT, "10.20.1.20:9999").unwrap();
    let Route::Hbone { destination, authority, upstream, .. } = route else { panic!("{route:?}") };
    assert_eq!(
        (destination.to_string(), authority.to_string()),
        ("10.20.1.20:15008".to_owned(), "10.20.1.20:9999".to_owned())
    );
    assert_eq!(upstream.service, None);
}

#[test]
fn what_is_not_captured_is_reached_in_plaintext() {
    let recorded = recorded();
    for (destination, reached) in [
        ("10.96.0.1:443", "10.10.0.1:6443"),
        ("10.96.0.15:443", "10.10.0.1:15017"),
        ("10.20.2.10:15021", "10.20.2.10:15021"),
        ("10.20.9.9:80", "10.20.9.9:80"),
    ] {
        match recorded.resolve(CLIENT, destination).unwrap() {
            Route::Tcp { destination, .. } => assert_eq!(destination, reached.parse().unwrap()),
            other => panic!("{destination}: {other:?}"),
        }
    }
}

#[test]
fn what_nobody_knows_is_left_alone() {
    let recorded = recorded();
    // The second is an address of a node: nobody's own.
    for destination in ["203.0.113.1:443", "10.10.0.1:6443"] {
        let expected = Route::Passthrough { destination: destination.parse().unwrap(), service: None };
        assert_eq!(recorded.resolve(CLIENT, destination), Ok(expected));
    }
}

#[test]
fn a_port_that_a_service_does_not_have_goes_nowhere() {
    let result = recorded().resolve(CLIENT, "10.96.226.134:81");
    assert!(matches!(result, Err(ResolveError::UnknownPort { port: 81, .. })), "{result:?}");
}

#[test]
fn a_waypoint_is_never_gone_around() {
    let recorded = recorded();
    for (destination, waypoint) in [
        ("10.96.127.141:80", "app/waypoint.app.svc.cluster.local:15008"),
        ("240.240.0.1:80", "app/waypoint.app.svc.cluster.local:15008"),
        ("[2001:2::1]:443", "app/waypoint.app.svc.cluster.local:15008"),
        ("10.96.57.76:9090", "agw/wp.agw.svc.cluster.local:15008"),
        ("10.20.3.20:8080", "agw/wp.agw.svc.cluster.local:15008"),
    ] {
        match recorded.resolve(CLIENT, destination) {
            Ok(Route::Waypoint { authority, upstream, .. }) => {
                assert_eq!(authority.to_string(), destination);
                assert_eq!(format!("{}:15008", upstream.service.unwrap().key()), waypoint);
            }
            other => panic!("{destination}: {other:?}"),
        }
    }
}

#[test]
fn policies_decide_as_they_were_written() {
    let recorded = recorded();
    let server = "Kubernetes//Pod/app/server-v1";
    let client = Some("spiffe://cluster.local/ns/app/sa/client");
    let stranger = Some("spiffe://cluster.local/ns/other/sa/echo");
    let allowed =
        |decision| matches!(decision, Decision::Allow { by: Some(key) } if key.to_string() == "app/l4-allow-client");
    assert!(allowed(recorded.decide(server, client, 8080)));
    assert!(allowed(recorded.decide(server, stranger, 9000)), "the second rule: its namespace, on this port");
    assert_eq!(
        recorded.decide(server, stranger, 8080).to_string(),
        "allow policies exist, but none allowed: app/l4-allow-client"
    );
    let plaintext = recorded.decide(server, None, 8080).to_string();
    assert_eq!(plaintext, "explicitly denied by: app/converted_peer_authentication_strict-server");
    assert_eq!(
        recorded.decide(server, None, 9000).to_string(),
        "allow policies exist, but none allowed: app/l4-allow-client",
        "the port is exempt from STRICT, but no rule allows a source without identity"
    );
    assert_eq!(recorded.decide("Kubernetes//Pod/other/echo", None, 8080), Decision::Allow { by: None });
}

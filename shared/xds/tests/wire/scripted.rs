//! The client against a server that follows a script.

use std::sync::atomic::Ordering;

use policy::{Connection, Decision};
use proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use tokio::sync::watch;
use tonic::Status;
use xds::client::Termination;

use crate::support::{Scripted, Wire, node, pod_resource, policy_resource, resource, response, soon, start_client};

fn token() -> watch::Receiver<&'static str> {
    watch::channel("secret").1
}

#[tokio::test]
async fn a_stream_carries_credentials_and_asks_for_everything_in_order() {
    let mut server = Scripted::start().await;
    let mut fed = start_client(server.address, token());
    let mut stream = server.stream().await;
    assert_eq!(stream.metadata.get("authorization").unwrap(), "Bearer secret");
    assert_eq!(stream.metadata.get("clusterid").unwrap(), "Kubernetes");
    for request in stream.opening().await {
        assert_eq!(request.node, Some(node()));
        assert!(request.resource_names_subscribe.is_empty() && request.resource_names_unsubscribe.is_empty());
        assert!(request.initial_resource_versions.is_empty());
    }
    let answer = stream.exchange(response(ADDRESS_TYPE, "1", vec![pod_resource("a", "v1", [10, 0, 0, 1])], &[])).await;
    assert_eq!(answer.error_detail, None);
    assert!(!*fed.ready.borrow());
    stream.exchange(response(AUTHORIZATION_TYPE, "2", vec![], &[])).await;
    fed.is_ready().await;
    assert_eq!(fed.uids(), ["a"]);
}

#[tokio::test]
async fn one_bad_resource_is_refused_by_name_and_the_good_ones_count() {
    let mut server = Scripted::start().await;
    let fed = start_client(server.address, token());
    let mut stream = server.stream().await;
    stream.opening().await;
    stream.exchange(response(ADDRESS_TYPE, "1", vec![pod_resource("gone", "v1", [10, 0, 0, 9])], &[])).await;
    let mut five_bytes = crate::support::pod("five", [10, 0, 0, 2]);
    five_bytes.addresses = vec![vec![1, 2, 3, 4, 5].into()];
    let mut unknown_enum = crate::support::pod("enum", [10, 0, 0, 3]);
    unknown_enum.tunnel_protocol = 77;
    let encode = |pod| prost::Message::encode_to_vec(&crate::support::address_of(pod));
    let resources = vec![
        pod_resource("a", "v1", [10, 0, 0, 1]),
        resource(ADDRESS_TYPE, "five", "v1", encode(five_bytes)),
        resource(ADDRESS_TYPE, "enum", "v1", encode(unknown_enum)),
        resource(ADDRESS_TYPE, "junk", "v1", vec![0xff; 9]),
        resource(ADDRESS_TYPE, "alias", "v1", encode(crate::support::pod("a", [10, 0, 0, 7]))),
        pod_resource("b", "v1", [10, 0, 0, 4]),
    ];
    let message =
        stream.exchange(response(ADDRESS_TYPE, "2", resources, &["gone"])).await.error_detail.unwrap().message;
    let parts: Vec<&str> = message.split("; ").collect();
    assert_eq!(parts[0], "five: workload.addresses[0]: an address has 4 or 16 bytes, not 5");
    assert_eq!(parts[1], "enum: workload.tunnel_protocol: 77 is not a known value");
    assert!(parts[2].starts_with("junk: failed to decode Protobuf message"), "{}", parts[2]);
    assert_eq!(parts[3..], ["alias: name: the resource calls itself \"a\""]);
    assert_eq!(fed.uids(), ["a", "b"], "good resources and removals count");
    assert!(!*fed.ready.borrow());
}

#[tokio::test]
async fn a_malformed_policy_leaves_its_last_good_version_in_force() {
    let mut server = Scripted::start().await;
    let fed = start_client(server.address, token());
    let mut stream = server.stream().await;
    stream.opening().await;
    let verdict = |identity: &str| {
        let connection = Connection {
            source_ip: "10.0.0.1".parse().unwrap(),
            identity: Some(identity.parse().unwrap()),
            destination: "10.0.0.2:80".parse().unwrap(),
        };
        fed.policies.borrow().evaluate("shop", &[], &connection).decision
    };
    let good = policy_resource("allow", Some("cluster.local/ns/shop/sa/front"));
    stream.exchange(response(AUTHORIZATION_TYPE, "1", vec![good], &[])).await;
    let answer = stream
        .exchange(response(
            AUTHORIZATION_TYPE,
            "2",
            vec![policy_resource("allow", None), policy_resource("new", None)],
            &[],
        ))
        .await;
    assert_eq!(
        answer.error_detail.unwrap().message,
        "shop/allow: rules[0].clauses[0].matches[0].principals[0].match_type: not set; \
         shop/new: rules[0].clauses[0].matches[0].principals[0].match_type: not set"
    );
    assert_eq!(fed.policies(), ["shop/allow"]);
    // The other is an ALLOW policy: it allows nobody yet, and takes nothing away.
    assert!(matches!(verdict("spiffe://cluster.local/ns/shop/sa/front"), Decision::Allow { by: Some(_) }));
    assert!(matches!(verdict("spiffe://cluster.local/ns/shop/sa/other"), Decision::Deny(_)));
    stream.exchange(response(AUTHORIZATION_TYPE, "3", vec![], &["shop/allow", "shop/new"])).await;
    assert_eq!(verdict("spiffe://cluster.local/ns/shop/sa/other"), Decision::Allow { by: None });
}

#[tokio::test]
async fn a_stream_that_is_cut_resumes_with_what_is_held() {
    let mut server = Scripted::start().await;
    let wire = Wire::to(server.address).await;
    let mut fed = start_client(wire.address, token());
    let mut stream = server.stream().await;
    stream.opening().await;
    let first = vec![pod_resource("a", "v1", [10, 0, 0, 1]), pod_resource("b", "v1", [10, 0, 0, 2])];
    stream.exchange(response(ADDRESS_TYPE, "1", first, &[])).await;
    let bad = resource(ADDRESS_TYPE, "b", "v2", vec![0xff]);
    stream.exchange(response(ADDRESS_TYPE, "2", vec![bad], &[])).await;
    stream.exchange(response(AUTHORIZATION_TYPE, "3", vec![policy_resource("p", Some("x"))], &[])).await;
    fed.is_ready().await;

    wire.cut();
    let mut stream = server.stream().await;
    let [addresses, policies] = stream.opening().await;
    let expected = [("a".to_owned(), "v1".to_owned()), ("b".to_owned(), "v1".to_owned())];
    assert_eq!(addresses.initial_resource_versions, expected.into(), "the refused version is not claimed");
    assert_eq!(policies.initial_resource_versions, [("shop/p".to_owned(), String::new())].into());
    assert_eq!(fed.uids(), ["a", "b"], "what is known stays while the control plane is away");
    stream.exchange(response(ADDRESS_TYPE, "1", vec![], &["b"])).await;
    assert_eq!(fed.uids(), ["a"]);
    assert!(*fed.ready.borrow());
}

#[tokio::test]
async fn a_response_that_is_cut_short_changes_nothing_and_is_asked_for_again() {
    let mut server = Scripted::start().await;
    let wire = Wire::to(server.address).await;
    wire.cut_after(20_000);
    let fed = start_client(wire.address, token());
    let mut stream = server.stream().await;
    stream.opening().await;
    let many =
        || (0..=99_u8).flat_map(|high| (0..=9_u8).map(move |low| (format!("pod-{high:02}-{low}"), [10, 0, high, low])));
    let resources: Vec<_> = many().map(|(uid, ip)| pod_resource(&uid, "v1", ip)).collect();
    stream.responses.send(Ok(response(ADDRESS_TYPE, "1", resources.clone(), &[]))).await.unwrap();

    wire.cut_after(u64::MAX);
    let mut stream = server.stream().await;
    let [addresses, _] = stream.opening().await;
    assert!(addresses.initial_resource_versions.is_empty());
    assert!(fed.uids().is_empty());
    stream.exchange(response(ADDRESS_TYPE, "1", resources, &[])).await;
    assert_eq!(fed.uids().len(), 1000);
}

#[tokio::test]
async fn endings_are_counted_by_their_kind() {
    let mut server = Scripted::start().await;
    let fed = start_client(server.address, token());
    let endings = [
        (None, Termination::Complete),
        (Some(Status::cancelled("going")), Termination::Reconnect),
        (Some(Status::unavailable("transport is closing")), Termination::Reconnect),
        (Some(Status::unavailable("overloaded")), Termination::Error),
        (Some(Status::permission_denied("no")), Termination::Error),
    ];
    for (status, expected) in endings {
        let mut stream = server.stream().await;
        stream.opening().await;
        stream.exchange(response(ADDRESS_TYPE, "1", vec![], &[])).await;
        let before = fed.counts.terminations.lock().unwrap().len();
        if let Some(status) = status {
            stream.responses.send(Err(status)).await.unwrap();
        }
        drop(stream);
        let counted = async {
            while fed.counts.terminations.lock().unwrap().len() == before {
                tokio::task::yield_now().await;
            }
        };
        soon("the count", counted).await;
        assert_eq!(fed.counts.terminations.lock().unwrap().last(), Some(&expected));
    }
    assert_eq!(fed.counts.responses.load(Ordering::SeqCst), 5);
}

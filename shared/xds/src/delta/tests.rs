//! The state machine, message by message.

use std::sync::Mutex;

use proptest::prelude::*;
use prost::Message;
use prost_types::Any;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};

use super::*;

const ADDRESS: &str = "type.googleapis.com/test.Address";
const POLICY: &str = "type.googleapis.com/test.Policy";

/// Holds what it is given, and refuses messages that say so.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Recorder {
    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }
}

impl Feed for Recorder {
    fn apply(&mut self, update: Update<'_>) -> Vec<Rejected> {
        let mut held = self.0.lock().unwrap();
        let mut rejected = Vec::new();
        for (name, encoded) in update.resources {
            let Some(encoded) = encoded else { continue };
            if encoded == b"bad" {
                rejected.push(Rejected { name: name.to_string(), reason: "field: is bad".to_owned() });
            } else {
                held.insert(name.to_string(), encoded.to_vec());
            }
        }
        for name in update.removed {
            held.remove(*name);
        }
        rejected
    }
}

fn node() -> Node {
    Node { id: "ztunnel~10.0.0.1~a.b~b.svc.cluster.local".to_owned(), ..Node::default() }
}

fn client() -> (Client, Recorder, Recorder) {
    let (addresses, policies) = (Recorder::default(), Recorder::default());
    let mut client = Client::new(node());
    client.subscribe(ADDRESS, Mode::Wildcard, addresses.clone());
    client.subscribe(POLICY, Mode::Wildcard, policies.clone());
    (client, addresses, policies)
}

fn resource(type_url: &str, name: &str, version: &str, value: &[u8]) -> Resource {
    Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: Some(Any { type_url: type_url.to_owned(), value: value.to_vec() }),
        ..Resource::default()
    }
}

fn response(
    type_url: &str,
    nonce: &str,
    resources: &[(&str, &str, &[u8])],
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        resources: resources.iter().map(|(name, version, value)| resource(type_url, name, version, value)).collect(),
        removed_resources: removed.iter().map(|&name| name.to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn receive(client: &mut Client, response: DeltaDiscoveryResponse) -> Received {
    client.receive(&response.encode_to_vec()).unwrap()
}

fn versions(request: &DeltaDiscoveryRequest) -> Vec<(&str, &str)> {
    let mut versions: Vec<_> =
        request.initial_resource_versions.iter().map(|(name, version)| (&**name, &**version)).collect();
    versions.sort_unstable();
    versions
}

#[test]
fn a_stream_begins_with_one_wildcard_request_per_type_in_order() {
    let (client, ..) = client();
    let requests = client.connect();
    assert_eq!(requests.iter().map(|request| &*request.type_url).collect::<Vec<_>>(), [ADDRESS, POLICY]);
    for request in requests {
        assert_eq!(
            request,
            DeltaDiscoveryRequest { node: Some(node()), type_url: request.type_url.clone(), ..Default::default() }
        );
    }
}

#[test]
fn on_demand_begins_with_a_subscription_to_nothing() {
    let mut client = Client::new(node());
    client.subscribe(ADDRESS, Mode::OnDemand, Recorder::default());
    let request = client.connect().remove(0);
    assert_eq!(
        (request.resource_names_subscribe, request.resource_names_unsubscribe),
        (vec!["*".to_owned()], vec!["*".to_owned()])
    );
    assert!(client.is_ready(), "what is on demand is never complete, so nothing waits for it");
}

#[test]
fn a_good_response_is_acknowledged_with_its_nonce() {
    let (mut client, addresses, _) = client();
    let received = receive(&mut client, response(ADDRESS, "n1", &[("a", "1", b"x")], &[]));
    let expected =
        DeltaDiscoveryRequest { type_url: ADDRESS.to_owned(), response_nonce: "n1".to_owned(), ..Default::default() };
    assert_eq!(received.answer, expected);
    assert_eq!(addresses.names(), ["a"]);
}

#[test]
fn one_bad_resource_is_refused_by_name_and_the_rest_is_applied() {
    let (mut client, addresses, _) = client();
    receive(&mut client, response(ADDRESS, "n1", &[("a", "1", b"x"), ("b", "1", b"x"), ("gone", "1", b"x")], &[]));
    let received = receive(
        &mut client,
        response(ADDRESS, "n2", &[("a", "2", b"bad"), ("c", "1", b"x"), ("d", "1", b"bad")], &["gone"]),
    );
    let status = received.answer.error_detail.unwrap();
    assert_eq!((status.code, &*status.message), (0, "a: field: is bad; d: field: is bad"));
    assert_eq!(received.answer.response_nonce, "n2");
    assert_eq!(addresses.names(), ["a", "b", "c"], "the last good version stays, the rest is applied");
}

#[test]
fn envelopes_that_are_empty_or_of_another_type_are_refused() {
    let (mut client, addresses, _) = client();
    let mut mixed = response(ADDRESS, "n1", &[("good", "1", b"x")], &[]);
    mixed.resources.push(Resource { name: "empty".to_owned(), ..Resource::default() });
    mixed.resources.push(resource(POLICY, "other", "1", b"x"));
    let status = receive(&mut client, mixed).answer.error_detail.unwrap();
    assert_eq!(
        status.message,
        format!("empty: resource: not set; other: resource: type {POLICY:?} in a response of {ADDRESS:?}")
    );
    assert_eq!(addresses.names(), ["good"]);
}

#[test]
fn unknown_types_are_acknowledged_and_change_nothing() {
    let (mut client, addresses, policies) = client();
    let received = receive(&mut client, response("type.googleapis.com/unknown", "n1", &[("a", "1", b"bad")], &["b"]));
    assert_eq!(received.answer.response_nonce, "n1");
    assert_eq!(received.answer.error_detail, None);
    assert!(addresses.names().is_empty() && policies.names().is_empty());
    assert!(!client.is_ready());
}

#[test]
fn ready_after_the_first_acknowledgement_of_every_type() {
    let (mut client, ..) = client();
    receive(&mut client, response(ADDRESS, "n1", &[("a", "1", b"x")], &[]));
    assert!(!client.is_ready());
    receive(&mut client, response(POLICY, "n2", &[("p", "", b"bad")], &[]));
    assert!(!client.is_ready(), "a refused response does not count");
    receive(&mut client, response(POLICY, "n3", &[], &[]));
    assert!(client.is_ready());
    receive(&mut client, response(POLICY, "n4", &[("p", "", b"bad")], &[]));
    assert!(client.is_ready(), "once is enough");
}

#[test]
fn a_new_stream_names_what_is_held() {
    let (mut client, ..) = client();
    receive(
        &mut client,
        response(
            ADDRESS,
            "n1",
            &[
                ("kept", "1", b"x"),
                ("updated", "1", b"x"),
                ("spoilt", "1", b"x"),
                ("gone", "1", b"x"),
                ("never", "1", b"bad"),
            ],
            &[],
        ),
    );
    receive(&mut client, response(ADDRESS, "n2", &[("updated", "2", b"y"), ("spoilt", "2", b"bad")], &["gone"]));
    receive(&mut client, response(POLICY, "n3", &[("p", "", b"x")], &[]));
    let requests = client.connect();
    assert_eq!(versions(&requests[0]), [("kept", "1"), ("spoilt", "1"), ("updated", "2")]);
    assert_eq!(versions(&requests[1]), [("p", "")]);
    assert_eq!(requests[0].node, Some(node()));
}

#[test]
fn endless_refusals_are_counted_instead_of_listed() {
    let (mut client, ..) = client();
    let names: Vec<String> = (0..250).map(|index| format!("r{index}")).collect();
    let resources: Vec<(&str, &str, &[u8])> = names.iter().map(|name| (&**name, "1", b"bad".as_slice())).collect();
    let message = receive(&mut client, response(ADDRESS, "n1", &resources, &[])).answer.error_detail.unwrap().message;
    assert!(message.ends_with("r99: field: is bad; and 150 more"), "{message}");
}

#[test]
fn a_wanted_name_is_asked_for_once_and_settled_by_name_alias_or_removal() {
    let mut client = Client::new(node());
    client.subscribe(ADDRESS, Mode::OnDemand, Recorder::default());
    for name in ["/10.0.0.1", "shop/cart", "unknown"] {
        assert_eq!(client.want(ADDRESS, name).unwrap().resource_names_subscribe, [name]);
        assert_eq!(client.want(ADDRESS, name), None);
    }
    assert_eq!(versions(&client.connect()[0]), [("/10.0.0.1", ""), ("shop/cart", ""), ("unknown", "")]);
    let mut answer = response(ADDRESS, "n1", &[("uid", "1", b"x"), ("shop/cart", "1", b"x")], &["unknown"]);
    answer.resources[0].aliases = vec!["/10.0.0.1".to_owned()];
    let mut settled = receive(&mut client, answer).settled;
    settled.sort();
    assert_eq!(settled, ["/10.0.0.1", "shop/cart", "unknown"]);
    assert_eq!(versions(&client.connect()[0]), [("shop/cart", "1"), ("uid", "1"), ("unknown", "")], "it may come yet");
    assert_eq!(client.want(POLICY, "x"), None);
}

#[test]
fn what_is_released_leaves_the_feed_unless_something_else_was_asked_for_that_led_to_it() {
    let addresses = Recorder::default();
    let mut client = Client::new(node());
    client.subscribe(ADDRESS, Mode::OnDemand, addresses.clone());
    for name in ["/10.0.0.1", "/10.0.0.2", "uid"] {
        client.want(ADDRESS, name).unwrap();
    }
    let mut answer = response(ADDRESS, "n1", &[("uid", "1", b"x"), ("other", "1", b"x")], &[]);
    answer.resources[0].aliases = vec!["/10.0.0.1".to_owned()];
    answer.resources[1].aliases = vec!["/10.0.0.2".to_owned()];
    receive(&mut client, answer);
    assert_eq!(addresses.names(), ["other", "uid"]);

    let released = |name: &str| [name.to_owned()];
    let request = client.release(ADDRESS, &released("/10.0.0.1")).unwrap();
    assert_eq!(request.resource_names_unsubscribe, ["/10.0.0.1"]);
    assert_eq!(addresses.names(), ["other", "uid"], "its uid was asked for as well");
    let request = client.release(ADDRESS, &released("/10.0.0.2")).unwrap();
    assert_eq!(request.resource_names_unsubscribe, ["/10.0.0.2", "other"]);
    assert_eq!(addresses.names(), ["uid"]);
    assert_eq!(versions(&client.connect()[0]), [("uid", "1")]);
    assert_eq!(client.release(ADDRESS, &released("/10.0.0.2")), None);
    assert!(client.want(ADDRESS, "/10.0.0.2").is_some(), "it may be asked for again");
}

#[test]
fn names_released_together_take_along_what_they_alone_led_to() {
    let addresses = Recorder::default();
    let mut client = Client::new(node());
    client.subscribe(ADDRESS, Mode::OnDemand, addresses.clone());
    for name in ["/10.0.0.1", "/10.0.0.2", "kept"] {
        client.want(ADDRESS, name).unwrap();
    }
    let mut answer = response(ADDRESS, "n1", &[("uid", "1", b"x"), ("kept", "1", b"x")], &[]);
    answer.resources[0].aliases = vec!["/10.0.0.1".to_owned(), "/10.0.0.2".to_owned()];
    receive(&mut client, answer);

    let both = ["/10.0.0.1", "/10.0.0.2", "never"].map(str::to_owned);
    let request = client.release(ADDRESS, &both).unwrap();
    assert_eq!(request.resource_names_unsubscribe, ["/10.0.0.1", "/10.0.0.2", "uid"]);
    assert_eq!(addresses.names(), ["kept"]);
}

fn any_response() -> impl Strategy<Value = DeltaDiscoveryResponse> {
    let name = || prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")];
    let value = prop_oneof![3 => Just(b"x".as_slice()), 1 => Just(b"bad".as_slice())];
    let resources = proptest::collection::vec((name(), "[1-3]", value), 0..5);
    let removed = proptest::collection::vec(name(), 0..3);
    let kind = prop_oneof![Just(ADDRESS), Just(POLICY), Just("other")];
    (kind, "[a-z]{8}", resources, removed).prop_map(|(kind, nonce, resources, removed)| {
        let resources: Vec<(&str, &str, &[u8])> =
            resources.iter().map(|(name, version, value)| (*name, &**version, *value)).collect();
        response(kind, &nonce, &resources, &removed)
    })
}

proptest! {
    #[test]
    fn every_response_is_answered_once_and_the_books_agree_with_the_feed(
        responses in proptest::collection::vec(any_response(), 0..20)
    ) {
        let (mut client, addresses, policies) = client();
        for response in responses {
            let (type_url, nonce) = (response.type_url.clone(), response.nonce.clone());
            let last: BTreeMap<_, _> =
                response.resources.iter().map(|resource| (&resource.name, resource.resource.as_ref().unwrap())).collect();
            let has_bad = type_url != "other" && last.values().any(|any| any.value == b"bad");
            let received = receive(&mut client, response);
            prop_assert_eq!(received.answer.type_url, type_url);
            prop_assert_eq!(received.answer.response_nonce, nonce);
            prop_assert_eq!(received.answer.error_detail.is_some(), has_bad);
            prop_assert_eq!(!received.rejected.is_empty(), has_bad);
        }
        // What the next stream claims to hold is what the feeds hold, or the server would not send it again.
        for (request, feed) in client.connect().iter().zip([addresses, policies]) {
            let claimed: Vec<String> = versions(request).into_iter().map(|(name, _)| name.to_owned()).collect();
            prop_assert_eq!(claimed, feed.names());
        }
    }
}

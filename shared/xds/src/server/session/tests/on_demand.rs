//! A client that asks for what it needs, by name or address, instead of everything.

use super::*;

/// A workload with an address, a service that it belongs to, and a node.
fn workload(content: &str, address: &str, node: &str) -> Entry {
    Entry { aliases: vec![address.to_owned(), "shop/cart".to_owned()], node: Some(node.into()), ..entry(content) }
}

fn mesh(version: u64, workloads: &[(&str, &str, &str, &str)]) -> Arc<Snapshot> {
    let workloads = workloads.iter().map(|&(uid, content, address, node)| (uid, workload(content, address, node)));
    let service = Entry { aliases: vec!["/10.96.0.1".to_owned()], ..entry("service") };
    let resources: Resources = workloads.chain([("shop/cart", service)]).collect();
    Arc::new(Snapshot { version, types: BTreeMap::from([(Arc::from(KIND), Arc::new(resources))]) })
}

const TWO: &[(&str, &str, &str, &str)] =
    &[("uid-1", "1", "/10.0.0.1", "node-1"), ("uid-2", "1", "/10.0.0.2", "node-2")];

fn session(snapshot: Arc<Snapshot>, node: Option<&str>) -> Session {
    let mut session = Session::new(snapshot, 1000);
    session.serve_node(node);
    session.receive(subscribe(&["*"], &["*"])).unwrap();
    session
}

fn removed(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.removed_resources.iter().map(String::as_str).collect()
}

#[test]
fn who_subscribes_to_nothing_hears_of_its_own_node_alone() {
    assert_eq!(session(mesh(1, TWO), None).push(), None);
    assert_eq!(session(mesh(1, TWO), Some("node-3")).push(), None);
    let mut session = session(mesh(1, TWO), Some("node-2"));
    let response = session.push().unwrap();
    assert_eq!((sent(&response), removed(&response)), (vec!["uid-2"], vec![]));
    session.receive(ack(&response)).unwrap();
    // What changes elsewhere is of no interest; what comes to the node, or leaves it, is.
    session.update(mesh(2, &[("uid-1", "2", "/10.0.0.1", "node-1"), TWO[1]]));
    assert_eq!((session.push(), session.told()), (None, 2));
    session.update(mesh(3, &[("uid-1", "3", "/10.0.0.1", "node-2")]));
    let response = session.push().unwrap();
    assert_eq!((sent(&response), removed(&response)), (vec!["uid-1"], vec!["uid-2"]));
    session.receive(ack(&response)).unwrap();
    session.update(mesh(4, &[("uid-1", "4", "/10.0.0.1", "node-1")]));
    let response = session.push().unwrap();
    assert_eq!((sent(&response), removed(&response)), (vec![], vec!["uid-1"]), "it would grow stale there");
}

#[test]
fn an_address_brings_what_has_it_and_a_service_its_endpoints() {
    let mut session = session(mesh(1, TWO), None);
    session.receive(subscribe(&["/10.0.0.2"], &[])).unwrap();
    let response = session.push().unwrap();
    assert_eq!((sent(&response), removed(&response)), (vec!["uid-2"], vec![]));
    assert_eq!(response.resources[0].aliases, ["/10.0.0.2", "shop/cart"]);
    session.receive(ack(&response)).unwrap();
    session.receive(subscribe(&["/10.96.0.1"], &[])).unwrap();
    let response = session.push().unwrap();
    assert_eq!(
        sent(&response),
        ["shop/cart"],
        "by its virtual address alone, the service is not followed by endpoints"
    );
    session.receive(ack(&response)).unwrap();
    session.receive(subscribe(&["shop/cart", "uid-2"], &[])).unwrap();
    assert_eq!(sent(&session.push().unwrap()), ["shop/cart", "uid-1", "uid-2"]);
}

#[test]
fn an_unknown_name_is_answered_and_remembered() {
    let mut session = session(mesh(1, TWO), None);
    session.receive(subscribe(&["/10.0.0.9", "shop/nobody"], &[])).unwrap();
    let response = session.push().unwrap();
    assert_eq!((sent(&response), removed(&response)), (vec![], vec!["/10.0.0.9", "shop/nobody"]));
    session.receive(ack(&response)).unwrap();
    session.update(mesh(2, &[("uid-9", "1", "/10.0.0.9", "node-1")]));
    let response = session.push().unwrap();
    assert_eq!((sent(&response), removed(&response)), (vec!["uid-9"], vec![]));
    session.receive(ack(&response)).unwrap();
    session.receive(subscribe(&[], &["/10.0.0.9"])).unwrap();
    session.update(mesh(3, &[("uid-9", "2", "/10.0.0.9", "node-1")]));
    assert_eq!(session.push(), None, "nobody asks for it any more");
}

#[test]
fn after_a_reconnect_what_is_held_is_followed_and_what_was_asked_is_answered() {
    let mut session = Session::new(mesh(5, TWO), 1000);
    session.serve_node(Some("node-1"));
    let versions = [("uid-1", "v-1"), ("uid-2", "v-0"), ("uid-3", "v-1"), ("/10.0.0.2", ""), ("/10.0.0.9", "")];
    let request = DeltaDiscoveryRequest {
        initial_resource_versions: first_with(&versions).initial_resource_versions,
        ..subscribe(&["*"], &["*"])
    };
    session.receive(request).unwrap();
    let response = session.push().unwrap();
    assert_eq!((sent(&response), removed(&response)), (vec!["uid-2"], vec!["/10.0.0.9", "uid-3"]));
    session.receive(ack(&response)).unwrap();
    session.update(mesh(6, &[("uid-1", "2", "/10.0.0.1", "node-9"), ("uid-2", "2", "/10.0.0.2", "node-9")]));
    assert_eq!(sent(&session.push().unwrap()), ["uid-1", "uid-2"]);
}

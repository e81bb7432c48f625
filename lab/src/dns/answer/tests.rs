//! Answers over a small cluster, as a resolver would see them.

use hickory_proto::op::Query;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::*;

fn zone() -> Zone {
    let services: Vec<Service> = serde_json::from_value(json!([
        {"metadata": {"name": "cart", "namespace": "shop"},
         "spec": {"clusterIP": "10.96.3.4", "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}},
        {"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}},
        {"metadata": {"name": "mail", "namespace": "shop"}, "spec": {"type": "ExternalName", "externalName": "mail.example.com"}},
        {"metadata": {"name": "many", "namespace": "shop"}, "spec": {"clusterIP": "None"}},
        {"metadata": {"name": "both", "namespace": "shop"}, "spec": {"clusterIPs": ["10.96.3.5", "fd00:a:2::305"]}},
    ]))
    .unwrap();
    let many: Vec<_> =
        (1..=200).map(|n| json!({"addresses": [format!("10.244.1.{n}")], "conditions": {"ready": true}})).collect();
    let slices: Vec<EndpointSlice> = serde_json::from_value(json!([
        {"metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
         "addressType": "IPv4", "ports": [],
         "endpoints": [
            {"addresses": ["10.244.1.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.244.2.6"], "conditions": {"ready": false}},
         ]},
        {"metadata": {"name": "db-2", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
         "addressType": "IPv6", "ports": [], "endpoints": [{"addresses": ["fd00:a:1:1::5"], "hostname": "db-0"}]},
        {"metadata": {"name": "cart-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
         "addressType": "IPv4", "ports": [], "endpoints": [{"addresses": ["10.244.9.9"]}]},
        {"metadata": {"name": "many-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "many"}},
         "addressType": "IPv4", "ports": [], "endpoints": many},
    ]))
    .unwrap();
    Zone::new(&services, &slices)
}

fn domain() -> Name {
    Name::from_ascii("cluster.local.").unwrap()
}

fn ask_over(transport: Transport, name: &str, kind: RecordType) -> Message {
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let bytes = answer(&zone(), &domain(), &query.to_vec().unwrap(), transport).unwrap();
    Message::from_vec(&bytes).unwrap()
}

/// The response code and the answers' data as text.
fn ask(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let response = ask_over(Transport::Udp, name, kind);
    assert_eq!(response.metadata.id, 7);
    (response.metadata.response_code, response.answers.iter().map(|record| record.data.to_string()).collect())
}

fn found(data: &[&str]) -> (ResponseCode, Vec<String>) {
    (ResponseCode::NoError, data.iter().map(|&text| text.to_owned()).collect())
}

const NOT_THERE: (ResponseCode, Vec<String>) = (ResponseCode::NXDomain, Vec::new());

#[test]
fn a_service_has_its_cluster_address_in_any_case_of_letters() {
    assert_eq!(ask("cart.shop.svc.cluster.local.", RecordType::A), found(&["10.96.3.4"]));
    assert_eq!(ask("CART.shop.SVC.Cluster.local.", RecordType::A), found(&["10.96.3.4"]));
}

#[test]
fn a_headless_service_has_its_ready_endpoints() {
    assert_eq!(ask("db.shop.svc.cluster.local.", RecordType::A), found(&["10.244.1.5"]));
    assert_eq!(ask("db-0.db.shop.svc.cluster.local.", RecordType::A), found(&["10.244.1.5"]));
}

#[test]
fn each_family_has_its_own_records() {
    assert_eq!(ask("both.shop.svc.cluster.local.", RecordType::A), found(&["10.96.3.5"]));
    assert_eq!(ask("both.shop.svc.cluster.local.", RecordType::AAAA), found(&["fd00:a:2::305"]));
    assert_eq!(ask("db.shop.svc.cluster.local.", RecordType::AAAA), found(&["fd00:a:1:1::5"]));
    assert_eq!(ask("db-0.db.shop.svc.cluster.local.", RecordType::AAAA), found(&["fd00:a:1:1::5"]));
    assert_eq!(ask("fd00-a-1-1--2.shop.pod.cluster.local.", RecordType::AAAA), found(&["fd00:a:1:1::2"]));
    assert_eq!(ask("fd00-a-1-1--2.shop.pod.cluster.local.", RecordType::A), found(&[]));
}

#[test]
fn names_that_exist_without_such_a_record_have_no_data() {
    for (name, kind) in [
        ("cart.shop.svc.cluster.local.", RecordType::AAAA),
        ("cart.shop.svc.cluster.local.", RecordType::TXT),
        ("shop.svc.cluster.local.", RecordType::A),
        ("svc.cluster.local.", RecordType::A),
        ("cluster.local.", RecordType::A),
        ("_tcp.cart.shop.svc.cluster.local.", RecordType::A),
    ] {
        let response = ask_over(Transport::Udp, name, kind);
        assert_eq!((response.metadata.response_code, response.answers.len()), (ResponseCode::NoError, 0), "{name}");
        assert_eq!(response.authorities.first().map(Record::record_type), Some(RecordType::SOA), "{name}");
    }
}

#[test]
fn names_that_do_not_exist_say_so() {
    for name in [
        "cart.other.svc.cluster.local.",
        "other.svc.cluster.local.",
        "cart.shop.cluster.local.",
        "x.cart.shop.svc.cluster.local.",
        "_http._udp.cart.shop.svc.cluster.local.",
        "a.b.c.cart.shop.svc.cluster.local.",
        "example.com.shop.svc.cluster.local.",
        "1-2-3.shop.pod.cluster.local.",
    ] {
        assert_eq!(ask(name, RecordType::A), NOT_THERE, "{name}");
    }
}

#[test]
fn a_named_port_has_a_service_record() {
    let (code, records) = ask("_http._tcp.cart.shop.svc.cluster.local.", RecordType::SRV);
    assert_eq!(code, ResponseCode::NoError);
    assert_eq!(records, ["0 100 80 cart.shop.svc.cluster.local."]);
}

#[test]
fn a_pods_name_is_its_address() {
    assert_eq!(ask("10-244-1-5.shop.pod.cluster.local.", RecordType::A), found(&["10.244.1.5"]));
}

#[test]
fn an_external_name_is_an_alias() {
    assert_eq!(ask("mail.shop.svc.cluster.local.", RecordType::A), found(&["mail.example.com."]));
}

#[test]
fn other_domains_are_refused() {
    for name in ["example.com.", "local.", "notcluster.local."] {
        assert_eq!(ask(name, RecordType::A).0, ResponseCode::Refused, "{name}");
    }
}

#[test]
fn a_long_answer_is_truncated_over_udp_and_whole_over_tcp() {
    let name = "many.shop.svc.cluster.local.";
    let short = ask_over(Transport::Udp, name, RecordType::A);
    assert!(short.metadata.truncation && short.answers.is_empty());
    let whole = ask_over(Transport::Tcp, name, RecordType::A);
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 200));
}

#[test]
fn what_is_no_query_gets_an_error_or_nothing() {
    let ask = |bytes: &[u8]| answer(&zone(), &domain(), bytes, Transport::Udp);
    assert_eq!(ask(b""), None);
    assert_eq!(ask(&[0; 2]), None);
    let refused = Message::from_vec(&ask(&[0, 9, 1, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0xff]).unwrap()).unwrap();
    assert_eq!((refused.metadata.id, refused.metadata.response_code), (9, ResponseCode::FormErr));
    let response = ask_over(Transport::Udp, "cart.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(ask(&response.to_vec().unwrap()), None, "an answer is not answered");
    let empty = Message::new(3, MessageType::Query, OpCode::Query).to_vec().unwrap();
    let refused = Message::from_vec(&ask(&empty).unwrap()).unwrap();
    assert_eq!(refused.metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn changed_bytes_never_panic() {
    let (zone, domain) = (zone(), domain());
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii("cart.shop.svc.cluster.local.").unwrap(), RecordType::A));
    let whole = query.to_vec().unwrap();
    for position in 0..whole.len() {
        for value in 0..=255 {
            let mut bytes = whole.clone();
            bytes[position] = value;
            let _ = answer(&zone, &domain, &bytes, Transport::Udp);
            let _ = answer(&zone, &domain, &bytes[..position], Transport::Udp);
        }
    }
}

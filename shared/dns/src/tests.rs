//! The whole way from the bytes of a query to the bytes of an answer.

mod forwarding;
mod properties;
mod world;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, RecordType};

use crate::query::{Query, Transport, Unusable};
use crate::tests::world::{World, ask, encode, name};

/// The answer as `owner type data` lines, sorted; `None` when it is forwarded.
fn lines(world: &World, host: &str, kind: RecordType) -> Option<Vec<String>> {
    world.answer(&ask(host, kind), Transport::Udp).map(|answer| answer.lines())
}

fn is_forwarded(world: &World, host: &str) -> bool {
    lines(world, host, RecordType::A).is_none()
}

#[test]
fn every_way_to_write_a_service_leads_to_its_address() {
    let world = World::new();
    for host in [
        "cart",
        "cart.shop",
        "cart.shop.svc",
        "cart.shop.svc.cluster.local",
        "CART.Shop.svc.CLUSTER.local",
        "bank.bank",
    ] {
        let ip = if host.starts_with("bank") { "10.96.1.2" } else { "10.96.1.1" };
        let expected = vec![format!("{host}. A {ip}")];
        assert_eq!(lines(&world, host, RecordType::A), Some(expected), "{host}");
    }
    assert_eq!(lines(&world, "cart", RecordType::AAAA), Some(vec!["cart. AAAA fd00:96::1".to_owned()]));
}

#[test]
fn a_short_name_means_the_clients_own_namespace() {
    let world = World::new();
    assert!(is_forwarded(&world, "bank"));
    assert!(is_forwarded(&world, "nobody.shop.svc.cluster.local"));
}

#[test]
fn answers_are_authoritative_and_live_thirty_seconds() {
    let world = World::new();
    let response = world.answer(&ask("cart", RecordType::A), Transport::Udp).unwrap().message;
    let metadata = &response.metadata;
    assert!(metadata.authoritative && metadata.recursion_available && metadata.recursion_desired);
    assert_eq!((metadata.id, metadata.response_code), (7, ResponseCode::NoError));
    assert!(response.answers.iter().all(|record| record.ttl == 30), "{:?}", response.answers);
    assert!(response.edns.is_none());
}

#[test]
fn only_addresses_are_answered() {
    let world = World::new();
    for kind in [RecordType::TXT, RecordType::SRV, RecordType::PTR, RecordType::MX, RecordType::HTTPS, RecordType::ANY]
    {
        assert_eq!(lines(&world, "cart.shop.svc.cluster.local", kind), None, "{kind}");
        assert_eq!(lines(&world, "headless.shop.svc.cluster.local", kind), None, "{kind}");
    }
}

#[test]
fn a_headless_service_has_the_first_address_of_each_healthy_endpoint() {
    let world = World::new();
    let host = "headless.shop.svc.cluster.local";
    let expected = ["10.244.1.5", "10.244.2.6"].map(|ip| format!("{host}. A {ip}"));
    assert_eq!(lines(&world, host, RecordType::A), Some(expected.to_vec()));
    assert_eq!(lines(&world, host, RecordType::AAAA), Some(vec![format!("{host}. AAAA fd00:244::5")]));
    let host = "early.shop.svc.cluster.local";
    assert_eq!(lines(&world, host, RecordType::A).unwrap().len(), 1, "publishNotReadyAddresses");
}

#[test]
fn a_known_service_without_such_addresses_exists_all_the_same() {
    let world = World::new();
    for (host, kind) in [
        ("empty.shop.svc.cluster.local", RecordType::A),
        ("four.shop.svc.cluster.local", RecordType::AAAA),
        ("bank.bank", RecordType::AAAA),
        ("remote.shop.svc.cluster.local", RecordType::A),
    ] {
        let response = world.answer(&ask(host, kind), Transport::Udp).unwrap().message;
        assert_eq!(response.metadata.response_code, ResponseCode::NoError, "{host}");
        assert!(response.answers.is_empty() && response.metadata.authoritative, "{host}");
    }
}

#[test]
fn without_ipv6_no_ipv6_address_is_given_out() {
    let mut world = World::new();
    world.settings.ipv6 = false;
    assert_eq!(lines(&world, "cart", RecordType::AAAA), Some(vec![]));
    assert_eq!(lines(&world, "cart", RecordType::A).unwrap().len(), 1);
}

#[test]
fn a_name_with_a_search_domain_is_an_alias_of_the_name_without() {
    let world = World::new();
    let asked = "api.example.com.shop.svc.cluster.local";
    let response = world.answer(&ask(asked, RecordType::A), Transport::Udp).unwrap().message;
    let [alias, address] = response.answers.as_slice() else { panic!("{:?}", response.answers) };
    assert_eq!(alias.name, name(asked));
    assert!(matches!(&alias.data, RData::CNAME(target) if target.0 == name("api.example.com")), "{alias:?}");
    assert_eq!((&address.name, address.ttl), (&name("api.example.com"), 30));
    assert_eq!(lines(&world, "api.example.com.svc.cluster.local", RecordType::A).unwrap().len(), 2);
    assert_eq!(lines(&world, "api.example.com.cluster.local", RecordType::A).unwrap().len(), 2);
    assert!(is_forwarded(&world, "api.example.com.bank.svc.cluster.local"));
}

#[test]
fn a_wildcard_covers_what_is_below_it_under_the_asked_name() {
    let world = World::new();
    for host in ["www.wild.test", "a.b.wild.test", "www.wild.test.shop.svc.cluster.local"] {
        assert_eq!(lines(&world, host, RecordType::A), Some(vec![format!("{host}. A 240.240.0.9")]), "{host}");
    }
    assert!(is_forwarded(&world, "wild.test"));
    assert_eq!(
        lines(&world, "exact.wild.test", RecordType::A),
        Some(vec!["exact.wild.test. A 240.240.0.10".to_owned()])
    );
}

#[test]
fn outside_names_without_an_address_of_their_own_are_forwarded() {
    let world = World::new();
    assert!(is_forwarded(&world, "novip.example.com"));
    assert!(is_forwarded(&world, "range.example.com"));
}

#[test]
fn endpoints_that_an_entry_lists_are_nobodys_answer() {
    let world = World::new();
    assert_eq!(lines(&world, "api.example.com", RecordType::A).unwrap(), ["api.example.com. A 240.240.0.1"]);
    assert!(is_forwarded(&world, "novip.example.com"), "it has an endpoint, and is not headless for that");
}

#[test]
fn a_wildcard_has_addresses_of_both_families_and_is_forwarded_without_any() {
    let world = World::new();
    let host = "www.wild.test";
    assert_eq!(lines(&world, host, RecordType::AAAA), Some(vec![format!("{host}. AAAA 2001:2::9")]));
    assert_eq!(lines(&world, "*.wild.test", RecordType::A).unwrap(), ["*.wild.test. A 240.240.0.9"]);
    assert_eq!(lines(&world, host, RecordType::MX), None);
    assert!(is_forwarded(&world, "www.novip.test"));
}

#[test]
fn services_of_other_namespaces_that_are_not_visible_are_forwarded() {
    assert!(is_forwarded(&World::new(), "secret.bank.svc.cluster.local"));
}

#[test]
fn the_own_namespace_wins_then_canonical_then_preferred() {
    let mut world = World::new();
    assert_eq!(lines(&world, "both.example.com", RecordType::A).unwrap(), ["both.example.com. A 10.1.0.1"]);
    assert_eq!(lines(&world, "canonical.example.com", RecordType::A).unwrap(), ["canonical.example.com. A 10.2.0.2"]);
    world.settings.preferred_namespace = Some("zoo".to_owned());
    assert_eq!(lines(&world, "plain.example.com", RecordType::A).unwrap(), ["plain.example.com. A 10.3.0.2"]);
}

#[test]
fn edns_is_echoed() {
    let world = World::new();
    for (asked, echoed) in [(1232, 1232), (100, 512), (4096, 4096)] {
        let mut query = ask("cart", RecordType::A);
        let mut edns = Edns::new();
        edns.set_max_payload(asked).set_dnssec_ok(true);
        query.set_edns(edns);
        let edns = world.answer(&query, Transport::Udp).unwrap().message.edns.unwrap();
        assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (echoed, 0, true));
    }
}

#[test]
fn what_does_not_fit_a_datagram_is_cut_and_marked_and_whole_in_a_stream() {
    let world = World::new();
    let query = ask("crowd.shop.svc.cluster.local", RecordType::A);
    let cut = world.answer(&query, Transport::Udp).unwrap();
    assert!(cut.message.metadata.truncation && cut.bytes.len() <= 512, "{}", cut.bytes.len());
    let count = cut.message.answers.len();
    assert!((20..200).contains(&count), "{count}");
    assert_eq!(cut.endpoints, 200);
    let whole = world.answer(&query, Transport::Tcp).unwrap().message;
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (200, false));
}

#[test]
fn what_is_no_query_is_refused_or_ignored() {
    let code = |bytes: &[u8]| match Query::parse(bytes, Transport::Udp) {
        Err(Unusable::Refuse(bytes)) => Some(Message::from_vec(&bytes).unwrap().metadata.response_code),
        Err(Unusable::Ignore) => None,
        Ok(query) => panic!("{query:?}"),
    };
    let mut update = ask("cart", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&encode(&update)), Some(ResponseCode::NotImp));
    let mut response = ask("cart", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert_eq!(code(&encode(&response)), Some(ResponseCode::FormErr));
    response.metadata.response_code = ResponseCode::FormErr;
    assert_eq!(code(&encode(&response)), None, "two proxies would answer each other for ever");
    let mut two = ask("cart", RecordType::A);
    two.queries.push(two.queries[0].clone());
    assert_eq!(code(&encode(&two)), Some(ResponseCode::FormErr));
    assert_eq!(code(&[0, 7, 1, 0, 0, 1]), Some(ResponseCode::FormErr));
    assert_eq!(code(&[0, 7, 0x81]), None);
    assert_eq!(code(&[0]), None);
}

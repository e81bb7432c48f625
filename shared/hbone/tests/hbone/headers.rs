//! Headers: what is formatted parses back, and nothing that a peer sends does harm.

use std::net::{IpAddr, SocketAddr};

use hbone::{Baggage, Forwarded, TraceParent};
use proptest::prelude::*;

/// What may stand in a member as it is.
fn value() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-z0-9!#-+\\--:<-\\[\\]-~]{0,40}").unwrap()
}

prop_compose! {
    fn baggage()(
        values in proptest::collection::vec(value(), 7),
        kind in prop_oneof!["deployment", "cronjob", "pod", "job"],
    ) -> Baggage {
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap_or_default();
        let baggage = Baggage {
            cluster: next(),
            namespace: next(),
            workload_kind: kind,
            workload_name: next(),
            service_name: next(),
            service_version: next(),
            region: next(),
            zone: next(),
        };
        // Without a name there is no member to carry the kind.
        let kind = if baggage.workload_name.is_empty() { Baggage::default().workload_kind } else { baggage.workload_kind };
        Baggage { workload_kind: kind, ..baggage }
    }
}

proptest! {
    #[test]
    fn baggage_survives_a_round_trip(baggage in baggage()) {
        prop_assert_eq!(Baggage::parse(&baggage.to_string()), baggage);
    }

    #[test]
    fn any_text_is_baggage_of_some_kind(text in ".{0,200}") {
        let parsed = Baggage::parse(&text);
        // What was understood can be said again.
        prop_assert_eq!(Baggage::parse(&parsed.to_string()), parsed);
    }

    #[test]
    fn values_that_need_escaping_are_left_out(cluster in "[a-z]{0,3}[ ,;\"\\\\\u{e9}\n][a-z]{0,3}") {
        let baggage = Baggage { cluster, namespace: "shop".into(), ..Baggage::default() };
        prop_assert_eq!(baggage.to_string(), "k8s.namespace.name=shop");
    }

    #[test]
    fn forwarded_survives_a_round_trip(
        ip in any::<Option<IpAddr>>(),
        port in any::<u16>(),
        host in proptest::option::of("[a-z0-9][a-z0-9.-]{0,60}"),
    ) {
        let client = ip.map(|ip| SocketAddr::new(ip, port));
        let forwarded = Forwarded { client, host: host.map(Into::into) };
        prop_assert_eq!(Forwarded::parse(&forwarded.to_string()), forwarded);
    }

    #[test]
    fn any_text_is_forwarded_of_some_kind(text in ".{0,200}") {
        let parsed = Forwarded::parse(&text);
        prop_assert_eq!(Forwarded::parse(&parsed.to_string()), parsed);
    }

    #[test]
    fn traceparent_survives_a_round_trip(trace in 1_u128.., parent in 1_u64.., flags: u8) {
        let traceparent = TraceParent { trace, parent, flags };
        let text = traceparent.to_string();
        prop_assert_eq!(text.len(), 55);
        prop_assert_eq!(TraceParent::parse(&text), Some(traceparent));
    }

    #[test]
    fn no_other_text_is_a_traceparent(text in "[0-9a-f-]{55}|.{0,60}") {
        if let Some(parsed) = TraceParent::parse(&text) {
            prop_assert_eq!(&parsed.to_string()[2..], &text[2..]);
        }
    }
}

#[test]
fn baggage_of_any_workload_kind_names_the_workload() {
    for kind in ["deployment", "cronjob", "pod", "job"] {
        let baggage = Baggage::parse(&format!("k8s.{kind}.name=cart"));
        assert_eq!((baggage.workload_kind.as_str(), baggage.workload_name.as_str()), (kind, "cart"));
    }
    assert!(Baggage::parse("k8s.replicaset.name=cart").is_empty());
}

#[test]
fn baggage_is_written_as_the_reference_does() {
    let baggage = Baggage {
        cluster: "Kubernetes".into(),
        namespace: "shop".into(),
        workload_kind: "deployment".into(),
        workload_name: "cart".into(),
        service_name: "cart".into(),
        service_version: "v1".into(),
        region: "r".into(),
        zone: "z".into(),
    };
    let text = "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,\
                service.version=v1,cloud.region=r,cloud.availability_zone=z";
    assert_eq!(baggage.to_string(), text);
}

#[test]
fn overlong_headers_are_not_read() {
    let long = format!("k8s.namespace.name=shop,{}", "x=y,".repeat(4096));
    assert!(Baggage::parse(&long).is_empty());
    let value = "v".repeat(300);
    assert!(Baggage::parse(&format!("cloud.region={value}")).is_empty());
    assert_eq!(Forwarded::parse(&format!("host=a;{}", "x".repeat(5000))), Forwarded::default());
}

#[test]
fn baggage_with_spaces_and_properties_is_understood() {
    let baggage = Baggage::parse("cloud.region = r ; ttl=1 , cloud.availability_zone=z");
    assert_eq!((baggage.region.as_str(), baggage.zone.as_str()), ("r", "z"));
}

#[test]
fn forwarded_is_read_as_rfc_7239_writes_it() {
    let forwarded = Forwarded::parse("For=\"[2001:db8::1]:4711\";Host=\"cart.shop\";proto=http, for=10.0.0.1:1");
    assert_eq!(forwarded.client, "[2001:db8::1]:4711".parse().ok());
    assert_eq!(forwarded.host.unwrap().as_str(), "cart.shop");
    assert_eq!(Forwarded::parse("for=10.0.0.1:80").client, "10.0.0.1:80".parse().ok());
    assert_eq!(Forwarded::parse("host=c\u{e4}rt"), Forwarded::default());
}

//! What is refused, and how that is said.

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, HashPolicy};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    HedgePolicy, RateLimit, RetryPolicy, RouteAction, RouteMatch, WeightedCluster, retry_policy::RetryHostPredicate,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher;
use envoy_types::pb::google::protobuf::{Any, Duration, UInt32Value};

use super::*;

/// A configuration with one route, which sends everything to a cluster.
fn plain() -> RouteConfiguration {
    let forward =
        RouteAction { cluster_specifier: Some(ClusterSpecifier::Cluster("a".to_owned())), ..RouteAction::default() };
    let matches = RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() };
    let route = WireRoute { r#match: Some(matches), action: Some(WireAction::Route(forward)), ..WireRoute::default() };
    let host =
        WireHost { name: "all".to_owned(), domains: vec!["*".to_owned()], routes: vec![route], ..WireHost::default() };
    RouteConfiguration { virtual_hosts: vec![host], ..RouteConfiguration::default() }
}

/// Why the configuration with this change is refused.
fn refused(change: impl FnOnce(&mut RouteConfiguration)) -> String {
    let mut configuration = plain();
    change(&mut configuration);
    route_table(&configuration).unwrap_err().to_string()
}

/// The same with a change of the route.
fn route_refused(change: impl FnOnce(&mut WireRoute)) -> String {
    let said = refused(|configuration| change(&mut configuration.virtual_hosts[0].routes[0]));
    said.strip_prefix("route_config.virtual_hosts[0].routes[0].").unwrap().to_owned()
}

/// The same with a change of where the route sends requests.
fn forward_refused(change: impl FnOnce(&mut RouteAction)) -> String {
    let said = route_refused(|route| match &mut route.action {
        Some(WireAction::Route(forward)) => change(forward),
        other => panic!("{other:?}"),
    });
    said.strip_prefix("route.").unwrap().to_owned()
}

#[test]
fn a_plain_configuration_is_taken() {
    assert!(route_table(&plain()).is_ok());
}

#[test]
fn what_nobody_would_do_is_refused_where_it_stands() {
    assert_eq!(
        refused(|configuration| configuration.vhost_header = "x".to_owned()),
        "route_config.vhost_header: is not supported"
    );
    assert_eq!(
        refused(|configuration| configuration.virtual_hosts[0].rate_limits.push(RateLimit::default())),
        "route_config.virtual_hosts[0].rate_limits: is not supported"
    );
    assert_eq!(
        forward_refused(|forward| forward.hedge_policy = Some(HedgePolicy::default())),
        "hedge_policy: is not supported"
    );
    let unknown = "typed_per_filter_config[\"envoy.filters.http.lua\"]: is not supported";
    assert_eq!(
        route_refused(
            |route| _ = route.typed_per_filter_config.insert("envoy.filters.http.lua".to_owned(), Any::default())
        ),
        unknown
    );
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(route_refused(|route| route.r#match = None), "match: is missing");
    assert_eq!(route_refused(|route| route.action = None), "action: is missing");
    assert_eq!(forward_refused(|forward| forward.cluster_specifier = None), "cluster_specifier: is missing");
    assert_eq!(
        forward_refused(|forward| forward.hash_policy.push(HashPolicy::default())),
        "hash_policy[0].policy_specifier: is missing"
    );
}

#[test]
fn what_makes_no_sense_is_told_with_what_was_found() {
    let specifier = |specifier: PathSpecifier| {
        route_refused(|route| route.r#match.as_mut().unwrap().path_specifier = Some(specifier))
    };
    let bad = RegexMatcher { regex: "(a".to_owned(), ..RegexMatcher::default() };
    let said = specifier(PathSpecifier::SafeRegex(bad));
    assert!(said.starts_with("match.safe_regex.regex: \"(a\" is not a regular expression: "), "{said}");
    assert_eq!(
        specifier(PathSpecifier::PathSeparatedPrefix("/a/".to_owned())),
        "match.path_separated_prefix: found \"/a/\", expected /, then a path that does not end with /"
    );
    let negative = Duration { seconds: -1, nanos: 0 };
    let said = forward_refused(|forward| forward.timeout = Some(negative));
    assert!(said.starts_with("timeout: found ") && said.ends_with(", expected a time of zero or more"), "{said}");
    let weightless = ClusterWeight { weight: Some(UInt32Value { value: 0 }), ..ClusterWeight::default() };
    let clusters = WeightedCluster { clusters: vec![weightless], ..WeightedCluster::default() };
    assert_eq!(
        forward_refused(|forward| forward.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(clusters))),
        "weighted_clusters.clusters: the weights of clusters add up to 0"
    );
    let host = HeaderValue { key: "Host".to_owned(), value: "x".to_owned(), ..HeaderValue::default() };
    let addition = HeaderValueOption { header: Some(host), ..HeaderValueOption::default() };
    assert_eq!(
        route_refused(|route| route.request_headers_to_add.push(addition)),
        "request_headers_to_add[0].header.key: header \"Host\" cannot be changed"
    );
    let predicate = RetryHostPredicate { name: "omit_canary".to_owned(), ..RetryHostPredicate::default() };
    let retry = RetryPolicy { retry_host_predicate: vec![predicate], ..RetryPolicy::default() };
    assert_eq!(
        forward_refused(|forward| forward.retry_policy = Some(retry)),
        "retry_policy.retry_host_predicate[0].name: found \"omit_canary\", expected \
         envoy.retry_host_predicates.previous_hosts"
    );
}

#[test]
fn the_same_domain_twice_is_refused() {
    assert_eq!(
        refused(|configuration| configuration.virtual_hosts.push(configuration.virtual_hosts[0].clone())),
        "route_config.virtual_hosts: domain \"*\" is given twice"
    );
}

//! What becomes of requests.

use http::HeaderValue;
use proptest::prelude::*;

use super::super::example::{Asked, Nothing, host, route, table, to};
use super::super::{
    ClusterChoice, HostRewrite, Options, PathMatch, PathRewrite, Redirect, RedirectStatus, WeightedClusters,
};
use super::*;
use crate::{AppendAction, Changes, Format, HeaderAddition, HeaderChanges};

/// The cluster or the location or the status that a request gets.
fn outcome(table: &RouteTable, authority: &str, path: &str) -> String {
    match table.decide(&Asked::new(authority, path).request(), 0) {
        Decision::Forward(choice) => choice.cluster.into_owned(),
        Decision::Redirect { location, .. } => location,
        Decision::Respond { status, .. } => status.as_str().to_owned(),
        Decision::NoRoute => "none".to_owned(),
    }
}

fn choice(table: &RouteTable, random: u64) -> Choice<'_> {
    match table.decide(&Asked::new("a", "/").request(), random) {
        Decision::Forward(choice) => choice,
        other => panic!("{other:?}"),
    }
}

/// Both sides get a header `by` with this value.
fn by(value: &str) -> Changes {
    let add = || {
        let format = Format::parse(value).unwrap();
        HeaderAddition::new("by", format, AppendAction::OverwriteIfExistsOrAdd, false).unwrap()
    };
    let changes = |addition| HeaderChanges::new(vec![addition], ["gone"]).unwrap();
    Changes { request: changes(add()), response: changes(add()) }
}

/// A table where everything has changes of its own, and two clusters share the requests.
fn changing_table() -> RouteTable {
    let cluster = |name: &str, host_rewrite: Option<&str>| WeightedCluster {
        name: name.into(),
        weight: 1,
        changes: by("cluster"),
        host_rewrite: host_rewrite.map(Into::into),
    };
    let clusters = WeightedClusters::new(vec![cluster("c0", Some("c0.svc")), cluster("c1", None)]).unwrap();
    let forward = Forward::to(ClusterChoice::Weighted(clusters));
    let mut only = route("r", PathMatch::Prefix("/".into()), Action::Forward(Box::new(forward)));
    only.changes = by("route");
    let mut host = host("*", vec![only]);
    host.changes = by("host");
    let mut table = RouteTable::new(vec![host]).unwrap();
    table.changes = by("table");
    table
}

fn send(choice: &Choice<'_>) -> Outgoing {
    let headers = [("gone", "x")].map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    let mut outgoing =
        Outgoing { authority: "a".to_owned(), path: "/".to_owned(), headers: HeaderMap::from_iter(headers) };
    choice.change_request(&mut outgoing, true, &Nothing);
    outgoing
}

#[test]
fn a_request_takes_a_route_of_its_virtual_host() {
    let hosts =
        vec![host("a.svc", vec![to("a", "/")]), host("*.svc:80", vec![to("b", "/")]), host("*", vec![to("c", "/c")])];
    let mut table = RouteTable::new(hosts).unwrap();
    assert_eq!(outcome(&table, "A.svc", "/"), "a");
    assert_eq!(outcome(&table, "a.svc:80", "/"), "b");
    assert_eq!(outcome(&table, "other", "/c"), "c");
    assert_eq!(outcome(&table, "other", "/"), "none");
    table.ignores_port = true;
    assert_eq!(outcome(&table, "a.svc:80", "/"), "a");
    assert_eq!(&*table.host("other").unwrap().name, "*");
}

#[test]
fn a_domain_that_two_hosts_serve_is_refused() {
    let error = RouteTable::new(vec![host("a", Vec::new()), host("A", Vec::new())]).unwrap_err();
    assert_eq!(error.to_string(), "domain \"a\" is given twice");
}

#[test]
fn a_request_is_sent_on_or_elsewhere_or_answered() {
    let redirect = Redirect { host: Some("b".into()), status: RedirectStatus::Found, ..Redirect::default() };
    let respond = Action::Respond { status: StatusCode::IM_A_TEAPOT, body: (*b"tea").into() };
    let table = table(vec![
        route("elsewhere", PathMatch::Exact("/elsewhere".into()), Action::Redirect(redirect)),
        route("tea", PathMatch::Exact("/tea".into()), respond),
        to("on", "/"),
    ]);
    assert_eq!(outcome(&table, "a", "/elsewhere"), "http://b/elsewhere");
    assert_eq!(outcome(&table, "a", "/x"), "on");
    let asked = Asked::new("a", "/tea");
    let Decision::Respond { found, status, body } = table.decide(&asked.request(), 0) else { panic!() };
    assert_eq!((&*found.route.name, &*found.host.name, status.as_u16(), body), ("tea", "*", 418, b"tea".as_slice()));
    let asked = Asked::new("a", "/elsewhere");
    let Decision::Redirect { found, status, .. } = table.decide(&asked.request(), 0) else { panic!() };
    assert_eq!((&*found.route.name, status.as_u16()), ("elsewhere", 302));
}

#[test]
fn a_request_without_anybody_to_take_it_has_no_route() {
    assert_eq!(outcome(&RouteTable::default(), "a", "/"), "none");
    assert_eq!(outcome(&RouteTable::new(vec![host("b", vec![to("b", "/")])]).unwrap(), "a", "/"), "none");
}

#[test]
fn the_table_wins_unless_the_most_specific_one_is_to() {
    let mut table = changing_table();
    for (most_specific_wins, winner) in [(false, "table"), (true, "route")] {
        table.most_specific_wins = most_specific_wins;
        let choice = choice(&table, 0);
        assert_eq!(send(&choice).headers["by"], winner);
        let mut response = HeaderMap::new();
        choice.change_response(&mut response, &Nothing);
        assert_eq!(response["by"], winner);
        response.clear();
        choice.found.change_response(&mut response, &Nothing);
        assert_eq!(response["by"], winner);
    }
}

#[test]
fn a_cluster_changes_first_whoever_wins() {
    let mut table = changing_table();
    table.changes = Changes::default();
    table.hosts[0].changes = Changes::default();
    table.most_specific_wins = true;
    assert_eq!(send(&choice(&table, 0)).headers["by"], "route");
    table.hosts[0].routes[0].changes = Changes::default();
    let sent = send(&choice(&table, 0));
    assert_eq!(sent.headers["by"], "cluster");
    assert_eq!(sent.headers.len(), 1, "what is to be removed is, and nothing else is added");
    assert_eq!(sent.authority, "c0.svc");
    assert_eq!(send(&choice(&table, 1)).authority, "a");
}

#[test]
fn the_route_has_the_last_word_on_the_authority() {
    let mut table = changing_table();
    let Action::Forward(forward) = &mut table.hosts[0].routes[0].action else { panic!() };
    forward.host_rewrite = Some(HostRewrite::Literal("route.svc".into()));
    forward.path_rewrite = Some(PathRewrite::Prefix("/new".into()));
    forward.appends_forwarded_host = true;
    let sent = send(&choice(&table, 0));
    assert_eq!((&*sent.authority, &*sent.path), ("route.svc", "/new"));
    assert_eq!(sent.headers["x-forwarded-host"], "c0.svc");
    assert_eq!(sent.headers["x-envoy-original-host"], "c0.svc");
    assert_eq!(sent.headers["x-envoy-original-path"], "/");
}

#[test]
fn a_route_leaves_filters_and_traces_to_the_listener_unless_it_says_otherwise() {
    let route = to("a", "/");
    assert_eq!(route.operation, None);
    let Options { cors, fault } = route.options;
    assert!(cors.is_none() && fault.is_none());
    assert!(!host("a", Vec::new()).tells_attempts);
}

proptest! {
    #[test]
    fn the_first_route_for_a_request_is_taken(
        prefixes in proptest::collection::vec("/[ab]{0,2}", 0..6),
        path in "/[ab]{0,3}",
    ) {
        let routes = prefixes.iter().enumerate().map(|(index, prefix)| to(&index.to_string(), prefix)).collect();
        let first = prefixes.iter().position(|prefix| path.starts_with(prefix.as_str()));
        let expected = first.map_or_else(|| "none".to_owned(), |first| first.to_string());
        prop_assert_eq!(outcome(&table(routes), "a", &path), expected);
    }
}

//! The choice of endpoints: random clusters and hash policies, and random requests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{HeaderValue as Value, HeaderValueOption};
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, HashPolicy};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use http::Method;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use routing::{
    Balancer, Balancing, Command, Decision, Endpoints, Hashed, Outgoing, Request, RouteTable, Values, Wanted, hash_of,
};

use crate::ask::Ask;
use crate::clusters::{Policy, cluster, endpoints, hashing, turns};
use crate::hashes::policies;
use crate::peer::{Answer, Envoy, filter, manager, server};

/// Clusters that are compared, requests to each, and the servers that they share.
const COMPARED: usize = 40;
const REQUESTS: usize = 50;
const SERVERS: usize = 8;
/// Clusters of each policy whose endpoints take turns in some way, requests to each, and how many of these may be another
/// endpoint's: five times the standard deviation, which chance alone exceeds about once in a million times.
const SHARED: usize = 3;
const TURNS: usize = 200;
const MARGIN: usize = 36;

const PATHS: [&str; 9] = ["/", "/x", "/?x=1", "/?y=2&x=1", "/?x=1&x=2", "/?x", "/?&x=a%20b", "/?a%20b=1", "/?a+b=1&y="];
const VALUES: [&str; 9] =
    ["", "1", "2", "abc", "ABC", "a,b", "é", "user-7", "one that is longer than thirty-two bytes"];
const COOKIES: [&str; 18] = [
    "session=1",
    "a=b; session=2",
    "session=\"1\"",
    "session=",
    "session",
    "session=x=y;user=2",
    "session=1; session=2",
    "session=; session=2",
    "session; session=2",
    "user=  7 ; session = 3",
    "xsession=1;user=\"",
    "user=\"\"; session=\"\"",
    "user=\"a;b\"; session=\"2",
    "user=a\"b\";session=\"x\"y",
    "; ;=;user=\t7\t;",
    "\tsession=1;  user=\" 7 \"",
    "user=1,session=1; Session=3",
    "session=\"\"1\"\";user==",
];

#[test]
fn the_same_endpoints_are_chosen_for_the_same_hashes() {
    let mut random = SmallRng::seed_from_u64(5);
    let servers: Vec<_> = (0..SERVERS).map(|_| server()).collect();
    let all: Vec<_> = (0..COMPARED).map(|_| (hashing(&mut random), endpoints(&mut random, &servers))).collect();
    let tables: Vec<_> = (0..COMPARED).map(|index| table(index, policies(&mut random))).collect();
    let Some(envoy) = start(&all, &tables) else { return };
    let mut seen = BTreeMap::<&str, usize>::new();
    for (index, (((balancing, _), endpoints), table)) in all.iter().zip(&tables).enumerate() {
        let ours = envoy::route_table(table).unwrap();
        let mut balancer = Balancer::new(balancing, endpoints, Duration::ZERO, &mut random);
        let mut client = envoy.connect(index);
        for _ in 0..REQUESTS {
            let (path, headers) = head(&mut random);
            let ask = Ask::new(&Method::GET, "a.b", path, headers.clone());
            let theirs = ask.send(&mut client);
            let cookies = theirs.all("set-cookie");
            let first = hashed(&ask, &ours);
            if theirs.status == 503 && !first.set_cookies.is_empty() {
                // What Envoy says itself brings no cookie.
                continue;
            }
            let expected: Vec<_> =
                first.set_cookies.iter().map(|cookie| attributes(cookie.to_str().unwrap())).collect();
            let found: Vec<_> = cookies.iter().map(|cookie| attributes(cookie)).collect();
            assert_eq!(expected, found, "{ask:?}\n{theirs:#?}\n{table:#?}");
            let ask = again(path, headers, &cookies);
            let Some(hash) = hashed(&ask, &ours).hash else {
                *seen.entry("random").or_default() += 1;
                continue;
            };
            let chosen = choose(&mut balancer, Some(hash), &mut random);
            assert_eq!(chosen, Who::of(&theirs), "{ask:?}\n{theirs:#?}\n{balancing:#?}\n{endpoints:#?}\n{table:#?}");
            let kind = if cookies.is_empty() { chosen.kind() } else { "cookie" };
            *seen.entry(kind).or_default() += 1;
        }
    }
    println!("{seen:?}");
    for (kind, least) in [("endpoint", 500), ("cookie", 100), ("none", 5)] {
        assert!(seen.get(kind).is_some_and(|count| *count > least), "{kind} in {seen:?}");
    }
}

#[test]
fn endpoints_have_the_shares_that_envoy_gives_them() {
    let mut random = SmallRng::seed_from_u64(6);
    let servers: Vec<_> = (0..SERVERS).map(|_| server()).collect();
    let kinds = (0..SHARED).flat_map(|_| turns());
    let all: Vec<_> = kinds.map(|kind| (kind, endpoints(&mut random, &servers))).collect();
    let tables: Vec<_> = (0..all.len()).map(|index| table(index, Vec::new())).collect();
    let Some(envoy) = start(&all, &tables) else { return };
    for (index, ((balancing, _), endpoints)) in all.iter().enumerate() {
        let mut balancer = Balancer::new(balancing, endpoints, Duration::ZERO, &mut random);
        let mut client = envoy.connect(index);
        let mut theirs = BTreeMap::<Who, usize>::new();
        let mut ours = theirs.clone();
        for _ in 0..TURNS {
            *theirs.entry(Who::of(&client.ask("GET", "/", "a.b", &[]))).or_default() += 1;
        }
        for _ in 0..100 * TURNS {
            *ours.entry(choose(&mut balancer, None, &mut random)).or_default() += 1;
        }
        for who in ours.keys().chain(theirs.keys()) {
            let [ours, theirs] = [&ours, &theirs].map(|counts| counts.get(who).copied().unwrap_or_default());
            assert!(
                theirs.abs_diff(ours / 100) <= MARGIN,
                "{who:?}: {ours} and {theirs}\n{balancing:#?}\n{endpoints:#?}"
            );
        }
    }
}

/// Who answered: an endpoint, or nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Who(Option<String>);

impl Who {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, if answer.all("x-cluster").is_empty() { 503 } else { 200 }, "{answer:?}");
        Self(answer.all("x-cluster").first().map(|name| (*name).to_owned()))
    }

    fn kind(&self) -> &'static str {
        if self.0.is_some() { "endpoint" } else { "none" }
    }
}

fn choose(balancer: &mut Balancer, hash: Option<u64>, random: &mut SmallRng) -> Who {
    let wanted =
        Wanted { hash, now: Duration::ZERO, is_excluded: &|_| false, attempts: 0, active: &|_| 0, loads: None };
    Who(balancer.choose(&wanted, random).map(|chosen| chosen.endpoint.key.as_ref().to_owned()))
}

/// The path and the headers of a random request.
fn head(random: &mut SmallRng) -> (&'static str, Vec<(String, String)>) {
    let mut headers = Vec::new();
    for _ in 0..random.random_range(0..5) {
        let name = *["x-a", "x-a", "x-b", "cookie"].choose(random).unwrap();
        let value = if name == "cookie" { COOKIES.choose(random) } else { VALUES.choose(random) };
        headers.push((name.to_owned(), (*value.unwrap()).to_owned()));
    }
    (PATHS.choose(random).unwrap(), headers)
}

/// The request that a client sends after it was given cookies.
fn again(path: &str, mut headers: Vec<(String, String)>, set_cookies: &[&str]) -> Ask {
    for cookie in set_cookies {
        let pair = cookie.split(';').next().unwrap();
        headers.insert(0, ("cookie".to_owned(), pair.to_owned()));
    }
    Ask::new(&Method::GET, "a.b", path, headers)
}

fn hashed(ask: &Ask, table: &RouteTable) -> Hashed {
    let request = ask.request();
    let Decision::Forward(choice) = table.decide(&request, 0) else { panic!("not sent on: {ask:?}") };
    let (authority, path) = (request.authority.to_owned(), request.path.to_owned());
    let mut outgoing = Outgoing { authority, path, headers: request.headers.clone() };
    choice.change_request(&mut outgoing, true, &NoValues);
    let Outgoing { authority, path, headers } = &outgoing;
    hash_of(&choice.forward.hash, &Request { authority, path, headers, ..request })
}

/// What formats of header values name here: nothing.
struct NoValues;

impl Values for NoValues {
    fn value(&self, _: &Command) -> Option<Cow<'_, str>> {
        None
    }
}

/// A `set-cookie` without the value, which tells the client's connection.
fn attributes(cookie: &str) -> String {
    let (name, rest) = cookie.split_once('=').unwrap();
    let (value, rest) = rest.strip_prefix('"').unwrap().split_once('"').unwrap();
    assert!(!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_hexdigit()), "{cookie}");
    format!("{name}{rest}")
}

/// An Envoy with these clusters and a listener for each table.
fn start(clusters: &[((Balancing, Policy), Endpoints)], tables: &[RouteConfiguration]) -> Option<Envoy> {
    let clusters = clusters.iter().enumerate();
    let clusters =
        clusters.map(|(index, ((balancing, policy), endpoints))| cluster(&name(index), balancing, policy, endpoints));
    let filters = || vec![filter("envoy.filters.http.router", &Router::default())];
    let managers: Vec<_> = tables.iter().map(|table| manager(table, filters())).collect();
    Envoy::start_with(&managers, clusters.collect())
}

fn name(index: usize) -> String {
    format!("cluster-{index}")
}

/// One route to a cluster, which changes requests before they are hashed.
fn table(index: usize, hash_policy: Vec<HashPolicy>) -> RouteConfiguration {
    let matches = RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() };
    let specifier = Some(ClusterSpecifier::Cluster(name(index)));
    let prefix_rewrite = "/other".to_owned();
    let forward = RouteAction { cluster_specifier: specifier, hash_policy, prefix_rewrite, ..RouteAction::default() };
    let header = Value { key: "x-a".to_owned(), value: "added".to_owned(), ..Value::default() };
    let route = Route {
        r#match: Some(matches),
        action: Some(Action::Route(forward)),
        request_headers_to_add: vec![HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }],
        ..Route::default()
    };
    RouteConfiguration {
        virtual_hosts: vec![VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    }
}

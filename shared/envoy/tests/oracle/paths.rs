//! Paths in one form: all ways to ask for it, and random nasty paths.

use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction;
use envoy_types::pb::google::protobuf::BoolValue;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use routing::{EscapedSlashes, Normalisation, PathRefused};

use crate::peer::{self, Envoy, filter};

/// Paths that are compared for each way.
const PATHS: usize = 150;

const ESCAPED: [(EscapedSlashes, PathWithEscapedSlashesAction); 4] = [
    (EscapedSlashes::Keep, PathWithEscapedSlashesAction::KeepUnchanged),
    (EscapedSlashes::Reject, PathWithEscapedSlashesAction::RejectRequest),
    (EscapedSlashes::Redirect, PathWithEscapedSlashesAction::UnescapeAndRedirect),
    (EscapedSlashes::Unescape, PathWithEscapedSlashesAction::UnescapeAndForward),
];

const PIECES: [&str; 36] = [
    "/", "/", "/", "/", "//", ".", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "%5C", "\\", "%25", "%", "%4", "%41",
    "%7e", "%7E", "%zz", "%00", "%20", "%3f", "%3B", ";", ";a=b", "..;", "a", "b", "c.d", "?", "&=", "\"<>", "[]{|}^`",
];

#[test]
fn paths_are_brought_into_one_form_as_envoy_does_it() {
    let ways: Vec<Normalisation> = [(false, false), (false, true), (true, false), (true, true)]
        .into_iter()
        .flat_map(|(normalises, merges_slashes)| {
            ESCAPED.map(|(escaped_slashes, _)| Normalisation { normalises, merges_slashes, escaped_slashes })
        })
        .collect();
    let managers: Vec<_> = ways.iter().map(manager).collect();
    let Some(envoy) = Envoy::start(&managers) else { return };
    let mut random = SmallRng::seed_from_u64(5);
    let mut seen = [0; 3];
    for (index, way) in ways.iter().enumerate() {
        let mut client = envoy.connect(index);
        for _ in 0..PATHS {
            let path = path(&mut random);
            let answer = client.ask("GET", &path, "a.b", &[]);
            let location = answer.all("location").first().map(|location| (*location).to_owned());
            let got = answer.body.split(' ').nth(1).filter(|_| answer.status == 200).map(str::to_owned);
            let (kind, expected) = match way.apply(&path) {
                Ok(path) => (0, (200, None, Some(path.into_owned()))),
                Err(PathRefused::Malformed) => (1, (400, None, None)),
                Err(PathRefused::Moved(path)) => (2, (307, Some(path), None)),
            };
            assert_eq!((answer.status, location, got), expected, "{path} {way:?}\n{answer:#?}");
            seen[kind] += 1;
            if answer.status != 200 {
                client = envoy.connect(index);
            }
        }
    }
    println!("{seen:?} forwarded, refused and moved");
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

fn path(random: &mut SmallRng) -> String {
    let pieces = (0..random.random_range(0..10)).map(|_| *PIECES.choose(random).unwrap());
    let path = pieces.fold("/".to_owned(), |path, piece| path + piece);
    if random.random_bool(0.02) { path + "#a" } else { path }
}

fn manager(way: &Normalisation) -> HttpConnectionManager {
    let matches = RouteMatch { path_specifier: Some(PathSpecifier::Prefix(String::new())), ..RouteMatch::default() };
    let to =
        RouteAction { cluster_specifier: Some(ClusterSpecifier::Cluster("a".to_owned())), ..RouteAction::default() };
    let route = Route { r#match: Some(matches), action: Some(Action::Route(to)), ..Route::default() };
    let host = VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..VirtualHost::default()
    };
    let table = RouteConfiguration { virtual_hosts: vec![host], ..RouteConfiguration::default() };
    let (_, escaped) = ESCAPED.iter().find(|(escaped, _)| *escaped == way.escaped_slashes).unwrap();
    HttpConnectionManager {
        normalize_path: Some(BoolValue { value: way.normalises }),
        merge_slashes: way.merges_slashes,
        path_with_escaped_slashes_action: (*escaped).into(),
        ..peer::manager(&table, vec![filter("envoy.filters.http.router", &Router::default())])
    }
}

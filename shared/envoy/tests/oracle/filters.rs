//! Filters that routes configure: requests of other origins, and faults.

use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::{Cors, CorsPolicy};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{
    FaultAbort, HttpFault, fault_abort::ErrorType, fault_abort::HeaderAbort,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration as Span};
use http::Method;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use routing::{AbortWith, CorsDecision, Decision, FAULT_BODY, Options};

use crate::ask::Ask;
use crate::peer::{self, Envoy, filter, packed};

/// Configurations that are compared, and requests to each.
const CONFIGURATIONS: usize = 40;
const REQUESTS: usize = 30;

const CORS: &str = "envoy.filters.http.cors";
const FAULT: &str = "envoy.filters.http.fault";

type Headers = Vec<(String, String)>;

#[test]
fn other_origins_are_answered_as_envoy_does_it() {
    let mut random = SmallRng::seed_from_u64(11);
    let tables: Vec<_> = (0..CONFIGURATIONS).map(|_| table(CORS, packed(&policy(&mut random)))).collect();
    let managers: Vec<_> = tables.iter().map(manager).collect();
    let Some(envoy) = Envoy::start(&managers) else { return };
    let mut seen = [0; 2];
    for (index, table) in tables.iter().enumerate() {
        let policy = options(table).cors.unwrap();
        let mut client = envoy.connect(index);
        for _ in 0..REQUESTS {
            let method = [Method::OPTIONS, Method::OPTIONS, Method::GET].choose(&mut random).unwrap();
            let headers = chosen(
                &mut random,
                &[
                    ("origin", &["http://a", "http://a.b", "*", "", "null", "HTTP://A"]),
                    ("access-control-request-method", &["GET", "PUT", "", "*"]),
                    ("access-control-request-headers", &["x-a", "x-a, x-b", "", "*"]),
                    ("access-control-request-private-network", &["true", "false", "True"]),
                ],
            );
            let ask = Ask::new(method, "a.b", "/", headers);
            let theirs = ask.send(&mut client);
            let decision = policy.decide(&ask.request(), &mut random);
            let (is_answer, told) = match decision {
                CorsDecision::Answer(told) => (true, told),
                CorsDecision::Pass(told) => (false, told),
            };
            let mut ours: Headers =
                told.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
            let mut found = theirs.headers.clone();
            found.retain(|(name, _)| name.starts_with("access-control-"));
            ours.sort();
            found.sort();
            assert_eq!(found, ours, "{ask:?}\n{policy:#?}");
            let is_theirs = theirs.status == 200 && theirs.all("x-cluster").is_empty() && theirs.body.is_empty();
            assert_eq!(is_theirs, is_answer, "{ask:?}\n{policy:#?}\n{theirs:#?}");
            seen[usize::from(is_answer)] += 1;
        }
    }
    println!("{seen:?} passed and answered");
    assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
}

#[test]
fn requests_fail_on_purpose_as_envoy_does_it() {
    let mut random = SmallRng::seed_from_u64(13);
    let tables: Vec<_> = (0..CONFIGURATIONS).map(|_| table(FAULT, packed(&fault(&mut random)))).collect();
    let managers: Vec<_> = tables.iter().map(manager).collect();
    let Some(envoy) = Envoy::start(&managers) else { return };
    let mut seen = [0; 3];
    for (index, table) in tables.iter().enumerate() {
        let fault = options(table).fault.unwrap();
        for _ in 0..REQUESTS {
            let mut headers = chosen(
                &mut random,
                &[
                    ("x-a", &["a", "b"]),
                    (
                        "x-envoy-fault-abort-request",
                        &["200", "418", "503", "599", "600", "199", "x", "5 ", "+503", "0503"],
                    ),
                    ("x-envoy-fault-abort-grpc-request", &["0", "5", "14", "99", "x", "-1"]),
                    ("x-envoy-fault-abort-request-percentage", &["0", "100", "200", "x"]),
                ],
            );
            let ours = fault.decide(&get(headers.clone()).request(), 0, &mut random);
            let is_grpc = matches!(ours.abort, Some(AbortWith::Grpc(_)));
            if is_grpc {
                // Envoy tells a status of gRPC only to those who speak it.
                headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
            }
            let mut client = envoy.connect(index);
            #[expect(clippy::disallowed_methods, reason = "what is measured is how long another process takes")]
            let start = Instant::now();
            let theirs = get(headers.clone()).send(&mut client);
            let took = start.elapsed();
            let expected = match ours.abort {
                None => (200, None, None),
                Some(AbortWith::Http(status)) => (status.as_u16(), None, Some(FAULT_BODY)),
                Some(AbortWith::Grpc(status)) => (200, Some(status.to_string()), Some(FAULT_BODY)),
            };
            let status = theirs.all("grpc-status").first().map(|status| (*status).to_owned());
            let text = theirs.all("grpc-message").first().copied().unwrap_or(&theirs.body);
            let body = theirs.all("x-cluster").is_empty().then_some(text);
            assert_eq!((theirs.status, status, body), expected, "{headers:?}\n{fault:#?}\n{theirs:#?}");
            assert!(took >= ours.delay.unwrap_or(Duration::ZERO), "{took:?} {headers:?}\n{fault:#?}");
            seen[if ours.abort.is_none() { 0 } else { 1 + usize::from(is_grpc) }] += 1;
        }
    }
    println!("{seen:?} passed, and aborted with HTTP and gRPC");
    assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
}

/// Some of these headers, each once, with one of its values.
fn chosen(random: &mut SmallRng, all: &[(&str, &[&str])]) -> Headers {
    let mut headers = Headers::new();
    for (name, values) in all {
        if random.random_bool(0.6) {
            headers.push(((*name).to_owned(), (*values.choose(random).unwrap()).to_owned()));
        }
    }
    headers
}

fn options(table: &RouteConfiguration) -> Options {
    let ours = envoy::route_table(table).unwrap();
    match ours.decide(&get(Headers::new()).request(), 0) {
        Decision::Forward(choice) => choice.found.route.options.clone(),
        other => panic!("{other:?}"),
    }
}

fn get(headers: Headers) -> Ask {
    Ask::new(&Method::GET, "a.b", "/", headers)
}

fn manager(table: &RouteConfiguration) -> HttpConnectionManager {
    let filters = vec![
        filter(CORS, &Cors::default()),
        filter(FAULT, &HttpFault::default()),
        filter("envoy.filters.http.router", &Router::default()),
    ];
    peer::manager(table, filters)
}

fn table(filter: &str, options: Any) -> RouteConfiguration {
    let to = ClusterSpecifier::Cluster("a".to_owned());
    let matches = RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() };
    let route = Route {
        r#match: Some(matches),
        action: Some(Action::Route(RouteAction { cluster_specifier: Some(to), ..RouteAction::default() })),
        typed_per_filter_config: [(filter.to_owned(), options)].into(),
        ..Route::default()
    };
    let host = VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..VirtualHost::default()
    };
    RouteConfiguration { virtual_hosts: vec![host], ..RouteConfiguration::default() }
}

fn policy(random: &mut SmallRng) -> CorsPolicy {
    let mut text = |values: &[&str]| (*values.choose(random).unwrap()).to_owned();
    let (allow_methods, allow_headers) = (text(&["", "GET,PUT", "*"]), text(&["", "x-a", "*"]));
    let (expose_headers, max_age) = (text(&["", "x-b", "*"]), text(&["", "60"]));
    let mut switch =
        || *[None, Some(BoolValue { value: false }), Some(BoolValue { value: true })].choose(random).unwrap();
    CorsPolicy {
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials: switch(),
        allow_private_network_access: switch(),
        forward_not_matching_preflights: switch(),
        allow_origin_string_match: (0..random.random_range(0..3)).map(|_| origin(random)).collect(),
        ..CorsPolicy::default()
    }
}

fn origin(random: &mut SmallRng) -> StringMatcher {
    let some = (*["http://a", "*", "http://", "b", "null"].choose(random).unwrap()).to_owned();
    let pattern = match random.random_range(0..4) {
        0 => MatchPattern::Prefix(some),
        1 => MatchPattern::Suffix(some),
        _ => MatchPattern::Exact(some),
    };
    StringMatcher { ignore_case: random.random_bool(0.3), match_pattern: Some(pattern) }
}

fn fault(random: &mut SmallRng) -> HttpFault {
    let share = |random: &mut SmallRng| {
        let numerator = *[0, 100, 100, 100].choose(random).unwrap();
        random.random_bool(0.9).then(|| FractionalPercent { numerator, ..FractionalPercent::default() })
    };
    let error = match random.random_range(0..4) {
        0 => ErrorType::HttpStatus(*[200, 404, 503, 599].choose(random).unwrap()),
        1 => ErrorType::GrpcStatus(*[0, 5, 14, 99].choose(random).unwrap()),
        _ => ErrorType::HeaderAbort(HeaderAbort::default()),
    };
    let abort = FaultAbort { percentage: share(random), error_type: Some(error), ..FaultAbort::default() };
    let header = HeaderMatcher {
        name: "x-a".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(random.random_bool(0.6))),
        ..HeaderMatcher::default()
    };
    let wait = FaultDelaySecifier::FixedDelay(Span { seconds: 0, nanos: 5_000_000 });
    let delay = FaultDelay { percentage: share(random), fault_delay_secifier: Some(wait) };
    HttpFault {
        delay: random.random_bool(0.1).then_some(delay),
        abort: Some(abort),
        headers: if random.random_bool(0.4) { vec![header] } else { Vec::new() },
        ..HttpFault::default()
    }
}

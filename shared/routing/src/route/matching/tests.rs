//! Requests that a route is for, and those that it is not for.

use proptest::prelude::*;
use serde_json::json;

use super::super::example::Asked;
use super::*;
use crate::{Denominator, HeaderMatchKind, ValueMatch};

fn is_for(path: PathMatch, asked: &str) -> bool {
    RouteMatch::new(path).matches(&Asked::new("a", asked).request(), 0)
}

#[test]
fn a_prefix_is_one_of_the_text() {
    let prefix = |text: &str| PathMatch::Prefix(text.into());
    assert!(is_for(prefix("/v1"), "/v1foo"));
    assert!(is_for(prefix(""), "/v1"));
    assert!(!is_for(prefix("/v1"), "/V1"));
    assert!(!is_for(prefix("/v1?"), "/v1?a"), "the query is no part of the path");
    assert!(!is_for(prefix("/v1"), "/v"));
}

#[test]
fn an_exact_path_has_any_query() {
    let exact = || PathMatch::Exact("/v1".into());
    assert!(is_for(exact(), "/v1"));
    assert!(is_for(exact(), "/v1?a=b"));
    assert!(!is_for(exact(), "/v1/"));
}

#[test]
fn segments_are_whole() {
    let segments = || PathMatch::Segments("/v1".into());
    for path in ["/v1", "/v1/", "/v1/foo", "/v1?a", "/v1/foo?a"] {
        assert!(is_for(segments(), path), "{path}");
    }
    for path in ["/v1foo", "/", "/x/v1"] {
        assert!(!is_for(segments(), path), "{path}");
    }
}

#[test]
fn a_pattern_is_one_of_the_whole_path_without_the_query() {
    let pattern = || PathMatch::Pattern(Pattern::new("/v[12]").unwrap());
    assert!(is_for(pattern(), "/v2?a"));
    assert!(!is_for(pattern(), "/v2/a"));
}

#[test]
fn case_makes_no_difference_where_it_should_not() {
    for path in [
        PathMatch::Prefix("/Foo".into()),
        PathMatch::Exact("/Foo/x".into()),
        PathMatch::Segments("/fOO".into()),
        PathMatch::Pattern(Pattern::new("/foo/X").unwrap()),
    ] {
        let is_text = !matches!(path, PathMatch::Pattern(_));
        let matches = RouteMatch { ignores_case: true, ..RouteMatch::new(path) };
        assert_eq!(matches.matches(&Asked::new("a", "/foo/x").request(), 0), is_text, "{matches:?}");
    }
}

#[test]
fn a_request_without_a_path_is_for_routes_of_connect_only() {
    let mut asked = Asked::new("a:80", "");
    asked.method = Method::CONNECT;
    let is_for = |path| RouteMatch::new(path).matches(&asked.request(), 0);
    assert!(is_for(PathMatch::Connect));
    assert!(!is_for(PathMatch::Prefix("".into())));
    assert!(!is_for(PathMatch::Pattern(Pattern::new(".*").unwrap())));
    assert!(!RouteMatch::new(PathMatch::Connect).matches(&Asked::new("a", "/").request(), 0));
}

#[test]
fn a_parameter_is_compared_as_it_was_written() {
    let ask = |kind| QueryMatch { name: "a".into(), kind };
    let text = |text| ask(QueryMatchKind::Text(TextMatch::exact(text)));
    assert!(text("1").matches("b=2&a=1"));
    assert!(!text("2").matches("a=1&a=2"), "the first one counts");
    assert!(text("%31").matches("a=%31"));
    assert!(text("b=c").matches("a=b=c"));
    assert!(text("").matches("a"));
    assert!(!text("").matches("b"));
    assert!(!text("1").matches("A=1"));
    let [present, absent] = [true, false].map(|is_wanted| ask(QueryMatchKind::Present(is_wanted)));
    assert!(present.matches("a") && !absent.matches("a"));
    assert!(!present.matches("b&aa") && absent.matches("b&aa"));
    let matches = RouteMatch { query: vec![present], ..RouteMatch::new(PathMatch::Prefix("/".into())) };
    assert!(matches.matches(&Asked::new("a", "/?a").request(), 0));
    assert!(!matches.matches(&Asked::new("a", "/").request(), 0));
}

#[test]
fn grpc_is_told_by_the_content_type() {
    let matches = RouteMatch { is_grpc: true, ..RouteMatch::new(PathMatch::Prefix("/".into())) };
    for (kind, is_grpc) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
        ("application/grpc;a=b", false),
        ("text/html", false),
    ] {
        let asked = Asked::new("a", "/").with("content-type", kind);
        assert_eq!(matches.matches(&asked.request(), 0), is_grpc, "{kind}");
    }
    assert!(!matches.matches(&Asked::new("a", "/").request(), 0));
}

#[test]
fn headers_and_metadata_must_all_be_right() {
    let header = HeaderMatch {
        name: "user".into(),
        kind: HeaderMatchKind::Present(true),
        inverts: false,
        treats_missing_as_empty: false,
    };
    let metadata = MetadataMatch {
        filter: "jwt".into(),
        path: vec!["sub".into()],
        value: ValueMatch::Present(true),
        inverts: false,
    };
    let matches = RouteMatch {
        headers: vec![header],
        metadata: vec![metadata],
        ..RouteMatch::new(PathMatch::Prefix("/".into()))
    };
    let mut asked = Asked::new("a", "/").with("user", "alice");
    assert!(!matches.matches(&asked.request(), 0));
    asked.metadata.set("jwt", json!({ "sub": "alice" }));
    assert!(matches.matches(&asked.request(), 0));
    asked.headers.clear();
    assert!(!matches.matches(&asked.request(), 0));
}

#[test]
fn a_share_of_requests_is_decided_by_their_number() {
    let fraction = Fraction { numerator: 25, denominator: Denominator::Hundred };
    let matches = RouteMatch { fraction: Some(fraction), ..RouteMatch::new(PathMatch::Prefix("/".into())) };
    let asked = Asked::new("a", "/");
    let taken: Vec<u64> = (0..100).filter(|random| matches.matches(&asked.request(), 300 + random)).collect();
    assert_eq!(taken, (0..25).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn segments_are_those_of_the_path_split_at_slashes(
        wanted in "(/[ab]{1,2}){1,3}",
        path in "(/[ab]{0,2}){1,4}(\\?/a)?",
    ) {
        let wanted_segments: Vec<&str> = wanted.split('/').collect();
        let plain_path = path.split('?').next().unwrap();
        let begins = plain_path.split('/').collect::<Vec<_>>().starts_with(&wanted_segments);
        prop_assert_eq!(is_for(PathMatch::Segments(wanted.as_str().into()), &path), begins);
    }
}

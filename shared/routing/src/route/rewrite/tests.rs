//! What paths and authorities are made.

use proptest::prelude::*;

use super::*;

fn prefix(new: &str, route: &PathMatch, path: &str) -> Option<String> {
    PathRewrite::Prefix(new.into()).apply(route, path)
}

fn outgoing(authority: &str, path: &str) -> Outgoing {
    Outgoing { authority: authority.to_owned(), path: path.to_owned(), headers: HeaderMap::new() }
}

fn header(outgoing: &Outgoing, name: &HeaderName) -> Option<String> {
    let mut values = outgoing.headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(values.next(), None, "{name} is there twice");
    value
}

#[test]
fn a_prefix_is_replaced_with_no_care_for_slashes() {
    let v1 = PathMatch::Prefix("/v1".into());
    assert_eq!(prefix("/", &v1, "/v1/x?a").unwrap(), "//x?a");
    assert_eq!(prefix("/v2", &v1, "/v1foo").unwrap(), "/v2foo");
    assert_eq!(prefix("/v2", &v1, "/V1/x").unwrap(), "/v2/x", "a route may ignore case");
    assert_eq!(prefix("/api/", &PathMatch::Prefix("/".into()), "/x").unwrap(), "/api/x");
    let segments = PathMatch::Segments("/v1".into());
    assert_eq!(prefix("/", &segments, "/v1/x").unwrap(), "//x");
    assert_eq!(prefix("/", &segments, "/v1?a").unwrap(), "/?a");
}

#[test]
fn the_whole_path_of_other_routes_is_replaced() {
    assert_eq!(prefix("/b", &PathMatch::Exact("/a".into()), "/a?q").unwrap(), "/b?q");
    let pattern = PathMatch::Pattern(Pattern::new("/a.*").unwrap());
    assert_eq!(prefix("/b", &pattern, "/a/x/y?q").unwrap(), "/b?q");
    assert_eq!(prefix("/b", &PathMatch::Connect, "/a/x?q").unwrap(), "/b?q");
}

#[test]
fn a_path_stays_where_there_is_nothing_to_replace_it_with() {
    assert_eq!(prefix("", &PathMatch::Prefix("/a".into()), "/a/x"), None);
    assert_eq!(prefix("/b", &PathMatch::Prefix("/a".into()), "/other"), None);
    assert_eq!(prefix("/b", &PathMatch::Prefix("/long".into()), "/"), None);
    let nothing = PathRewrite::Pattern { pattern: Pattern::new(".*").unwrap(), substitution: "".into() };
    assert_eq!(nothing.apply(&PathMatch::Prefix("/".into()), "/a?q"), None);
}

#[test]
fn what_a_pattern_finds_is_replaced_before_the_query() {
    let swap = PathRewrite::Pattern { pattern: Pattern::new("/(a)/(b)").unwrap(), substitution: r"/\2/\1".into() };
    assert_eq!(swap.apply(&PathMatch::Prefix("/".into()), "/a/b/c?x=/a/b").unwrap(), "/b/a/c?x=/a/b");
}

#[test]
fn a_path_that_is_replaced_is_kept_in_a_header() {
    let any = PathMatch::Prefix("/".into());
    let rewrite = PathRewrite::Prefix("/new/".into());
    let mut kept = outgoing("a", "/old?q");
    kept.rewrite_path(&rewrite, &any, true);
    assert_eq!((&*kept.path, header(&kept, &ORIGINAL_PATH).as_deref()), ("/new/old?q", Some("/old?q")));
    let mut lost = outgoing("a", "/old");
    lost.rewrite_path(&rewrite, &any, false);
    assert_eq!((&*lost.path, header(&lost, &ORIGINAL_PATH)), ("/new/old", None));
    let mut same = outgoing("a", "/old");
    same.rewrite_path(&PathRewrite::Prefix("".into()), &any, true);
    assert_eq!((&*same.path, header(&same, &ORIGINAL_PATH)), ("/old", None));
}

#[test]
fn an_authority_comes_from_a_text_a_header_or_the_path() {
    let rewritten = |rewrite: &HostRewrite| {
        let mut outgoing = outgoing("a:80", "/b/c?d");
        outgoing.headers.append("target", "t1".parse().unwrap());
        outgoing.headers.append("target", "t2".parse().unwrap());
        outgoing.headers.append("empty", "".parse().unwrap());
        outgoing.rewrite_authority(rewrite, true, true);
        (outgoing.authority.clone(), header(&outgoing, &ORIGINAL_HOST).is_some())
    };
    let from_header = |name| HostRewrite::FromHeader(HeaderName::from_static(name));
    assert_eq!(rewritten(&HostRewrite::Literal("b".into())), ("b".to_owned(), true));
    assert_eq!(rewritten(&from_header("target")), ("t1".to_owned(), true));
    assert_eq!(rewritten(&from_header("other")), ("a:80".to_owned(), false));
    assert_eq!(rewritten(&from_header("empty")), ("a:80".to_owned(), false));
    let pattern = Pattern::new("^/([^/]+)/.+$").unwrap();
    let from_path = HostRewrite::FromPath { pattern, substitution: r"\1.svc".into() };
    assert_eq!(rewritten(&from_path), ("b.svc".to_owned(), true));
}

#[test]
fn an_authority_that_is_replaced_is_appended_unless_it_is_the_last_one() {
    let forwarded = |before: &[&str]| {
        let mut outgoing = outgoing("a", "/");
        for host in before {
            outgoing.headers.append(FORWARDED_HOST, host.parse().unwrap());
        }
        outgoing.rewrite_authority(&HostRewrite::Literal("b".into()), false, true);
        header(&outgoing, &FORWARDED_HOST)
    };
    assert_eq!(forwarded(&[]).as_deref(), Some("a"));
    assert_eq!(forwarded(&["x"]).as_deref(), Some("x,a"));
    assert_eq!(forwarded(&["x,a"]).as_deref(), Some("x,a"));
    assert_eq!(forwarded(&["a,x"]).as_deref(), Some("a,x,a"));
    assert_eq!(forwarded(&["x, a"]).as_deref(), Some("x, a,a"), "a space is part of the name");
}

#[test]
fn headers_are_added_only_as_asked() {
    let mut outgoing = outgoing("a", "/");
    outgoing.rewrite_authority(&HostRewrite::Literal("b".into()), false, false);
    assert_eq!(outgoing.headers, HeaderMap::new());
}

proptest! {
    #[test]
    fn a_prefix_is_replaced_as_text(
        old in "/[ab/]{0,3}",
        new in "[cd/]{1,3}",
        rest in "[ab/]{0,4}",
        query in "(\\?[ab/?]{0,3})?",
    ) {
        let path = format!("{old}{rest}{query}");
        let rewritten = prefix(&new, &PathMatch::Prefix(old.into()), &path);
        prop_assert_eq!(rewritten, Some(format!("{new}{rest}{query}")));
    }

    #[test]
    fn a_pattern_replaces_as_splitting_does(path in "/[ab/]{0,6}", new in "[cd]{0,2}", query in "(\\?[ab]{0,3})?") {
        let rewrite = PathRewrite::Pattern { pattern: Pattern::new("a").unwrap(), substitution: new.as_str().into() };
        let rewritten = rewrite.apply(&PathMatch::Prefix("/".into()), &format!("{path}{query}"));
        let joined = path.split('a').collect::<Vec<_>>().join(&new);
        prop_assert_eq!(rewritten, Some(format!("{joined}{query}")));
    }
}

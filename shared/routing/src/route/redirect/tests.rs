//! Where clients are sent.

use super::super::example::Asked;
use super::*;
use crate::Pattern;

fn location(redirect: &Redirect, authority: &str, path: &str) -> String {
    redirect.location(&PathMatch::Prefix("/old".into()), &Asked::new(authority, path).request())
}

fn to_path(path: RedirectPath) -> Redirect {
    Redirect { path: Some(path), ..Redirect::default() }
}

#[test]
fn what_is_not_said_stays_as_it_is() {
    assert_eq!(location(&Redirect::default(), "a:80", "/old?q"), "http://a:80/old?q");
    let host = Redirect { host: Some("b".into()), ..Redirect::default() };
    assert_eq!(location(&host, "a:8080", "/old"), "http://b/old");
}

#[test]
fn a_default_port_goes_with_its_scheme() {
    let https = Redirect { scheme: Some("https".into()), ..Redirect::default() };
    assert_eq!(location(&https, "a:80", "/old"), "https://a/old");
    assert_eq!(location(&https, "a:8080", "/old"), "https://a:8080/old");
    assert_eq!(location(&https, "a:443", "/old"), "https://a:443/old");
    assert_eq!(location(&https, "[::1]:80", "/old"), "https://[::1]/old");
    assert_eq!(location(&https, "[::1]", "/old"), "https://[::1]/old");
    let same = Redirect { scheme: Some("http".into()), ..Redirect::default() };
    assert_eq!(location(&same, "a:80", "/old"), "http://a:80/old");
}

#[test]
fn the_old_scheme_is_the_one_that_the_client_uses() {
    let https = Redirect { scheme: Some("https".into()), ..Redirect::default() };
    let asked = Asked::new("a:80", "/old").with("x-forwarded-proto", "https");
    assert_eq!(https.location(&PathMatch::Prefix("/".into()), &asked.request()), "https://a:80/old");
    let http = Redirect { scheme: Some("http".into()), ..Redirect::default() };
    let asked = Asked::new("a:443", "/old").with("x-forwarded-proto", "https");
    assert_eq!(http.location(&PathMatch::Prefix("/".into()), &asked.request()), "http://a/old");
}

#[test]
fn a_new_port_takes_the_place_of_the_old_one() {
    let port = Redirect { port: Some(8443), ..Redirect::default() };
    assert_eq!(location(&port, "a:80", "/old"), "http://a:8443/old");
    assert_eq!(location(&port, "a", "/old"), "http://a:8443/old");
    let host = Redirect { host: Some("b".into()), ..port };
    assert_eq!(location(&host, "a:80", "/old"), "http://b:8443/old");
}

#[test]
fn a_full_path_has_the_query_of_the_request_unless_it_has_one() {
    let full = |path: &str| to_path(RedirectPath::Full(path.into()));
    assert_eq!(location(&full("/new"), "a", "/old?q"), "http://a/new?q");
    assert_eq!(location(&full("/new?r"), "a", "/old?q"), "http://a/new?r");
    assert_eq!(location(&full("new"), "a", "/old"), "http://a/new");
    let strip = |path| Redirect { strips_query: true, ..full(path) };
    assert_eq!(location(&strip("/new"), "a", "/old?q"), "http://a/new");
    assert_eq!(location(&strip("/new?r"), "a", "/old?q"), "http://a/new?r");
}

#[test]
fn a_path_is_rewritten_as_that_of_a_request_that_is_sent_on() {
    let prefix = to_path(RedirectPath::Rewrite(PathRewrite::Prefix("/new".into())));
    assert_eq!(location(&prefix, "a", "/old/x?q"), "http://a/new/x?q");
    let strip = Redirect { strips_query: true, ..prefix };
    assert_eq!(location(&strip, "a", "/old/x?q"), "http://a/new/x");
    let pattern = Pattern::new("^/old/(.*)$").unwrap();
    let pattern = to_path(RedirectPath::Rewrite(PathRewrite::Pattern { pattern, substitution: r"/\1/new".into() }));
    assert_eq!(location(&pattern, "a", "/old/x?q"), "http://a/x/new?q");
    assert_eq!(location(&to_path(RedirectPath::Rewrite(PathRewrite::Prefix("".into()))), "a", "/old"), "http://a/old");
}

#[test]
fn there_are_five_statuses() {
    use RedirectStatus::{Found, Permanent, SeeOther, Temporary};
    let all = [RedirectStatus::default(), Found, SeeOther, Temporary, Permanent];
    assert_eq!(all.map(|status| status.code().as_u16()), [301, 302, 303, 307, 308]);
}

//! Tests of request hashes.

use super::*;
use crate::example::Asked;

/// What is hashed of a request for `/shop?user=alice&user=bob&empty` from 1.2.3.4:55 to 5.6.7.8:80.
fn hash(policies: &[HashPolicy], headers: &[(&'static str, &str)]) -> Hashed {
    let asked = Asked::new("shop", "/shop?&user=alice&user=bob&empty&a%20b=c%20d").with_all(headers);
    hash_of(policies, &asked.request())
}

fn of(source: HashSource) -> HashPolicy {
    HashPolicy { source, is_terminal: false }
}

fn header(name: &str) -> HashPolicy {
    of(HashSource::Header { name: name.into(), rewrite: None })
}

fn query(name: &str) -> HashPolicy {
    of(HashSource::QueryParameter(name.into()))
}

fn session(ttl: Option<u64>) -> CookieSource {
    CookieSource { name: "session".into(), ttl: ttl.map(Duration::from_secs), path: "".into(), attributes: vec![] }
}

fn xx(text: &str) -> Option<u64> {
    Some(xx_hash64(text.as_bytes(), 0))
}

#[test]
fn a_header_is_hashed_whatever_the_order_of_its_values() {
    assert_eq!(hash(&[header("X-User")], &[("x-user", "alice")]).hash, xx("alice"));
    let both = xx_hash64(b"b", xx_hash64(b"a", 0));
    assert_eq!(hash(&[header("x-user")], &[("x-user", "b"), ("x-user", "a")]).hash, Some(both));
    assert_eq!(hash(&[header("x-user")], &[]).hash, None);
    assert_eq!(hash(&[header(":authority")], &[]).hash, xx("shop"));
}

#[test]
fn a_header_is_rewritten_before_it_is_hashed() {
    let pattern = Pattern::new("^user-(.*)$").unwrap();
    let source = HashSource::Header { name: "x-user".into(), rewrite: Some((pattern, r"\1".into())) };
    assert_eq!(hash(&[of(source)], &[("x-user", "user-7")]).hash, xx("7"));
}

#[test]
fn the_first_value_of_a_query_parameter_is_hashed_as_it_was_sent() {
    assert_eq!(hash(&[query("user")], &[]).hash, xx("alice"));
    assert_eq!(hash(&[query("empty")], &[]).hash, xx(""));
    assert_eq!(hash(&[query("a%20b")], &[]).hash, xx("c%20d"));
    assert_eq!(hash(&[query("a b")], &[]).hash, None);
    assert_eq!(hash(&[query("")], &[]).hash, None);
}

#[test]
fn a_client_is_hashed_without_its_port() {
    assert_eq!(hash(&[of(HashSource::SourceIp)], &[]).hash, xx("1.2.3.4"));
}

#[test]
fn a_cookie_is_hashed_without_its_quotes() {
    let policies = [of(HashSource::Cookie(session(None)))];
    let with = |cookies: &[&str]| {
        let headers: Vec<_> = cookies.iter().map(|cookie| ("cookie", *cookie)).collect();
        hash(&policies, &headers)
    };
    assert_eq!(with(&["a=b;  session=x=y"]).hash, xx("x=y"));
    assert_eq!(with(&["a=b", "session=\"x\"; session=y"]).hash, xx("x"));
    assert_eq!(with(&["session", "session=", "xsession=x"]), Hashed::default());
}

#[test]
fn a_client_without_the_cookie_is_given_one_that_tells_its_connection() {
    let value = format!("{:016x}", xx_hash64(b"1.2.3.4:555.6.7.8:80", 0));
    assert_eq!(value, "2b3dd2c2350848e3");
    let given = |source: CookieSource| hash(&[of(HashSource::Cookie(source))], &[]);

    let brief = given(session(Some(0)));
    assert_eq!(brief.hash, xx(&value));
    assert_eq!(brief.set_cookies, ["session=\"2b3dd2c2350848e3\"; HttpOnly"]);

    let attributes = vec![("SameSite".into(), "Lax".into()), ("Secure".into(), "".into())];
    let long = given(CookieSource { path: "/shop".into(), attributes, ..session(Some(60)) });
    let expected = "session=\"2b3dd2c2350848e3\"; Max-Age=60; Path=/shop; SameSite=Lax; Secure; HttpOnly";
    assert_eq!(long.set_cookies, [expected]);

    let illegal = given(CookieSource { path: "\n".into(), ..session(Some(60)) });
    assert_eq!((illegal.hash, illegal.set_cookies.len()), (xx(&value), 0));
}

#[test]
fn several_policies_all_count() {
    let alice = xx("alice").unwrap();
    let both = hash(&[query("user"), header("absent"), header(":authority")], &[]).hash;
    assert_eq!(both, Some(alice.rotate_left(1) ^ xx("shop").unwrap()));
    assert_eq!(hash(&[query("user"), query("user")], &[]).hash, Some(alice.rotate_left(1) ^ alice));
    assert_eq!(hash(&[], &[]).hash, None);
}

#[test]
fn a_terminal_policy_ends_once_there_is_a_hash() {
    let terminal = |policy: HashPolicy| HashPolicy { is_terminal: true, ..policy };
    assert_eq!(hash(&[terminal(query("user")), header(":authority")], &[]).hash, xx("alice"));
    assert_eq!(hash(&[terminal(header("absent")), header(":authority")], &[]).hash, xx("shop"));
    assert_eq!(hash(&[query("user"), terminal(header("absent")), header(":authority")], &[]).hash, xx("alice"));
}
